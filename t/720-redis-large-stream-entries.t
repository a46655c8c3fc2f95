# redis_source stream: large entries of many Redis streams arrive at once, more than one read may return.
# All are delivered, and none is taken for one that is too large.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Loop qw(wait_for);
use SSE::Redis;
use SSE::RedisStage;

for my $notify ('Kt', undef) {
    my $how   = $notify ? 'reported' : 'asked';
    my $redis = SSE::Redis->start($notify ? (notify => $notify) : ());
    my $nginx = SSE::RedisStage->new(redis => $redis->url, hub => 'zone 32m; redis_source stream;', workers => 1);
    my @all   = map { my $from = $_ * 50; $nginx->stream('/on/' . join ',', map { "c$_" } $from .. $from + 49) } 0 .. 3;
    my $large = 'x' x 60_000;
    my $number = 0;
    for my $round (1 .. 3) {
        $redis->must('EVAL', <<'EOF_SCRIPT', 0, $large, $round);
            for channel = 0, 199 do
              redis.call('XADD', 'c' .. channel, '*', 'data', channel .. ' ' .. ARGV[2] .. ' ' .. ARGV[1])
            end
EOF_SCRIPT
        ok(wait_for(sub { !grep { $_->data < 50 * $round } @all }, 30), "$how: large entries of 200 streams arrive, round $round")
            or diag(join ' ', map { scalar $_->data } @all);
    }
    my %seen;
    $seen{ s/ x+\z//r }++ for map { $_->data } @all;
    is(scalar(grep { $_ != 1 } values %seen), 0, 'each entry arrives once');
    is(scalar keys %seen, 600, 'all entries arrive');
    is(scalar(grep { $_->events('sse.gap') } @all), 0, 'without a gap event');
    unlike($nginx->cluster->error_log, qr/larger than max_event_size/, 'none is logged as too large');
    $nginx->ends_cleanly;
}
done_testing();
