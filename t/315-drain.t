# The drain: streams end evenly over sse_drain on a reload and on QUIT, with a short retry and a complete
# response, and within worker_shutdown_timeout.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use IO::Socket::INET;
use List::Util qw(max min);
use Test::More;
use Time::HiRes qw(time);
use SSE::Loop qw(wait_for);
use SSE::Stage;
use SSE::TimerLatency;

my $stage = SSE::Stage->new(
    http   => 'sse_drain 2s;',
    server => 'location = /s { sse_stream news; }',
);
my $nginx = $stage->cluster;
my $lateness = SSE::TimerLatency->measure;

# A reload.
my @clients = streams(60);
my $begun   = time();
ok($nginx->reload, 'nginx reloads');
my $publisher = SSE::Publisher->new(port => $stage->port, path => '/to/news');
$publisher->stream(50, sub ($number) { $number });
ok(wait_for(sub { !grep { $_->is_open } @clients }, 5), 'all streams of the old workers end');
$publisher->stop;
ended_evenly($begun, 2, @clients);
my @counts = map { scalar $_->data } @clients;
is(scalar(grep { join(' ', $_->data) ne join(' ', 1 .. $_->data) } @clients), 0,
    'until then each receives what new workers publish, in order and without a hole');
cmp_ok(max(@counts), '>', min(@counts), 'streams that end later receive more events');
ok($nginx->wait_old_workers_gone(2), 'then the old workers exit');

my @next = streams(5);
is(scalar(grep { $_->{parser}{retry} != 3000 } @next), 0, 'the next stream sends the configured retry again');
$_->close for @next;

# Clients that reconnect during the drain are accepted by the new workers.
@clients = map { $stage->stream('/s', reconnect => 1) } 1 .. 30;
$nginx->reload;
ok(wait_for(sub { !grep { $_->{openings} < 2 || !$_->is_open } @clients }, 6), 'clients that reconnect are accepted');
my %new = map { $_ => 1 } $nginx->workers;
is(scalar(grep { !$new{ $_->worker } } @clients), 0, 'by the new workers');
$stage->publish('news', 'after the drain');
ok(wait_for(sub { !grep { ($_->data) != 1 } @clients }), 'they receive new events once');
$_->close for @clients;

# QUIT.
@clients = streams(40);
$begun   = time();
my $quit = $nginx->quit(6);
my $took = time() - $begun;
ended_evenly($begun, 2, @clients);
ok($quit, 'nginx exits on QUIT');
my $last_end = max(map { $_->{ends}[0]{at} - $begun } @clients);
cmp_ok($took, '<', 2 * $last_end, sprintf 'soon after the last stream (%.1f s after QUIT, %.1f s)', $last_end, $took);

# worker_shutdown_timeout limits the drain.
$nginx->configure(main => 'worker_shutdown_timeout 2s;', http => 'sse_drain 30s;');
$nginx->start;
@clients = streams(40);
$begun   = time();
ok($nginx->quit(6), 'with worker_shutdown_timeout nginx exits in time');
cmp_ok(time() - $begun, '<', 30 / 2, 'although sse_drain is 30 s');
ended_evenly($begun, 1.6, @clients);

# sse_drain 0.
$nginx->configure(main => '', http => 'sse_drain 0;');
$nginx->start;
@clients = streams(20);
$begun   = time();
ok($nginx->quit(6), 'with sse_drain 0 nginx exits');
cmp_ok(time() - $begun, '<', $took, sprintf 'sooner than with one of 2 s (%.1f s)', time() - $begun);
wait_for(sub { !grep { $_->is_open } @clients });
is(scalar(grep { !$_->{ends}[0] || $_->{ends}[0]{how} ne 'abrupt' } @clients), 0, 'and every response still ends as configured');

# TERM ends workers at once: streams are cut off, and no client is left hanging.
$nginx->configure(http => 'sse_drain 2s;');
$nginx->start;
@clients = streams(10);
kill 'TERM', $nginx->pid;
ok(wait_for(sub { $nginx->is_gone }, 5), 'nginx exits on TERM');
ok(wait_for(sub { !grep { $_->is_open } @clients }, 5), 'all connections are closed');

$stage->ends_cleanly;

# A browser's spare connection can lead to a worker that is shutting down: nginx does not close it as idle.
my $alone = SSE::Stage->new(workers => 1, http => 'sse_drain 200ms;', server => 'location = /s { sse_stream news; }');
my $other = $alone->stream('/s');
my $spare = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $alone->port) or die "connect: $!";
syswrite $spare, "GET /s HTTP/1.1\r\n";
$alone->publish('news', 'a request on a later connection');
ok($alone->cluster->reload, 'nginx reloads');
ok(wait_for(sub { !$other->is_open }, 10), 'the worker has ended its stream');
syswrite $spare, "Host: localhost\r\n\r\n";
my ($retry) = join('', <$spare>) =~ /^retry: (\d+)\r?$/m;
cmp_ok($retry // 99_999, '<=', 1000, 'a client that requests a stream from it is asked to return within a second');
$alone->ends_cleanly;
done_testing();

sub streams ($count) { return map { $stage->stream('/s') } 1 .. $count }

# Checks that all streams ended with an interrupted response and a short retry, spread evenly over this time in
# seconds.
sub ended_evenly ($from, $over, @all) {
    wait_for(sub { !grep { $_->is_open } @all });
    my @ends = sort { $a->{at} <=> $b->{at} } map { $_->{ends}[0] // () } @all;
    is(scalar @ends, scalar @all, 'every stream ends');
    is(scalar(grep { $_->{how} ne 'abrupt' } @ends), 0, 'every response ends as configured');
    my @retries = map { $_->{retry} } @ends;
    is(scalar(grep { $_ > 1000 } @retries), 0, 'each stream ends with a retry of at most a second');
    my %different = map { $_ => 1 } @retries;
    cmp_ok(scalar keys %different, '>', @all / 4, 'the retry times differ');
    my $last = $ends[-1]{at} - $from;
    my $late = $lateness->worst;
    cmp_ok($last, '<', 1.5 * $over + 3 * $late, sprintf 'the last stream ends after %.2f s, where timers are up to %.2f s late', $last, $late);
    my $worst = 0;
    for my $place (0 .. $#ends) {
        my $distance = abs($ends[$place]{at} - $from - $over * ($place + 1) / @ends);
        $worst = $distance if $distance > $worst;
    }
    cmp_ok($worst, '<', 0.5 * $over + 3 * $late, sprintf 'the ends are spread evenly: none is more than %.2f s off', $worst);
    return;
}
