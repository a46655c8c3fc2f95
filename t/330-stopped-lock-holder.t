# A process that is stopped while it holds the lock of a hub: every other process waits for the lock once,
# rejects publishes with the reason, and performs deferred work later.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Time::HiRes qw(time);
use SSE::Loop qw(serve_for wait_for);
use SSE::Stage;
use SSE::WorkerConnection;

my $stage = SSE::Stage->new(
    workers => 3,
    http    => 'sse_hub default { zone 16m; history 20; } client_max_body_size 1m; client_body_buffer_size 1m;
                keepalive_requests 100000;',
    server  => <<'EOF_SERVER',
        location = /s     { sse_stream $arg_c; }
        location = /admin { sse_admin; }
        location = /ping  { return 200; }
        location = /status { sse_status; }
EOF_SERVER
);
my $nginx = $stage->cluster;
my ($victim, @others) = $nginx->workers;

my (@streams, @leaving);
while (@leaving < 100 && @streams < 1000) {
    my $stream = $stage->stream('/s?c=own-' . @streams);
    push @streams, $stream;
    push @leaving, $stream if $stream->worker != $victim;
}
is(scalar @leaving, 100, '100 clients are on the workers that go on');
my %with = map { $_ => SSE::WorkerConnection->new($stage->port, $_) } $victim, @others;

# Stops the worker in the middle of large publishes until it happens to hold the lock. On a busy machine it is mostly
# waiting for a processor then, which takes more attempts, and longer ones.
my @publishers = map { SSE::WorkerConnection->new($stage->port, $victim) } 1 .. 6;
my ($refused, $once);
my $attempts = 0;
for (1 .. 4000) {
    $attempts++;
    $_->send(path => '/to/large', body => 'x' x 250_000) for @publishers;
    serve_for(rand 0.004 + $attempts / 50_000);
    $nginx->pause($victim);
    my $since = time();
    $refused = ask($others[0], path => '/to/probe', body => 'probe');
    $once    = time() - $since;
    last if ($refused->{json}{error} // '') =~ /stopped/;
    $nginx->resume($victim);
    wait_for(sub { !grep { $_->busy } @publishers }, 60) or die 'a publish is not answered';
}
note("attempts: $attempts");
is($refused->{status}, 503, 'while a stopped worker holds the lock, publishing on another is rejected');
is($refused->{json}{error}, "the hub's lock is held by a stopped process", 'the response has the reason');
is($refused->{header}{'retry-after'}[0], 1, 'the response has Retry-After');

# A worker remembers that the holder is stopped. Otherwise each client that disconnects, and each periodic
# check, would cost another 100 ms.
my $since = time();
$_->close for @leaving;
ask($_, path => '/ping') for @others;
my $took = time() - $since;
cmp_ok($took, '<', 10 * $once, sprintf 'all clients leave in %.3f s; one wait is %.3f s', $took, $once);
my $longest = 0;
my $end     = time() + 2.5;
while (time() < $end) {
    for my $worker (@others) {
        my $since = time();
        ask($worker, path => '/ping');
        $longest = time() - $since if time() - $since > $longest;
    }
    serve_for(0.02);
}
cmp_ok($longest, '<', 10 * $once, sprintf 'later requests do not wait either (longest %.3f s)', $longest);
$since = time();
my @again = map { ask($others[1], path => '/to/probe', body => 'again') } 1 .. 50;
$took = time() - $since;
is(scalar(grep { $_->{status} == 503 && $_->{json}{error} =~ /stopped/ } @again), 50, 'publishes are rejected meanwhile');
cmp_ok($took, '<', 20 * $once, sprintf 'without waiting (50 of them in %.3f s)', $took);
my $listed = ask($others[1], path => '/admin?channel=probe');
is("$listed->{status} $listed->{json}{error}", "503 the hub's lock is held by a stopped process", 'sse_admin returns the same error');

my $health = ask($others[1], path => '/status?format=health');
is("$health->{status} $health->{body}", "503 locked\n", 'load balancers send no new clients to this nginx');

$nginx->resume($victim);
ok(wait_for(sub { ask($others[0], path => '/to/probe', body => 'free')->{status} == 201 }, 10), 'publishing works again when the worker continues');
my @back = map { $stage->stream("/s?c=own-$_") } 1 .. 30;
$stage->publish("own-$_", 'first') for 1 .. 30;
serve_for(1.5);
$stage->publish("own-$_", 'second') for 1 .. 30;
ok(wait_for(sub { !grep { join(' ', $_->data) ne 'first second' } @back }, 10), 'channels whose streams had ended meanwhile deliver events again');
ok(wait_for(sub { my $info = ask($others[0], path => '/admin?channel=own-0'); ($info->{json}{subscribers} // 0) == (grep { $_->{path} eq '/s?c=own-0' && $_->is_open } @streams) }, 10),
    'the subscriber counts are right');

$_->drop for values %with, @publishers;
ok(scalar $nginx->wait_lines(qr/\[warn\] .*nothing is published: the hub's lock is held by a stopped process/), 'the log has the reason');
$stage->ends_cleanly;
done_testing();

sub ask ($worker, %request) { return $with{$worker}->ask(%request) }
