# Lean streams over reloads, killed workers and the end of nginx: nothing is lost, everything is ended
# as for other streams.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Again qw(again);

again('sse_lean on;', '20-reload.t', '21-kill.t', '29-drain.t');
done_testing();
