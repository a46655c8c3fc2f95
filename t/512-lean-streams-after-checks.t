# Requests that the module itself has checked, or has answered later, can be released like others: with a token, with
# a user, and in a hub with Redis if nginx first finds out whether there is anything to send.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Loop qw(wait_for);
use SSE::Redis;
use SSE::RedisStage;
use SSE::Token qw(token $SECRET);

my $redis = SSE::Redis->start;
my $stage = SSE::RedisStage->new(
    redis   => $redis->url,
    workers => 1,
    http    => 'sse_lean on; sse_heartbeat off;',
    server  => <<'EOF_SERVER',
        location = /plain  { sse_stream news; }
        location = /token  { sse_jwt bearer arg=token; sse_jwt_key %%DIR%%/secret secret; sse_stream news; }
        location = /user   { sse_user $arg_user; sse_stream news; }
        location = /known  { sse_unknown_channel 204; sse_stream $arg_channel; }
EOF_SERVER
    files   => { secret => $SECRET },
);
my $token = token({ sub => 'alice' });
my %lean  = map { ($_->[0] => $stage->stream(@$_[1 .. $#$_])) } (
    ['nothing is checked', '/plain'],
    ['a token in a header', '/token', headers => [Authorization => "Bearer $token"]],
    ['a token in the address', "/token?token=$token"],
    ['a user', '/user?user=alice'],
);
ok(wait_for(sub { $stage->status->{lean}{lean} == keys %lean }), 'their requests are released')
    or diag(explain($stage->status->{lean}));

$stage->publish('news', 'something');
ok($lean{$_}->wait_data('something'), "$_: the stream receives its events") for sort keys %lean;

# Nobody listens to this channel yet. Its stream is opened when nginx has read it from Redis.
$stage->publish('stored', 'earlier');
my $later = $stage->stream('/known?channel=stored');
$stage->publish('stored', 'later');
ok($later->wait_data('later'), 'a stream whose request has waited receives its events');
ok(wait_for(sub { $stage->status->{lean}{lean} == 1 + keys %lean }), 'its request is released')
    or diag(explain($stage->status->{lean}));
is($stage->status->{lean}{ordinary}, 0, 'no request is kept');

$stage->ends_cleanly;
done_testing();
