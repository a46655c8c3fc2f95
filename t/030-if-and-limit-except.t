# An "if" or "limit_except" block in a location belongs to that location: its requests are handled as all
# others.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::HTTP qw(request);
use SSE::Stage;

my $stage = SSE::Stage->new(
    server => <<'EOF_CONFIG',
        set $kind none;
        location = /s {
            sse_stream news;
            sse_retry 7s;
            sse_cors https://app.example;
            if ($arg_who = me) { set $kind mine; }
            if ($arg_who = nobody) { return 403; }
            if ($arg_who = slow) { limit_rate 1m; }
            add_header X-Kind $kind;
        }
        location = /p {
            sse_publish news;
            limit_except PUT { allow 127.0.0.1; deny all; }
        }
        location = /denied {
            limit_except PUT { deny all; }
            sse_publish news;
        }
        location = /status {
            sse_status;
            if ($arg_a) { set $kind b; }
        }
        location /files {
            if ($arg_a) { set $kind b; }
        }
EOF_CONFIG
);

for my $who ('', 'me', 'slow') {
    my $stream = $stage->stream("/s?who=$who", headers => [Origin => 'https://app.example']);
    is($stream->{parser}{retry}, 7000, "a stream with who=$who uses the settings of its location");
    is($stream->header('access-control-allow-origin'), 'https://app.example', 'and its headers');
    $stage->publish('news', "hello $who");
    ok($stream->wait_data("hello $who"), 'the stream receives events');
    $stream->close;
}
is(status('/s?who=nobody'), 403, '"return" in an "if" answers by itself');
is(status('/p', method => 'PUT',  body => 'x'), 201, 'a method that limit_except lists is allowed');
is(status('/p', method => 'POST', body => 'x'), 201, 'another method is allowed for an address that limit_except allows');
is(status('/denied', method => 'PUT', body => 'x'), 201, 'a method that the other limit_except lists is allowed');
is(status('/denied', method => 'POST', body => 'x'), 403, 'another method is denied for other addresses');
is(status('/status?a=1'), 200, 'sse_status in an "if" works');
is(status('/files?a=1'), 404, 'locations without the module are unchanged');

$stage->ends_cleanly;
done_testing();

sub status ($path, %options) { return request(port => $stage->port, path => $path, timeout => 5, %options)->{status} }
