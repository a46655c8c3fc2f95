package SSE::Redis;

# A Redis server for a test, on a free port of 127.0.0.1 and in a temporary directory. It can be killed,
# stopped, and restarted with the same data. The system's Redis is never touched.

use v5.36;
use File::Temp;
use IO::Socket::INET;
use Test::More;
use SSE::Cluster ();
use SSE::Loop qw(wait_for);
use SSE::Process;
use SSE::RESP;

# appendonly    acknowledged writes survive a kill
# password      the default user's
# users         [ lines of `user` ] for the ACL
# tls           also listen on a TLS port, with a certificate for 127.0.0.1 of the test's own CA: ca()
# unix          also listen on a Unix socket: socket_path()
# notify        keyspace events, such as 'Kt'
# config        more lines of configuration
# mode          'sentinel' for a Sentinel
sub new ($class, %options) {
    my $dir = File::Temp->newdir('sse-redis-XXXXXXXX', TMPDIR => 1);
    chmod 0755, $dir;
    my $self = bless { config => '', users => [], mode => 'server', %options, dir => $dir, ports => {} }, $class;
    make_certificates("$dir") if $self->{tls};
    return $self;
}

# Starts or restarts it and waits until it replies.
sub start ($class_or_self, %options) {
    plan(skip_all => 'no redis-server here') if !program() && !Test::More->builder->has_plan;
    my $self  = ref $class_or_self ? $class_or_self : $class_or_self->new(%options);
    my $fixed = %{ $self->{ports} };
    for my $try (1 .. 5) {
        $self->launch;
        return $self if $self->wait_ready;
        last if $fixed || $self->log !~ /Address already in use|Could not create server TCP/i;
        $self->{process}->end('KILL');
        @$self{qw(ports launched)} = ({}, 0);
    }
    die "redis-server did not start:\n" . $self->log;
}

# Starts it without waiting until it replies.
sub launch ($self) {
    SSE::Cluster::write_file("$self->{dir}/redis.conf", $self->configuration) if !$self->{launched}++ || $self->{mode} ne 'sentinel';
    my @mode = $self->{mode} eq 'sentinel' ? '--sentinel' : ();
    $self->{process} = SSE::Process->start("$self->{dir}/log", $self->executable, "$self->{dir}/redis.conf", @mode);
    return;
}

sub configuration ($self) {
    my @lines = ('bind 127.0.0.1', 'port ' . $self->port, "dir $self->{dir}", 'daemonize no', "logfile $self->{dir}/log");
    push @lines, 'save ""', 'appendonly ' . ($self->{appendonly} ? 'yes' : 'no'), 'databases 16' if $self->{mode} ne 'sentinel';
    push @lines, "requirepass $self->{password}"            if defined $self->{password};
    push @lines, "unixsocket $self->{dir}/socket", 'unixsocketperm 777' if $self->{unix};
    push @lines, "notify-keyspace-events $self->{notify}"   if $self->{notify};
    push @lines, map { "user $_" } @{ $self->{users} };
    push @lines, 'tls-port ' . $self->tls_port, "tls-cert-file $self->{dir}/server.pem", "tls-key-file $self->{dir}/server.key",
        "tls-ca-cert-file $self->{dir}/ca.pem", 'tls-auth-clients no' if $self->{tls};
    return join '', map { "$_\n" } @lines, $self->{config};
}

# The path of the program. Debian's redis-tools has it under another name, without a service.
sub program {
    for my $name (qw(redis-server redis-check-rdb)) {
        my ($path) = grep { -x } map { "$_/$name" } split(/:/, $ENV{PATH}), '/usr/bin', '/usr/local/bin';
        return $path if $path;
    }
    return;
}

# The program selects its role by the name under which it is called.
sub executable ($self) {
    my $link = "$self->{dir}/redis-server";
    symlink program(), $link if !-l $link;
    return $link;
}

sub version {
    my $program = program() // return 0;
    return `'$program' --version` =~ /(?:v=|server v=|rdb )(\d+)\.(\d+)/ ? $1 * 1000 + $2 : 7000;
}

