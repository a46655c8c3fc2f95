# Streams with pattern behind Redis: subscribing to a channel by name duplicates no event, whenever
# something may have been lost one gap event is sent, and reloads lose nothing and send none.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Loop qw(serve_for wait_for);
use SSE::Redis;
use SSE::RedisStage;

my $redis = SSE::Redis->start(appendonly => 1);
my $stage = SSE::RedisStage->new(redis => $redis->url, workers => 2, http => 'sse_drain 100ms;',
    server => 'location ~ ^/like/(.+)$ { sse_stream $1 split=, pattern; }');
my $nginx  = $stage->cluster;
my @client = map { $stage->stream($_, reconnect => 1) } ('/like/room:%2A') x 3, '/like/room:%2A,%2A:1,r%2A';
my $number = 0;

# Subscriptions by name begin while events are published.
say_some(4);
for my $room (0 .. 2) {
    my $exact = $stage->stream("/all/room:$room");
    say_some(6);
    ok(wait_for(sub { grep { /e/ } $exact->data }, 5), "room $room has a stream");
}
all_came('besides streams of the same channels');
my $id     = $client[0]{events}[3]{id};
my $resume = $stage->stream('/like/room:%2A', last_event_id => $id);
ok(wait_for(sub { $resume->data >= $number - 3 }, 5), 'a client resumes');
is(join(' ', $resume->data), join(' ', map { "e$_" } 4 .. $number), 'it receives the rest once and in order');

# Reloads.
for (1 .. 2) {
    ok($nginx->reload, 'nginx reloads');
    say_some(8);
}
all_came('reloads');
is(gaps(), '0 0 0 0', 'no gap event is sent');

# Outages with and without loss of data, and a killed holder of the subscription.
my @outage = (
    ['Redis is killed and keeps its data' => sub { $redis->kill; serve_for(0.3); $redis->start }],
    ['Redis is killed and loses its data' => sub {
        $redis->kill; serve_for(0.3);
        system 'rm', '-rf', glob($redis->dir . '/*.rdb'), glob($redis->dir . '/appendonly*');
        $redis->start;
    }],
    ['its connection is killed' => sub { $redis->must('CLIENT', 'KILL', 'TYPE', 'pubsub') }],
);
for my $outage (@outage) {
    my ($what, $happens) = @$outage;
    my $before = $client[0]{last_event_id};
    my $had    = gaps();
    $happens->();
    ok(wait_for(sub { gaps() eq $had =~ s/(\d+)/$1 + 1/ger }, 15), "$what: all streams receive a gap event") or diag(gaps());
    ok($stage->wait_up, 'Redis is subscribed again');
    say_some(6);
    all_came($what);
    is(gaps(), $had =~ s/(\d+)/$1 + 1/ger, 'each stream receives one gap event');
    my $back = $stage->stream('/like/room:%2A', last_event_id => $before);
    ok(wait_for(sub { $back->events('sse.gap') }, 5), 'a client that resumes from before the outage receives a gap event');
    my $after = $stage->stream('/like/room:%2A', last_event_id => $client[0]{last_event_id});
    say_some(2);
    ok(wait_for(sub { $after->data >= 2 }, 5), 'a client that resumes from after the outage receives new events');
    is(scalar($after->events('sse.gap')), 0, 'without a gap event');
}

my $holder = $stage->holder($redis);
my @stay   = grep { $_->worker != $holder } $stage->streams_on_workers(2, ('/like/room:%2A') x 12);
cmp_ok(scalar @stay, '>', 0, 'a worker other than the holder has streams');
ok($nginx->kill_worker($holder), 'the holder is killed');
ok(wait_for(sub { !grep { $_->events('sse.gap') != 1 } @stay }, 15), 'streams of the other worker receive a gap event');
ok($stage->wait_up, 'Redis is subscribed again');
say_some(4);
ok(wait_for(sub { !grep { my $client = $_; !grep { $_ eq "e$number" } $client->data } @stay }, 10), 'they receive new events');
is(scalar(grep { $_->events('sse.gap') != 1 } @stay), 0, 'each stream receives one gap event');

# A client moves to an nginx that subscribes to the pattern only then, and has not received what was published
# meanwhile, on channels that it does not follow.
my $elsewhere = SSE::RedisStage->new(redis => $redis->url,
    server => 'location ~ ^/like/(.+)$ { sse_stream $1 pattern; }');
ok($elsewhere->wait_up, 'another nginx is connected');
my $before = $stage->stream('/like/room:%2A');
$stage->post('room:8', $_) for qw(last missed);
ok($before->wait_data('missed'), 'a client receives events');
my ($last) = grep { $_->{data} eq 'last' } @{ $before->{events} };
my $moved = $elsewhere->stream('/like/room:%2A', last_event_id => $last->{id});
ok(wait_for(sub { $moved->events('sse.gap') }), 'a client that moves after the first receives a gap event elsewhere');
$stage->post('room:8', 'next');
ok($moved->wait_data('next'), 'and later events');
is(scalar($moved->events('sse.gap')), 1, 'it receives one gap event');

$_->ends_cleanly for $stage, $elsewhere;
done_testing();

sub gaps { return join ' ', map { scalar $_->events('sse.gap') } @client }

sub say_some ($count) {
    for (1 .. $count) {
        $number++;
        my $answer = {};
        ok(wait_for(sub { ($answer = $stage->post('room:' . $number % 4, "e$number"))->{status} eq '201' }, 10), 'published')
            if ($answer = $stage->post('room:' . $number % 4, "e$number"))->{status} ne '201';
    }
    return;
}

sub all_came ($what) {
    my $all = join ' ', map { "e$_" } 1 .. $number;
    for my $client (@client) {
        wait_for(sub { $client->data >= $number }, 10);
        is(join(' ', $client->data), $all, "$what: all $number events arrive once and in order");
    }
    return;
}
