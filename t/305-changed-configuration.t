# Reloads with changed configurations: hubs that are added and removed, invalid files, and log files that
# are reopened.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Loop qw(wait_for);
use SSE::Stage;

my $news  = 'sse_hub news { zone 2m; max_event_size 64k; }';
my $chat  = 'sse_hub chat { zone 2m; max_event_size 64k; }';
my $both  = 'location = /news { sse_stream a hub=news; } location = /chat { sse_stream a hub=chat; }'
    . ' location = /to-news { sse_publish a hub=news; } location = /to-chat { sse_publish a hub=chat; }';
my $alone = 'location = /news { sse_stream a hub=news; } location = /to-news { sse_publish a hub=news; }';
my $rest  = 'sse_drain 300ms; sse_retry 50ms;';
my $nginx = SSE::Cluster->start(http => "$rest $news", server => $alone);

my $client = SSE::Client->new(port => $nginx->port, path => '/news', reconnect => 1);
ok($client->wait_open, 'a stream of a hub');
publish('/to-news', 1);

# A hub is added and removed.
$nginx->configure(http => "$rest $chat $news", server => $both);
ok($nginx->reload, 'a reload adds a hub in front of the first');
publish('/to-news', 2);
publish('/to-chat', 'elsewhere');
my $other = SSE::Client->new(port => $nginx->port, path => '/chat');
ok($other->wait_open, 'the new hub accepts streams');
publish('/to-chat', 'there');
ok($other->wait_data('there'), 'the new hub delivers events');
$nginx->configure(http => "$rest $news", server => $alone);
ok($nginx->reload, 'a reload removes the hub');
publish('/to-news', 3);
ok($nginx->wait_old_workers_gone(3), 'the old workers exit');
is($other->{ends}[0] ? $other->{ends}[0]{how} : 'open', 'abrupt', 'the streams of that hub end');
ok($client->wait_data(3), 'the client of the first hub is connected');
is_deeply([map { $_->{data} } grep { $_->{type} ne 'sse.open' } @{ $client->{events} }], [1, 2, 3], 'it has missed nothing and received no gap event');

# An invalid configuration.
my @workers = $nginx->workers;
$nginx->allow(qr/\[emerg\] .*sse_heartbeat/);
$nginx->configure(http => "$rest $news sse_heartbeat never;");
kill 'HUP', $nginx->pid;
ok(wait_for(sub { $nginx->error_log =~ /\[emerg\] .*sse_heartbeat/ }), 'an invalid configuration is rejected');
publish('/to-news', 4);
ok($client->wait_data(4), 'the stream continues');
is_deeply([$nginx->workers], \@workers, 'the workers are the same');
$nginx->configure(http => "$rest $news");
is(($nginx->check_config)[0], 0, 'nginx -t does not disturb a running nginx');
kill 'USR1', $nginx->pid;
# If nginx has not done so before it reloads, new workers try it first, without the permission.
$nginx->wait_lines(qr/reopening logs/, 1 + @workers);
publish('/to-news', 5);
ok($client->wait_data(5), 'reopening the log files does not disturb it either');

# Many reloads in quick succession.
kill 'HUP', $nginx->pid for 1 .. 5;
publish('/to-news', $_) for 6 .. 20;
ok($client->wait_data(20), 'overlapping reloads lose nothing');
ok($nginx->wait_old_workers_gone(5), 'they leave no old worker behind');
is_deeply([map { $_->{data} } grep { $_->{type} ne 'sse.open' } @{ $client->{events} }], [1 .. 20], 'every event arrived once');
$client->close;

$nginx->ends_cleanly;
done_testing();

sub publish ($path, $data) {
    my $publisher = SSE::Publisher->new(port => $nginx->port, path => $path);
    $publisher->publish($data) && !@{ $publisher->{refused} } or fail("publishing $data on $path");
    $publisher->drop;
    return;
}
