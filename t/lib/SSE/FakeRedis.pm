package SSE::FakeRedis;

# A server that is not Redis: it accepts connections and sends a configured reply to any request.

use v5.36;
use Errno qw(EAGAIN);
use IO::Socket::INET;
use Socket qw(SOMAXCONN);
use SSE::Loop qw(watch unwatch want_write);

# answer  the bytes that are sent on each connection after its first request
# again   send them again and again
# close   close the connection after them
sub start ($class, %options) {
    my $listener = IO::Socket::INET->new(Listen => SOMAXCONN, LocalAddr => '127.0.0.1', Proto => 'tcp', Blocking => 0)
        or die "listen: $!";
    my $self = bless { %options, accepted => 0, listener => $listener, fd => CORE::fileno($listener) }, $class;
    watch($self);
    return $self;
}

sub port     ($self) { return $self->{listener}->sockport }
sub url      ($self) { return 'redis://127.0.0.1:' . $self->port }
sub fileno   ($self) { return $self->{fd} }
sub accepted ($self) { return $self->{accepted} }

# Changes the reply for new connections.
sub answer ($self, %options) {
    delete @$self{qw(again close)};
    @$self{ keys %options } = values %options;
    return;
}

sub on_readable ($self) {
    my $socket = $self->{listener}->accept or return;
    $self->{accepted}++;
    $socket->blocking(0);
    watch(bless { %$self{qw(answer again close)}, socket => $socket, fd => CORE::fileno($socket) }, 'SSE::FakeRedis::Connection');
    return;
}

sub drop ($self) {
    unwatch($self->{fd});
    close $self->{listener};
    return;
}

package SSE::FakeRedis::Connection;

use v5.36;
use Errno qw(EAGAIN);
use SSE::Loop qw(unwatch want_write);

sub fileno ($self) { return $self->{fd} }

sub on_readable ($self) {
    my $got = sysread $self->{socket}, my $bytes, 65536;
    return if !defined $got && $! == EAGAIN;
    return $self->drop if !$got;
    $self->{sending} //= $self->{answer};
    want_write($self->{fd}, 1);
    return;
}

sub on_writable ($self) {
    my $sent = syswrite $self->{socket}, $self->{sending}, 65536;
    return $! == EAGAIN ? undef : $self->drop if !defined $sent;
    substr $self->{sending}, 0, $sent, '';
    return if $self->{sending} ne '';
    return $self->drop if $self->{close};
    if   ($self->{again}) { $self->{sending} = $self->{answer} }
    else                  { want_write($self->{fd}, 0) }
    return;
}

sub drop ($self) {
    return if !$self->{socket};
    unwatch($self->{fd});
    close delete $self->{socket};
    return;
}

1;
