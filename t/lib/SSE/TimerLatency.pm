package SSE::TimerLatency;

# How late this machine is at this moment: the probe beside which a test that must look at times judges
# them. A timer of the test's loop is set again and again, and what it is late by is what anything is late
# by that waits for a processor here.

use v5.36;
use Time::HiRes qw(time);
use SSE::Loop qw(after);

my $INTERVAL = 0.02;

# From now on, as long as the loop of the test runs.
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

# Seconds.
sub worst ($self) { return $self->{worst} }

1;
