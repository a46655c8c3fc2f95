# Reloads under load: 60 clients, 200 events per second, and a reload every 1.5 seconds.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Cluster;
use SSE::Fleet;
use SSE::Loop qw(serve_for);

my $nginx = SSE::Cluster->start(http => <<'EOF_HTTP', server => $SSE::Fleet::LOCATIONS);
    sse_hub default { history 2000; }
    sse_retry 100ms jitter=200ms;
    sse_drain 1s;
EOF_HTTP

my $fleet = SSE::Fleet->new(cluster => $nginx);
ok($fleet->wait_connected, '60 clients are connected');
my $descriptors = $nginx->descriptors($nginx->pid);
$fleet->start_publishing;
my $reloads = 0;
for (1 .. 7) {
    serve_for(1.5);
    $reloads++ if $nginx->reload;
}
is($reloads, 7, 'every reload starts new workers');
ok($nginx->wait_old_workers_gone(3), 'all old workers exit after sse_drain');
$fleet->verify;
is($nginx->descriptors($nginx->pid), $descriptors, 'the master has as many file descriptors as before');

$nginx->ends_cleanly;
done_testing();
