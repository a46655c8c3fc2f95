package SSE::Loop;

# The event loop of a test process. It watches clients, publishers, and plain requests. Tests wait only in this
# loop, so that every stream is read meanwhile.
#
# A watched object has fileno(), on_readable() and on_writable(). Times are in seconds.

use v5.36;
use Errno qw(EAGAIN);
use Exporter qw(import);
use Time::HiRes qw(time);

our @EXPORT_OK = qw(watch unwatch want_write want_read send_pending after serve_for wait_for);

my %watched;
my ($reads, $writes) = ('', '');
my @timers;

sub watch ($object) {
    my $fd = $object->fileno;
    $watched{$fd} = $object;
    vec($reads, $fd, 1) = 1;
    return;
}

# Takes the number instead of the object, because the descriptor may be closed already.
sub unwatch ($fd) {
    delete $watched{$fd};
    vec($reads,  $fd, 1) = 0;
    vec($writes, $fd, 1) = 0;
    return;
}

sub want_write ($fd, $wanted) {
    vec($writes, $fd, 1) = $wanted ? 1 : 0;
    return;
}

sub want_read ($fd, $wanted) {
    vec($reads, $fd, 1) = $wanted ? 1 : 0;
    return;
}

# Sends what an object has to send, as much of it as its socket accepts now. Returns false if the connection is
# broken.
sub send_pending ($object) {
    local $SIG{PIPE} = 'IGNORE';
    my $sent = syswrite $object->{socket}, $object->{sending}, 262144;
    return $! == EAGAIN if !defined $sent;
    substr $object->{sending}, 0, $sent, '';
    want_write($object->{fd}, 0) if $object->{sending} eq '';
    return 1;
}

sub after ($delay, $code) {
    my $timer = { at => time() + $delay, code => $code };
    my $place = 0;
    $place++ while $place < @timers && $timers[$place]{at} <= $timer->{at};
    splice @timers, $place, 0, $timer;
    return;
}

sub serve_for ($duration) {
    my $end = time() + $duration;
    while ((my $left = $end - time()) > 0) {
        step($left);
    }
    return;
}

# A timeout only limits how long a failing test takes. It is not an assertion, and a busy machine may be
# several times slower than an idle one.
my $PATIENCE = 4;

# Returns true as soon as the condition holds, and false if it does not within the timeout. The condition may
# be expensive: it is checked every few milliseconds, not after every read.
sub wait_for ($condition, $timeout = 10) {
    my $end = time() + $PATIENCE * $timeout;
    while (!$condition->()) {
        return 0 if time() >= $end;
        my $slice = time() + 0.005;
        do { step(0.005) } while time() < $slice;
    }
    return 1;
}

# Closes all watched objects and cancels all timers.
sub drop_all {
    @timers = ();
    $_->drop for values %watched;
    return;
}

sub step ($longest) {
    if (@timers) {
        my $next = $timers[0]{at} - time();
        $longest = $next if $next < $longest;
    }
    $longest = 0 if $longest < 0;
    my ($r, $w) = ($reads, $writes);
    my $ready = select $r, $w, undef, $longest;
    if ($ready > 0) {
        for my $fd (keys %watched) {
            my ($readable, $writable) = (vec($r, $fd, 1), vec($w, $fd, 1));
            next unless $readable || $writable;
            my $object = $watched{$fd} or next;
            $object->on_writable if $writable;
            $object->on_readable if $readable && ($watched{$fd} // 0) == $object;
        }
    }
    my $now = time();
    while (@timers && $timers[0]{at} <= $now) {
        my $timer = shift @timers;
        $timer->{code}->();
    }
    return;
}

1;
