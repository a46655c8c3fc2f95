package SSE::RedisCluster;

# A Redis Cluster for a test: three masters, each with a replica.

use v5.36;
use SSE::Loop qw(wait_for);
use SSE::Redis;

my $slots = 16_384;

sub start ($class, %options) {
    my $config = join '', map { "$_\n" } 'cluster-enabled yes', 'cluster-config-file nodes.conf', 'cluster-node-timeout 1500',
        'cluster-require-full-coverage no', 'cluster-allow-replica-migration no', 'repl-diskless-sync-delay 0';
    my @nodes = map { SSE::Redis->new(%options, config => $config) } 1 .. 6;
    $_->start for @nodes;
    my $self = bless { nodes => \@nodes }, $class;
    $self->join_nodes;
    return $self;
}

sub join_nodes ($self) {
    my ($first, @others) = $self->nodes;
    my @masters = ($self->nodes)[0 .. 2];
    for my $at (0 .. 5) {
        my $node = $self->{nodes}[$at];
        $node->must('CLUSTER', 'SET-CONFIG-EPOCH', $at + 1);
        $node->must('CLUSTER', 'ADDSLOTS', share($at)) if $at < 3;
        $node->{id} = $node->must('CLUSTER', 'MYID');
    }
    $_->must('CLUSTER', 'MEET', '127.0.0.1', $first->port) for @others;
    wait_for(sub { !grep { $self->known_by($_) != 6 } $self->nodes }, 20) or die "the nodes do not find one another\n";
    $self->{nodes}[$_ + 3]->must('CLUSTER', 'REPLICATE', $masters[$_]{id}) for 0 .. 2;
    wait_for(sub { $self->is_settled }, 20) or die "the cluster does not settle\n";
    return;
}

# The slots of one of the three masters.
sub share ($at) { return int($slots * $at / 3) .. int($slots * ($at + 1) / 3) - 1 }

sub known_by ($self, $node) { return scalar(my @lines = grep { !/handshake|noaddr/ } split /\n/, $node->ask('CLUSTER', 'NODES')) }

# Whether all nodes see all slots served, and each replica has its master's data.
sub is_settled ($self) {
    for my $node ($self->nodes) {
        my %is = $node->ask('CLUSTER', 'INFO') =~ /^(\w+):(\S+)/mg;
        return 0 if ($is{cluster_state} // '') ne 'ok' || $is{cluster_slots_ok} != $slots;
    }
    return !grep { ($_->info('replication')->{master_link_status} // '') ne 'up' } ($self->nodes)[3 .. 5];
}

sub nodes ($self) { return @{ $self->{nodes} } }

sub url ($self) {
    my ($first) = grep { !$_->{process}->is_gone } $self->nodes;
    my $who   = defined $first->{password} ? ":$first->{password}@" : '';
    my $hosts = join ',', map { '127.0.0.1:' . $_->port } grep { !$_->{process}->is_gone } $self->nodes;
    return "redis+cluster://$who$hosts";
}

sub slot ($self, $key) { return ($self->living)[0]->must('CLUSTER', 'KEYSLOT', $key) }

sub living ($self) { return grep { !$_->{process}->is_gone } $self->nodes }

# The node that holds the key, as seen by the others.
sub owner ($self, $key) {
    my $slot = $self->slot($key);
    for my $range (@{ ($self->living)[0]->must('CLUSTER', 'SLOTS') }) {
        my ($from, $to, $master) = @$range;
        next if $slot < $from || $slot > $to;
        my ($node) = grep { $_->port == $master->[1] } $self->nodes;
        return $node;
    }
    return;
}

# A master other than this node.
sub other_master ($self, $node) {
    my ($other) = grep { $_ != $node && $_->info('replication')->{role} eq 'master' } $self->living;
    return $other;
}

# Migrates the slot of the key with its keys, as redis-cli --cluster reshard does.
sub migrate ($self, $key, $to) {
    my ($from, $slot) = ($self->owner($key), $self->slot($key));
    $to->must('CLUSTER', 'SETSLOT', $slot, 'IMPORTING', $from->{id});
    $from->must('CLUSTER', 'SETSLOT', $slot, 'MIGRATING', $to->{id});
    for (1 .. 10_000) {
        my @keys = @{ $from->must('CLUSTER', 'GETKEYSINSLOT', $slot, 10) } or last;
        $from->must('MIGRATE', '127.0.0.1', $to->port, '', 0, 5000, 'KEYS', @keys);
    }
    for my $node ($to, $from, grep { $_ != $to && $_ != $from } $self->living) {
        $node->command('CLUSTER', 'SETSLOT', $slot, 'NODE', $to->{id});
    }
    return wait_for(sub { ($self->owner($key) // 0) == $to }, 10);
}

# Kills the master that holds the key (SIGKILL); true once another node serves it.
sub kill_owner ($self, $key) {
    my $node = $self->owner($key);
    $node->kill;
    return wait_for(sub {
        my $owner = $self->owner($key) // return 0;
        return $owner != $node && $owner->ask('EXISTS', $key) =~ /\A\d+\z/;
    }, 20);
}

1;
