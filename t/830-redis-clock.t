# Ids increase whatever happens to the clock in Redis: when it is ahead, falls back after a restart, or is
# deleted. An idempotency key used concurrently publishes once, and a batch is not interleaved.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Time::HiRes qw(time);
use SSE::EventIds qw(by_id);
use SSE::HTTP;
use SSE::Loop qw(wait_for);
use SSE::Redis;
use SSE::RedisStage;

my $redis = SSE::Redis->start;
my @nginx = map { SSE::RedisStage->new(redis => $redis->url, hub => 'history 3000;') } 1, 2;
my ($one, $two) = @nginx;
my @clients = map { $_->stream('/on/news', reconnect => 1) } @nginx;

# The clock in Redis is an hour ahead, and then falls back.
my ($now) = $one->publish('news', 'now');
my $ahead = int((time() + 3600) * 1000);
$redis->must('XADD', 'sse:{sse}:clock', 'MAXLEN', 1, "$ahead-5", 'set', 'by hand');
my ($future) = $one->publish('news', 'an hour ahead');
is($future, "$ahead-6", 'ids continue from the clock');
ok($_->wait_data('an hour ahead'), 'the event arrives') for @clients;
$redis->kill;
$redis->start;
ok($_->wait_up, 'Redis restarts without the clock') for @nginx;
my ($later) = $two->publish('news', 'after the restart');
cmp_ok(by_id($future, $later), '<', 0, 'ids still increase') or diag("$future $later");
ok($_->wait_data('after the restart'), 'the event arrives') for @clients;
$redis->must('DEL', 'sse:{sse}:clock');
my ($deleted) = $one->publish('news', 'without a clock');
ok($_->wait_data('without a clock'), 'events arrive after the clock is deleted') for @clients;
my @all = ('now', 'an hour ahead', 'after the restart', 'without a clock');
is_deeply([$_->data], \@all, 'each event arrives once and in order') for @clients;
is(scalar($_->events('sse.gap')), 1, 'a gap event is sent for what Redis may have lost') for @clients;
for my $nginx (@nginx) {
    my $back = $nginx->stream('/on/news', last_event_id => $later);
    is_deeply([$nginx->got($back, 'without a clock')], ['without a clock'], 'a returning client receives the rest');
}

# A stream is deleted.
my ($before) = $one->publish('gone', 'before');
my @gone = map { $_->stream('/on/gone') } @nginx;
my ($lost) = $one->publish('gone', 'known to those who were there');
ok($_->wait_data('known to those who were there'), 'an event arrives') for @gone;
$redis->must('DEL', 'sse:{sse}:s:gone');
my ($next) = $two->publish('gone', 'next');
ok($_->wait_data('next'), 'after the Redis stream is deleted the next event arrives') for @gone;
is(scalar $_->data, 2, 'and no other event') for @gone;
cmp_ok(by_id($lost, $next), '<', 0, 'it has a higher id');

# One idempotency key used concurrently on both nginx instances.
my (@answers, @connections);
for my $number (1 .. 40) {
    push @connections, SSE::HTTP->new($nginx[$number % 2]->port, sub ($answer) { push @answers, $answer; return });
    $connections[-1]->send(path => '/to/news', body => 'together', headers => ['Idempotency-Key' => 'all at once']);
}
ok(wait_for(sub { @answers == 40 }), 'forty publishers with one key receive responses');
my %ids = map { ($_ && $_->{json} ? $_->{json}{id} : 'none') => 1 } @answers;
is(scalar keys %ids, 1, 'with the same id');

# Concurrent batches and single events on both nginx instances.
my %batch;
for my $number (1 .. 20) {
    my $nginx = $nginx[$number % 2];
    my $body  = join '', map { "data: batch $number.$_\n\n" } 1 .. 50;
    $batch{$number} = SSE::HTTP->new($nginx->port, sub ($answer) { $batch{$number} = $answer; return });
    $batch{$number}->send(path => '/to/news', body => $body, headers => ['Content-Type' => 'text/event-stream']);
    $nginx[1 - $number % 2]->post('news', "single $number");
}
ok(wait_for(sub { !grep { ref ne 'HASH' } values %batch }), 'twenty batches receive responses');
is(scalar(grep { $_->{status} != 201 } values %batch), 0, 'they are accepted');
$one->publish('news', 'the end');
my @seen = map { [$_->[0]->got($_->[1], 'the end')] } [$one, $clients[0]], [$two, $clients[1]];
is(join(' ', @{ $seen[0] }), join(' ', @{ $seen[1] }), 'both nginx instances deliver the same order');
is(scalar(grep { $_ eq 'together' } @{ $seen[0] }), 1, 'the key is published once');
my %at;
$at{ $seen[0][$_] } = $_ for 0 .. $#{ $seen[0] };
my @torn = grep { my $number = $_; grep { ($at{"batch $number.$_"} // -1) != ($at{"batch $number.1"} // -1) + $_ - 1 } 2 .. 50 } 1 .. 20;
is(scalar @torn, 0, 'no batch is interleaved with other events') or diag("@torn");
is(scalar keys %at, scalar @{ $seen[0] }, 'no event arrives twice');
is(scalar(grep { !/\Asse\.gap / } @{ $seen[0] }), 4 + 1 + 20 * 50 + 20 + 1, 'no event is missing');
is(scalar(map { $_->events('sse.gap') } @clients), @clients, 'there is no other gap event');
my $thousand = $one->post('many', join('', map { "data: $_\n\n" } 1 .. 1000), headers => ['Content-Type' => 'text/event-stream']);
is(scalar @{ $thousand->{json}{ids} // [] }, 1000, 'a batch of a thousand events is accepted');
my $many = $two->stream('/all/many');
is_deeply([$two->got($many, 1000)], [1 .. 1000], 'it is available on the other nginx');

$_->ends_cleanly for @nginx;
done_testing();
