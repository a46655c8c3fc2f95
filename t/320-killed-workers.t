# Killed workers under load: 60 clients, 200 events per second, and kill -9 of a random worker every 1.5
# seconds. Publishers repeat requests without a response with the same key.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Cluster;
use SSE::Fleet;
use SSE::Loop qw(serve_for);

my $nginx = SSE::Cluster->start(workers => 3, http => <<'EOF_HTTP', server => $SSE::Fleet::LOCATIONS);
    sse_hub default { history 2000; }
    sse_retry 100ms jitter=200ms;
EOF_HTTP

my $fleet = SSE::Fleet->new(cluster => $nginx);
ok($fleet->wait_connected, '60 clients are connected');
my $descriptors = $nginx->descriptors($nginx->pid);
$fleet->start_publishing;
my $kills = 0;
for (1 .. 7) {
    serve_for(1.5);
    my @workers = $nginx->workers;
    $kills++ if $nginx->kill_worker($workers[rand @workers]);
}
is($kills, 7, 'every killed worker is replaced');
$fleet->verify;
is($nginx->descriptors($nginx->pid), $descriptors, 'the master has as many file descriptors as before');

$nginx->ends_cleanly;
done_testing();
