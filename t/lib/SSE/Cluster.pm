package SSE::Cluster;

# A real nginx: a master and its workers, started from a generated configuration in a temporary directory,
# on free ports of 127.0.0.1. Tests reload, stop, kill, and inspect it. Waiting runs the event loop of the
# test, so that streams are read meanwhile.

use v5.36;
use File::Temp;
use IO::Socket::INET;
use POSIX qw(WNOHANG);
use Test::More;
use Time::HiRes qw(sleep time);
use SSE::Loop qw(wait_for);
use SSE::Nginx qw(binary module load_module free_port has_module);
use SSE::Process qw(pause_process);

my @running;

# workers  number of worker processes
# master   0 for an nginx that is a single process, without a master
# daemon   'on' for an nginx whose binary can be upgraded; it is not a child process of the test
# connections  worker_connections
# main, events, http, server  configuration put into that context; %%PORT%%, %%PORT_name%% and %%DIR%%
#          are replaced, each name by a different free port
# files    { name => content } written below %%DIR%%
sub new ($class, %options) {
    my $dir = File::Temp->newdir('sse-t-XXXXXXXX', TMPDIR => 1);
    chmod 0755, $dir;
    my $self = bless { workers => 2, master => 1, daemon => 'off', connections => 1024, main => '', events => '', http => '', server => '', %options,
        listen => $options{listen} // "", owner => $$, dir => $dir, ports => {}, allowed => [] }, $class;
    my %files = %{ $self->{files} // {} };
    for my $name (keys %files) {
        write_file("$dir/$name", $files{$name});
    }
    return $self;
}

sub start ($class_or_self, %options) {
    my $self = ref $class_or_self ? $class_or_self : $class_or_self->new(%options);
    plan_without_module() if !-e module();
    for my $try (1 .. 3) {
        $self->write_config;
        $self->launch;
        return $self if $self->wait_started;
        last if $self->error_log !~ /Address already in use/;
        $self->{ports} = {};
    }
    die "nginx did not start:\n" . $self->error_log;
}

# Stops the whole run: without the module there is nothing to test.
sub plan_without_module {
    BAIL_OUT('no module at ' . module() . '; scripts/build makes it');
    return;
}

sub write_config ($self) {
    my $temp = join "\n    ", map { "${_}_temp_path %%DIR%%/$_;" } 'client_body',
        grep { has_no_flag("--without-http_${_}_module") } qw(proxy fastcgi uwsgi scgi);
    my $load   = load_module();
    my $single = $self->{master} ? '' : 'master_process off;';
    my $text   = <<"EOF_CONFIG";
$load
worker_processes $self->{workers};
daemon $self->{daemon};
$single
pid %%DIR%%/nginx.pid;
error_log %%DIR%%/error.log info;
$self->{main}
events {
    worker_connections $self->{connections};
    $self->{events}
}
http {
    access_log %%DIR%%/access.log;
    $temp
    add_header X-Worker \$pid always;
    $self->{http}
    server {
        listen 127.0.0.1:%%PORT%%$self->{listen};
        server_name localhost;
        root %%DIR%%;
        $self->{server}
    }
}
EOF_CONFIG
    $text =~ s/%%DIR%%/$self->{dir}/g;
    $text =~ s/%%PORT(?:_(\w+))?%%/$self->port($1 \/\/ '')/ge;
    write_file($self->config_file, $text);
    return;
}

sub has_no_flag ($flag) { return index(SSE::Nginx::built_with(), $flag) < 0 }

sub config_file ($self) { return "$self->{dir}/nginx.conf" }
sub dir         ($self) { return "$self->{dir}" }
sub port ($self, $name = '') { return $self->{ports}{$name} //= free_port() }
sub pid  ($self) { return $self->{pid} }

# Changes options for the next reload.
sub configure ($self, %options) {
    @$self{ keys %options } = values %options;
    return $self->write_config;
}

sub command ($self) {
    return (binary(), '-p', $self->dir, '-c', $self->config_file, '-e', $self->dir . '/error.log');
}

# Runs `nginx -t` and returns its exit status and output.
sub check_config ($self) {
    $self->write_config;
    my $command = join ' ', map { "'$_'" } $self->command, '-t';
    my $said    = `$command 2>&1`;
    return ($? >> 8, $said);
}

sub launch ($self) {
    my $pid = fork() // die "fork: $!";
    if (!$pid) {
        open STDOUT, '>>', $self->dir . '/stdout';
        open STDERR, '>>', $self->dir . '/stdout';
        open STDIN,  '<',  '/dev/null';
        exec $self->command or POSIX::_exit(127);
    }
    $self->{pid} = $pid;
    push @running, $self;
    $self->wait_daemon if $self->{daemon} eq 'on';
    return;
}

# Waits until the started process has become a daemon.
sub wait_daemon ($self) {
    wait_for(sub { waitpid($self->{pid}, WNOHANG) != 0 }, 20);
    my $ready = wait_for(sub { slurp($self->dir . '/nginx.pid') =~ /\A(\d+)\n/ });
    $self->adopt(slurp($self->dir . '/nginx.pid') + 0) if $ready;
    return;
}

sub wait_started ($self) {
    return wait_for(sub { $self->is_gone || $self->serves }, 20) && !$self->is_gone;
}

# Whether all workers are running; without a master, whether it accepts connections.
sub serves ($self) {
    return $self->workers == $self->{workers} if $self->{master};
    return defined IO::Socket::INET->new(PeerAddr => '127.0.0.1:' . $self->port, Proto => 'tcp');
}

# Whether the master has exited; reaps it. A master that was started by another one is not a child of this process.
sub is_gone ($self) {
    return 1 if !$self->{pid};
    return 0 if $self->{adopted} && slurp("/proc/$self->{pid}/stat") =~ /\) [^ZX] /;
    return 0 if waitpid($self->{pid}, WNOHANG) == 0;
    $self->{exit_status} = $?;
    $self->{pid}         = undef;
    @running = grep { $_ != $self } @running;
    return 1;
}

# Pids of the workers that accept connections, of those that are shutting down, and of all child processes.
sub workers     ($self) { return grep { title($_) =~ /worker process\z/ } $self->children }
sub old_workers ($self) { return grep { title($_) =~ /worker process is shutting down/ } $self->children }

sub children ($self) { return $self->{pid} ? children_of($self->{pid}) : () }

sub children_of ($pid) {
    my @pids = sort { $a <=> $b } split ' ', slurp("/proc/$pid/task/$pid/children");
    return @pids;
}

sub title ($pid) { return slurp("/proc/$pid/cmdline") =~ s/[\0\s]+\z//r }

# Reloads and waits for the new workers; the old ones may still be draining.
sub reload ($self) {
    my %old = map { $_ => 1 } $self->workers;
    kill 'HUP', $self->{pid};
    return wait_for(sub {
        my @now = $self->workers;
        return @now == $self->{workers} && !grep { $old{$_} } @now;
    }, 20);
}

# Starts a binary upgrade (USR2). Returns the pid of the new master when its workers are running.
sub start_new_master ($self) {
    my %before = map { $_ => 1 } $self->children;
    kill 'USR2', $self->{pid};
    my $master;
    wait_for(sub {
        ($master) = grep { !$before{$_} && title($_) =~ /master process/ } $self->children;
        return $master && (() = children_of($master)) == $self->{workers};
    }, 20);
    return $master;
}

# Makes this object represent the nginx with that master.
sub adopt ($self, $master) {
    @$self{qw(pid adopted)} = ($master, 1);
    return;
}

sub wait_old_workers_gone ($self, $timeout) {
    return wait_for(sub { !$self->old_workers && $self->children == $self->{workers} }, $timeout);
}

# Kills a worker. nginx logs this as an alert, which is expected.
sub kill_worker ($self, $pid) {
    $self->allow(qr/\[alert\] .*worker process $pid exited on signal 9/);
    kill 'KILL', $pid;
    return wait_for(sub { $self->workers == $self->{workers} && !grep { $_ == $pid } $self->children }, 20);
}

sub pause  ($self, $pid) { pause_process($pid); return }
sub resume ($self, $pid) { kill 'CONT', $pid; return }

# The private memory of all processes in bytes, without the shared zone and mapped files.
sub private_memory ($self) {
    my $total = 0;
    for my $pid ($self->{pid}, $self->children) {
        my %kb = slurp("/proc/$pid/smaps_rollup") =~ /^(\w+):\s+(\d+) kB/mg;
        $total += ($kb{Pss_Anon} // 0) + ($kb{SwapPss} // 0);
    }
    return $total * 1024;
}

sub descriptors ($self, $pid) {
    opendir my $dir, "/proc/$pid/fd" or return 0;
    return scalar grep { /\A\d+\z/ } readdir $dir;
}

sub error_log  ($self) { return slurp($self->dir . '/error.log') }
# The lines of the error log that match, once there are at least `count` of them or time is up. A process
# other than the one that has responded, or the Redis thread, may write its line a little later.
sub wait_lines ($self, $pattern, $count = 1) {
    my @lines;
    wait_for(sub { (@lines = grep { /$pattern/ } split /\n/, $self->error_log) >= $count });
    return @lines;
}

sub access_log ($self) { return slurp($self->dir . '/access.log') }

# Allows lines in the error log that would otherwise fail the test.
sub allow ($self, @patterns) {
    push @{ $self->{allowed} }, @patterns;
    return;
}

sub bad_lines ($self) {
    my @bad = grep { /\[(?:alert|emerg)\]|panic|open socket .* left|Sanitizer|runtime error: /i } split /\n/, $self->error_log;
    for my $pattern (@{ $self->{allowed} }) {
        @bad = grep { !/$pattern/ } @bad;
    }
    return @bad;
}

# Sends QUIT and waits for the exit; false if it takes too long.
sub quit ($self, $timeout = 15) {
    kill 'QUIT', $self->{pid} if $self->{pid};
    return wait_for(sub { $self->is_gone }, $timeout);
}

# Ends every test: closes all connections, quits nginx, and checks the error log.
sub ends_cleanly ($self) {
    SSE::Loop::drop_all();
    my $stopped = $self->quit(10);
    ok($stopped, 'nginx exits on QUIT');
    $self->destroy if !$stopped;
    my @bad = $self->bad_lines;
    ok(!@bad, 'the error log has no alert, emerg, panic, or open socket')
        or diag(join "\n", @bad[0 .. ($#bad > 9 ? 9 : $#bad)]);
    return;
}

sub destroy ($self) {
    return if !$self->{pid};
    my @children = $self->children;
    kill 'KILL', $self->{pid}, @children, map { children_of($_) } @children;
    waitpid $self->{pid}, 0;
    $self->{pid} = undef;
    @running = grep { $_ != $self } @running;
    return;
}

END {
    my $status = $?;
    $_->destroy for my @mine = grep { $_->{owner} == $$ } @running;
    $? = $status;
}

sub slurp ($path) {
    open my $in, '<:raw', $path or return '';
    local $/ = undef;
    return <$in> // '';
}

sub write_file ($path, $content) {
    open my $out, '>:raw', $path or die "$path: $!";
    print {$out} $content;
    close $out or die "$path: $!";
    return;
}

1;
