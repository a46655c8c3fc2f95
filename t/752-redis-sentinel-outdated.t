#!/usr/bin/perl
# A master that has been replaced while a connection to it was being opened: it still says that it is a
# master until the Sentinels reach it, and what it accepts until then is lost.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::FaultProxy;
use SSE::HTTP;
use SSE::Loop qw(wait_for);
use SSE::Redis;
use SSE::RedisStage;

my ($old, $new) = map { SSE::Redis->start } 1, 2;
my $network  = SSE::FaultProxy->start(to => $old->port);
my $sentinel = SSE::Redis->start(mode => 'sentinel', config => monitor($network->port) . quiet());
my $nginx    = SSE::RedisStage->new(workers => 1, redis => 'redis+sentinel://127.0.0.1:' . $sentinel->port . '/events');

# The directives of a Sentinel that does not replace the master itself.
sub monitor ($port) { return "sentinel monitor events 127.0.0.1 $port 1\n" }
sub quiet ()        { return "sentinel down-after-milliseconds events 600000\n" }

ok($nginx->wait_up, 'nginx is connected to the master');

# The worker opens its connection for publishing with the first event.
my $connections = $network->count;
$network->delay(0.1);
my $answer;
my $http = SSE::HTTP->new($nginx->port, sub ($got) { $answer = $got // { status => 'none' } });
$http->send(method => 'POST', path => '/to/room', body => 'first');
ok(wait_for(sub { $network->count > $connections || $answer }), 'another connection to the master is being opened');
$sentinel->must('SENTINEL', 'REMOVE', 'events');
$sentinel->must('SENTINEL', 'MONITOR', 'events', '127.0.0.1', $new->port, 1);
ok(wait_for(sub { $answer }), 'the event is answered');
like($answer->{status}, qr/^(?:201|503|504)$/, 'with success or an error');
is($old->command('EXISTS', 'sse:{sse}:s:room'), 0, 'the replaced master has not stored the event');
ok(wait_for(sub { $nginx->post('room', 'second')->{status} == 201 }), 'later events are accepted');
is($old->command('EXISTS', 'sse:{sse}:s:room'), 0, 'the replaced master stores none of them');
is($new->command('EXISTS', 'sse:{sse}:s:room'), 1, 'the new master stores them');

$nginx->ends_cleanly;
done_testing();
