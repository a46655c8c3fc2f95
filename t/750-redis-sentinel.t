# Redis Sentinel: the hub follows the master when it is stopped, continues as a stale master, and when the
# new one is killed. A master confirms events before its replica has them, so such events may be lost.
# Commands that a stopped master executes when it continues are not confirmed.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Time::HiRes qw(time);
use SSE::Fleet;
use SSE::Loop qw(serve_for wait_for);
use SSE::RedisStage;
use SSE::Sentinels;

my $sentinels = SSE::Sentinels->start(appendonly => 1);
my @nginx = map {
    SSE::RedisStage->new(redis => $sentinels->url, hub => 'history 20000;', server => $SSE::Fleet::LOCATIONS)
} 1, 2;
my $fleet = SSE::Fleet->new(clusters => [map { $_->cluster } @nginx], clients => 20, quiet => 4, rate => 60, movers => 4,
    survivors => \&kept);

# The ids of the events that the master has.
sub kept () {
    return map { map { $_->[0] } @{ $sentinels->master->must('XRANGE', "sse:{sse}:s:$_", '-', '+') } } qw(loud quiet);
}

ok($fleet->wait_connected, '24 clients of two nginx instances are connected');
is($_->subscriptions($sentinels->master), 1, 'the master has a subscribing connection of each nginx') for @nginx;
is($_->subscriptions($sentinels->replica), 0, 'the replica has no subscribing connection') for @nginx;
my $plain = $nginx[0]->stream('/on/plain');
$fleet->start_publishing;
serve_for(1);

# The master is stopped.
my $old = $sentinels->master;
$old->pause;
my $paused = 1000 * time();
ok($sentinels->wait_switched, 'a stopped master is replaced');
ok(wait_for(sub { !grep { $_->subscriptions($sentinels->master) != 1 } @nginx }, 10), 'both nginx instances follow');
$old->resume;
$sentinels->master->publish('plain', 'from the new master');
ok($plain->wait_data('from the new master'), 'messages from the new master arrive');
ok($_->wait_up, 'both are connected') for @nginx;
my $accepted = $fleet->count;
ok(wait_for(sub { $fleet->count > $accepted + 30 }), 'publishing continues');
ok(wait_for(sub { $sentinels->is_settled }, 25), 'the old master becomes a replica');
is($_->subscriptions($sentinels->master), 1, 'no nginx returns to it') for @nginx;
my @confirmed = $fleet->accepted;

my %kept = map { $_ => 1 } kept();
my @lost = map { $_->{id} } grep { (split /-/, $_->{id})[0] > $paused && !$kept{ $_->{id} } } @confirmed;
is("@lost", '', 'the new master has everything that was confirmed since');

# The new one is killed.
$sentinels->kill_master;
ok($sentinels->wait_switched, 'a killed master is replaced');
ok(wait_for(sub { !grep { $_->subscriptions($sentinels->master) != 1 } @nginx }, 10), 'both nginx instances follow again');
$sentinels->master->publish('plain', 'from the first master');
ok($plain->wait_data('from the first master'), 'messages from the first master arrive');

$fleet->verify;
$_->ends_cleanly for @nginx;
done_testing();
