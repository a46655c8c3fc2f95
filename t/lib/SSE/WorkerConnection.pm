package SSE::WorkerConnection;

# A kept HTTP connection to one particular worker, for tests that stop or kill workers. The nginx needs a
# location /ping.

use v5.36;
use SSE::HTTP;
use SSE::Loop qw(wait_for);

# Opens connections until one is accepted by the worker with this pid.
sub new ($class, $port, $worker) {
    for (1 .. 500) {
        my $self = bless { answer => undef }, $class;
        $self->{http} = SSE::HTTP->new($port, sub ($answer) { $self->{answer} = $answer; return });
        my $answer = $self->ask(path => '/ping');
        return $self if $answer->{status} && $answer->{header}{'x-worker'}[0] == $worker;
        $self->drop;
    }
    die "worker $worker accepts no connection";
}

# Sends a request without waiting for the response.
sub send ($self, %request) {
    $self->{answer} = undef;
    $self->{http}->send(%request);
    return;
}

# The response to a request, as of SSE::HTTP::request(); its status is 0 if there is none.
sub ask ($self, %request) {
    $self->send(%request);
    wait_for(sub { $self->{answer} || !$self->busy }, 60);
    return $self->{answer} // { status => 0 };
}

sub busy ($self) { return $self->{http}->busy }

sub drop ($self) {
    $self->{http}->drop;
    return;
}

1;
