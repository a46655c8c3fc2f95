# Plain PUBLISH: what any client of Redis publishes reaches every stream of the channel, on all workers of
# two nginxes, as it was published; on the same nginx it can be resumed exactly.

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

my @clients = map { my $nginx = $_; map { $nginx->stream('/on/messages') } 1 .. 12 } @nginx;
my %workers = map { $_->worker => 1 } @clients;
cmp_ok(scalar keys %workers, '>=', 4, 'clients are on ' . keys(%workers) . ' workers of two nginxes');
is_deeply([$redis->publish('messages', 'Hello, World!')], [2], 'PUBLISH reaches two connections, one of each nginx');
ok(wait_for(sub { !grep { !$_->data } @clients }), 'and every stream has it');
is(scalar(grep { ($_->data)[0] ne 'Hello, World!' } @clients), 0, 'as it was published');

# Data of all kinds.
my $envelope = "\x01sse 1763807585123-0 x 5\ntradeHello";
my @kinds = (
    ["gr\xc3\xbc\xc3\x9fe \xe2\x82\xac \xf0\x9f\x8e\x89", undef,                                                 'UTF-8'],
    ['',                                                  undef,                                                 'nothing'],
    ["a\r\nb\rc\nd\n",                                    "a\nb\nc\nd\n",                                        'line breaks of all kinds'],
    ["bad \xff\xfe and \xc3",                             "bad \xef\xbf\xbd\xef\xbf\xbd and \xef\xbf\xbd",       'bytes that are no UTF-8'],
    ["a\0b",                                              undef,                                                 'NUL'],
    ["x\nid: 5\n\nevent: y",                              undef,                                                 'what looks like fields'],
    [$envelope,                                           undef,                                                 'what is almost a durable event'],
    ["\x01sse",                                           undef,                                                 'the beginning of one'],
    ['x' x 60_000,                                        undef,                                                 'what is large'],
);
$redis->publish('messages', map { $_->[0] } @kinds);
$redis->publish('messages', 'y' x 100_000);    # larger than max_event_size
$redis->publish('messages', 'end');
my @got = $one->got($clients[0], 'end');
for my $number (0 .. $#kinds) {
    my ($data, $as, $name) = @{ $kinds[$number] };
    is($got[$number + 1], $as // $data, "$name arrives");
}
is(scalar @got, @kinds + 2, 'what is larger than max_event_size does not, and nothing else');
my @there = $two->got($clients[-1], 'end');
is_deeply(\@there, \@got, 'the other nginx has the same');

# Ids.
my @ids = map { $_->{id} } $clients[0]->events('message');
is(scalar(grep { !is_id($_) || !/\A\d+-\d+-\d+-\d+\z/ } @ids), 0, 'ids have four numbers') or diag("@ids");
is(scalar(grep { by_id($ids[$_ - 1], $ids[$_]) >= 0 } 1 .. $#ids), 0, 'and rise');
ok(wait_for(sub { !grep { $_->data < @got } @clients }), 'all streams have all');
is(scalar(grep { join(' ', map { $_->{id} } $_->events('message')) ne "@ids" } @clients[1 .. 11]), 0, 'all streams of one nginx have the same ids');

# Resume on the same nginx, whichever worker.
$redis->publish('messages', map { "numbered $_" } 1 .. 50);
$clients[0]->wait_data('numbered 50');
my @numbered = grep { $_->{data} =~ /\Anumbered / } $clients[0]->events('message');
for my $last (0, 7, 24, 48) {
    my @back = map { $one->stream('/on/messages', last_event_id => $numbered[$last]{id}) } 1 .. 4;
    my $want = join ',', map { $_->{data} } @numbered[$last + 1 .. 49];
    is(scalar(grep { join(',', $one->got($_, 'numbered 50')) ne $want } @back), 0, "who returns after number @{[$last + 1]} has the rest once");
    $_->close for @back;
}
my $quiet = $one->stream('/on/messages', last_event_id => $numbered[-1]{id});
$redis->publish('messages', 'later');
is_deeply([$one->got($quiet, 'later')], ['later'], 'who has all of it gets what comes');

# On the other nginx a plain message has no place.
my $moved = $two->stream('/on/messages', last_event_id => $numbered[9]{id});
ok(wait_for(sub { @{ $moved->{events} } }), 'who moves to the other nginx is told something');
is_deeply([$moved->types], ['sse.gap'], 'that there is a gap, and what cannot be placed is passed over');
is($moved->{events}[0]{data}, qq({"after":"$numbered[9]{id}"}), 'after its id');
$redis->publish('messages', 'after the move');
ok($moved->wait_data('after the move'), 'and then gets what comes');

# Names are compared byte by byte.
my $star = $one->stream('/on/a%2Ab');
$redis->publish('acb', 'not this');
$redis->publish('a*b', 'a star');
is_deeply([$one->got($star, 'a star')], ['a star'], 'a name with a star is a name');
my $who = $one->stream('/who', last_event_id => '0-0-0');
$redis->publish('sse.presence', 'forged');
$one->stream('/on/somebody');
ok(wait_for(sub { grep { $_->{data} =~ /somebody/ } @{ $who->{events} } }), 'the module tells of presence');
is(scalar(grep { $_->{data} eq 'forged' } @{ $who->{events} }), 0, 'and nobody else can');

# A prefix.
my $site   = SSE::RedisStage->new(redis => $redis->url, workers => 1, hub => 'redis_prefix site:;');
my $inside = $site->stream('/on/messages');
$redis->publish('messages',      'outside');
$redis->publish('site:messages', 'inside');
is_deeply([$site->got($inside, 'inside')], ['inside'], 'with a prefix a hub hears what is published under it');

$_->ends_cleanly for @nginx, $site;
done_testing();
