# sse_max_subscribers: when a channel is full, new clients receive a retry instead of an error status.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use List::Util qw(uniq);
use Test::More;
use SSE::HTTP qw(request);
use SSE::Loop qw(wait_for);
use SSE::Stage;

my $stage = SSE::Stage->new(
    http   => 'log_format ends "$uri $status $sse_channel $sse_end $sse_events_sent"; access_log %%DIR%%/ends.log ends;',
    server => <<'EOF_CONFIG',
        sse_max_subscribers 3;
        location = /three { sse_stream $arg_c; }
        location = /two   { sse_stream $arg_c split=,; sse_max_subscribers 2; }
        location = /any   { sse_stream $arg_c; sse_max_subscribers 0; }
        location = /status { sse_status; }
EOF_CONFIG
);

my @three = map { $stage->stream('/three?c=news') } 1 .. 3;
is(scalar(grep { $_->is_open } @three), 3, 'streams up to the limit open');

my @more = map { turned_away('/three?c=news') } 1 .. 10;
is(scalar(grep { $_->{status} == 200 } @more), 10, 'ten more requests are answered with 200');
is(scalar(grep { $_->{body} =~ /\Aretry: \d+\n:\n\z/ } @more), 10, 'the responses contain a retry and nothing else');
my @retries = map { $_->{body} =~ /(\d+)/ } @more;
is(scalar(grep { $_ < 10_000 || $_ > 30_000 } @retries), 0, 'the retry times are 10 to 30 seconds');
cmp_ok(scalar(uniq(@retries)), '>', 5, 'the retry times differ');
is($more[0]{header}{'content-type'}[0], 'text/event-stream', 'with the type of an event stream');
is($stage->subscribers('news'), 3, 'they are not counted as streams');

# The limit applies to each channel and is set for a location.
my $other = $stage->stream('/three?c=sport');
ok($other->is_open, 'another channel has its own limit');
ok(turned_away('/two?c=sport,news'), 'a stream of several channels must be below the limit in each');
is($stage->subscribers('sport'), 1, 'otherwise it subscribes to none of them');
my $any = $stage->stream('/any?c=news');
ok($any->is_open, 'a location without a limit accepts more');
$any->close;

# A client that disconnects frees its slot.
$three[1]->close;
ok(wait_for(sub { $stage->subscribers('news') == 2 }, 5), 'a client disconnects');
my $next = $stage->stream('/three?c=news');
ok($next->is_open, 'another client is accepted');
$stage->publish('news', 'hello');
ok($next->wait_data('hello') && $three[0]->wait_data('hello'), 'events reach the accepted clients');

my $hub = $stage->status;
is($hub->{turned_away}, 11, 'the status counts the rejected streams');
is($hub->{subscribers}, 4, 'the status counts the open streams');
my $log = slurp($stage->cluster->dir . '/ends.log');
is(scalar(() = $log =~ m{^/three 200 news error 0$}mg), 10, 'the access log has one line for each');
like($stage->cluster->error_log, qr/\[info\] .*stream of "news" in hub "default" not opened: channel has reached its subscriber limit/,
    'the error log has the reason');

$stage->ends_cleanly;
done_testing();

sub turned_away ($path) { return request(port => $stage->port, path => $path, timeout => 5) }

sub slurp ($path) { return SSE::Cluster::slurp($path) }
