package SSE::Client;

# An EventSource over a plain socket: it opens a stream, parses it, and, with `reconnect`, reconnects with
# its last id after `retry` as a browser does. A status other than 200 ends it for good, as in a browser.

use v5.36;
use Socket;
use IO::Socket::INET;
use Errno qw(EAGAIN EINPROGRESS EWOULDBLOCK);
use Time::HiRes qw(time);
use SSE::Loop qw(watch unwatch want_write want_read after wait_for);
use SSE::Parser;

# port            where nginx listens
# path            the path of the stream
# method, http    GET and 1.1 by default
# headers         list of names and values sent with every request
# last_event_id   an id to start with
# reconnect       reconnect when the stream ends
# reconnect_within  upper limit of the time before reconnecting, in seconds
# next_port       called before reconnecting, returns the port to connect to
# receive_buffer  SO_RCVBUF, set before connecting
# keep_wire       keep all received bytes in {wire}
# on_event        called with each event; by default, events are kept in {events}
sub new ($class, %options) {
    my $self = bless {
        host    => '127.0.0.1',
        path    => '/stream',
        method  => 'GET',
        http    => '1.1',
        headers => [],
        %options,
        state         => 'new',
        events        => [],
        openings      => 0,
        ends          => [],
        last_event_id => $options{last_event_id} // '',
        retry         => 3000,
        wire          => '',
    }, $class;
    $self->{on_event} //= sub ($event) { push @{ $self->{events} }, $event; return };
    return $self->connect;
}

sub connect ($self) {
    my $socket = IO::Socket::INET->new(Proto => 'tcp', Blocking => 0) or die "socket: $!";
    $socket->setsockopt(SOL_SOCKET, SO_RCVBUF, $self->{receive_buffer}) if $self->{receive_buffer};
    my $done = CORE::connect $socket, pack_sockaddr_in($self->{port}, inet_aton($self->{host}));
    die "connect: $!" if !$done && $! != EINPROGRESS && $! != EWOULDBLOCK;
    @$self{qw(socket fd state buffer chunked left)} = ($socket, CORE::fileno($socket), 'connecting', '', 0, 0);
    @$self{qw(status header after_chunk)} = (undef, {}, 0);
    $self->{wire}    = '';
    $self->{sending} = $self->request;
    $self->{parser}  = SSE::Parser->new(
        last_event_id => $self->{last_event_id},
        event         => $self->{on_event},
    );
    watch($self);
    want_write($self->{fd}, 1);
    return $self;
}

sub request ($self) {
    return $self->{raw_request} if defined $self->{raw_request};
    my $request = "$self->{method} $self->{path} HTTP/$self->{http}\r\nHost: localhost\r\n";
    my @headers = @{ $self->{headers} };
    while (my ($name, $value) = splice @headers, 0, 2) {
        $request .= "$name: $value\r\n";
    }
    $request .= "Last-Event-ID: $self->{last_event_id}\r\n" if $self->{last_event_id} ne '';
    return "$request\r\n";
}

sub fileno ($self) { return $self->{fd} }

sub on_writable ($self) {
    my $sent = syswrite $self->{socket}, $self->{sending};
    if (!defined $sent) {
        return if $! == EAGAIN;
        return $self->end('refused');
    }
    substr $self->{sending}, 0, $sent, '';
    if ($self->{sending} eq '') {
        want_write($self->{fd}, 0);
        $self->{state} = 'waiting' if $self->{state} eq 'connecting';
    }
    return;
}

sub on_readable ($self) {
    my $got = sysread $self->{socket}, my $bytes, 65536;
    if (!defined $got) {
        return if $! == EAGAIN;
        return $self->end($self->{state} eq 'connecting' ? 'refused' : 'reset');
    }
    return $self->end($self->{chunked} ? 'abrupt' : 'closed') if $got == 0;
    $self->{wire} .= $bytes if $self->{keep_wire};
    if ($self->{state} eq 'open') {
        $self->body($bytes);
    } else {
        $self->{buffer} .= $bytes;
        $self->head;
    }
    return;
}

