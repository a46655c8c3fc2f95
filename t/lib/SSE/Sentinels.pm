package SSE::Sentinels;

# A master, its replica and three Sentinels that watch them, all of the test's own.

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

# Every Sentinel knows the others and the replica, which has the master's data and gets what comes: a master
# calls a new replica online, and still keeps that back until it has said, up to a second later, that it has
# loaded.
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

# Whether the replica has got something that was written after it had loaded.
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

# Kills the master once its replica has read all that it has sent: a killed process resets its connections,
# and what a replica that is short of processor time has not read of them is gone, however old it is.
sub kill_master ($self) {
    $self->master->pause;
    # What waits in the socket is read in the turn of the loop in which the first is answered, or before.
    $self->replica->must('PING') for 1, 2;
    return $self->master->kill;
}

sub url ($self) {
    my $who   = defined $self->{master}{password} ? ":$self->{master}{password}@" : '';
    my $hosts = join ',', map { '127.0.0.1:' . $_->port } $self->sentinels;
    return "redis+sentinel://$who$hosts/$self->{name}";
}

# The port that the Sentinels name as the master's.
sub master_port ($self) {
    my ($sentinel) = $self->sentinels;
    my $answer = $sentinel->ask('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', $self->{name});
    return ref $answer eq 'ARRAY' ? $answer->[1] : 0;
}

# After the master is gone or stopped: true once the replica is the master. From then on master() is it.
sub wait_switched ($self, $timeout = 20) {
    my $port = $self->{replica}->port;
    wait_for(sub {
        $self->master_port == $port && ($self->{replica}->info('replication')->{role} // '') eq 'master';
    }, $timeout) or return 0;
    @$self{qw(master replica)} = @$self{qw(replica master)};
    delete $self->{mark};
    return 1;
}

# A switch that is ordered while both are well.
sub failover ($self) {
    my ($sentinel) = $self->sentinels;
    my $answer = $sentinel->command('SENTINEL', 'FAILOVER', $self->{name});
    return $answer eq 'OK' && $self->wait_switched;
}

1;