sub dir      ($self) { return "$self->{dir}" }
sub port     ($self) { return $self->{ports}{plain} //= free_port() }
sub tls_port ($self) { return $self->{ports}{tls}   //= free_port() }
sub ca       ($self) { return "$self->{dir}/ca.pem" }
sub log      ($self) { return SSE::Cluster::slurp("$self->{dir}/log") }
sub pid      ($self) { return $self->{process} && $self->{process}->pid }

sub socket_path ($self) { return "$self->{dir}/socket" }

# The URL for the directive `redis`.
sub url ($self, $database = undef) {
    my $who = defined $self->{password} ? ":$self->{password}@" : '';
    return "redis://${who}127.0.0.1:" . $self->port . (defined $database ? "/$database" : '');
}

# A free port, as is the port of its cluster bus (10,000 above), below those of outgoing connections.
sub free_port {
    for (1 .. 1000) {
        my $port = 10_000 + int rand 12_000;
        my @held = grep { defined }
            map { scalar IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1', LocalPort => $_, Proto => 'tcp') }
            $port, $port + 10_000;
        return $port if @held == 2;
    }
    die "no free port: $!";
}

# Waits until it serves: loaded, and not a replica without its master's data.
sub wait_ready ($self, $timeout = 20) {
    return wait_for(sub {
        return 1 if $self->{process}->is_gone;
        my $answer = eval { $self->command('PING') } // return 0;
        return $answer eq 'PONG' || $answer =~ /\A(?:NOAUTH|NOPERM)/;
    }, $timeout) && !$self->{process}->is_gone;
}

# Opens a connection; options are those of SSE::RESP.
sub connect ($self, %options) {
    return SSE::RESP->new(port => $self->port, password => $self->{password}, %options);
}

# Runs a command on a kept connection and returns the reply, which may be an error; dies without a reply.
sub command ($self, @words) {
    $self->{control} = $self->connect if !$self->{control} || !$self->{control}->is_open;
    return $self->{control}->call(@words);
}

# Runs a command and returns the reply; dies on an error reply.
sub must ($self, @words) {
    my $answer = $self->command(@words);
    die "@words[0 .. ($#words > 2 ? 2 : $#words)]: $answer\n" if ref $answer eq 'SSE::RESP::Error';
    return $answer;
}

sub publish ($self, $channel, @data) { return map { $self->must('PUBLISH', $channel, $_) } @data }

# Runs a command in a condition that is waited for: an error or no reply is the empty string.
sub ask ($self, @words) {
    my $answer = eval { $self->command(@words) } // '';
    return ref $answer eq 'SSE::RESP::Error' ? '' : $answer;
}

# INFO as { name => value }; empty without a reply.
sub info ($self, @section) { return { $self->ask('INFO', @section) =~ /^(\w+):([^\r\n]*)/mg } }

# Connections, as [{ id, addr, name, sub, psub, cmd … }]; 'pubsub' or 'normal' only.
sub client_list ($self, $type = undef) {
    my $text = $self->must('CLIENT', 'LIST', defined $type ? ('TYPE', $type) : ());
    return [map { my %is = map { /\A([^=]+)=(.*)\z/ ? ($1, $2) : () } split / /; \%is } split /\n/, $text];
}

# The subscribing connections that come from these processes: [{ … as above, pid }].
sub subscribers ($self, @pids) {
    my %owner;
    for my $pid (@pids) {
        $owner{$_} = $pid for $self->ports_of($pid);
    }
    my @found;
    for my $client (@{ $self->client_list('pubsub') }) {
        my ($port) = $client->{addr} =~ /:(\d+)\z/;
        push @found, { %$client, pid => $owner{$port} } if $port && $owner{$port};
    }
    return @found;
}

# The local ports of a process's TCP connections to this server. Another process may use the same port for
# another server.
sub ports_of ($self, $pid) {
    my %ours = map { $_ => 1 } grep { $_ } values %{ $self->{ports} };
    my %socket;
    opendir my $dir, "/proc/$pid/fd" or return;
    for my $fd (readdir $dir) {
        $socket{$1} = 1 if (readlink("/proc/$pid/fd/$fd") // '') =~ /\Asocket:\[(\d+)\]/;
    }
    my @ports;
    for my $line (split /\n/, SSE::Cluster::slurp("/proc/$pid/net/tcp")) {
        my @word = split ' ', $line;
        next if !$word[9] || !$socket{ $word[9] };
        my ($local, $remote) = map { /:([0-9A-F]+)\z/ ? hex $1 : 0 } @word[1, 2];
        push @ports, $local if $ours{$remote};
    }
    return @ports;
}

# kill: data that is not written is lost. shutdown: exits by itself, without saving.
sub kill     ($self) { return $self->{process}->end('KILL') }
sub shutdown ($self) { return $self->{process}->end('TERM') }
sub pause    ($self) { return $self->{process}->pause }
sub resume   ($self) { return $self->{process}->signal('CONT') }

# A CA and a certificate for 127.0.0.1 and localhost: ca.pem, server.pem, server.key.
sub make_certificates ($dir) {
    my $new = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2";
    my $run = join ' && ', "cd '$dir'",
        "$new -keyout ca.key -out ca.pem -subj /CN=sse-test-ca -addext basicConstraints=critical,CA:TRUE",
        'openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout server.key -out server.csr -subj /CN=localhost',
        'printf "subjectAltName=IP:127.0.0.1,DNS:localhost\nbasicConstraints=CA:FALSE\n" >server.ext',
        'openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile server.ext -out server.pem',
        'chmod 644 *.key';
    system("($run) >'$dir/openssl.log' 2>&1") == 0 or die SSE::Cluster::slurp("$dir/openssl.log");
    return;
}

1;
