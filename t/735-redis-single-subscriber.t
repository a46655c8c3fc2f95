# Each nginx has one subscribing connection, whatever the number of its workers, for exactly the channels
# that have streams. A channel is unsubscribed some time after its last client, and a client that connects
# at that moment still receives events.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Time::HiRes qw(time);
use SSE::Loop qw(serve_for wait_for);
use SSE::Redis;
use SSE::RedisStage;

my $redis = SSE::Redis->start;
my $one   = SSE::RedisStage->new(redis => $redis->url, workers => 1);
my $four  = SSE::RedisStage->new(redis => $redis->url, workers => 4);
my @nginx = ($one, $four);

# The time until a channel is unsubscribed is measured meanwhile.
my $brief = $four->stream('/on/brief');
$brief->close;
my $left = time();

my @clients = map { my $nginx = $_; map { $nginx->stream("/on/kept,channel-$_") } 1 .. 12 } @nginx;
is($one->subscriptions($redis), 1, 'an nginx with one worker has one subscribing connection');
is($four->subscriptions($redis), 1, 'an nginx with four workers has one too');
is(scalar @{ $redis->client_list('pubsub') }, 2, 'there are no other subscribing connections');
is_deeply([grep { /\A(?:kept|channel)/ } sort @{ $redis->must('PUBSUB', 'CHANNELS') }], [sort 'kept', map { "channel-$_" } 1 .. 12],
    'channels with streams are subscribed');
is_deeply($redis->must('PUBSUB', 'NUMSUB', 'kept', 'nobody'), ['kept', 2, 'nobody', 0], 'each nginx subscribes to them once and to no others');

# Each worker that publishes has one more connection, and fetching missing history takes one for a while.
$four->post('kept', "number $_") for 1 .. 40;
my %mine = map { $_ => 1 } map { $redis->ports_of($_) } $four->cluster->children;
my @held = grep { $_->{addr} =~ /:(\d+)\z/ && $mine{$1} } @{ $redis->client_list };
cmp_ok(scalar @held, '<=', 1 + 1 + 4, 'four workers that publish have at most one more each (' . @held . ' connections)');

# A client that reconnects soon causes no subscription.
my $before = calls('subscribe');
for my $client (@clients[12 .. 23]) {
    $client->close;
}
my @back = map { $four->stream("/on/kept,channel-$_") } 1 .. 12;
is(calls('subscribe'), $before, 'clients that reconnect soon cause no new subscription');
is_deeply([$redis->publish('channel-7', 'still here')], [2], 'their channels are still subscribed');
ok($back[6]->wait_data('still here'), 'and their events arrive');

# A channel without clients is unsubscribed.
ok(wait_for(sub { $redis->must('PUBSUB', 'NUMSUB', 'brief')->[1] == 0 }, 60), 'a channel without streams is unsubscribed');
my $grace = time() - $left;
cmp_ok($grace, '>=', 1, sprintf 'after some time (%.1f s)', $grace);

# Forty channels lose their only client at once and get another one around the moment of the unsubscription.
my @leaving = map { $four->stream("/on/turn-$_") } 1 .. 40;
$_->close for @leaving;
my $began = time();
my @joined;
for my $number (1 .. 40) {
    my $due = $began + $grace - 0.6 + $number * 0.03;
    serve_for($due - time()) if $due > time();
    push @joined, SSE::Client->new(port => $four->port, path => "/on/turn-$number");
}
ok(wait_for(sub { !grep { $_->{last_event_id} eq '' } @joined }), 'forty streams are opened while their channels are being unsubscribed');
$redis->publish("turn-$_", "to $_") for 1 .. 40;
ok(wait_for(sub { !grep { !$_->data } @joined }, 5), 'all of them receive events');
is(scalar(grep { ($joined[$_ - 1]->data)[0] ne "to $_" } 1 .. 40), 0, 'each receives the events of its channel');
serve_for(1);
$redis->publish("turn-$_", "again to $_") for 1 .. 40;
ok(wait_for(sub { !grep { $_->data < 2 } @joined }, 5), 'also a second later');

# The holder of the subscription is killed.
my $holder = $four->holder($redis);
ok($four->cluster->kill_worker($holder), 'the worker that holds the subscription is killed');
ok(wait_for(sub { my @held = $redis->subscribers($four->cluster->children); @held == 1 && $held[0]{pid} != $holder }), 'another worker takes over');
my $heard = $four->stream('/on/kept');
$redis->publish('kept', 'to whoever is there');
ok($heard->wait_data('to whoever is there'), 'and receives events');
ok($clients[0]->wait_data('to whoever is there'), 'the other nginx receives events too');

$_->ends_cleanly for @nginx;
done_testing();

sub calls ($command) {
    return ($redis->info('commandstats')->{"cmdstat_$command"} // '') =~ /\Acalls=(\d+)/ ? $1 : 0;
}
