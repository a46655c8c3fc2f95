package SSE::HTTP;

# An HTTP/1.1 client: a kept connection with one request at a time, and request() for a single response.

use v5.36;
use Exporter qw(import);
use Socket qw(:DEFAULT IPPROTO_TCP TCP_NODELAY);
use IO::Socket::INET;
use JSON::PP;
use Errno qw(EAGAIN EINPROGRESS EWOULDBLOCK);
use SSE::Loop qw(watch unwatch want_write send_pending wait_for);

our @EXPORT_OK = qw(request);

# request(port => 1, method => 'POST', path => '/p', headers => [...], body => '...', timeout => 10)
# returns { status, header => { lower-case name => [values] }, body, json }, or undef without a response.
sub request (%options) {
    my $answer;
    my $done       = 0;
    my $connection = SSE::HTTP->new($options{port}, sub ($got) { ($answer, $done) = ($got, 1); return });
    $connection->send(close => 1, %options);
    wait_for(sub { $done }, $options{timeout} // 10);
    $connection->drop;
    return $answer;
}

# on_answer is called with each response, or with undef if the connection breaks before one.
sub new ($class, $port, $on_answer) {
    my $socket = IO::Socket::INET->new(Proto => 'tcp', Blocking => 0) or die "socket: $!";
    my $done   = connect $socket, pack_sockaddr_in($port, inet_aton('127.0.0.1'));
    die "connect: $!" if !$done && $! != EINPROGRESS && $! != EWOULDBLOCK;
    $socket->setsockopt(IPPROTO_TCP, TCP_NODELAY, 1);
    my $self = bless {
        socket    => $socket,
        fd        => CORE::fileno($socket),
        on_answer => $on_answer,
        sending   => '',
        buffer    => '',
        busy      => 0,
    }, $class;
    watch($self);
    return $self;
}

# With hold_back, the last byte of the body is sent by complete().
sub send ($self, %options) {
    my $body    = $options{body};
    my $method  = $options{method} // (defined $body ? 'POST' : 'GET');
    my @headers = @{ $options{headers} // [] };
    my $text    = "$method $options{path} HTTP/1.1\r\n";
    $text .= "Host: localhost\r\n" if !grep { lc eq 'host' } @headers;
    while (my ($name, $value) = splice @headers, 0, 2) {
        $text .= "$name: $value\r\n";
    }
    $text .= 'Content-Length: ' . length($body) . "\r\n" if defined $body;
    $text .= "Connection: close\r\n" if $options{close};
    $self->{sending} = "$text\r\n" . ($body // '');
    $self->{held}    = $options{hold_back} ? substr($self->{sending}, -1, 1, '') : '';
    $self->{head_only} = $method eq 'HEAD';
    $self->{busy} = 1;
    want_write($self->{fd}, 1);
    return;
}

# Sends what send() has held back.
sub complete ($self) {
    $self->{sending} .= $self->{held};
    $self->{held} = '';
    want_write($self->{fd}, 1);
    return;
}

sub is_written ($self) { return $self->{sending} eq '' }

sub fileno ($self) { return $self->{fd} }
sub busy   ($self) { return $self->{busy} }

sub on_writable ($self) { return send_pending($self) || $self->stop_writing }

# An early error response may close the sending direction while the response still has to be read.
sub stop_writing ($self) {
    want_write($self->{fd}, 0);
    return;
}

sub on_readable ($self) {
    my $got = sysread $self->{socket}, my $bytes, 65536;
    return if !defined $got && $! == EAGAIN;
    if (!$got) {
        $self->drop;
        my $answer = $self->{buffer} =~ /\AHTTP/ ? answer($self->{buffer}, 1, $self->{head_only}) : undef;
        return $self->finish($answer ? $answer->{answer} : undef);
    }
    $self->{buffer} .= $bytes;
    my $answer = answer($self->{buffer}, 0, $self->{head_only}) or return;
    substr $self->{buffer}, 0, $answer->{length}, '';
    $self->drop if ($answer->{answer}{header}{connection}[0] // '') eq 'close';
    return $self->finish($answer->{answer});
}

# The end of an idle connection is not a response.
sub finish ($self, $answer) {
    return if !$self->{busy};
    $self->{busy} = 0;
    $self->{on_answer}->($answer);
    return;
}

sub is_open ($self) { return defined $self->{socket} }

sub drop ($self) {
    return if !$self->{socket};
    unwatch($self->{fd});
    close $self->{socket};
    delete $self->{socket};
    return;
}

# The first response in the bytes and its length, or nothing while it is incomplete.
sub answer ($bytes, $at_end, $head_only) {
    return if $bytes !~ /\A(.*?\r\n)\r\n/s;
    my ($head, $begin) = ($1, $+[0]);
    my ($first, @lines) = split /\r\n/, $head;
    my %header;
    for my $line (@lines) {
        my ($name, $value) = split /:\s*/, $line, 2;
        push @{ $header{ lc $name } }, $value;
    }
    my $status = $first =~ m{\AHTTP/1\.\d (\d{3})} ? $1 : 0;
    my ($body, $length) = body($bytes, $begin, \%header, $at_end, $head_only || $status == 204 || $status == 304);
    return if !defined $body;
    my $type = $header{'content-type'}[0] // '';
    my $json = $type =~ m{\Aapplication/json} ? eval { JSON::PP->new->utf8->decode($body) } : undef;
    return {
        answer => { status => $status, header => \%header, head => $head, body => $body, json => $json },
        length => $length,
    };
}

sub body ($bytes, $begin, $header, $at_end, $has_none) {
    return ('', $begin) if $has_none;
    if (defined(my $length = $header->{'content-length'}[0])) {
        return if length($bytes) < $begin + $length && !$at_end;
        return (substr($bytes, $begin, $length), $begin + $length);
    }
    if (($header->{'transfer-encoding'}[0] // '') eq 'chunked') {
        my $body = '';
        pos($bytes) = $begin;
        while ($bytes =~ /\G([0-9a-fA-F]+)\r\n/gc) {
            my $size = hex $1;
            my $from = pos $bytes;
            return if length($bytes) < $from + $size + 2;
            return ($body, $from + 2) if $size == 0;
            $body .= substr $bytes, $from, $size;
            pos($bytes) = $from + $size + 2;
        }
        return $at_end ? ($body, length $bytes) : ();
    }
    return $at_end ? (substr($bytes, $begin), length $bytes) : ();
}

1;
