package SSE::HTTP2;

# Several requests on one HTTP/2 connection whose reading can be paused, so that a test decides how much
# nginx can send. Headers are sent uncompressed; of a response header only the status is read, which nginx
# sends first.

use v5.36;
use Errno qw(EAGAIN);
use POSIX ();
use Socket qw(:DEFAULT AF_UNIX PF_UNSPEC);
use IO::Handle;
use IO::Socket::INET;
use SSE::Loop qw(watch unwatch want_read want_write send_pending wait_for);
use SSE::Parser;

use constant { DATA => 0, HEADERS => 1, RST_STREAM => 3, SETTINGS => 4, PING => 6, WINDOW_UPDATE => 8 };
use constant { END_STREAM => 1, ACK => 1, END_HEADERS => 4 };
use constant INITIAL_WINDOW => 4;

# Status codes in the static table of HPACK.
my %indexed = (0x88 => 200, 0x89 => 204, 0x8a => 206, 0x8b => 304, 0x8c => 400, 0x8d => 404, 0x8e => 500);

# port            where nginx listens
# receive_buffer  SO_RCVBUF, set before connecting
# tls             speak through `openssl s_client`
sub new ($class, %options) {
    my ($socket, $pid) = $options{tls} ? through_openssl($options{port}) : directly(%options);
    $socket->blocking(0);
    my $self = bless { socket => $socket, pid => $pid, fd => CORE::fileno($socket), buffer => '', sending => '',
        next => 1, responses => {} }, $class;
    watch($self);
    # Flow-control windows that no test exhausts: only the socket limits responses.
    $self->send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" . frame(SETTINGS, 0, 0, pack('nN', INITIAL_WINDOW, 0x7fffffff))
        . frame(WINDOW_UPDATE, 0, 0, pack('N', 0x7f000000)));
    return $self;
}

sub directly (%options) {
    my $socket = IO::Socket::INET->new(Proto => 'tcp') or die "socket: $!";
    $socket->setsockopt(SOL_SOCKET, SO_RCVBUF, $options{receive_buffer}) if $options{receive_buffer};
    connect $socket, pack_sockaddr_in($options{port}, inet_aton('127.0.0.1')) or die "connect: $!";
    return $socket;
}

sub through_openssl ($port) {
    socketpair(my $socket, my $other, AF_UNIX, SOCK_STREAM, PF_UNSPEC) or die "socketpair: $!";
    my $pid = fork() // die "fork: $!";
    if (!$pid) {
        open STDERR, '>', '/dev/null';
        POSIX::dup2(CORE::fileno($other), $_) for 0, 1;
        exec 'openssl', 's_client', '-quiet', '-alpn', 'h2', '-connect', "127.0.0.1:$port" or POSIX::_exit(127);
    }
    close $other;
    return ($socket, $pid);
}

# Sends a request and returns the response, which is filled in while the event loop of the test runs:
# { id, status, body, ended, reset (the error code), events }. Options: method, headers, body.
sub request ($self, $path, %options) {
    my $id     = $self->{next};
    my $body   = $options{body};
    my $method = $options{method} // (defined $body ? 'POST' : 'GET');
    my @fields = (':method' => $method, ':path' => $path, ':scheme' => 'http', ':authority' => 'localhost',
        @{ $options{headers} // [] });
    my $block = '';
    while (my ($name, $value) = splice @fields, 0, 2) {
        $block .= pack 'CC/aC/a', 0, $name, $value;
    }
    my $response = { id => $id, body => '', events => [] };
    $response->{parser} = SSE::Parser->new(event => sub ($event) { push @{ $response->{events} }, $event; return });
    $self->{responses}{$id} = $response;
    $self->{next} += 2;
    $self->send(frame(HEADERS, END_HEADERS | (defined $body ? 0 : END_STREAM), $id, $block));
    $self->send(frame(DATA, END_STREAM, $id, $body)) if defined $body;
    return $response;
}

# Cancels a response.
sub cancel ($self, $response) {
    return $self->send(frame(RST_STREAM, 0, $response->{id}, pack 'N', 8));
}

sub frame ($type, $flags, $stream, $payload) {
    return substr(pack('N', length $payload), 1) . pack('CCN', $type, $flags, $stream) . $payload;
}

sub send ($self, $bytes) {
    $self->{sending} .= $bytes;
    want_write($self->{fd}, 1) if $self->{socket};
    return;
}

sub fileno ($self) { return $self->{fd} }

sub on_writable ($self) { return send_pending($self) || $self->drop }

sub on_readable ($self) {
    my $got = sysread $self->{socket}, my $bytes, 262144;
    return if !defined $got && $! == EAGAIN;
    return $self->drop if !$got;
    my $buffer = $self->{buffer} . $bytes;
    my $at     = 0;
    while (length($buffer) - $at >= 9) {
        my ($high, $low, $type, $flags, $stream) = unpack 'CnCCN', substr $buffer, $at, 9;
        my $length = $high << 16 | $low;
        last if length($buffer) - $at - 9 < $length;
        $self->take($type, $flags, $stream, substr $buffer, $at + 9, $length);
        $at += 9 + $length;
    }
    $self->{buffer} = substr $buffer, $at;
    return;
}

sub take ($self, $type, $flags, $stream, $payload) {
    return $self->send(frame(SETTINGS, ACK, 0, '')) if $type == SETTINGS && !($flags & ACK);
    return $self->send(frame(PING, ACK, 0, $payload)) if $type == PING && !($flags & ACK);
    my $response = $self->{responses}{$stream} or return;
    if ($type == DATA) {
        $response->{body} .= $payload;
        $response->{parser}->feed($payload) if $payload ne '';
    }
    $response->{status} //= status($payload) if $type == HEADERS;
    $response->{reset} = unpack 'N', $payload if $type == RST_STREAM;
    $response->{ended} = 1 if ($type == DATA || $type == HEADERS) && $flags & END_STREAM;
    return;
}

# nginx writes a code that is not in the table as three digits after the two bytes of a literal.
sub status ($block) {
    $block =~ s/\A\x20//;
    return $indexed{ ord $block } // ($block =~ /\A\x48\x03(\d{3})/ ? $1 : 0);
}

sub pause  ($self) { want_read($self->{fd}, 0); return }
sub resume ($self) { want_read($self->{fd}, 1); return }

sub is_open ($self) { return defined $self->{socket} }

sub drop ($self) {
    return if !$self->{socket};
    unwatch($self->{fd});
    close delete $self->{socket};
    if (my $pid = delete $self->{pid}) {
        kill 'TERM', $pid;
        waitpid $pid, 0;
    }
    return;
}

# Disconnects with a reset, so that nginx's writes fail. Not possible through openssl.
sub reset ($self) {
    setsockopt $self->{socket}, SOL_SOCKET, SO_LINGER, pack('ii', 1, 0) if $self->{socket};
    return $self->drop;
}

sub wait_ended ($self, @responses) {
    return wait_for(sub { !grep { !$_->{ended} } @responses });
}

1;
