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

# A chunked body is read up to the limit.
my $peak    = peak();
my $refused = refused();
is(in_chunks(40 << 20), 413, 'a chunked event of 40 MB is rejected');
is(in_chunks(40 << 20, @batch), 413, 'a chunked batch of 40 MB is rejected');
is(refused(), $refused + 2, 'the rejections are counted');
SKIP: {
    skip 'nginx is built without HTTP/2, or there is no curl', 1 if !$http2;
    my $address = 'http://127.0.0.1:' . $stage->cluster->port('h2c') . '/p';
    my $dir     = $stage->cluster->dir;
    my $send    = "head -c 41943040 /dev/zero > $dir/large; curl -s --http2-prior-knowledge -o /dev/null -X POST --max-time 60";
    system "$send --data-binary \@$dir/large $address";
    system "$send -T - $address < $dir/large";
    ok(wait_for(sub { refused() == $refused + 4 }), 'over HTTP/2 they are rejected as well');
}
cmp_ok(peak() - $peak, '<', 8 << 20, 'the worker needs little memory for it');

$stage->ends_cleanly;
done_testing();

# The peak resident memory of the worker, in bytes.
sub peak {
    return SSE::Cluster::slurp("/proc/$worker/status") =~ /^VmHWM:\s+(\d+) kB/m ? $1 * 1024 : 0;
}

sub refused {
    return $stage->status->{refused}{too_large};
}

sub in_chunks ($size, @headers) {
    my $answer;
    my $connection = SSE::HTTP->new($stage->port, sub ($got) { $answer = $got; return });
    $connection->send(method => 'POST', path => '/p', headers => ['Transfer-Encoding' => 'chunked', @headers]);
    my $chunk = sprintf "%x\r\n%s\r\n", 1 << 20, 'x' x (1 << 20);
    $connection->{sending} .= $chunk x ($size >> 20) . "0\r\n\r\n";
    wait_for(sub { $answer }, 60);
    $connection->drop;
    return $answer->{status};
}
