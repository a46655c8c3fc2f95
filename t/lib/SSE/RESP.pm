package SSE::RESP;

# A Redis client in the event loop of the test: one connection that speaks RESP2. Commands are pipelined;
# replies are passed to a callback or waited for. After SUBSCRIBE messages are passed to on_message.

use v5.36;
use Errno qw(EAGAIN EINPROGRESS EWOULDBLOCK);
use IO::Socket::INET;
use IO::Socket::UNIX;
use Socket qw(:DEFAULT IPPROTO_TCP TCP_NODELAY);
use Time::HiRes qw(time);
use SSE::Loop qw(watch unwatch want_write send_pending after wait_for);

my %pushed = map { $_ => 1 } qw(message pmessage subscribe unsubscribe psubscribe punsubscribe);

# port or unix     where Redis listens
# user, password   credentials
# on_message       called with the channel and data of each message (also for pmessages after PSUBSCRIBE)
sub new ($class, %options) {
    my $self = bless { %options, waiting => [], sending => '', buffer => '', subscribed => 0 }, $class;
    my $socket = $self->{unix} ? IO::Socket::UNIX->new(Peer => $self->{unix}, Blocking => 0) : tcp($self->{port});
    return $self if !$socket;    # as one that has broken
    @$self{qw(socket fd)} = ($socket, CORE::fileno($socket));
    watch($self);
    $self->send([grep { defined } 'AUTH', @$self{qw(user password)}]) if defined $self->{password};
    return $self;
}

sub tcp ($port) {
    my $socket = IO::Socket::INET->new(Proto => 'tcp', Blocking => 0) or die "socket: $!";
    my $done   = connect $socket, pack_sockaddr_in($port, inet_aton('127.0.0.1'));
    return if !$done && $! != EINPROGRESS && $! != EWOULDBLOCK;
    $socket->setsockopt(IPPROTO_TCP, TCP_NODELAY, 1);
    return $socket;
}

sub fileno  ($self) { return $self->{fd} }
sub is_open ($self) { return defined $self->{socket} }

# The number of commands without a reply.
sub pending ($self) { return scalar @{ $self->{waiting} } }

# Sends a command; the callback receives the reply, or undef if the connection breaks before one.
sub send ($self, $words, $callback = undef) {
    return $callback && $callback->(undef) if !$self->{socket};
    $self->{sending} .= encode(@$words);
    push @{ $self->{waiting} }, $callback if $words->[0] !~ /\Ap?subscribe\z/i;
    want_write($self->{fd}, 1);
    return;
}

sub encode (@words) {
    return '*' . @words . "\r\n" . join '', map { '$' . length($_) . "\r\n$_\r\n" } @words;
}

# Sends a command and returns its reply: a scalar, undef for nil, a list, or an SSE::RESP::Error. Dies
# without a reply.
sub call ($self, @words) {
    my ($done, $answer) = (0, undef);
    $self->send(\@words, sub ($got) { ($done, $answer) = (1, $got); return });
    wait_for(sub { $done || !$self->{socket} }, $self->{timeout} // 10);
    die "Redis does not answer $words[0]\n" if !$done || !$self->{socket};
    return $answer;
}

# Returns once all channels are subscribed.
sub subscribe ($self, @channels) {
    my $want = $self->{subscribed} + @channels;
    $self->send(['SUBSCRIBE', @channels]);
    return wait_for(sub { $self->{subscribed} >= $want || !$self->{socket} }) && $self->{socket};
}

# Sends the commands $make->(1), $make->(2) … at this rate per second, until stop() is called or the connection
# ends. {answered} counts the replies.
sub stream ($self, $rate, $make) {
    my ($next, $tick) = (time(), undef);
    @$self{qw(streaming sent answered)} = (1, 0, 0);
    $tick = sub {
        return undef $tick if !$self->{streaming} || !$self->{socket};
        for (; $next <= time(); $next += 1 / $rate) {
            $self->send($make->(++$self->{sent}), sub ($got) { $self->{answered}++ if defined $got; return });
        }
        after($next - time(), $tick);
    };
    $tick->();
    return;
}

# Stops the stream; true once all replies have arrived.
sub stop ($self) {
    $self->{streaming} = 0;
    return wait_for(sub { !$self->pending || !$self->{socket} }, 20) && $self->{socket};
}

# Sends all commands at once; true once all replies have arrived.
sub flood ($self, @commands) {
    $self->send($_) for @commands;
    return wait_for(sub { !$self->pending || !$self->{socket} }, 60) && $self->{socket};
}

sub on_writable ($self) { return send_pending($self) || $self->drop }

sub on_readable ($self) {
    my $got = sysread $self->{socket}, my $bytes, 262144;
    return if !defined $got && $! == EAGAIN;
    return $self->drop if !$got;
    $self->{buffer} .= $bytes;
    pos($self->{buffer}) = 0;
    my $whole = 0;
    while (my ($value) = decode(\$self->{buffer})) {
        $whole = pos $self->{buffer};
        $self->take($value);
        return if !$self->{socket};
        pos($self->{buffer}) = $whole;
    }
    substr $self->{buffer}, 0, $whole, '';
    return;
}

# Decodes one value; returns nothing while it is incomplete.
sub decode ($text) {
    $$text =~ /\G([-+:\$*])([^\r\n]*)\r\n/gc or return;
    my ($kind, $line) = ($1, $2);
    return $line if $kind eq '+' || $kind eq ':';
    return SSE::RESP::Error->new($line) if $kind eq '-';
    return undef if $line < 0;
    if ($kind eq '$') {
        my $from = pos $$text;
        return if length $$text < $from + $line + 2;
        pos($$text) = $from + $line + 2;
        return substr $$text, $from, $line;
    }
    my @list;
    for (1 .. $line) {
        my ($value, @more) = map { [$_] } decode($text) or return;
        push @list, $value->[0];
    }
    return \@list;
}

sub take ($self, $value) {
    if (ref $value eq 'ARRAY' && $pushed{ $value->[0] // '' }) {
        $self->{subscribed} = $value->[2] if $value->[0] =~ /subscribe\z/;
        $self->{on_message}->(@$value[-2, -1]) if $value->[0] =~ /message\z/ && $self->{on_message};
        return;
    }
    my $callback = shift @{ $self->{waiting} };
    return $callback ? $callback->($value) : undef;
}

sub drop ($self) {
    return if !$self->{socket};
    unwatch($self->{fd});
    close delete $self->{socket};
    $_ && $_->(undef) for splice @{ $self->{waiting} };
    return;
}

package SSE::RESP::Error;

# An error reply of Redis; as a string, its line.

use v5.36;
use overload '""' => sub ($self, @) { return $self->{line} }, fallback => 1;

sub new ($class, $line) { return bless { line => $line }, $class }

1;
