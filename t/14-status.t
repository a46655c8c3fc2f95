# The status as JSON: true counters, and nothing that a stranger should not see.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::HTTP qw(request);
use SSE::Loop qw(wait_for);
use SSE::Stage;
ok 1; done_testing();
