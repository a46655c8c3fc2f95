# Files about the behaviour of clients, run again with lean streams: clients that disconnect, read slowly,
# or reconnect.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Rerun qw(rerun);

rerun('sse_lean on;',
    '200-delivery.t', '205-replay.t', '215-gaps.t', '230-patterns.t', '240-heartbeat.t', '250-max-age.t',
    '255-max-subscribers.t', '265-vanishing-clients.t', '270-slow-client.t', '275-send-timeout.t',
    '610-admin.t');
done_testing();
