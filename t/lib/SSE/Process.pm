package SSE::Process;

# A server of a test's own: a program in the foreground that ends with the test, however that ends.

use v5.36;
use POSIX qw(WNOHANG);
use SSE::Loop qw(wait_for);

my @running;

# log: file for what it says.
sub start ($class, $log, @command) {
    my $pid = fork() // die "fork: $!";
    if (!$pid) {
        open STDIN,  '<',  '/dev/null';
        open STDOUT, '>>', $log;
        open STDERR, '>>', $log;
        # The kernel ends it where the test itself is killed.
        { exec 'setpriv', '--pdeathsig', 'KILL', @command }
        { exec @command }
        POSIX::_exit(127);
    }
    my $self = bless { pid => $pid, owner => $$ }, $class;
    push @running, $self;
    return $self;
}

sub pid ($self) { return $self->{pid} }

sub signal ($self, $name) { return $self->is_gone ? 0 : kill $name, $self->{pid} }

# Gone and reaped.
sub is_gone ($self) {
    return 1 if !$self->{pid};
    return 0 if waitpid($self->{pid}, WNOHANG) == 0;
    $self->{pid} = undef;
    @running = grep { $_ != $self } @running;
    return 1;
}

# By the signal; true when it went in time.
sub end ($self, $signal = 'TERM', $timeout = 5) {
    $self->signal($signal);
    return wait_for(sub { $self->is_gone }, $timeout);
}

END {
    my $status = $?;
    for my $process (grep { $_->{owner} == $$ } @running) {
        kill 'KILL', $process->{pid};
        waitpid $process->{pid}, 0;
    }
    $? = $status;
}

1;
