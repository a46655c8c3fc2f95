# Redis Cluster: the keys of a hub are in one slot. The hub follows when the slot is migrated to another
# node and when its node is killed. Plain messages may be published at any node.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Fleet;
use SSE::Loop qw(serve_for wait_for);
use SSE::RedisCluster;
use SSE::RedisStage;

my $cluster = SSE::RedisCluster->start(appendonly => 1);
my @nginx   = map {
    SSE::RedisStage->new(redis => $cluster->url, hub => 'history 20000;', server => $SSE::Fleet::LOCATIONS)
} 1, 2;
my $key   = 'sse:{sse}:clock';
my $fleet = SSE::Fleet->new(clusters => [map { $_->cluster } @nginx], clients => 20, quiet => 4, rate => 60, movers => 4);
ok($fleet->wait_connected, '24 clients of two nginx instances are connected');
is(subscriptions($_), 1, 'each nginx has one subscribing connection') for @nginx;
my $plain = $nginx[0]->stream('/on/plain');
$fleet->start_publishing;
for my $node ($cluster->nodes) {
    $node->publish('plain', 'at ' . $node->port);
}
ok($plain->wait_data('at ' . $_->port), 'a plain message arrives from any node') for $cluster->nodes;
my $owner = $cluster->owner($key);
is($owner->must('EXISTS', $key, 'sse:{sse}:s:loud'), 2, 'the clock and the channels are in one slot');

# The slot is migrated.
my $other = $cluster->other_master($owner);
ok($cluster->migrate($key, $other), 'the slot is migrated to another node');
published_more('after the move');
is($other->must('EXISTS', $key, 'sse:{sse}:s:loud'), 2, 'the other node has the keys');
$other->publish('plain', 'after the move');
ok($plain->wait_data('after the move'), 'plain messages arrive');
ok($cluster->migrate($key, $owner), 'the slot is migrated back');
published_more('after the move back');

# The node is killed.
$cluster->owner($key)->must('WAIT', 1, 1000);
ok($cluster->kill_owner($key), 'the node that has the slot is killed and replaced');
published_more('after the death');
ok($_->wait_up, 'both nginx instances are connected') for @nginx;
$cluster->owner($key)->publish('plain', 'after the death');
ok($plain->wait_data('after the death'), 'plain messages arrive');
is(subscriptions($_), 1, 'each nginx has one subscribing connection') for @nginx;

$fleet->verify;
$_->ends_cleanly for @nginx;
done_testing();

sub subscriptions ($nginx) {
    my $count = 0;
    $count += $nginx->subscriptions($_) for $cluster->living;
    return $count;
}

sub published_more ($when) {
    my $accepted = $fleet->count;
    return ok(wait_for(sub { $fleet->count > $accepted + 30 }, 15), "publishing continues $when");
}
