# Lean streams through reloads, killed workers, and the end of nginx: nothing is lost, and streams end as
# others do.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Loop qw(serve_for wait_for);
use SSE::Rerun qw(rerun);
use SSE::Stage;

# A worker that has to exit before its drain is over, with some clients in the middle of a frame.
for my $configuration ('sse_lean on;', 'sse_lean off;') {
    my $stage = SSE::Stage->new(
        main   => 'worker_shutdown_timeout 60ms;',
        http   => "$configuration sse_drain 10s;",
        listen => ' sndbuf=32k',
        server => 'location = /s { sse_stream news; } location = /big { sse_stream big; }',
    );
    my $nginx = $stage->cluster;
    for my $how ('reload', 'quit') {
        my @clients = map { $stage->stream('/s') } 1 .. 20;
        my @stuck   = map { $stage->stream('/big', receive_buffer => 4096) } 1 .. 10;
        $_->pause for @stuck;
        $stage->publish('big', map { "$_ " . 'x' x 100_000 } 1 .. 10);
        serve_for(0.2);
        ok($nginx->$how, "$configuration on $how with worker_shutdown_timeout shorter than the drain");
        ok($how eq 'quit' || $nginx->wait_old_workers_gone(2), "$configuration workers exit in time");
        $_->resume for @stuck;
        ok(wait_for(sub { !grep { $_->is_open } @clients, @stuck }, 5), "$configuration all connections are closed");
    }
    $stage->ends_cleanly;
}

rerun('sse_lean on;', '300-reload.t', '320-killed-workers.t', '315-drain.t');
done_testing();
