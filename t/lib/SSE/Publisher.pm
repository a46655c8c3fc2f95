package SSE::Publisher;

# A publisher with a kept connection. A request without a response is repeated with the same
# Idempotency-Key, so that {accepted} is exactly what nginx has accepted.

use v5.36;
use Time::HiRes qw(time);
use SSE::HTTP;
use SSE::Loop qw(after wait_for);

my $count = 0;

# port, path; answer_within: seconds after which an event is tried again elsewhere.
sub new ($class, %options) {
    return bless {
        path          => '/publish',
        answer_within => 3,
        %options,
        name     => sprintf('%d-%d', $$, ++$count),
        queue    => [],
        accepted => [],
        refused  => [],
        repeats  => 0,
        sent     => 0,
    }, $class;
}

# Queues one event: put('data', path => ..., headers => [...]).
sub put ($self, $data, %more) {
    my $key = "$self->{name}-" . ++$self->{sent};
    push @{ $self->{queue} }, { data => $data, key => $key, %more };
    $self->pump;
    return;
}

# Publishes all, one after the other; true once each has a response.
sub publish ($self, @data) {
    $self->put($_) for @data;
    return $self->wait_idle;
}

sub wait_idle ($self, $timeout = 30) {
    return wait_for(sub { $self->is_idle }, $timeout);
}

sub is_idle  ($self) { return !$self->{current} && !@{ $self->{queue} } }
sub accepted ($self) { return @{ $self->{accepted} } }
sub last     ($self) { return $self->{accepted}[-1] }

# Publishes `rate` events per second with the data $make->(number), until stopped.
sub stream ($self, $rate, $make) {
    $self->{streaming} = 1;
    my ($number, $next) = (0, time());
    my $tick;
    $tick = sub {
        return undef $tick if !$self->{streaming};
        while ($next <= time()) {
            $self->put($make->(++$number));
            $next += 1 / $rate;
        }
        after($next - time(), $tick);
    };
    $tick->();
    return;
}

sub stop ($self) {
    $self->{streaming} = 0;
    return;
}

sub pump ($self) {
    return if $self->{current} || !@{ $self->{queue} };
    $self->{current} = shift @{ $self->{queue} };
    return $self->attempt;
}

sub attempt ($self) {
    my $event = $self->{current};
    my $try   = ++$self->{try};
    if (!$self->{connection} || !$self->{connection}->is_open) {
        $self->{connection} = SSE::HTTP->new($self->{port}, sub ($answer) { $self->answered($answer) });
    }
    $self->{connection}->send(
        method  => 'POST',
        path    => $event->{path} // $self->{path},
        headers => ['Idempotency-Key' => $event->{key}, @{ $event->{headers} // [] }],
        body    => $event->{data},
    );
    after($self->{answer_within}, sub { $self->retry if ($self->{try} // 0) == $try && $self->{current} });
    return;
}

sub answered ($self, $answer) {
    return $self->retry if !$answer || $answer->{status} =~ /\A50[234]\z/;
    my $event = delete $self->{current};
    if ($answer->{status} == 201 && $answer->{json}) {
        my %more = %{ $answer->{json} };
        push @{ $self->{accepted} }, { data => $event->{data}, %more };
    } else {
        push @{ $self->{refused} }, { data => $event->{data}, status => $answer->{status} };
    }
    return $self->pump;
}

sub retry ($self) {
    $self->{repeats}++;
    my $try = ++$self->{try};
    $self->{connection}->drop;
    after(0.02, sub { $self->attempt if $self->{try} == $try && $self->{current} });
    return;
}

sub drop ($self) {
    $self->stop;
    $self->{connection}->drop if $self->{connection};
    return;
}

1;
