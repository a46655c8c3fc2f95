# Plain PUBLISH: a message from any Redis client reaches every stream of the channel, on all workers of two
# nginx instances, unchanged, and can be resumed exactly on the same nginx.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::EventIds qw(by_id is_id);
use SSE::Loop qw(wait_for);
use SSE::Redis;
use SSE::RedisStage;

my $redis = SSE::Redis->start;
my @nginx = map {
    SSE::RedisStage->new(redis => $redis->url, workers => 3, hub => 'history 1000; max_event_size 64k; presence on;',
        server => 'location = /who { sse_stream sse.presence; }')
} 1, 2;
my ($one, $two) = @nginx;

my @clients = map { $_->streams_on_workers(2, ('/on/messages') x 12) } @nginx;
my %workers = map { $_->worker => 1 } @clients;
cmp_ok(scalar keys %workers, '>=', 4, 'clients are on ' . keys(%workers) . ' workers of two nginxes');
is_deeply([$redis->publish('messages', 'Hello, World!')], [2], 'PUBLISH reaches one connection of each nginx');
ok(wait_for(sub { !grep { !$_->data } @clients }), 'every stream receives the message');
is(scalar(grep { ($_->data)[0] ne 'Hello, World!' } @clients), 0, 'the message is unchanged');

# Data of all kinds.
my $envelope = "\x01sse 1763807585123-0 x 5\ntradeHello";
my @kinds = (
    ["gr\xc3\xbc\xc3\x9fe \xe2\x82\xac \xf0\x9f\x8e\x89", undef,                                                 'UTF-8'],
    ['',                                                  undef,                                                 'nothing'],
    ["a\r\nb\rc\nd\n",                                    "a\nb\nc\nd\n",                                        'line breaks of all kinds'],
    ["bad \xff\xfe and \xc3",                             "bad \xef\xbf\xbd\xef\xbf\xbd and \xef\xbf\xbd",       'bytes that are not UTF-8'],
    ["a\0b",                                              undef,                                                 'NUL'],
    ["x\nid: 5\n\nevent: y",                              undef,                                                 'text that looks like fields'],
    [$envelope,                                           undef,                                                 'a message that resembles a durable event'],
    ["\x01sse",                                           undef,                                                 'the beginning of a durable event'],
    ['x' x 60_000,                                        undef,                                                 'a large message'],
);
$redis->publish('messages', map { $_->[0] } @kinds);
$redis->publish('messages', 'y' x 100_000);    # larger than max_event_size
$redis->publish('messages', 'end');
my @got = $one->got($clients[0], 'end');
for my $number (0 .. $#kinds) {
    my ($data, $as, $name) = @{ $kinds[$number] };
    is($got[$number + 1], $as // $data, "$name arrives");
}
is(scalar @got, @kinds + 2, 'only a message larger than max_event_size does not arrive');
my @there = $two->got($clients[-1], 'end');
is_deeply(\@there, \@got, 'the other nginx delivers the same messages');

# Ids.
my @ids = map { $_->{id} } $clients[0]->events('message');
is(scalar(grep { !is_id($_) || !/\A\d+-\d+-\d+-\d+\z/ } @ids), 0, 'ids have four numbers') or diag("@ids");
is(scalar(grep { by_id($ids[$_ - 1], $ids[$_]) >= 0 } 1 .. $#ids), 0, 'ids increase');
ok(wait_for(sub { !grep { $_->data < @got } @clients }), 'all streams receive all messages');
is(scalar(grep { join(' ', map { $_->{id} } $_->events('message')) ne "@ids" } @clients[1 .. 11]), 0, 'all streams of one nginx have the same ids');

# Resuming on the same nginx, on any worker.
$redis->publish('messages', map { "numbered $_" } 1 .. 50);
$clients[0]->wait_data('numbered 50');
my @numbered = grep { $_->{data} =~ /\Anumbered / } $clients[0]->events('message');
for my $last (0, 7, 24, 48) {
    my @back = map { $one->stream('/on/messages', last_event_id => $numbered[$last]{id}) } 1 .. 4;
    my $want = join ',', map { $_->{data} } @numbered[$last + 1 .. 49];
    is(scalar(grep { join(',', $one->got($_, 'numbered 50')) ne $want } @back), 0, "a client that returns after number @{[$last + 1]} receives the rest once");
    $_->close for @back;
}
my $quiet = $one->stream('/on/messages', last_event_id => $numbered[-1]{id});
$redis->publish('messages', 'later');
is_deeply([$one->got($quiet, 'later')], ['later'], 'a client that has seen everything receives only new messages');

# Another nginx does not know the position of a plain message.
my $moved = $two->stream('/on/messages', last_event_id => $numbered[9]{id});
ok(wait_for(sub { @{ $moved->{events} } }), 'a client that moves to the other nginx receives an event');
is_deeply([$moved->types], ['sse.gap'], 'it receives a gap event, and messages of unknown position are skipped');
is($moved->{events}[0]{data}, qq({"after":"$numbered[9]{id}"}), 'the gap event has an id');
$redis->publish('messages', 'after the move');
ok($moved->wait_data('after the move'), 'then it receives new messages');

# Channel names are compared byte by byte.
my $star = $one->stream('/on/a%2Ab');
$redis->publish('acb', 'not this');
$redis->publish('a*b', 'a star');
is_deeply([$one->got($star, 'a star')], ['a star'], 'a channel name with an asterisk is not a pattern');
my $who = $one->stream('/who', last_event_id => '0-0-0');
$redis->publish('sse.presence', 'forged');
$one->stream('/on/somebody');
ok(wait_for(sub { grep { $_->{data} =~ /somebody/ } @{ $who->{events} } }), 'the presence channel is published to by the module');
is(scalar(grep { $_->{data} eq 'forged' } @{ $who->{events} }), 0, 'nobody else can publish to the presence channel');

# redis_prefix.
my $site   = SSE::RedisStage->new(redis => $redis->url, workers => 1, hub => 'redis_prefix site:;');
my $inside = $site->stream('/on/messages');
$redis->publish('messages',      'outside');
$redis->publish('site:messages', 'inside');
is_deeply([$site->got($inside, 'inside')], ['inside'], 'a hub with a prefix receives messages of channels with that prefix');

$_->ends_cleanly for @nginx, $site;
done_testing();
