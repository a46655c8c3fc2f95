package SSE::Process;

# A server that a test starts: a program in the foreground that exits with the test, however the test ends.

use v5.36;
use Exporter qw(import);
use POSIX qw(WNOHANG);
use SSE::Loop qw(wait_for);

our @EXPORT_OK = qw(pause_process);

my @running;

# log: file for its output.
sub start ($class, $log, @command) {
    my $pid = fork() // die "fork: $!";
    if (!$pid) {
        open STDIN,  '<',  '/dev/null';
        open STDOUT, '>>', $log;
        open STDERR, '>>', $log;
        # The kernel kills it if the test is killed.
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

# Stops the process until signal('CONT').
sub pause ($self) { return $self->is_gone ? 0 : pause_process($self->{pid}) }

# Stops a process, and returns when all of its threads have stopped. On a busy machine, those that have not been
# scheduled yet would continue their work.
sub pause_process ($pid) {
    kill 'STOP', $pid;
    for (1 .. 10_000) {
        last if !grep { runs($_) } glob "/proc/$pid/task/*/stat";
        select undef, undef, undef, 0.001;
    }
    return;
}

# Whether the thread with this file neither is stopped nor has ended; see proc_pid_stat(5).
sub runs ($stat) {
    open my $in, '<', $stat or return 0;
    return (<$in> // '') =~ /.*\) [^TtZX]/;
}

# Whether the process has exited; reaps it.
sub is_gone ($self) {
    return 1 if !$self->{pid};
    return 0 if waitpid($self->{pid}, WNOHANG) == 0;
    $self->{pid} = undef;
    @running = grep { $_ != $self } @running;
    return 1;
}

# Sends the signal and waits for the exit; false if it takes too long.
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
