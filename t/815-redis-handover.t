# The handover of the subscription between workers. Plain messages, several hundred per second, arrive once
# and in order over ten reloads. If the holder is stopped or killed meanwhile, some may be lost, but none is
# duplicated, and durable events are always complete.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Loop qw(serve_for wait_for);
use SSE::Publisher;
use SSE::Redis;
use SSE::RedisStage;

my $redis = SSE::Redis->start;
my $stage = SSE::RedisStage->new(redis => $redis->url, hub => 'history 30000;', http => 'sse_drain 500ms;', workers => 2);
my $nginx = $stage->cluster;

my @clients = map { $stage->stream('/on/news', reconnect => 1) } 1 .. 12;
my $writer  = $redis->connect;
$writer->stream(400, sub ($number) { ['PUBLISH', 'news', "plain $number"] });
my $publisher = SSE::Publisher->new(port => $stage->port, path => '/to/news');
$publisher->stream(40, sub ($number) { "durable $number" });

# Ten reloads without a fault.
my $reloads = 0;
for (1 .. 10) {
    serve_for(0.4);
    $reloads++ if $nginx->reload;
}
is($reloads, 10, 'nginx reloads ten times');
ok($nginx->wait_old_workers_gone(5), 'no old worker is left');
is($stage->subscriptions($redis), 1, 'one subscribing connection is left');
my $safe = $writer->{sent};
ok(wait_for(sub { !grep { last_of($_, 'plain') < $safe } @clients }, 40), 'every stream receives the last message');
my @wrong = grep { join(' ', grep { $_ <= $safe } numbers($_, 'plain')) ne join ' ', 1 .. $safe } @clients;
is(scalar @wrong, 0, "all $safe plain messages arrive once and in order") or diag(wrong(numbers($wrong[0], 'plain')));
my $openings = 0;
$openings += $_->{openings} for @clients;
cmp_ok($openings, '>', 48, "although clients reconnected ($openings connections)");

# The holder is stopped before, during, and after the handover.
for my $moment (0, 0.02, 0.1) {
    my $holder = $stage->holder($redis);
    $nginx->pause($holder) if $moment == 0;
    kill 'HUP', $nginx->pid;
    serve_for($moment);
    $nginx->pause($holder);
    ok(taken_from($holder), 'another worker takes over from a stopped holder');
    serve_for(0.3);
    $nginx->resume($holder);
    ok($nginx->wait_old_workers_gone(10), 'the stopped holder exits when it continues');
}

# The holder is killed.
for my $moment (0, 0.02, 0.1) {
    my $holder = $stage->holder($redis);
    $nginx->allow(qr/\[alert\] .*worker process $holder exited on signal 9/);
    kill 'HUP', $nginx->pid;
    serve_for($moment);
    kill 'KILL', $holder;
    ok(taken_from($holder), 'another worker takes over from a killed holder');
    ok($nginx->wait_old_workers_gone(10), 'no old worker is left');
}
my $holder = $stage->holder($redis);
my $first  = $writer->{sent};
ok($nginx->kill_worker($holder), 'the holder is killed without a reload');
ok(taken_from($holder), 'another worker takes over');
serve_for(1.5);
my $known = $writer->{sent};

ok($writer->stop, 'Redis accepted all messages');
$publisher->stop;
ok($publisher->wait_idle, 'nginx accepted all events');
$redis->publish('news', 'the end');
ok(wait_for(sub { !grep { last_of($_, 'plain') < $writer->{sent} } @clients }, 35), 'every stream receives the last message');
is(scalar(grep { !rises(numbers($_, 'plain')) } @clients), 0, 'no plain message arrives twice or out of order')
    or diag(wrong(numbers($clients[0], 'plain')));
my %has = map { $_ => 1 } numbers($clients[0], 'plain');
is(scalar(grep { !$has{$_} } $known .. $writer->{sent}), 0, 'one second after a kill no message is lost');
my $lost = grep { !$has{$_} } $first .. $known;
cmp_ok($lost, '<', 400 * 2, "a kill loses the plain messages of at most a second ($lost)");
my $durable = join ' ', 1 .. $publisher->{sent};
is(scalar(grep { join(' ', numbers($_, 'durable')) ne $durable } @clients), 0, "all $publisher->{sent} durable events arrive once and in order")
    or diag(wrong(numbers($clients[0], 'durable')));
my @gaps = map { scalar $_->events('sse.gap') } @clients;
is("@gaps", join(' ', (0) x 12), 'no gap event is sent');

$stage->ends_cleanly;
done_testing();

# Waits until another process has the subscription and messages arrive through it.
sub taken_from ($holder) {
    return wait_for(sub {
        my @others = grep { $_->{pid} != $holder } $redis->subscribers($nginx->children);
        return @others == 1;
    }, 10) && heard();
}

# Checked with new streams, because all others may be on the stopped worker.
sub heard {
    my @new   = map { SSE::Client->new(port => $stage->port, path => '/on/news') } 1 .. 3;
    my $heard = wait_for(sub { grep { last_of($_, 'plain') } @new }, 5);
    $_->close for @new;
    return $heard;
}

sub numbers ($client, $kind) { return map { /\A$kind (\d+)\z/ ? $1 : () } $client->data }
sub last_of ($client, $kind) {
    for my $event (reverse @{ $client->{events} }) { return $1 if $event->{data} =~ /\A$kind (\d+)\z/ }
    return 0;
}
sub rises (@numbers) { return !grep { $numbers[$_ - 1] >= $numbers[$_] } 1 .. $#numbers }

sub wrong (@numbers) {
    my %times;
    $times{$_}++ for @numbers;
    my @missing = grep { !$times{$_} } 1 .. ($numbers[-1] // 0);
    my @double  = sort { $a <=> $b } grep { $times{$_} > 1 } keys %times;
    my @back    = grep { $numbers[$_ - 1] > $numbers[$_] } 1 .. $#numbers;
    return sprintf '%d numbers, %d missing (%s …), %d double (%s …), %d times backwards', scalar @numbers, scalar @missing,
        join(' ', @missing[0 .. ($#missing > 9 ? 9 : $#missing)]), scalar @double, join(' ', @double[0 .. ($#double > 9 ? 9 : $#double)]), scalar @back;
}
