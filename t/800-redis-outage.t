# Redis is killed and restarted after 1 s and after 15 s, is stopped for 10 s, and its connections are
# killed again and again. Streams stay open, publishers receive a response within 2 s, each outage is logged
# once, and no acknowledged event is lost or duplicated.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Time::HiRes qw(time);
use SSE::Fleet;
use SSE::Loop qw(serve_for wait_for);
use SSE::Redis;
use SSE::RedisStage;

my $redis = SSE::Redis->start(appendonly => 1);
my @nginx = map {
    SSE::RedisStage->new(redis => $redis->url, hub => 'history 20000;', server => $SSE::Fleet::LOCATIONS)
} 1, 2;
my ($one, $two) = @nginx;

my $fleet = SSE::Fleet->new(clusters => [map { $_->cluster } @nginx], clients => 30, quiet => 6, rate => 80, movers => 5);
ok($fleet->wait_connected, '36 clients of two nginx instances are connected');
my @idle = grep { $_->{client}{port} == $one->port } @{ $fleet->{silent} };
$fleet->start_publishing;
serve_for(0.5);
my @said = $one->lines;
is(scalar @said, 0, 'the log has no line about Redis while it works') or diag(@said);

# Killed for one second.
my @before = map { scalar $_->lines } @nginx;
my $reconnects = $one->reconnects;
$redis->kill;
serve_for(1);
ok(wait_for(sub { !grep { $_->state ne 'down' } @nginx }, 5), 'the status reports that Redis is not reachable');
$redis->start;
back('after one second');

# Killed for fifteen seconds.
@before = map { scalar $_->lines } @nginx;
$redis->kill;
my $since = time();
ok(wait_for(sub { $one->state =~ /\A(?:connecting|down)\z/ }, 5), 'the status reports that Redis is not reachable');
# A worker that has not noticed yet that its connection is gone answers 504.
ok(wait_for(sub { !grep { $one->post('news', 'in vain')->{status} != 503 } 1 .. 4 }, 10), 'every worker notices it');
for my $try (1 .. 3) {
    my $answer = $one->post('news', 'in vain');
    is($answer->{status}, 503, 'a publish receives 503');
    like($answer->{header}{'retry-after'}[0], qr/\A\d+\z/, 'with Retry-After');
    like($answer->{json}{error}, qr/Redis/i, 'with the reason');
}
my $new    = SSE::Client->new(port => $one->port, path => '/on/news');
ok($new->wait_open(2) && wait_for(sub { $new->{last_event_id} ne '' }, 2), 'a stream opens while Redis is not reachable');
my $old = SSE::Client->new(port => $one->port, path => '/all/loud');
ok(wait_for(sub { $old->data > 10 }, 2), 'it receives the events that this nginx has retained');
is(scalar(grep { $_->{client}{openings} > 1 } @idle), 0, 'streams stay open');
serve_for(15 - (time() - $since));
wait_for(sub { $one->lines > $before[0] });
@said = $one->lines;
is(@said - $before[0], 1, 'the log has one line after fifteen seconds') or diag(join "\n", @said);
$redis->start;
back('after fifteen seconds');
$one->publish('news', 'at last');
ok($new->wait_data('at last'), 'the stream that was opened meanwhile receives new events');

# Stopped for ten seconds.
@before = map { scalar $_->lines } @nginx;
$redis->pause;
$since = time();
my @answers = map { $_->post('news', 'asked for', headers => ['Idempotency-Key' => 'asked']) } $one, $two;
like($_->{status}, qr/\A50[34]\z/, "a publish while Redis is stopped receives $_->{status}") for @answers;
ok(wait_for(sub { $one->state =~ /\A(?:connecting|down)\z/ }, 8), 'a Redis that does not reply is noticed');
serve_for(10 - (time() - $since));
$redis->resume;
back('after it continues');
is(scalar(grep { $_->{status} != 201 } map { $_->post('news', 'asked for', headers => ['Idempotency-Key' => 'asked']) } @nginx), 0,
    'a repetition with the same key is accepted');
$one->publish('news', 'and then');
is(scalar(grep { $_ eq 'asked for' } $one->got($new, 'and then')), 1, 'the event is published once');

# Its connections are killed.
for (1 .. 25) {
    $redis->must('CLIENT', 'KILL', 'TYPE', 'pubsub');
    $redis->must('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes') if $_ % 5 == 0;
    serve_for(0.1);
}
ok($_->wait_up, 'killed connections are replaced') for @nginx;
cmp_ok($one->reconnects, '>=', $reconnects + 4, 'the status counts them');

$fleet->verify;
is(scalar(grep { $_->{client}{openings} > 1 } @idle), 0, 'no stream has ended');
$_->ends_cleanly for @nginx;
done_testing();

# Waits until both nginx instances are connected again, which they must have logged once.
sub back ($when) {
    ok($_->wait_up(10), "nginx is connected again $when") for @nginx;
    for my $at (0, 1) {
        wait_for(sub { $nginx[$at]->lines >= $before[$at] + 2 });
        my @new = $nginx[$at]->lines;
        splice @new, 0, $before[$at];
        is(scalar @new, 2, 'with one line about the loss and one about the new connection') or diag(join "\n", @new);
    }
    return;
}
