# Redis's own channels and those that nginx instances use among themselves reach no client, neither by a
# pattern nor by name, and clients cannot publish to them.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::HTTP qw(request);
use SSE::Loop qw(wait_for);
use SSE::Redis;
use SSE::RedisStage;

my $redis  = SSE::Redis->start(notify => 'KEA');
my $likes  = 'location ~ ^/like/(.+)$ { sse_stream $1 split=, pattern; } location = /admin { sse_admin; }';
my $open   = SSE::RedisStage->new(redis => $redis->url, server => $likes);
my $narrow = SSE::RedisStage->new(redis => $redis->url, hub => 'redis_prefix __key;', server => $likes);
my @own    = ('__keyspace@0__:x', '__keyevent@0__:set', '__subkeyspace@0__:x', '__redis__:invalidate', '__sentinel__:hello', 'sse:{sse}:ctl',
    'sse:{__key}:ctl');

# Patterns.
my @client = map { $open->stream("/like/$_") } '%2A', '__%2A', '%5B_s%5D%2A', '%2A:x,%2A:ctl';
push @client, $narrow->stream('/like/%2A');
$redis->must('SET', 'x', 'secret');
$redis->must('DEL', 'x');
$redis->publish($_, 'secret') for @own;
$redis->publish($_, 1) for @own;
$open->publish('a', 'durable');
for my $last ('__keysa:x', '_:x', '__:x', 's:x', 'sse:{sse}:s:x') {
    $redis->publish($last, "from $last");
    ok(wait_for(sub { grep { $_ eq "from $last" } $client[0]->data }), "$last is an ordinary channel");
}
ok(wait_for(sub { $client[4]->data }), 'a hub with a prefix receives its channels');
is_deeply([map { scalar $_->data } @client], [6, 2, 5, 5, 1], 'patterns match no internal channels');
is(scalar(grep { grep { /secret/ } $_->data } @client), 0, 'no messages of Redis itself arrive');

# Names.
for my $name (map { [$open, $_] } @own) {
    refused(@$name);
}
refused($narrow, 'space@0__:x');
my $free = $narrow->stream('/on/__keyspace@0__:x');
is($narrow->post('__keyspace@0__:x', 'free')->{status}, 201, 'with a prefix the name is allowed');
ok($free->wait_data('free'), 'events of that name arrive');

# The script.
my $script = SSE::Cluster::slurp("$FindBin::Bin/../lua/publish.lua");
for my $own (@own) {
    like($redis->command('EVAL', $script, 1, "sse:{sse}:s:$own", 'x'), qr/Redis itself/, "the script does not publish to $own");
}

# A prefix that is reserved.
my ($status, $text) = SSE::Cluster->new(
    http   => 'sse_hub default { redis ' . $redis->url . '; redis_prefix __keyspace@0__:; }',
    server => 'location /s { sse_stream messages; }'
)->check_config;
isnt($status, 0, 'a prefix that Redis uses itself is rejected');
like($text, qr/\[emerg\].*redis_prefix/, 'the message names it');

# With redis_source stream the keys of the module are not channels.
my $streams = SSE::RedisStage->new(redis => $redis->url(1), hub => 'redis_source stream;', server => 'location = /admin { sse_admin; }');
refused($streams, $_) for 'sse:{sse}:clock', 'sse:{sse}:forgotten', 'sse:{other}:s:news';

is($_->state, 'up', 'the hub stays connected') for $open, $narrow, $streams;
$_->ends_cleanly for $open, $narrow, $streams;
done_testing();

sub refused ($stage, $name) {
    my $path = $name =~ s/([^\w:])/sprintf '%%%02X', ord $1/ger;
    my $get  = request(port => $stage->port, path => "/on/$path");
    is($get->{status}, 400, "$name cannot be opened");
    is($stage->post($path, 'x')->{status}, 400, "$name cannot be published to");
    is(request(port => $stage->port, path => "/admin?channel=$path", method => 'DELETE')->{status}, 400, "$name cannot be deleted");
    return;
}
