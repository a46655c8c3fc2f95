package SSE::FaultProxy;

# A bad network between nginx and Redis: a relay in a separate process, with faults that the test controls.
# It exits with the test, however the test ends.

use v5.36;
use File::Basename qw(dirname);
use POSIX ();
use Socket qw(AF_UNIX SOCK_STREAM PF_UNSPEC);

# to    the port of Redis
# at    the address on which it listens, 127.0.0.1 if not given
# port  the port; any if not given
sub start ($class, %options) {
    socketpair(my $test, my $proxy, AF_UNIX, SOCK_STREAM, PF_UNSPEC) or die "socketpair: $!";
    my $pid = fork() // die "fork: $!";
    if (!$pid) {
        POSIX::dup2(fileno $proxy, 0);
        exec $^X, '-I' . dirname(dirname(__FILE__)), '-MSSE::FaultProxy', '-e', 'SSE::FaultProxy::Relay->new(@ARGV)->run',
            @options{qw(to)}, $options{at} // '127.0.0.1', $options{port} // 0;
    }
    close $proxy;
    my $self = bless { pid => $pid, steering => $test, owner => $$ }, $class;
    $self->{port} = $self->order('port');
    return $self;
}

sub port ($self) { return $self->{port} }
sub url  ($self) { return "redis://127.0.0.1:$self->{port}" }
sub pid  ($self) { return $self->{pid} }

# The behaviour from now on: forward normally; delay every byte by that many seconds; forward one byte at a
# time; accept connections but forward nothing (a black hole); accept no new connections; forward that many
# bytes per second, over all connections; lose packets with that probability, of what the relay receives.
sub pass   ($self)           { return $self->order('pass') }
sub delay  ($self, $seconds) { return $self->order("delay $seconds") }
sub split  ($self)           { return $self->order('split') }
sub black_hole ($self)       { return $self->order('hole') }
sub refuse ($self)           { return $self->order('refuse') }
sub rate   ($self, $bytes)   { return $self->order("rate $bytes") }
sub lose   ($self, $share)   { return $self->order("lose $share") }

# Resets all connections and returns their number.
sub cut ($self) { return $self->order('cut') }

# The number of open connections.
sub count ($self) { return $self->order('count') }

sub order ($self, $command) {
    syswrite $self->{steering}, "$command\n";
    my $answer = '';
    while ($answer !~ /\n/) {
        sysread $self->{steering}, $answer, 64, length $answer or die "the proxy is gone\n";
    }
    chomp $answer;
    return $answer;
}

sub stop ($self) {
    return if !$self->{steering};
    close delete $self->{steering};
    waitpid $self->{pid}, 0;
    return;
}

sub DESTROY ($self) {
    local ($?, $!, $@);
    $self->stop if $self->{owner} == $$;
    return;
}

package SSE::FaultProxy::Relay;

# The relay process. It reads commands from its standard input.

use v5.36;
use Errno qw(EAGAIN EINPROGRESS);
use IO::Socket::INET;
use List::Util qw(max shuffle);
use Socket qw(:DEFAULT IPPROTO_TCP SO_ATTACH_FILTER SO_DETACH_FILTER TCP_NODELAY);
use Time::HiRes qw(time);

# The relay stops reading from a side when this many bytes wait for the other.
my $most = 1 << 20;

sub new ($class, $to, $at, $port) {
    $SIG{$_} = 'IGNORE' for qw(PIPE INT);
    my $listener = listener($at, $port);
    return bless {
        listener => $listener, at => $at, port => $listener->sockport, to => $to, how => 'pass', delay => 0, rate => 0,
        lose => 0, free => 0, sides => {},
    }, $class;
}

sub listener ($at, $port) {
    my $socket = IO::Socket::INET->new(Listen => 128, LocalAddr => $at, LocalPort => $port, ReuseAddr => 1, Proto => 'tcp')
        or die "listen: $!";
    $socket->blocking(0);
    return $socket;
}

# A connection has two sides: { socket, other, waiting => [[due, bytes] ...], size, at_end }.
sub run ($self) {
    while (1) {
        my ($reads, $writes) = ('', '');
        vec($reads, fileno STDIN, 1) = 1;
        vec($reads, fileno $self->{listener}, 1) = 1 if $self->{listener};
        my ($now, $next) = (time(), 1);
        for my $side ($self->sides) {
            vec($reads, fileno $side->{socket}, 1) = 1
                if $self->{how} ne 'hole' && !$side->{at_end} && $side->{other}{size} < $most;
            next if !@{ $side->{waiting} } || $self->{how} eq 'hole';
            my $due = max($side->{waiting}[0][0], $self->{free}) - $now;
            if ($due <= 0) { vec($writes, fileno $side->{socket}, 1) = 1 }
            else           { $next = $due if $due < $next }
        }
        my $ready = select $reads, $writes, undef, $next;
        next if $ready <= 0;
        return if vec($reads, fileno STDIN, 1) && !$self->handle_command;
        $self->accept if $self->{listener} && vec($reads, fileno $self->{listener}, 1);
        for my $side ($self->sides) {
            my $fd = fileno $side->{socket};
            $self->write($side) if defined $fd && vec($writes, $fd, 1);
            $self->read($side)  if defined fileno $side->{socket} && vec($reads, $fd, 1);
        }
    }
    return;
}

