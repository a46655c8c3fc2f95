package SSE::Relay;

# A TCP relay between a client and nginx, for one connection: it can stop forwarding what nginx sends,
# half-close, or reset the connection at any byte. For clients that are separate programs, as over TLS.

use v5.36;
use Socket;
use IO::Socket::INET;
use Errno qw(EAGAIN);
use SSE::Loop qw(watch unwatch want_read after);

# port           where nginx listens
# break_after    number of bytes from nginx after which both sides are reset
# receive_buffer SO_RCVBUF towards nginx
sub new ($class, %options) {
    my $listener = IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1', Proto => 'tcp') or die "listen: $!";
    my $self = bless { carried => 0, %options, listener => $listener, fd => CORE::fileno($listener) }, $class;
    watch($self);
    return $self;
}

sub port   ($self) { return $self->{listener}->sockport }
sub fileno ($self) { return $self->{fd} }

# Accepts the client and connects to nginx.
sub on_readable ($self) {
    my $client = $self->{listener}->accept or return;
    my $nginx  = IO::Socket::INET->new(Proto => 'tcp') or die "socket: $!";
    $nginx->setsockopt(SOL_SOCKET, SO_RCVBUF, $self->{receive_buffer}) if $self->{receive_buffer};
    connect $nginx, pack_sockaddr_in($self->{port}, inet_aton('127.0.0.1')) or die "connect: $!";
    $client->blocking(1);
    $nginx->blocking(0);
    $self->{up}   = SSE::Relay::End->new($client, $nginx,  sub { $self->half_close });
    $self->{down} = SSE::Relay::End->new($nginx,  $client, sub { $self->drop }, sub ($count) { $self->count($count) });
    unwatch($self->{fd});
    return;
}

sub count ($self, $count) {
    $self->{carried} += $count;
    $self->reset if $self->{break_after} && $self->{carried} >= $self->{break_after};
    return;
}

sub pause  ($self) { want_read($self->{down}->fileno, 0); return }
sub resume ($self) { want_read($self->{down}->fileno, 1); return }

# From now on forwards at most `bytes` from nginx every `every` seconds.
sub trickle ($self, $bytes, $every) {
    $self->pause;
    my $carry;
    $carry = sub {
        my $down = $self->{down} or return;
        $down->carry($bytes);
        after($every, $carry);
    };
    after($every, $carry);
    return;
}

# Closes the direction from the client to nginx; the other is still forwarded.
sub half_close ($self) {
    shutdown $self->{down}{from}, 1 if $self->{down};
    return;
}

sub reset ($self) {
    for my $end (grep { $_ && $_->{from} } @$self{qw(up down)}) {
        setsockopt $end->{from}, SOL_SOCKET, SO_LINGER, pack('ii', 1, 0);
    }
    return $self->drop;
}

sub drop ($self) {
    $_->drop for grep { $_ } delete @$self{qw(up down)};
    unwatch($self->{fd}) if $self->{listener};
    delete $self->{listener};
    return;
}

package SSE::Relay::End;

use v5.36;
use Errno qw(EAGAIN);
use SSE::Loop qw(watch unwatch);

sub new ($class, $from, $to, $at_end, $count = sub { }) {
    my $self = bless { from => $from, to => $to, at_end => $at_end, count => $count, fd => CORE::fileno($from) }, $class;
    watch($self);
    return $self;
}

sub fileno ($self) { return $self->{fd} }

sub on_readable ($self) { return $self->carry(16384) }

sub carry ($self, $most) {
    local $SIG{PIPE} = 'IGNORE';
    my $bytes;
    my $got = sysread $self->{from}, $bytes, $most;
    return if !defined $got && $! == EAGAIN;
    if (!$got) {
        unwatch($self->{fd});
        return $self->{at_end}->();
    }
    my $to = $self->{to};
    while ($bytes ne '') {
        my $sent = syswrite $to, $bytes;
        last if !$sent;
        substr $bytes, 0, $sent, '';
    }
    return $self->{count}->($got);
}

sub drop ($self) {
    return if !$self->{from};
    unwatch($self->{fd});
    close delete $self->{from};
    delete @$self{qw(to at_end count)};
    return;
}

1;
