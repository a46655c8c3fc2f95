# Bodies that are larger than any acceptable event or batch are rejected before they are read.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::HTTP qw(request);
use SSE::Loop qw(wait_for);
use SSE::Nginx qw(has_module);
use SSE::Stage;

my $http2 = has_module('http_v2') && `curl --version`;
my $listen = $http2 ? 'listen 127.0.0.1:%%PORT_h2c%% http2;' : '';
my $stage = SSE::Stage->new(
    workers => 1,
    http => <<'EOF_HTTP',
        client_max_body_size 0;
        sse_hub default { }
        sse_hub large { max_event_size 512k; }
EOF_HTTP
    server => <<"EOF_SERVER",
        $listen
        location = /p      { sse_publish news; }
        location = /large  { sse_publish news hub=large; }
        location = /status { sse_status hub=default; }
EOF_SERVER
);
my ($worker) = $stage->cluster->workers;
my $event    = 256 << 10;
my $batch    = 1 << 20;
my @batch    = ('Content-Type' => 'text/event-stream');

# By Content-Length.
for my $case (['/p', 'an event', $event + 1, []], ['/p', 'an event', 600 << 20, []], ['/p', 'a batch', $batch + 1, \@batch],
    ['/large', 'an event', 2 * $event + 1, []], ['/large', 'a batch', 8 * $event + 1, \@batch]) {
    my ($path, $what, $length, $headers) = @$case;
    my $answer = request(port => $stage->port, path => $path, method => 'POST', headers => ['Content-Length' => $length, @$headers]);
    is($answer->{status}, 413, "$path: $what of $length bytes is rejected before it is sent");
    ok($answer->{json}{error}, 'the response has a JSON error');
    is($answer->{header}{connection}[0], 'close', 'the connection is closed without waiting for the rest');
}
my $answer = request(port => $stage->port, path => '/p', method => 'POST',
    headers => ['Content-Length' => $event + 1, Expect => '100-continue']);
is($answer->{status}, 413, 'a request with Expect: 100-continue is rejected at once');

# The largest acceptable bodies.
is(request(port => $stage->port, path => '/p', body => 'x' x ($event - 7))->{status}, 201, 'the largest event is published');
for my $case (['/p', $batch], ['/large', 8 * $event]) {
    my ($path, $most) = @$case;
    my $events = "data: x\n\n" x 999;
    my $body   = ':' . 'x' x ($most - length($events) - 3) . "\n\n$events";
    $answer = request(port => $stage->port, path => $path, body => $body, headers => \@batch);
    is($answer->{status}, 201, "$path: the largest batch is published");
    is(@{ $answer->{json}{ids} }, 999, 'every event of the batch is published');
}

# A body of unknown length is rejected as soon as it is too large.
my $peak    = peak();
my $refused = refused();
my $files   = files();
for my $case (['an event', $event], ['a batch', $batch, @batch]) {
    my ($what, $most, @headers) = @$case;
    $answer = unfinished($most + 65536, @headers);
    is($answer->{status}, 413, "$what without a length is rejected before its end");
    ok($answer->{json}{error}, 'in a JSON sentence');
    is($answer->{header}{connection}[0], 'close', 'and the connection is closed');
}
is(in_chunks(40 << 20)->{status}, 413, 'a chunked event of 40 MB is rejected');
is(in_chunks(40 << 20, @batch)->{status}, 413, 'a chunked batch of 40 MB is rejected');
is(in_pieces($event + 1, 1000)->{status}, 413, 'one byte more, and complete, is rejected');
is(refused(), $refused + 5, 'the rejections are counted');
is(in_chunks(0)->{status}, 201, 'an empty chunked body is published');
is(in_pieces($event - 7, 1000)->{status}, 201, 'the largest event is published in small chunks');
SKIP: {
    skip 'nginx is built without HTTP/2, or there is no curl', 3 if !$http2;
    my $address = 'http://127.0.0.1:' . $stage->cluster->port('h2c') . '/p';
    my $dir     = $stage->cluster->dir;
    my $curl    = 'curl -s --http2-prior-knowledge -o /dev/null -X POST --max-time 60';
    system "head -c 41943040 /dev/zero > $dir/large; $curl --data-binary \@$dir/large $address";
    ok(wait_for(sub { refused() == $refused + 6 }), 'over HTTP/2 an event with a length is rejected');
    local $SIG{PIPE} = 'IGNORE';
    open my $pipe, '|-', "$curl -T - $address" or die "curl: $!";
    $pipe->autoflush;
    print {$pipe} 'x' x ($event + 65536);
    ok(wait_for(sub { refused() == $refused + 7 }), 'over HTTP/2 an event without a length is rejected before its end');
    close $pipe;
    my $status = `head -c @{[$event - 7]} $dir/large | tr '\\0' x | $curl -w '%{http_code}' -T - $address`;
    is($status, 201, 'over HTTP/2 the largest event is published');
}
cmp_ok(peak() - $peak, '<', 8 << 20, 'the worker needs little memory for it');
is(files(), $files, 'and no temporary file');

$stage->ends_cleanly;
done_testing();

# The peak resident memory of the worker, in bytes.
sub peak {
    return SSE::Cluster::slurp("/proc/$worker/status") =~ /^VmHWM:\s+(\d+) kB/m ? $1 * 1024 : 0;
}

sub refused {
    return $stage->status->{refused}{too_large};
}

# The number of bodies that nginx has written to temporary files.
sub files {
    return scalar(() = $stage->cluster->error_log =~ /buffered to a temporary file/g);
}

sub in_chunks ($size, @headers) {
    my $chunk = sprintf "%x\r\n%s\r\n", 1 << 20, 'x' x (1 << 20);
    return chunked($chunk x ($size >> 20) . "0\r\n\r\n", @headers);
}

sub in_pieces ($size, $length) {
    my @lengths = (($length) x ($size / $length), $size % $length);
    return chunked(join '', map { sprintf "%x\r\n%s\r\n", $_, 'x' x $_ } @lengths, 0);
}

# Sends a chunk without its last byte.
sub unfinished ($size, @headers) {
    return chunked(sprintf("%x\r\n%s", $size + 1, 'x' x $size), @headers);
}

sub chunked ($body, @headers) {
    my $answer;
    my $connection = SSE::HTTP->new($stage->port, sub ($got) { $answer = $got; return });
    $connection->send(method => 'POST', path => '/p', headers => ['Transfer-Encoding' => 'chunked', @headers]);
    $connection->{sending} .= $body;
    wait_for(sub { $answer }, 60);
    $connection->drop;
    return $answer // {};
}
