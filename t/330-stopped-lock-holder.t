# A process that is stopped while it holds the hub's lock: every other process waits for it once, says why it
# refuses, and loses nothing of what it had to put off.

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
    http    => 'sse_hub default { zone 16m; history 20; } client_max_body_size 1m; client_body_buffer_size 1m;',
    server  => <<'EOF_SERVER',
        location = /s     { sse_stream $arg_c; }
        location = /admin { sse_admin; }
        location = /ping  { return 200; }
EOF_SERVER
);
my $nginx = $stage->cluster;
my ($victim, @others) = $nginx->workers;

my @streams = map { $stage->stream("/s?c=own-$_") } 1 .. 150;
my @leaving = grep { $_->worker != $victim } @streams;
cmp_ok(scalar @leaving, '>=', 50, scalar(@leaving) . ' clients are on the workers that go on');
my %with = map { $_ => SSE::WorkerConnection->new($stage->port, $_) } $victim, @others;

# Stopped in the middle of a large publish, as often as it takes until that is with the lock in hand.
my ($refused, $once);
my $attempts = 0;
for (1 .. 400) {
    $attempts++;
    $with{$victim}->send(path => '/to/large', body => 'x' x 250_000);
    serve_for(rand 0.004);
    $nginx->pause($victim);
    my $since = time();
    $refused = ask($others[0], path => '/to/probe', body => 'probe');
    $once    = time() - $since;
    last if ($refused->{json}{error} // '') =~ /stopped/;
    $nginx->resume($victim);
    wait_for(sub { !$with{$victim}->busy }, 10) or die 'a publish is not answered';
}
note("attempts: $attempts");
is($refused->{status}, 503, 'a worker is stopped while it holds the lock: publishing elsewhere is refused');
is($refused->{json}{error}, "the hub's lock is held by a stopped process", 'and the answer says why');
is($refused->{header}{'retry-after'}[0], 1, 'and when to come back');

# Without memory each client that leaves would cost another 100 ms, and so would each look, once a second.
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
cmp_ok($longest, '<', 10 * $once, sprintf 'nor does anybody wait later (longest %.3f s)', $longest);
$since = time();
my @again = map { ask($others[1], path => '/to/probe', body => 'again') } 1 .. 50;
$took = time() - $since;
is(scalar(grep { $_->{status} == 503 && $_->{json}{error} =~ /stopped/ } @again), 50, 'publishers are refused meanwhile');
cmp_ok($took, '<', 20 * $once, sprintf 'at once (50 of them in %.3f s)', $took);
my $listed = ask($others[1], path => '/admin?channel=probe');
is("$listed->{status} $listed->{json}{error}", "503 the hub's lock is held by a stopped process", 'so is an administrator');

$nginx->resume($victim);
ok(wait_for(sub { ask($others[0], path => '/to/probe', body => 'free')->{status} == 201 }, 10), 'when it goes on, so do all');
my @back = map { $stage->stream("/s?c=own-$_") } 1 .. 30;
$stage->publish("own-$_", 'first') for 1 .. 30;
serve_for(1.5);
$stage->publish("own-$_", 'second') for 1 .. 30;
ok(wait_for(sub { !grep { join(' ', $_->data) ne 'first second' } @back }, 10), 'channels that were left meanwhile are heard again');
ok(wait_for(sub { my $info = ask($others[0], path => '/admin?channel=own-150'); ($info->{json}{subscribers} // 0) == (grep { $_->{path} eq '/s?c=own-150' && $_->is_open } @streams) }, 10),
    'and counted as they are');

$_->drop for values %with;
ok(scalar $nginx->wait_lines(qr/\[warn\] .*nothing is published: the hub's lock is held by a stopped process/), 'the log says it too');
$stage->ends_cleanly;
done_testing();

sub ask ($worker, %request) { return $with{$worker}->ask(%request) }
