# Two nginx instances of two workers with one Redis, 100 clients on one or several channels, 300 durable
# events per second on both. Connections are killed ten times, each nginx reloads, the holder of the
# subscription is killed, and some clients move to the other nginx whenever they reconnect.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Fleet;
use SSE::Loop qw(serve_for wait_for);
use SSE::Redis;
use SSE::RedisStage;

my $redis = SSE::Redis->start;
my @nginx = map { SSE::RedisStage->new(redis => $redis->url, hub => 'history 20000;', http => 'sse_drain 1s;') } 1, 2;
my $fleet = SSE::Fleet->new(
    clusters => [map { $_->cluster } @nginx],
    groups   => [
        { path => '/on/a',     count => 24, channels => ['a'] },
        { path => '/on/b',     count => 24, channels => ['b'] },
        { path => '/on/c',     count => 24, channels => ['c'] },
        { path => '/on/a,b',   count => 14, channels => ['a', 'b'] },
        { path => '/on/c,b,a', count => 14, channels => ['a', 'b', 'c'] },
    ],
    quiet      => 0,
    movers     => 3,
    publishers => 6,
    rate       => 300,
    targets    => ['/to/a', '/to/b', '/to/c'],
);
ok($fleet->wait_connected, '100 clients are connected');
$fleet->start_publishing;
my @killed = map { kill_connections() } 1 .. 3;
ok($nginx[0]->cluster->reload, 'one nginx reloads');
push @killed, map { kill_connections() } 1 .. 3;
my $holder = $nginx[1]->holder($redis);
ok($holder && $nginx[1]->cluster->kill_worker($holder), 'the worker of the other that holds the subscription is killed');
push @killed, map { kill_connections() } 1 .. 2;
ok($nginx[1]->cluster->reload, 'that nginx reloads too');
push @killed, map { kill_connections() } 1 .. 2;
is(scalar(grep { $_ } @killed), 10, 'connections are killed ten times');

# Some clients change their network.
for my $member (@{ $fleet->{groups}[4]{members} }) {
    $member->{client}->move($fleet->port(int rand 2));
}
serve_for(0.5);
$fleet->verify;
my %ports = map { $_->{client}{port} => 1 } $fleet->loud;
is(scalar keys %ports, 2, 'both nginx instances have clients');
ok(wait_for(sub { !grep { $_->subscriptions($redis) != 1 } @nginx }, 5), 'at the end each nginx has one subscribing connection');

$_->ends_cleanly for @nginx;
done_testing();

sub kill_connections {
    serve_for(0.6);
    return $redis->must('CLIENT', 'KILL', 'TYPE', 'pubsub') + $redis->must('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
}
