# nginx's own output filters, and a proxy in front: a stream arrives unchanged, and nothing is held back.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Time::HiRes qw(time);
use SSE::Curl;
use SSE::Loop qw(wait_for);
use SSE::Nginx qw(has_module);
use SSE::Stage;

my $sub = has_module('http_sub') ? 'sub_filter_types *; sub_filter_once off; sub_filter colour color;' : '';
my $stage = SSE::Stage->new(
    http   => 'sse_open_event off; sse_hub default { history 100; }',
    server => <<"EOF_CONFIG",
        location = /plain    { sse_stream news; }
        location = /gzip     { sse_stream news; gzip on; gzip_types *; gzip_min_length 0; }
        location = /sub      { sse_stream news; $sub }
        location = /ssi      { sse_stream news; ssi on; ssi_types *; }
        location = /postpone { sse_stream news; postpone_output 64k; tcp_nopush on; sendfile on; tcp_nodelay off; }
        location = /whole    { sse_stream news; chunked_transfer_encoding off; }
        location = /rate     { sse_stream slowly; limit_rate 20k; }
        location = /buffers  { sse_stream news; output_buffers 1 1k; }
        location = /proxied  { proxy_pass http://127.0.0.1:%%PORT%%/plain; }
        location = /proxied11 { proxy_pass http://127.0.0.1:%%PORT%%/plain; proxy_http_version 1.1; gzip on; gzip_types *; }
EOF_CONFIG
);
my $address = 'http://127.0.0.1:' . $stage->port;

my %streams = map { $_ => $stage->stream("/$_") } qw(plain ssi postpone whole buffers proxied proxied11);
$streams{gzip} = SSE::Curl->new('--compressed', "$address/gzip");
$streams{'HTTP/1.0'} = $stage->stream('/plain', http => '1.0');
$streams{sub} = $stage->stream('/sub') if $sub;
ok(wait_for(sub { $streams{gzip}->is_open && defined $streams{gzip}{parser}{retry} }), 'gzip: the first bytes are not held back');

my @data = ('first', 'second colour', '<!--# echo var="uri" -->', 'x' x 100_000, map { "number $_" } 1 .. 300);
for my $data (@data[0 .. 1]) {
    $stage->publish('news', $data);
    my ($missing) = grep { !wait_for(sub { grep { $_ eq $data || $_ eq $data =~ s/colour/color/r } $streams{$_}->data }, 5) } sort keys %streams;
    is($missing, undef, "'$data' is not held back by any filter");
}
$stage->publish('news', @data[2 .. 3]);
$stage->batch('news', @data[4 .. $#data]);
for my $name (sort keys %streams) {
    my $stream = $streams{$name};
    ok($stream->wait_data($data[-1]), "$name: all events arrive");
    my @wanted = $name eq 'sub' ? map { s/colour/color/gr } @data : @data;
    @wanted = grep { !/echo/ } @wanted if $name eq 'ssi';
    my @got = $stream->data;
    @got = grep { !/echo|^\/ssi/ } @got if $name eq 'ssi';
    is(join('|', @got), join('|', @wanted), "$name: the bytes are unchanged");
}
is($streams{proxied}->header('content-type'), 'text/event-stream', 'a proxy passes Content-Type on');
like($streams{gzip}->header('content-encoding') // 'none', qr/\A(?:gzip|none)\z/, 'Content-Encoding is set by nginx');

# limit_rate limits a stream without breaking it.
my $limited = $stage->stream('/rate');
my @slowly  = map { "$_ " . 's' x 5_000 } 1 .. 16;
my $begun   = time();
$stage->publish('slowly', @slowly);
ok($limited->wait_data($slowly[-1], 20), 'limit_rate: all events arrive');
my $took = time() - $begun;
cmp_ok($took, '>', 1.5, sprintf 'limit_rate: the rate is limited (%.1f s)', $took);
is(join('|', $limited->data), join('|', @slowly), 'limit_rate: the bytes are unchanged');
$stage->publish('slowly', 'the end');
ok($limited->wait_data('the end', 10), 'limit_rate: the stream continues');

$stage->ends_cleanly;
done_testing();
