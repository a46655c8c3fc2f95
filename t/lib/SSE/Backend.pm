package SSE::Backend;

# An application behind nginx, inside the test process: it speaks HTTP/1.0, HTTP/1.1, FastCGI, uwsgi, or SCGI, and
# sends a response piece by piece, as the test tells it.

use v5.36;
use IO::Socket::INET;
use SSE::Loop qw(watch unwatch wait_for);

# protocol: http10, http11, fastcgi, uwsgi, or scgi
sub new ($class, $protocol) {
    my $socket = IO::Socket::INET->new(Listen => 16, LocalAddr => '127.0.0.1', Proto => 'tcp', Blocking => 0)
        or die "listen: $!";
    my $self = bless { socket => $socket, fd => CORE::fileno($socket), protocol => $protocol, requests => [] }, $class;
    watch($self);
    return $self;
}

sub fileno ($self) { return $self->{fd} }
sub port   ($self) { return $self->{socket}->sockport }

sub on_readable ($self) {
    my $socket = $self->{socket}->accept or return;
    SSE::Backend::Request->new($socket, $self);
    return;
}

# The next request that has arrived completely, or undef.
sub request ($self) {
    wait_for(sub { @{ $self->{requests} } });
    return shift @{ $self->{requests} };
}

sub drop ($self) {
    return if !$self->{socket};
    unwatch($self->{fd});
    close delete $self->{socket};
    return;
}

package SSE::Backend::Request;

use v5.36;
use Errno qw(EAGAIN);
use Socket qw(IPPROTO_TCP TCP_NODELAY);
use SSE::Loop qw(watch unwatch);

# Types of FastCGI records.
my ($END_REQUEST, $STDIN, $STDOUT) = (3, 5, 6);

my %complete = (
    http10  => sub ($bytes) { $bytes =~ /\r\n\r\n/ },
    http11  => sub ($bytes) { $bytes =~ /\r\n\r\n/ },
    fastcgi => sub ($bytes) { ends_with_empty_stdin($bytes) },
    uwsgi   => sub ($bytes) { length $bytes >= 4 && length $bytes >= 4 + unpack 'x v', $bytes },
    scgi    => sub ($bytes) { $bytes =~ /\A(\d+):/ && length $bytes >= $+[0] + $1 + 1 },
);

sub new ($class, $socket, $backend) {
    $socket->blocking(0);
    $socket->setsockopt(IPPROTO_TCP, TCP_NODELAY, 1);
    my $self = bless { socket => $socket, fd => CORE::fileno($socket), backend => $backend,
        protocol => $backend->{protocol}, buffer => '', is_complete => 0, is_closed => 0 }, $class;
    watch($self);
    return $self;
}

sub fileno ($self) { return $self->{fd} }

sub on_readable ($self) {
    my $got = sysread $self->{socket}, my $bytes, 65536;
    return if !defined $got && $! == EAGAIN;
    return $self->closed if !$got;
    $self->{buffer} .= $bytes;
    return if $self->{is_complete} || !$complete{ $self->{protocol} }->($self->{buffer});
    $self->{is_complete} = 1;
    push @{ $self->{backend}{requests} }, $self;
    return;
}

sub ends_with_empty_stdin ($bytes) {
    while (length $bytes >= 8) {
        my ($type, $length, $padding) = unpack 'x C x2 n C', $bytes;
        return 1 if $type == $STDIN && $length == 0;
        substr $bytes, 0, 8 + $length + $padding, '';
    }
    return 0;
}

# Sends the status and the headers of the response.
sub head ($self, %headers) {
    my $status = delete $headers{Status} // '200 OK';
    my $head   = join '', map { "$_: $headers{$_}\r\n" } sort keys %headers;
    my $first  = $self->{protocol} =~ /\Ahttp|uwsgi/ ? "HTTP/1.1 $status\r\n" : "Status: $status\r\n";
    $first .= "Transfer-Encoding: chunked\r\n" if $self->{protocol} eq 'http11';
    return $self->raw("$first$head\r\n");
}

# Sends a piece of the body.
sub piece ($self, $bytes) {
    return $self->write_all(sprintf "%x\r\n%s\r\n", length $bytes, $bytes) if $self->{protocol} eq 'http11';
    return $self->raw($bytes);
}

# Completes the response.
sub finish ($self) {
    $self->write_all("0\r\n\r\n")                          if $self->{protocol} eq 'http11';
    $self->write_all(record($END_REQUEST, pack 'N C x3', 0, 0)) if $self->{protocol} eq 'fastcgi';
    return $self->drop;
}

sub raw ($self, $bytes) {
    return $self->write_all($self->{protocol} eq 'fastcgi' ? record($STDOUT, $bytes) : $bytes);
}

sub record ($type, $content) { return pack('C C n n C x', 1, $type, 1, length $content, 0) . $content }

sub write_all ($self, $bytes) {
    local $SIG{PIPE} = 'IGNORE';
    while ($self->{socket} && $bytes ne '') {
        my $sent = syswrite $self->{socket}, $bytes;
        return $self->closed if !defined $sent && $! != EAGAIN;
        substr $bytes, 0, $sent // 0, '';
    }
    return;
}

# nginx has closed the connection.
sub closed ($self) {
    $self->{is_closed} = 1;
    return $self->drop;
}

sub drop ($self) {
    return if !$self->{socket};
    unwatch($self->{fd});
    close delete $self->{socket};
    return;
}

1;
