# The most streams of a channel: who comes too many is told to come back later, and never refused.

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
is(scalar(grep { $_->is_open } @three), 3, 'as many streams as are allowed open');
cmp_ok(scalar(uniq(map { $_->worker } @three)), '>=', 1, 'whichever workers have them');

my @more = map { turned_away('/three?c=news') } 1 .. 10;
is(scalar(grep { $_->{status} == 200 } @more), 10, 'ten more are answered 200');
is(scalar(grep { $_->{body} =~ /\Aretry: \d+\n:\n\z/ } @more), 10, 'and told when to come back, and nothing else');
my @retries = map { $_->{body} =~ /(\d+)/ } @more;
is(scalar(grep { $_ < 10_000 || $_ > 30_000 } @retries), 0, 'in 10 to 30 s');
cmp_ok(scalar(uniq(@retries)), '>', 5, 'not all at once');
is($more[0]{header}{'content-type'}[0], 'text/event-stream', 'as an event stream');
is($stage->subscribers('news'), 3, 'none of them is counted as a stream');

# The limit is the channel's, and the location's.
my $other = $stage->stream('/three?c=sport');
ok($other->is_open, 'another channel has a number of its own');
ok(turned_away('/two?c=sport,news'), 'a stream of several channels needs room in each');
is($stage->subscribers('sport'), 1, 'else it joins none of them');
my $any = $stage->stream('/any?c=news');
ok($any->is_open, 'a location without a limit lets more in');
$any->close;

# Who goes makes room.
$three[1]->close;
ok(wait_for(sub { $stage->subscribers('news') == 2 }, 5), 'one goes');
my $next = $stage->stream('/three?c=news');
ok($next->is_open, 'another one comes in');
$stage->publish('news', 'hello');
ok($next->wait_data('hello') && $three[0]->wait_data('hello'), 'events reach those who are in');

my $hub = $stage->status;
is($hub->{turned_away}, 11, 'the status counts those who were turned away');
is($hub->{subscribers}, 4, 'and the streams that are open');
my $log = slurp($stage->cluster->dir . '/ends.log');
is(scalar(() = $log =~ m{^/three 200 news error 0$}mg), 10, 'the access log has one line for each');
like($stage->cluster->error_log, qr/\[info\] .*stream of "news" in hub "default" not opened: channel has reached its subscriber limit/,
    'the error log says why');

$stage->ends_cleanly;
done_testing();

sub turned_away ($path) { return request(port => $stage->port, path => $path, timeout => 5) }

sub slurp ($path) { return SSE::Cluster::slurp($path) }