# Parses the head of the response, once it is complete.
sub head ($self) {
    return if $self->{buffer} !~ s/\A(.*?\r\n)\r\n//s;
    my ($status, @lines) = split /\r\n/, $1;
    $self->{status} = $status =~ m{\AHTTP/1\.\d (\d{3})} ? $1 : 0;
    for my $line (@lines) {
        my ($name, $value) = split /:\s*/, $line, 2;
        push @{ $self->{header}{ lc $name } }, $value;
    }
    $self->{chunked} = ($self->{header}{'transfer-encoding'}[0] // '') eq 'chunked';
    my $type = $self->{header}{'content-type'}[0] // '';
    if ($self->{status} != 200 || $type ne 'text/event-stream') {
        $self->{state} = 'failed';
        return $self->drop;
    }
    $self->{state} = 'open';
    $self->{openings}++;
    my $rest = $self->{buffer};
    $self->{buffer} = '';
    return $rest eq '' ? undef : $self->body($rest);
}

sub body ($self, $bytes) {
    return $self->decoded($bytes) if !$self->{chunked};
    my $text = $self->{buffer} . $bytes;
    my ($at, $body) = (0, '');
    while (1) {
        if ($self->{left} > 0) {
            my $piece = substr $text, $at, $self->{left};
            last if $piece eq '';
            $body .= $piece;
            $at += length $piece;
            $self->{left} -= length $piece;
            $self->{after_chunk} = 1 if $self->{left} == 0;
        } else {
            my $line = index $text, "\r\n", $at + ($self->{after_chunk} ? 2 : 0);
            last if $line < 0;
            my $begin = $at + ($self->{after_chunk} ? 2 : 0);
            my $size  = substr $text, $begin, $line - $begin;
            return $self->end('garbage') if $size !~ /\A[0-9a-fA-F]+\z/;
            if (hex $size == 0) {
                $self->decoded($body);
                $self->{after_chunk} = 0;
                return $self->end('clean');
            }
            ($self->{left}, $self->{after_chunk}, $at) = (hex $size, 0, $line + 2);
        }
    }
    $self->{buffer} = substr $text, $at;
    return $self->decoded($body);
}

sub decoded ($self, $body) {
    return if $body eq '';
    my $parser = $self->{parser};
    $parser->feed($body);
    $self->{last_event_id} = $parser->{last_event_id};
    $self->{retry}         = $parser->{retry} if defined $parser->{retry};
    return;
}

# Records how a stream ended: clean (with the last chunk), abrupt (without it), closed (HTTP/1.0), reset, or
# refused.
sub end ($self, $how) {
    push @{ $self->{ends} }, { how => $how, at => time(), retry => $self->{parser}{retry} };
    $self->drop;
    $self->{state} = 'ended';
    return if !$self->{reconnect};
    my $wait = $self->{retry} / 1000;
    $wait = $self->{reconnect_within} if defined $self->{reconnect_within} && $wait > $self->{reconnect_within};
    $self->{state} = 'away';
    after($wait, sub { $self->reopen if $self->{state} eq 'away' });
    return;
}

sub reopen ($self) {
    $self->{port} = $self->{next_port}->() if $self->{next_port};
    return $self->connect;
}

# Simulates a change of network: reconnects at once, to another nginx if `port` is given.
sub move ($self, $port = $self->{port}) {
    $self->drop;
    $self->{port} = $port;
    return $self->connect;
}

sub drop ($self) {
    return if !$self->{socket};
    unwatch($self->{fd});
    CORE::close $self->{socket};
    delete $self->{socket};
    return;
}

# Ways to disconnect: closing, a reset, or closing only the sending direction.
sub close ($self) {
    $self->{reconnect} = 0;
    $self->drop;
    $self->{state} = 'closed';
    return;
}

sub reset ($self) {
    setsockopt $self->{socket}, SOL_SOCKET, SO_LINGER, pack('ii', 1, 0) if $self->{socket};
    return $self->close;
}

sub half_close ($self) {
    shutdown $self->{socket}, 1;
    return;
}

sub pause  ($self) { want_read($self->{fd}, 0); return }
sub resume ($self) { want_read($self->{fd}, 1); return }

sub is_open ($self) { return $self->{state} eq 'open' }

# What has been received.
sub header ($self, $name) { return ($self->{header}{$name} // [])->[0] }
sub worker ($self)        { return $self->header('x-worker') }
sub events ($self, $type) { return grep { $_->{type} eq $type } @{ $self->{events} } }
sub data   ($self)        { return map  { $_->{data} } $self->events('message') }
sub types  ($self)        { return map  { $_->{type} } @{ $self->{events} } }

# Waits until the stream is open, or has ended for good.
sub wait_open ($self, $timeout = 10) {
    my $is_open = sub { $self->{state} eq 'open' && defined $self->{parser}{retry} };
    wait_for(sub { $is_open->() || $self->{state} eq 'ended' && !$self->{reconnect} }, $timeout);
    return $is_open->();
}

sub wait_data ($self, $data, $timeout = 10) {
    return wait_for(sub { my @events = @{ $self->{events} }; grep { $_->{data} eq $data } @events }, $timeout);
}

1;
