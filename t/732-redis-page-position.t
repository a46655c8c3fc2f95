# $sse_position in a hub that is connected to Redis: no position passes what is published later, on channels with
# and without listeners.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::HTTP qw(request);
use SSE::Loop qw(wait_for);
use SSE::Redis;
use SSE::RedisStage;

my $redis = SSE::Redis->start(notify => 'Kt');
my $page  = 'location = /page { return 200 $sse_position; }';
my @nginx = map { SSE::RedisStage->new(redis => $redis->url, server => $page) } 1 .. 2;
my ($here, $elsewhere) = @nginx;

# A channel without listeners.
my $first = position($here);
$elsewhere->post('quiet', "early $_") for 1 .. 5;
is_deeply(resumed($here, 'quiet', $first), [map { "early $_" } 1 .. 5], 'a page has all events of a channel without listeners');

# Every page has what is published after it, on this nginx, on another one, and by a program.
for my $round (1 .. 20) {
    my ($at, $other) = $round % 2 ? @nginx : reverse @nginx;
    my $position = position($at);
    my $channel  = "channel $round";
    $at->post(url($channel), 'one');
    $other->post(url($channel), 'two');
    my $got = resumed($round % 3 ? $at : $other, $channel, $position);
    is_deeply($got, ['one', 'two'], "round $round: nothing that is published after the page is missed");
}

# A channel with a listener, while events arrive from both sides.
my $listener = $here->stream('/on/busy');
for my $round (1 .. 20) {
    my $position = position($here);
    my @ids = map { $_->post("busy", "busy $round")->{json}{id} } @nginx;
    my $client = $here->SUPER_stream("/on/busy?last_event_id=$position");
    ok(wait_for(sub { my %got = map { $_->{id} => 1 } @{ $client->{events} }; !grep { !$got{$_} } @ids }),
        "busy round $round: both events are received");
    is(scalar $client->events('sse.gap'), 0, '... without a gap event');
    $client->close;
}
is(scalar(grep { /^busy/ } $listener->data), 40, 'a stream that was open all the time has each event once');
$listener->close;

# Redis is away and back.
my $before = position($here);
$redis->kill;
my $away = position($here);
ok($away, 'without Redis, there is still a position');
$redis->start;
ok($_->wait_up, 'the hub is connected again') for @nginx;
$elsewhere->post('afterwards', 'back');
is_deeply(resumed($here, 'afterwards', $away), ['back'], 'and a page from meanwhile has what was published later');

# A reload hands the subscription over; positions keep rising.
my $held = position($here);
$here->cluster->reload;
$elsewhere->post(url('handed over'), 'x');
is_deeply(resumed($here, 'handed over', $held), ['x'], 'after a reload, older positions stay valid');

# redis_source stream: streams have no common order.
my $streams = SSE::RedisStage->new(redis => $redis->url, hub => 'redis_source stream; history 100;', server => $page);
my $keeper  = $streams->stream('/on/stream-a');
for my $round (1 .. 10) {
    $redis->must('XADD', 'stream-a', '*', 'data', "a $round");
    $keeper->wait_data("a $round");
    my $position = position($streams);
    my $new = $redis->must('XADD', 'stream-b', '*', 'data', "b $round");
    my $client = $streams->SUPER_stream("/on/stream-b?last_event_id=$position");
    ok(wait_for(sub { grep { $_->{id} eq $new } @{ $client->{events} } }), "stream round $round: the entry of another stream is received");
    $client->close;
}
$keeper->close;

$_->ends_cleanly for @nginx, $streams;
done_testing();

sub position ($nginx) { return request(port => $nginx->port, path => '/page')->{body} }

sub url ($channel) { return $channel =~ s/ /%20/gr }

# What a stream of a channel has that resumes from a position, as text, until a last event.
sub resumed ($nginx, $channel, $position) {
    my $client = $nginx->SUPER_stream('/on/' . url($channel) . "?last_event_id=$position");
    $nginx->post(url($channel), 'the end');
    my @got = $nginx->got($client, 'the end');
    $client->close;
    return [grep { $_ ne 'the end' } @got];
}

# RedisStage waits for an id, which a stream that resumes gets only with an event.
sub SSE::RedisStage::SUPER_stream ($self, $path) { return SSE::Stage::stream($self, $path) }
