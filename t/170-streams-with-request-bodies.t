# The body of a stream's request is discarded as it arrives, the stream does not depend on it, and a client
# that disconnects is noticed even if nothing is sent to it.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use POSIX ();
use Test::More;
use SSE::Client;
use SSE::HTTP qw(request);
use SSE::Loop qw(wait_for);
use SSE::Nginx qw(has_module);
use SSE::Stage;
use SSE::TLS qw(certificate tls_and_http2_servers);

my $openssl = has_module('http_ssl') && has_module('http_v2') && `openssl version`;
my $locations = <<'EOF_LOCATIONS';
    location = /s    { sse_stream news; }
    location = /lean { sse_stream news; sse_lean on; }
    location = /plain { return 200 "plain"; }
EOF_LOCATIONS
my $servers = $openssl ? tls_and_http2_servers($locations) : '';
my $stage = SSE::Stage->new(
    http   => "client_max_body_size 0; lingering_timeout 100ms; sse_heartbeat off; sse_drain 100ms; $servers",
    server => "location = /status { sse_status; } $locations",
    files  => $openssl ? certificate() : {},
);
my $length  = 'Content-Length: 12';
my $chunked = 'Transfer-Encoding: chunked';
my $most    = 20 << 20;
my $disconnected    = 0;

for my $path ('/s', '/lean') {
    for my $case (
        ['a body after the head',              $length,  'Hello, World'],
        ['half a body',                         $length,  'Hello, '],
        ['no body despite its Content-Length',    $length,  ''],
        ['a body in chunks',                    $chunked, "c\r\nHello, World\r\n0\r\n\r\n"],
        ['half a body in chunks',               $chunked, "c\r\nHello, "],
        ['an invalid chunk',                    $chunked, "Hello, World\r\n"],
        ['a body larger than the socket buffers',     "Content-Length: $most", 'x' x $most],
        ['a body and the next request',         $length,  "Hello, WorldGET /plain HTTP/1.1\r\nHost: localhost\r\n\r\n"],
        ['bytes after a request with Connection: close', 'Connection: close', 'x' x $most],
    ) {
        my ($what, $header, $body) = @$case;
        my $client = opened($path, $header);
        $client->{sending} .= $body;
        SSE::Loop::want_write($client->fileno, 1) if $body ne '';
        ok(wait_for(sub { $client->{sending} eq '' }, 30), "$path: $what is read");
        is(subscribers(), 1, "$path: with $what the stream continues");
        $client->close;
        noticed("$path: a client that has sent $what");
    }
    my $early = opened($path, "$length\r\n\r\nHello, World\r\nX-Nothing: more");
    is($early->header('connection'), $path eq '/s' ? 'keep-alive' : 'close', "$path: keep-alive is as without a body if the body arrives with the head");
    $early->close;
    noticed("$path: a client whose body came with the head");
    $stage->cluster->allow(qr/client sent invalid chunked body/);
    my $invalid = request(port => $stage->port, path => $path, headers => ['Transfer-Encoding' => "chunked\r\n\r\nzz"]);
    is_deeply([$invalid->{status}, @{ $invalid->{header} }{qw(content-type cache-control)}], [400, ['text/html'], undef],
        "$path: an invalid chunk with the head is refused, without the headers of a stream");
}

# A body may take any time. lingering_timeout applies only after a response has been sent.
my @slow = map { opened($_, $length) } '/s', '/lean';
for (1 .. 3) {
    my $over;
    my $probe = SSE::HTTP->new($stage->port, sub { $over = 1; return });
    $probe->send(method => 'POST', path => '/plain', headers => ['Content-Length' => 12]);
    ok(wait_for(sub { !$probe->is_open }), 'nginx closes another connection whose body does not arrive');
}
$stage->publish('news', 'still here');
ok($_->wait_data('still here'), "$_->{path}: a stream does not wait for the body") for @slow;
$_->close for @slow;
noticed('a client that is slower than lingering_timeout', 2);

