# A binary upgrade (USR2, WINCH, QUIT) under load, and one that is rolled back: with Redis nothing is lost.
# Without Redis the new nginx has memory of its own, and a client that moves there receives a gap event.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Fleet;
use SSE::HTTP qw(request);
use SSE::Loop qw(serve_for wait_for);
use SSE::Redis;
use SSE::RedisStage;
use SSE::Stage;

my $redis = SSE::Redis->start;
my $stage = SSE::RedisStage->new(redis => $redis->url, hub => 'history 20000;', http => 'sse_drain 1s;',
    daemon => 'on');
my $nginx = $stage->cluster;
my $fleet = SSE::Fleet->new(cluster => $nginx, quiet => 0, targets => ['/to/a', '/to/b'], groups => [
    { path => '/on/a',   count => 20, channels => ['a'] },
    { path => '/on/a,b', count => 20 },
]);
ok($fleet->wait_connected, '40 clients are connected');
$fleet->start_publishing;
publish_some();

# A rolled-back upgrade: the old master starts its workers again, and the new one exits.
my $old = $nginx->pid;
my $new = $nginx->start_new_master;
ok($new, 'USR2 starts a second master with workers');
publish_some();
kill 'WINCH', $old;
ok(wait_for(sub { $nginx->children == 1 }, 20), 'WINCH ends the old workers');
publish_some();
kill 'HUP', $old;
ok(wait_for(sub { $nginx->workers == 2 }, 20), 'HUP starts them again');
kill 'QUIT', $new;
ok(wait_for(sub { $nginx->children == 2 }, 20), 'the new master exits');
publish_some();

# A completed upgrade.
$new = $nginx->start_new_master;
ok($new, 'USR2 starts a second master again');
publish_some();
kill 'WINCH', $old;
ok(wait_for(sub { $nginx->children == 1 }, 20), 'WINCH ends the old workers');
kill 'QUIT', $old;
ok(wait_for(sub { $nginx->is_gone }, 20), 'the old master exits');
$nginx->adopt($new);
publish_some();
$fleet->verify;
is($stage->subscriptions($redis), 1, 'nginx has one subscribing connection');
$stage->ends_cleanly;

# Without Redis.
my $alone = SSE::Stage->new(daemon => 'on', http => 'sse_retry 100ms; sse_drain 0;',
    server => 'location ~ ^/on/(.+)$ { sse_stream $1; } location ~ ^/to/(.+)$ { sse_publish $1; }');
$nginx = $alone->cluster;
my $client = $alone->stream('/on/news', reconnect => 1);
publish('before');
ok($client->wait_data('before'), 'a client of an nginx without Redis receives an event');
($old, $new) = ($nginx->pid, $nginx->start_new_master);
kill 'QUIT', $old;
ok(wait_for(sub { $nginx->is_gone }, 20), 'the old master exits');
$nginx->adopt($new);
ok(wait_for(sub { grep { $_->{type} eq 'sse.gap' } @{ $client->{events} } }), 'the client receives a gap event from the new nginx');
publish('after');
ok($client->wait_data('after'), 'and later events');
is_deeply([grep { !/sse/ } map { $_->{type} eq 'message' ? $_->{data} : $_->{type} } @{ $client->{events} }],
    ['before', 'after'], 'once');
$alone->ends_cleanly;
done_testing();

# Waits until many more events have been accepted.
sub publish_some {
    my $target = $fleet->count + 50;
    ok(wait_for(sub { $fleet->count >= $target }, 20), 'events are accepted');
    return;
}

sub publish ($data) {
    return request(port => $nginx->port, path => '/to/news', method => 'POST', body => $data);
}