# A shuffled copy: sides are removed during the iteration, and no side is always first on a slow connection.
sub sides ($self) { return my @all = shuffle values %{ $self->{sides} } }

sub handle_command ($self) {
    sysread STDIN, my $order, 256 or return 0;
    my ($word, $value) = $order =~ /(\S+)/g;
    my $answer = 'ok';
    if ($word eq 'cut') {
        $answer = keys(%{ $self->{sides} }) / 2;
        $self->end($_, 1) for $self->sides;
    } elsif ($word eq 'port') {
        $answer = $self->{port};
    } elsif ($word eq 'count') {
        $answer = keys(%{ $self->{sides} }) / 2;
    } else {
        $self->{how}   = $word;
        @$self{qw(delay rate lose free)} = (0, 0, 0, 0);
        $self->{$word} = $value if exists $self->{$word};
        lose_packets($_->{socket}, $self->{lose}) for $self->sides;
        if ($word eq 'refuse') { close delete $self->{listener} if $self->{listener} }
        else                   { $self->{listener} //= listener(@$self{qw(at port)}) }
    }
    POSIX::write(0, "$answer\n", 1 + length $answer);
    return 1;
}

sub accept ($self) {
    my $client = $self->{listener}->accept or return;
    my $server = IO::Socket::INET->new(Proto => 'tcp') or return;
    $server->blocking(0);
    connect($server, pack_sockaddr_in($self->{to}, inet_aton('127.0.0.1'))) || $! == EINPROGRESS || return;
    my @sides = map { { socket => $_, waiting => [], size => 0 } } $client, $server;
    @$_{qw(key)} = fileno $_->{socket} for @sides;
    for my $at (0, 1) {
        $sides[$at]{other} = $sides[1 - $at];
        $sides[$at]{socket}->blocking(0);
        $sides[$at]{socket}->setsockopt(IPPROTO_TCP, TCP_NODELAY, 1);
        lose_packets($sides[$at]{socket}, $self->{lose});
        $self->{sides}{ $sides[$at]{key} } = $sides[$at];
    }
    return;
}

# Makes the kernel discard packets that arrive for a socket, with this probability, before TCP sees them: the sender
# has to send them again. A filter for each packet: load a random number, compare it, keep or discard.
sub lose_packets ($socket, $share) {
    return setsockopt $socket, SOL_SOCKET, SO_DETACH_FILTER, 0 if !$share;
    my $random = 0xfffff000 + 56;
    my $filter = join '', map { pack 'SCCL', @$_ }
        [0x20, 0, 0, $random], [0x35, 0, 1, int((1 - $share) * 0xffffffff)], [0x06, 0, 0, 0], [0x06, 0, 0, 0xffffffff];
    setsockopt $socket, SOL_SOCKET, SO_ATTACH_FILTER, pack 'S x![P] P', 4, $filter or die "cannot lose packets: $!";
    return;
}

sub read ($self, $side) {
    my $got = sysread $side->{socket}, my $bytes, 65536;
    return if !defined $got && $! == EAGAIN;
    return $self->end($side, 1) if !defined $got;
    my $other = $side->{other};
    push @{ $other->{waiting} }, [time() + $self->{delay}, $bytes];
    $other->{size} += length $bytes;
    $side->{at_end} = 1 if !$got;    # an end waits its turn, as an empty string
    return;
}

sub write ($self, $side) {
    my $first = $side->{waiting}[0] or return;
    return $self->end($side, 0) if $first->[1] eq '';
    return if $self->{free} > time();
    my $most = $self->{how} eq 'split' ? 1 : $self->{rate} ? 4096 : 65536;
    my $sent = syswrite $side->{socket}, $first->[1], $most;
    return $! == EAGAIN ? undef : $self->end($side, 1) if !defined $sent;
    substr $first->[1], 0, $sent, '';
    $side->{size} -= $sent;
    $self->{free} = max($self->{free}, time() - 0.02) + $sent / $self->{rate} if $self->{rate};
    shift @{ $side->{waiting} } if $first->[1] eq '';
    return;
}

# Closes both sides of a connection.
sub end ($self, $side, $reset) {
    for my $one ($side, $side->{other}) {
        next if !delete $self->{sides}{ $one->{key} };
        setsockopt $one->{socket}, SOL_SOCKET, SO_LINGER, pack('ii', 1, 0) if $reset;
        close $one->{socket};
    }
    return;
}

1;
