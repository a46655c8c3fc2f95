# Hubs use no file descriptors of their own: a process is woken by one eventfd for all of its hubs.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Client;
use SSE::Cluster;
use SSE::HTTP qw(request);
use SSE::Loop qw(wait_for);

my $workers = 2;

sub with_hubs ($count) {
    my @numbers = 1 .. $count;
    return (
        http   => join("\n", 'sse_drain 0;', map { "sse_hub h$_ { zone 1m; max_event_size 4k; }" } @numbers),
        server => join("\n", map { "location = /s$_ { sse_stream news hub=h$_; } location = /p$_ { sse_publish news hub=h$_; }" } @numbers),
    );
}

sub eventfds ($pid) {
    opendir my $dir, "/proc/$pid/fd" or return -1;
    return scalar grep { (readlink("/proc/$pid/fd/$_") // '') =~ /eventfd/ } readdir $dir;
}

# The eventfds of the master and of one worker.
sub all_eventfds ($nginx) { return map { eventfds($_) } $nginx->pid, ($nginx->workers)[0] }

my $one  = SSE::Cluster->start(workers => $workers, with_hubs(1));
my @with = all_eventfds($one);
cmp_ok($with[0], '>', 0, 'the master has eventfds');
$one->ends_cleanly;

my $nginx = SSE::Cluster->start(workers => $workers, with_hubs(40));
is_deeply([all_eventfds($nginx)], \@with, 'forty hubs use as many eventfds as one');
for my $reload (1 .. 2) {
    ok($nginx->reload, "reload $reload");
    ok($nginx->wait_old_workers_gone(20), 'the old workers exit');
}
is_deeply([all_eventfds($nginx)], \@with, 'the number is unchanged after two reloads');

# Streams of the first and the last hub in one worker; the events are published in the other.
for my $hub (1, 40) {
    my $stream = SSE::Client->new(port => $nginx->port, path => "/s$hub");
    ok($stream->wait_open, "a stream of hub $hub is open");
    my %publishers;
    my $elsewhere = wait_for(sub {
        my $answer = request(port => $nginx->port, path => "/p$hub", body => 'x') or return;
        $publishers{ $answer->{header}{'x-worker'} }++;
        return keys %publishers == $workers;
    }, 20);
    ok($elsewhere, "both workers publish to hub $hub");
    my $sum = 0;
    $sum += $_ for values %publishers;
    ok(wait_for(sub { (grep { $_->{data} eq 'x' } @{ $stream->{events} }) == $sum }, 10), "the stream of hub $hub receives all events");
    $stream->close;
}
$nginx->ends_cleanly;
done_testing();
