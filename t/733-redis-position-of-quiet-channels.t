# $sse_position in a hub that is connected to Redis follows events that do not reach this nginx, because nobody here
# listens to their channels: the position of a page is never older than what was published some seconds before, and
# no position passes an event that is still to come.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::FaultProxy;
use SSE::HTTP qw(request);
use SSE::Loop qw(wait_for);
use SSE::Redis;
use SSE::RedisStage;

my $redis  = SSE::Redis->start;
my $server = 'location = /page { return 200 $sse_position; }';
my @nginx  = map { SSE::RedisStage->new(redis => $redis->url, hub => 'history 10;', server => $server) } 1 .. 2;
my ($here, $elsewhere) = @nginx;

# The events of an hour, one a second, on channels without listeners here. They are far more than history keeps.
my $script = SSE::Cluster::slurp("$FindBin::Bin/../lua/publish.lua");
my $sha    = $redis->must('SCRIPT', 'LOAD', $script);
$elsewhere->post('quiet', "old $_") for 1 .. 30;
my $old = position($here);
my $last = $redis->must('EVAL', <<"EOF_LUA", 0);
    local function publish(KEYS, ARGV)
        $script
    end
    local id
    for second = 1, 3600 do
        id = publish({'sse:{sse}:s:traffic-' .. second % 50}, {'of second ' .. second})
    end
    return id
EOF_LUA
ok(wait_for(sub { reaches(position($here), $last) }), 'the position reaches the newest id in Redis');
ok(!reaches($old, $last), 'which it did not have before');

my $page = position($here);
my @new  = map { $elsewhere->post('quiet', "new $_")->{json}{id} } 1 .. 3;
for my $nginx (@nginx) {
    my $client = $nginx->SUPER_stream("/on/quiet?last_event_id=$page");
    ok($client->wait_data('new 3'), 'the stream of a page receives the newest event');
    is_deeply([map { $_->{type} } grep { $_->{type} ne 'message' } @{ $client->{events} }], [], '... without a gap event');
    is_deeply([$client->data], ['new 1', 'new 2', 'new 3'], '... and exactly what was published after the page');
    $client->close;
}
my $stale = $here->SUPER_stream("/on/quiet?last_event_id=$old");
ok(wait_for(sub { $stale->events('sse.gap') }), 'a page that old would have had a gap event');
$stale->close;

# A new stream has the same position.
my $fresh = $here->stream('/on/other');
ok(reaches($fresh->{last_event_id}, $last), 'the id of an open event is as recent');
$fresh->close;

# Positions while streams are opened on channels with history, and events are published by others: none passes an
# event that is published later, and each durable event keeps its id. Clients move to the other nginx with it.
my @watchers = map { $here->SUPER_stream("/on/watched-$_") } 1 .. 5;
my (@missing, @foreign, @moved);
for my $round (1 .. 8) {
    my $channel  = 'busy-' . $round % 5;
    publish($channel, "before $round") for 1 .. 15;
    my $position = position($here);
    my $joining  = $here->SUPER_stream("/all/$channel");
    my @ids      = map { publish($_, "after $round") } $channel, 'watched-' . (1 + $round % 5), $channel;
    my $client   = $here->SUPER_stream("/on/$channel?last_event_id=$position");
    wait_for(sub { my %got = map { $_->{id} => 1 } @{ $client->{events} }; $got{ $ids[0] } && $got{ $ids[2] } })
        or push @missing, "round $round after $position";
    wait_for(sub { grep { $_->{id} eq $ids[2] } @{ $joining->{events} } }) or push @missing, "round $round on a new stream";
    push @foreign, map { $_->{id} } grep { $_->{type} eq 'message' && $_->{id} !~ /\A\d+-\d+\z/ } @{ $client->{events} },
        @{ $joining->{events} };
    my $other = $elsewhere->SUPER_stream("/on/$channel?last_event_id=$ids[0]");
    ok($other->wait_data("after $round"), "round $round: a client moves") or push @moved, $round;
    push @moved, "round $round" if $other->events('sse.gap') || grep { $_->{id} ne $ids[2] } @{ $other->{events} };
    $_->close for $client, $joining, $other;
}
is_deeply(\@missing, [], 'no event that was published after a page is missed, while channels are being fetched');
is_deeply(\@foreign, [], 'every durable event keeps its id');
is_deeply(\@moved, [], 'and clients move to the other nginx with it');
push @foreign, map { $_->{id} } grep { $_->{type} eq 'message' && $_->{id} !~ /\A\d+-\d+\z/ } map { @{ $_->{events} } } @watchers;
is_deeply(\@foreign, [], 'also on streams that were open all the time');
$_->close for @watchers;

# A channel that has to be read again takes long, on a slow connection, while all others are quiet: its events keep
# their ids.
my $proxy = SSE::FaultProxy->start(to => $redis->port);
my $far   = SSE::RedisStage->new(redis => $proxy->url, server => $server);
my $slow  = $far->stream('/on/slow');
my @sent  = (publish('slow', 'first'));
ok($slow->wait_data('first'), 'a stream receives an event');
$proxy->delay(0.6);
push @sent, $redis->must('XADD', 'sse:{sse}:clock', 'MAXLEN', 1, '*', 't', '');
$redis->must('XADD', 'sse:{sse}:s:slow', $sent[1], 'data', 'not announced', 'prev', $sent[0]);
push @sent, publish('slow', 'announced');
$last = publish('elsewhere', 'x');
ok($slow->wait_data('announced', 30), 'it receives what was missed, and the next event');
is_deeply([map { $_->{id} } $slow->events('message')], \@sent, 'with their ids');
ok(wait_for(sub { reaches(position($far), $last) }, 20), 'then the position goes on');
$proxy->pass;
$slow->close;
$far->ends_cleanly;

# Redis is away: the position stays, and follows again afterwards.
my $before = position($here);
$redis->kill;
is(position($here), $before, 'without Redis, the position stays');
$redis->start;
ok($_->wait_up, 'the hub is connected again') for @nginx;
$sha  = $redis->must('SCRIPT', 'LOAD', $script);
$last = publish("later-$_", 'x') for 1 .. 100;
ok(wait_for(sub { reaches(position($here), $last) }), 'the position follows again');

# A reload, and the death of all workers.
$here->cluster->reload;
$last = publish("reloaded-$_", 'x') for 1 .. 100;
ok(wait_for(sub { reaches(position($here), $last) }), 'after a reload, too');
$here->cluster->kill_worker($_) for $here->cluster->workers;
$last = publish("killed-$_", 'x') for 1 .. 100;
ok(wait_for(sub { reaches(position($here), $last) }), 'and after the death of all workers');

$_->ends_cleanly for @nginx;
done_testing();

sub position ($nginx) { return request(port => $nginx->port, path => '/page')->{body} }

# Publishes a durable event, as a program does, and returns its id.
sub publish ($channel, $data) { return $redis->must('EVALSHA', $sha, 1, "sse:{sse}:s:$channel", $data) }

# Whether a position is that of an id, or later.
sub reaches ($position, $id) {
    my ($ms, $seq)     = split /-/, $position;
    my ($wanted, $nth) = split /-/, $id;
    return ($ms <=> $wanted || $seq <=> $nth) >= 0;
}

# RedisStage waits for an id, which a stream that resumes gets only with an event.
sub SSE::RedisStage::SUPER_stream ($self, $path) { return SSE::Stage::stream($self, $path) }
