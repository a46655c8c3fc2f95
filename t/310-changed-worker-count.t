# Reloads under load that change the number of workers from 2 to 4 to 1.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Cluster;
use SSE::Fleet;
use SSE::Loop qw(serve_for);

my $nginx = SSE::Cluster->start(workers => 2, http => <<'EOF_HTTP', server => $SSE::Fleet::LOCATIONS);
    sse_hub default { history 2000; }
    sse_retry 100ms jitter=200ms;
    sse_drain 1s;
EOF_HTTP

my $fleet = SSE::Fleet->new(cluster => $nginx);
ok($fleet->wait_connected, '60 clients are connected');
$fleet->start_publishing;
serve_for(1);

$nginx->configure(workers => 4);
ok($nginx->reload, 'nginx reloads with four workers');
serve_for(1);
ok($nginx->wait_old_workers_gone(3), 'the two old workers exit');
is(scalar(() = $nginx->workers), 4, 'four workers serve');

$nginx->configure(workers => 1);
ok($nginx->reload, 'nginx reloads with one worker');
serve_for(1);
ok($nginx->wait_old_workers_gone(3), 'the four old workers exit');
$fleet->verify;

$nginx->ends_cleanly;
done_testing();
