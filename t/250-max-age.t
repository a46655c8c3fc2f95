# The longest a stream may last: it is sent when to come back, ends whole, and is resumed without loss.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use List::Util qw(max min uniq);
use Test::More;
use Time::HiRes qw(time);
use SSE::Loop qw(serve_for wait_for);
use SSE::Stage;

my $stage = SSE::Stage->new(
    http   => 'sse_retry 100ms;',
    server => <<'EOF_CONFIG',
        sse_max_age 1s;
        location = /long    { sse_stream news; sse_max_age 8s; }
        location = /short   { sse_stream news; }
        location = /jitter  { sse_stream news; sse_max_age 1s jitter=2s; }
        location = /for-ever { sse_stream news; sse_max_age off; }
EOF_CONFIG
);

my $begun   = time();
my $short   = $stage->stream('/short');
my $long    = $stage->stream('/long');
my $forever = $stage->stream('/for-ever');
ok(wait_for(sub { $short->{state} eq 'ended' }, 5), 'a stream ends when it has its age');
my $age = $short->{ends}[0]{at} - $begun;
cmp_ok($age, '>', 0.9, sprintf 'not before (%.2f s)', $age);
ok($long->is_open, 'and before one of the same moment that may grow older');
is($short->{ends}[0]{how}, 'clean', 'its response is whole');
is($short->{status}, 200, 'with status 200');
my @retries = @{ $short->{parser}{retries} };
is(scalar @retries, 2, 'it is told when to come back');
is($retries[0], 100, 'first what is configured');
cmp_ok($retries[1], '<=', 1000, "and at the end a moment, so that not all come back at once ($retries[1] ms)");
is(scalar(grep { $_->{type} ne 'sse.open' } @{ $short->{events} }), 0, 'nothing of that is an event');

# With jitter streams that began together end apart.
$begun = time();
my @many = map { $stage->stream('/jitter') } 1 .. 20;
ok(wait_for(sub { !grep { $_->{state} ne 'ended' } @many }, 10), 'all streams of a location with jitter end');
my @ages = map { $_->{ends}[0]{at} - $begun } @many;
cmp_ok(min(@ages), '>', 0.9, 'none before its age');
my $last_end = max(map { $_->{ends}[0]{at} } @many);
cmp_ok(max(@ages) - min(@ages), '>', 0.7, sprintf 'they are spread (%.2f s)', max(@ages) - min(@ages));
cmp_ok(scalar(uniq(map { $_->{parser}{retry} } @many)), '>', 10, 'so is their coming back');

# Who comes back misses nothing.
my $client = $stage->stream('/short', reconnect => 1);
my @data;
while ($client->{openings} < 4 && @data < 400) {
    push @data, 'event ' . @data;
    $stage->publish('news', $data[-1]);
    serve_for(0.02);
}
cmp_ok($client->{openings}, '>=', 4, 'a stream is ended again and again');
ok($client->wait_data($data[-1]), 'and gets everything in the end');
is(join('|', $client->data), join('|', @data), 'once and in order');
is(scalar $client->events('sse.gap'), 0, 'and is told no gap');
$client->close;

ok(wait_for(sub { $long->{state} eq 'ended' }), 'the stream that may grow older ends, too');
cmp_ok($last_end, '<', $long->{ends}[0]{at}, 'after all that had to end before it');
is($forever->{state}, 'open', 'a stream without an age is still there');
$forever->close;
my @lines = split /\n/, $stage->cluster->access_log;
is(scalar(grep { m{GET /short HTTP/1.1" 200} } @lines), scalar(grep { m{GET /short} } @lines), 'the access log has them with 200');

$stage->ends_cleanly;
done_testing();
