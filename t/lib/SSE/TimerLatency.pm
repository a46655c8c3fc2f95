package SSE::TimerLatency;

# The scheduling latency of this machine: a probe for tests that check durations. A timer of the event loop
# is set again and again, and its lateness is that of anything else that waits for a processor.

use v5.36;
use Time::HiRes qw(time);
use SSE::Loop qw(after);

my $INTERVAL = 0.02;

# Starts measuring, while the event loop of the test runs.
sub measure ($class) {
    my $self = bless { worst => 0 }, $class;
    $self->tick;
    return $self;
}

sub tick ($self) {
    my $due = time() + $INTERVAL;
    after($INTERVAL, sub {
        my $late = time() - $due;
        $self->{worst} = $late if $late > $self->{worst};
        $self->tick;
    });
    return;
}

# The largest latency so far, in seconds.
sub worst ($self) { return $self->{worst} }

1;
