package SSE::Sentinels;

# A Redis master, its replica, and three Sentinels for a test.

use v5.36;
use SSE::Loop qw(wait_for);
use SSE::Redis;

# name, down_after (milliseconds), and the options of SSE::Redis for the two servers
sub start ($class, %options) {
    my $self = bless { name => 'events', down_after => 800, %options }, $class;
    my %server = map { $_ => $options{$_} } grep { exists $options{$_} } qw(appendonly password config);
    my $auth   = defined $server{password} ? "masterauth $server{password}\n" : '';
    my @server = map { SSE::Redis->new(%server, config => ($server{config} // '') . "${auth}repl-diskless-sync-delay 0\n") } 1, 2;
    $_->start for @server;
    $server[1]->must('REPLICAOF', '127.0.0.1', $server[0]->port);
    @$self{qw(master replica)} = @server;
    $self->{sentinels} = [map { $self->sentinel } 1 .. 3];
    wait_for(sub { $self->is_settled }, 20) or die "the Sentinels do not find one another\n";
    return $self;
}

sub sentinel ($self) {
    my $name = $self->{name};
    my $pass = $self->{master}{password};
    return SSE::Redis->start(mode => 'sentinel', config => join '', map { "$_\n" }
        "sentinel monitor $name 127.0.0.1 " . $self->{master}->port . ' 2',
        "sentinel down-after-milliseconds $name $self->{down_after}",
        "sentinel failover-timeout $name 3000",
        defined $pass ? "sentinel auth-pass $name $pass" : ());
}

# Whether every Sentinel knows the others and the replica, and the replica receives new data. A master
# reports a new replica as online up to a second before it sends data, when the replica has loaded.
sub is_settled ($self) {
    return 0 if !$self->is_fed;
    for my $sentinel (@{ $self->{sentinels} }) {
        my $answer = $sentinel->ask('SENTINEL', 'MASTER', $self->{name});
        return 0 if ref $answer ne 'ARRAY';
        my %is = @$answer;
        return 0 if $is{'num-other-sentinels'} != 2 || $is{'num-slaves'} < 1 || $is{flags} ne 'master';
    }
    return 1;
}

# Whether the replica has received something that was written after it had loaded.
sub is_fed ($self) {
    my $replica = $self->{replica}->info('replication');
    if (($replica->{master_link_status} // '') ne 'up') {
        delete $self->{mark};
        return 0;
    }
    return $replica->{slave_repl_offset} >= $self->{mark} if $self->{mark};
    $self->{master}->publish('__settled', '');
    $self->{mark} = $self->{master}->info('replication')->{master_repl_offset};
    return 0;
}

sub sentinels ($self) { return @{ $self->{sentinels} } }
sub master    ($self) { return $self->{master} }
sub replica   ($self) { return $self->{replica} }

# Kills the master once its replica has read all that it has sent. A killed process resets its connections,
# and data that a slow replica has not read would be lost, however old it is.
sub kill_master ($self) {
    $self->master->pause;
    # Data in the socket is read before or in the same iteration as the first PING.
    $self->replica->must('PING') for 1, 2;
    return $self->master->kill;
}

sub url ($self) {
    my $who   = defined $self->{master}{password} ? ":$self->{master}{password}@" : '';
    my $hosts = join ',', map { '127.0.0.1:' . $_->port } $self->sentinels;
    return "redis+sentinel://$who$hosts/$self->{name}";
}

# The port of the master according to the Sentinels.
sub master_port ($self) {
    my ($sentinel) = $self->sentinels;
    my $answer = $sentinel->ask('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', $self->{name});
    return ref $answer eq 'ARRAY' ? $answer->[1] : 0;
}

# After the master was killed or stopped, waits until the replica is the master; master() returns it from
# then on.
sub wait_switched ($self, $timeout = 20) {
    my $port = $self->{replica}->port;
    wait_for(sub {
        $self->master_port == $port && ($self->{replica}->info('replication')->{role} // '') eq 'master';
    }, $timeout) or return 0;
    @$self{qw(master replica)} = @$self{qw(replica master)};
    delete $self->{mark};
    return 1;
}

# Triggers a failover while both are running.
sub failover ($self) {
    my ($sentinel) = $self->sentinels;
    my $answer = $sentinel->command('SENTINEL', 'FAILOVER', $self->{name});
    return $answer eq 'OK' && $self->wait_switched;
}

1;
