package SSE::BrowserProcess;

# What Chromium and Firefox have in common: a process group of its own, and a temporary profile that is removed with
# it. A class has its protocol: disconnect() closes the connection to the browser, if there still is one.

use v5.36;
use File::Path qw(remove_tree);
use File::Temp;
use POSIX ();
use SSE::Loop ();

# The path of the first of these programs that is installed, or nothing.
sub find (@names) {
    for my $name (@names) {
        for my $dir (split(/:/, $ENV{PATH}), '/usr/bin') {
            return "$dir/$name" if -x "$dir/$name";
        }
    }
    return;
}

sub new_profile { return File::Temp::tempdir('sse-browser-XXXXXXXX', TMPDIR => 1) }

# Starts the program. The code runs in its process before.
sub launch ($class, $profile, $prepare, @command) {
    my $pid = fork() // die "fork: $!";
    if (!$pid) {
        setpgrp;
        open STDIN,  '<', '/dev/null';
        open STDOUT, '>', "$profile/out";
        open STDERR, '>', "$profile/err";
        $prepare->();
        $ENV{HOME} = $profile;
        exec @command or POSIX::_exit(127);
    }
    return bless { pid => $pid, owner => $$, profile => $profile, buffer => '', calls => 0, answers => {} }, $class;
}

sub drop ($self) {
    my $pid = delete $self->{pid} // return;
    $self->disconnect;
    # Nothing of the profile is to be kept, and nothing is written to it after the last process of the group.
    kill 'KILL', -$pid;
    waitpid $pid, 0;
    for (1 .. 500) {
        last if !kill 0, -$pid;
        select undef, undef, undef, 0.01;
    }
    remove_tree($self->{profile});
    return;
}

sub DESTROY ($self) {
    local ($?, $!, $@);
    $self->drop if $self->{owner} == $$;
    return;
}

package SSE::BrowserProcess::Tab;

use v5.36;
use SSE::Loop qw(wait_for);

# Waits until a JavaScript expression is true.
sub becomes ($self, $expression, $timeout = 10) {
    return wait_for(sub { SSE::Loop::serve_for(0.02); $self->js("!!($expression)") }, $timeout);
}

1;
