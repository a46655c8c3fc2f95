# Lean streams and what clients do: going at any moment, reading slowly or not at all, coming back.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Again qw(again);

again('sse_lean on;', '10-replay.t', '12-gaps.t', '13-heartbeat.t', '15-delivery.t', '26-slow-client.t', '28-vanish.t',
    '34-send-timeout.t', '40-age.t', '41-max-subscribers.t', '51-admin.t', '52-pattern.t');
done_testing();
