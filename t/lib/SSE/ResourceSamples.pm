package SSE::ResourceSamples;

# Samples of the memory, file descriptors, and threads of an nginx, and whether they stay the same.

use v5.36;
use List::Util qw(max sum0);
use Time::HiRes qw(time);
use SSE::Cluster ();
use SSE::HTTP qw(request);

# What is sampled, in the order of the table: a key, a title, and how much the median of the last samples may exceed
# that of the first ones, as a part of it plus a number.
#
# Descriptors and threads are counted, so they must be the same. Descriptors of workers are summed over all workers
# and include those of connections; a client that is about to reconnect has none.
#
# RssAnon has the resolution of a page (4 KiB). glibc keeps freed memory in fragments, so that the resident
# memory of a process that allocates and frees the same again differs by some pages: 128 KiB, which after 1,000
# reloads is a leak of 128 bytes in each.
#
# The memory in use in a hub depends on how many events were published lately, and a busy machine publishes fewer. So
# it is divided by the events of the last two minutes, after which all of them, and their idempotency keys, expire.
my $lifetime = 120;

my @figures = (
    ['master_kb',      'memory of the master, KiB',                      0,    128],
    ['master_fds',     'file descriptors of the master',                 0,    0],
    ['master_threads', 'threads of the master',                          0,    0],
    ['worker_kb',      'memory of the largest worker, KiB',              0.02, 128],
    ['worker_fds',     'file descriptors of all workers',                0,    2],
    ['worker_threads', 'threads of all workers',                         0,    0],
    ['hub_bytes',      'hub in memory: bytes in use for each recent event', 0.1, 0],
    ['redis_hub_bytes', 'hub with Redis: bytes in use for each recent event', 0.1, 0],
);

# cluster  an SSE::Cluster with a location /status and the hubs "default" and "joined"
# warm_up  seconds whose samples are not used
sub new ($class, %options) {
    return bless { %options, since => time(), samples => [] }, $class;
}

# Takes a sample.
sub take ($self) {
    my $nginx   = $self->{cluster};
    my @workers = $nginx->workers;
    my $answer  = request(port => $nginx->port, path => '/status', timeout => 3);
    my $hubs    = $answer && $answer->{json} ? $answer->{json}{hubs} : return;
    push @{ $self->{samples} }, {
        at              => time() - $self->{since},
        master_kb       => status_of($nginx->pid, 'RssAnon'),
        master_fds      => $nginx->descriptors($nginx->pid),
        master_threads  => status_of($nginx->pid, 'Threads'),
        worker_kb       => max(map { status_of($_, 'RssAnon') } @workers),
        worker_fds      => sum0(map { $nginx->descriptors($_) } @workers),
        worker_threads  => sum0(map { status_of($_, 'Threads') } @workers),
        hub_bytes       => $self->for_each_event('default', $hubs),
        redis_hub_bytes => $self->for_each_event('joined', $hubs),
        events          => { map { $_ => $hubs->{$_}{events_in} } keys %$hubs },
        repairs         => $hubs->{default}{repairs} + $hubs->{joined}{repairs},
    };
    return;
}

# The memory in use in a hub, divided by the number of events that it has received lately; 0 as long as no sample is
# old enough.
sub for_each_event ($self, $hub, $hubs) {
    my $now = time() - $self->{since};
    my ($before) = grep { $_->{at} <= $now - $lifetime } reverse @{ $self->{samples} };
    my $events = $before ? $hubs->{$hub}{events_in} - $before->{events}{$hub} : return 0;
    return $events ? $hubs->{$hub}{zone_used_bytes} / $events : 0;
}

sub status_of ($pid, $name) {
    return SSE::Cluster::slurp("/proc/$pid/status") =~ /^$name:\s+(\d+)/m ? $1 : 0;
}

sub last ($self) { return $self->{samples}[-1] // {} }

# The first and the last fifth of the samples after the warm-up.
sub ends ($self) {
    my @after = grep { $_->{at} >= $self->{warm_up} } @{ $self->{samples} };
    my $count = int(@after / 5) || return;
    return ([@after[0 .. $count - 1]], [@after[-$count .. -1]]);
}

# [title, first median, last median, highest acceptable] of each figure; empty if there are too few samples.
sub rows ($self) {
    my ($first, $last) = $self->ends or return;
    return map {
        my ($key, $title, $part, $number) = @$_;
        my ($before, $after) = map { median(map { $_->{$key} } @$_) } $first, $last;
        [$title, $before, $after, int($before * (1 + $part) + $number)];
    } @figures;
}

sub median (@values) {
    my @sorted = sort { $a <=> $b } @values;
    return $sorted[@sorted / 2];
}

1;