SKIP: {
    skip 'nginx is built without TLS or HTTP/2, or there is no openssl', 1 if !$openssl;
    my ($tls, $h2c) = map { $stage->cluster->port($_) } qw(tls h2c);
    my %ways = (
        'HTTP/1.1 over TLS' => ["openssl s_client -quiet -connect localhost:$tls", \&chunk],
        'HTTP/2 over TLS'   => ["openssl s_client -quiet -alpn h2 -connect localhost:$tls", \&frames],
        'HTTP/2 in clear'   => [$h2c, \&frames],
    );
    for my $way (sort keys %ways) {
        my ($address, $pieces) = @{ $ways{$way} };
        for my $path ('/s', '/lean') {
            for my $case (['a body', 1, 'Hello, World'], ['half a body', 0, 'Hello, '], ['nothing', 0], ['a large body', 1, ('x' x 16000) x 4]) {
                my ($what, $whole, @body) = @$case;
                my $client = SSE::Pipe->new($address);
                $client->send($pieces->('head', $path));
                ok($client->wait_for(qr/retry: 3000\n/), "$way, $path: a stream opens before its body arrives");
                $client->send($pieces->('piece', $_)) for @body;
                $client->send($pieces->('end')) if $whole;
                $stage->publish('news', "after $what");
                ok($client->wait_for(qr/data: after $what\n/), "$way, $path: it continues with $what");
                $client->drop;
                noticed("$way, $path: a client that has sent $what");
            }
        }
    }
    my $client = SSE::Pipe->new($h2c);
    $client->send(frames('head', '/s'), frames('piece', 'Hello, '));
    $client->wait_for(qr/retry: 3000\n/);
    $client->send(frame(3, 0, pack 'N', 8));
    noticed('HTTP/2: a client that cancels its request in the middle of the body');
}
my $ended = $stage->status->{streams_ended};
is($ended->{client}, $disconnected, 'all streams ended because their clients disconnected');
is($ended->{$_}, 0, "no stream ended for another reason: $_") for grep { $_ ne 'client' } sort keys %$ended;

$stage->ends_cleanly;
done_testing();

# The number of streams, without publishing anything.
sub subscribers { return $stage->status->{subscribers} }

# Opens a stream by a request with this header and sends none of its body yet.
sub opened ($path, $header) {
    my $client = SSE::Client->new(port => $stage->port, path => $path,
        raw_request => "GET $path HTTP/1.1\r\nHost: localhost\r\n$header\r\n\r\n");
    $client->wait_open or diag("$path did not open: $client->{state}");
    return $client;
}

sub noticed ($client, $count = 1) {
    $disconnected += $count;
    ok(wait_for(sub { subscribers() == 0 }), "$client is noticed when it disconnects");
    return;
}

# The parts of a request in HTTP/1.1, with a body in chunks.
sub chunk ($part, $content = '') {
    return "GET $content HTTP/1.1\r\nHost: localhost\r\n$chunked\r\n\r\n" if $part eq 'head';
    return $part eq 'end' ? "0\r\n\r\n" : sprintf "%x\r\n%s\r\n", length $content, $content;
}

# The parts of a request in HTTP/2 (RFC 9113), the first one of its connection.
sub frames ($part, $content = '') {
    my $head = "\x82\x86\x01\x09localhost\x04" . chr(length $content) . $content;
    return "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" . "\0\0\0\x04\0\0\0\0\0" . frame(1, 4, $head) if $part eq 'head';
    return frame(0, $part eq 'end' ? 1 : 0, $content);
}

sub frame ($type, $flags, $content) {
    return substr(pack('N', length $content), 1) . pack('CCN', $type, $flags, 1) . $content;
}

# A connection to a port, or through a program. Keeps all bytes that it receives.
package SSE::Pipe;

use Errno qw(EAGAIN);
use IO::Socket::INET;
use Socket;

sub new ($class, $address) {
    my ($mine, $its);
    if ($address =~ /\A\d+\z/) {
        $mine = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $address) or die "connect: $!";
    } else {
        socketpair $mine, $its, AF_UNIX, SOCK_STREAM, PF_UNSPEC or die "socketpair: $!";
    }
    my $pid = $its ? fork() // die "fork: $!" : undef;
    if (defined $pid && !$pid) {
        open STDIN,  '<&', $its;
        open STDOUT, '>&', $its;
        open STDERR, '>', '/dev/null';
        exec split / /, $address or POSIX::_exit(127);
    }
    $mine->blocking(0);
    my $self = bless { socket => $mine, fd => CORE::fileno($mine), pid => $pid, seen => '' }, $class;
    SSE::Loop::watch($self);
    return $self;
}

sub fileno ($self) { return $self->{fd} }

sub on_readable ($self) {
    my $got = sysread $self->{socket}, $self->{seen}, 65536, length $self->{seen};
    return $self->drop if defined $got ? !$got : $! != EAGAIN;
    return;
}

sub send ($self, @pieces) {
    my $bytes = join '', @pieces;
    SSE::Loop::wait_for(sub {
        my $sent = syswrite $self->{socket}, $bytes;
        substr $bytes, 0, $sent // 0, '';
        return $bytes eq '';
    });
    return;
}

sub wait_for ($self, $what) {
    return SSE::Loop::wait_for(sub { $self->{seen} =~ $what });
}

sub drop ($self) {
    return if !$self->{socket};
    SSE::Loop::unwatch($self->{fd});
    close delete $self->{socket};
    kill 'KILL', $self->{pid} if $self->{pid};
    waitpid $self->{pid}, 0 if $self->{pid};
    return;
}
