# Streams, figures, and the effects of requests do not depend on conditions (If-Match, If-None-Match,
# If-Modified-Since, and so on): they have no versions.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::HTTP qw(request);
use SSE::Stage;

my $stage = SSE::Stage->new(
    http   => 'sse_heartbeat off;',
    server => <<'EOF_CONFIG',
        location = /s       { sse_stream news; }
        location = /lean    { sse_stream news; sse_lean on; }
        location = /pattern { sse_stream * pattern; }
        location = /exact   { sse_stream news; if_modified_since exact; etag on; }
        location = /status  { sse_status; }
        location = /admin   { sse_admin; }
EOF_CONFIG
);
my @conditions = (
    ['If-None-Match'       => '*'],
    ['If-None-Match'       => '"x", W/"y"'],
    ['If-Match'            => '"x"'],
    ['If-Unmodified-Since' => 'Thu, 01 Jan 1970 00:00:00 GMT'],
    ['If-Modified-Since'   => 'Thu, 01 Jan 2037 00:00:00 GMT'],
    ['If-Range'            => '"x"', Range => 'bytes=5-9'],
);
for my $condition (@conditions) {
    my $shown = join ': ', @$condition[0, 1];
    for my $path ('/s', '/lean', '/pattern', '/exact') {
        my $stream = SSE::Client->new(port => $stage->port, path => $path, headers => $condition);
        ok($stream->wait_open, "$path opens with $shown") or diag $stream->{status};
        $stage->publish('news', 'something');
        ok($stream->wait_data('something'), "$path with $shown receives events");
        $stream->close;
    }
    my $head = request(port => $stage->port, path => '/s', method => 'HEAD', headers => $condition);
    is($head->{status}, 200, "HEAD with $shown");
    my $status = SSE::Client->new(port => $stage->port, path => '/status', headers => [@$condition, Accept => 'text/event-stream']);
    ok($status->wait_open, "the live status opens with $shown") or diag $status->{status};
    $status->close;
    my @accept = (Accept => 'application/json');
    my $figures = request(port => $stage->port, path => '/status', headers => [@$condition, @accept]);
    is($figures->{status}, 200, "the figures with $shown");
    $stage->publish('news', 'something');
    my $list = request(port => $stage->port, path => '/admin', headers => [@$condition, @accept]);
    is($list->{status}, 200, "the list of channels with $shown");
    my $deleted = request(port => $stage->port, path => '/admin?channel=news', method => 'DELETE', headers => $condition);
    is($deleted->{status}, 200, "what was deleted with $shown is reported");
}

$stage->ends_cleanly;
done_testing();
