# Reloads under load with a worker_shutdown_timeout that is much shorter than sse_drain: most streams end at once, and
# no event is lost or repeated.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Cluster;
use SSE::Fleet;
use SSE::Loop qw(serve_for);

for my $lean (qw(off on)) {
    my $nginx = SSE::Cluster->start(main => 'worker_shutdown_timeout 50ms;', http => <<"EOF_HTTP", server => $SSE::Fleet::LOCATIONS);
        sse_hub default { history 2000; }
        sse_retry 100ms jitter=200ms;
        sse_drain 30s;
        sse_lean $lean;
EOF_HTTP

    my $fleet = SSE::Fleet->new(cluster => $nginx);
    ok($fleet->wait_connected, "sse_lean $lean: 60 clients are connected");
    $fleet->start_publishing;
    for my $reload (1 .. 3) {
        serve_for(0.5);
        ok($nginx->reload, "reload $reload starts new workers");
        ok($nginx->wait_old_workers_gone(10), 'the old workers exit, although the drain would take longer');
    }
    $fleet->verify;
    $nginx->ends_cleanly;
}
done_testing();
