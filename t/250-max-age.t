# sse_max_age: a stream ends at its maximum age with a retry and an interrupted response, and is resumed without
# loss.

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
ok(wait_for(sub { $short->{state} eq 'ended' }, 5), 'a stream ends at its maximum age');
my $age = $short->{ends}[0]{at} - $begun;
cmp_ok($age, '>', 0.9, sprintf 'not before (%.2f s)', $age);
ok($long->is_open, 'and before a stream with a larger maximum that was opened with it');
is($short->{ends}[0]{how}, 'abrupt', 'its response is interrupted');
is($short->{status}, 200, 'with status 200');
my @retries = @{ $short->{parser}{retries} };
is(scalar @retries, 2, 'it receives two retry fields');
is($retries[0], 100, 'the first one is the configured time');
cmp_ok($retries[1], '<=', 1000, "the last one is short and random ($retries[1] ms)");
is(scalar(grep { $_->{type} ne 'sse.open' } @{ $short->{events} }), 0, 'the end of a stream sends no event');

# With jitter, streams that were opened together end at different times.
$begun = time();
my @many = map { $stage->stream('/jitter') } 1 .. 20;
ok(wait_for(sub { !grep { $_->{state} ne 'ended' } @many }, 10), 'all streams of a location with jitter end');
my @ages = map { $_->{ends}[0]{at} - $begun } @many;
cmp_ok(min(@ages), '>', 0.9, 'none ends before the age without jitter');
my $last_end = max(map { $_->{ends}[0]{at} } @many);
cmp_ok(max(@ages) - min(@ages), '>', 0.7, sprintf 'they are spread (%.2f s)', max(@ages) - min(@ages));
cmp_ok(scalar(uniq(map { $_->{parser}{retry} } @many)), '>', 10, 'their reconnect times are spread too');

# A reconnecting client loses nothing.
my $client = $stage->stream('/short', reconnect => 1);
my @data;
while ($client->{openings} < 4 && @data < 400) {
    push @data, 'event ' . @data;
    $stage->publish('news', $data[-1]);
    serve_for(0.02);
}
cmp_ok($client->{openings}, '>=', 4, 'a stream is ended again and again');
ok($client->wait_data($data[-1]), 'it receives the last event');
is(join('|', $client->data), join('|', @data), 'it receives all events once and in order');
is(scalar $client->events('sse.gap'), 0, 'it receives no gap event');
$client->close;

ok(wait_for(sub { $long->{state} eq 'ended' }), 'the stream with the larger maximum ends too');
cmp_ok($last_end, '<', $long->{ends}[0]{at}, 'after those with the smaller one');
is($forever->{state}, 'open', 'a stream without a maximum age stays open');
$forever->close;
my @lines = split /\n/, $stage->cluster->access_log;
is(scalar(grep { m{GET /short HTTP/1.1" 200} } @lines), scalar(grep { m{GET /short} } @lines), 'the access log has the streams with status 200');

$stage->ends_cleanly;
done_testing();
