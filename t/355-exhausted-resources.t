# Resources that run out: file descriptors, worker_connections, the disk of the logs, and memory. Open streams
# continue, the connection to Redis is made again, clients that are turned away or lose their worker return,
# and none of them misses an event.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Client;
use SSE::Loop qw(serve_for wait_for);
use SSE::Redis;
use SSE::RedisStage;
use SSE::Stage;

my %alone = (
    workers => 1,
    http    => 'sse_retry 100ms jitter=100ms; sse_hub default { history 5000; }',
    server  => 'location ~ ^/on/(.+)$ { sse_stream $1; } location = /status { sse_status; }',
);

# File descriptors. The clients that wait take every one that becomes free.
my $redis = SSE::Redis->start;
my $stage = SSE::RedisStage->new(redis => $redis->url, workers => 1, main => 'worker_rlimit_nofile 100;');
my @open  = map { $stage->stream('/on/news', reconnect => 1) } 1 .. 20;
$stage->publish('news', 'before');
my @crowd = map { SSE::Client->new(port => $stage->port, path => '/on/news', reconnect => 1) } 1 .. 120;
ok($stage->cluster->wait_lines(qr/\[crit\].*Too many open files/), 'no file descriptor is left');
for my $i (1 .. 3) {
    $redis->must('CLIENT', 'KILL', 'TYPE', 'pubsub');
    ok(wait_for(sub { $stage->subscriptions($redis) == 1 }, 30), "the connection to Redis is made again, time $i");
    $redis->publish('news', "live $i");
    ok(wait_for(sub { !grep { !has($_, "live $i") } @open }, 20), 'and open streams receive events');
}
is_deeply([grep { join(',', data($_)) ne 'before,live 1,live 2,live 3' } @open], [], 'each event once');
$_->close for splice @open, 0, 15;
ok(wait_for(sub { grep { $_->{last_event_id} ne '' } @crowd }, 20), 'clients that waited take the place of others');
# nginx tries to accept once more after its listening sockets are closed.
$stage->cluster->allow(qr/\[alert\] .*accept4\(\) failed \(9: Bad file descriptor\)/);
$stage->ends_cleanly;

# worker_connections. nginx closes idle connections for new ones, but no stream.
my $few = SSE::Stage->new(%alone);
$few->cluster->configure(connections => 32);
ok($few->cluster->reload && $few->cluster->wait_old_workers_gone(20), 'few connections are allowed');
@open  = map { $few->stream('/on/news', reconnect => 1) } 1 .. 10;
@crowd = map { SSE::Client->new(port => $few->port, path => '/on/news', reconnect => 1) } 1 .. 60;
ok($few->cluster->wait_lines(qr/worker_connections are not enough/), 'no connection is left');
$_->close for splice @crowd, 0, 50;
ok(wait_for(sub { !grep { !$_->is_open } @crowd }, 30), 'clients that waited take the places of others');
$few->publish('news', 1 .. 20);
ok(wait_for(sub { !grep { !has($_, 20) } @open, @crowd }, 30), 'all streams receive events');
is_deeply([map { $_->{openings} } @open], [(1) x 10], 'no open stream is closed for a new client');
is_deeply([grep { "@{[data($_)]}" ne "@{[1 .. 20]}" } @open], [], 'and none misses or repeats an event');
$few->ends_cleanly;

# The disk of the logs is full.
my $full = SSE::Stage->new(%alone, main => 'error_log /dev/full info;',
    http => "$alone{http} access_log /dev/full;");
@open = map { $full->stream('/on/news', reconnect => 1) } 1 .. 10;
$full->publish('news', 1 .. 100);
ok(wait_for(sub { !grep { !has($_, 100) } @open }), 'events are delivered while no log can be written');
is_deeply([grep { "@{[data($_)]}" ne "@{[1 .. 100]}" } @open], [], 'each once and in order');
$_->close for splice @open, 0, 5;
ok(wait_for(sub { $full->subscribers('news') == 5 }), 'streams end as always');
$full->cluster->allow(qr/\[alert\] .*write\(\) to "\/dev\/full" failed/);
$full->ends_cleanly;

# Memory. A worker that cannot allocate any more closes connections or exits; the next one takes its place.
my $small   = SSE::Stage->new(%alone, main => $> == 0 ? 'user root;' : '');
my $worker  = ($small->cluster->workers)[0];
my @clients = map { $small->stream('/on/news', reconnect => 1) } 1 .. 20;
$small->publish('news', 'before');
ok(wait_for(sub { !grep { !has($_, 'before') } @clients }), 'a worker with enough memory');
my ($size) = SSE::Cluster::slurp("/proc/$worker/status") =~ /^VmSize:\s+(\d+) kB/m;
is(system('prlimit', "--pid=$worker", '--as=' . ($size + 256) * 1024), 0, 'its memory is limited');
$small->cluster->allow(qr/exited on signal 6|(?:malloc|posix_memalign)\(\d+.*failed/);
push @clients, map { SSE::Client->new(port => $small->port, path => '/on/news', reconnect => 1) } 1 .. 300;
ok($small->cluster->wait_lines(qr/failed \(12: Cannot allocate memory\)|exited on signal 6/), 'it has no memory left');
$small->publish('news', "during $_") for 1 .. 5;
kill 'TERM', $worker if kill 0, $worker;
ok(wait_for(sub { !grep { $_->{last_event_id} eq '' && $_->{state} ne 'failed' } @clients }, 30), 'the next worker accepts all clients');
$small->publish('news', 'after');
my @old = @clients[0 .. 19];
ok(wait_for(sub { !grep { !has($_, 'after') } @old }, 30), 'clients of the first worker are back');
is_deeply([grep { join(',', data($_)) ne join(',', 'before', (map { "during $_" } 1 .. 5), 'after') } @old], [],
    'and have received every event once');
$small->ends_cleanly;
done_testing();

sub has ($client, $data) { return grep { $_->{data} eq $data } @{ $client->{events} } }

# The data of the events that a client has received.
sub data ($client) { return map { $_->{data} } grep { $_->{type} eq 'message' } @{ $client->{events} } }
