# sse_since: a client without an id receives what was published from a time on.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use POSIX qw(strftime);
use Test::More;
use Time::HiRes qw(time);
use SSE::Client;
use SSE::Curl;
use SSE::HTTP qw(request);
use SSE::Loop qw(wait_for);
use SSE::Nginx qw(has_module);
use SSE::Stage;
use SSE::TLS qw(certificate);

my $has_tls   = has_module('http_ssl') && has_module('http_v2') && `curl --version` && `openssl version`;
my $locations = <<'EOF_LOCATIONS';
        sse_since $arg_since;
        location ~ ^/s/(.+)$       { sse_stream $1 split=,; }
        location ~ ^/all/(.+)$     { sse_stream $1; sse_replay all; }
        location ~ ^/lean/(.+)$    { sse_stream $1; sse_lean on; }
        location ~ ^/gzip/(.+)$    { sse_stream $1; gzip on; gzip_types *; gzip_min_length 0; }
        location ~ ^/pattern/(.+)$ { sse_stream $1* pattern; }
        location ~ ^/replay/(.+)$  { sse_stream $1; sse_finished replay; }
        location ~ ^/off/(.+)$     { sse_stream $1; sse_finished off; }
        location ~ ^/none/(.+)$    { sse_stream $1; sse_replay all; sse_since ""; }
        location ~ ^/header/(.+)$  { sse_stream $1; sse_since $http_x_since; }
        location ~ ^/short/(.+)$   { sse_stream $1 hub=short; }
        location ~ ^/to-short/(.+)$ { sse_publish $1 hub=short; }
        location ~ ^/run/(.+)$     { sse_publish $1 finish; }
        location = /admin          { sse_admin; }
EOF_LOCATIONS
my $stage = SSE::Stage->new(
    workers => 2,
    http    => 'sse_hub default { zone 8m; history 2; } sse_hub short { history off; } sse_drain 0;'
        . ($has_tls ? "server { listen 127.0.0.1:%%PORT_h2%% http2; listen 127.0.0.1:%%PORT_tls%% ssl http2;
            ssl_certificate %%DIR%%/cert.pem; ssl_certificate_key %%DIR%%/key.pem; $locations }" : ''),
    server => $locations,
    files  => $has_tls ? certificate() : {},
);
my $nginx = $stage->cluster;

# Five events, and the times between them.
my @times = timed('news', 'a' .. 'e');
my ($third, @ms) = ($times[2], map { int($_ * 1000) } @times);
is_deeply([since('/s/news', $ms[5])], ['sse.open {}'], 'from a time after all: the open event, and what comes');
is_deeply([since('/s/news', $ms[0])], ['a' .. 'e'], 'from a time before all events: all, also beyond what history owes');
is_deeply([since('/s/news', $ms[2])], ['c' .. 'e'], 'from a time between two: those after it');
is_deeply([since('/s/empty', $ms[0], 'empty')], ['sse.open {}'], 'of a channel without events: the same');
is_deeply([since('/s/news', 0)], ['a' .. 'e'], 'from 1970: all');

# Forms of a time.
my $utc = strftime('%Y-%m-%dT%H:%M:%S', gmtime $third);
my $fraction = sprintf('%03d', int($third * 1000) % 1000);
my $east = strftime('%Y-%m-%dT%H:%M:%S', gmtime($third + 5400));
for my $case (
    ['milliseconds', $ms[2]],
    ['seconds with decimal places', sprintf('%.3f', $ms[2] / 1000)],
    ['RFC 3339 in UTC', "$utc.${fraction}Z"],
    ['RFC 3339 as JavaScript encodes it in a query', "$utc.${fraction}Z" =~ s/:/%3A/gr],
    ['RFC 3339 with an encoded zone', "$east.$fraction%2B01:30"],
    ['RFC 3339 with a zone that is not encoded', "$east.$fraction+01:30"],
) {
    my ($name, $text) = @$case;
    is_deeply([since('/s/news', $text)], ['c' .. 'e'], "$name: $text");
}
is_deeply([since('/s/news', int($times[0]) - 1)], ['a' .. 'e'], 'whole seconds');
is_deeply([$stage->replayed('/header/news', 'news', headers => ['X-Since' => $ms[2]])], ['c' .. 'e'], 'from a header');

# What is not a time.
for my $text ('yesterday', '2025-11-22', '-1', '1e9', '2025-02-30T00:00:00Z') {
    my $lines = unreadable();
    is_deeply([since('/s/news', $text)], ['sse.open {}'], "$text: as without a time");
    is(unreadable() - $lines, 1, '... and one line in the error log');
}
like((grep { /sse_since/ } split /\n/, $nginx->error_log)[0], qr/\[info\] .*sse: "yesterday" in sse_since is not a valid time/, '... which says what is wrong');
my $lines = unreadable();
$stage->publish('replayed', 'x' .. 'z');
is_deeply([since('/all/replayed', 'yesterday', 'replayed')], ['y', 'z'], 'then sse_replay applies');
is(unreadable() - $lines, 1, '... with a line');
is_deeply([since('/s/news', '')], ['sse.open {}'], 'an empty value is no time');
$stage->publish('replayed', 'x' .. 'z');
is_deeply([since('/none/replayed', $ms[2], 'replayed')], ['y', 'z'], 'sse_since "" turns it off');
is(unreadable() - $lines, 1, '... without a line');
is_deeply([since('/s/news', $ms[5] + 600_000)], ['sse.open {}'], 'a time in the future: as now');
is_deeply([since('/all/news', '99999999999999999999')], ['sse.open {}'], 'however far');

# With an id, and beside other settings.
my @ids = $stage->publish('ids', 1 .. 3);
is_deeply([$stage->replayed("/s/ids?since=0", 'ids', last_event_id => $ids[1])], [3], 'an id takes precedence');
is(($stage->replayed('/s/ids?since=' . int(time() * 1000), 'ids', last_event_id => 'evil'))[0], 'sse.gap {"after":"evil"}', 'an unknown one, too');
is_deeply([since('/all/news', $ms[0])], ['a' .. 'e'], 'a time takes precedence over sse_replay');
my $to_short = SSE::Publisher->new(port => $stage->port, path => '/to-short/x');
my $before   = int(time() * 1000);
$to_short->publish('gone');
my $gone = $stage->stream("/short/x?since=$before");
ok(wait_for(sub { grep { $_ eq 'sse.gap' } $gone->types }), 'in a hub without history: a gap event');
$gone->close;

# Several channels, patterns, and ways to the client.
my @both = timed('one', 'o1', 'o2');
push @both, timed('two', 't1');
push @both, timed('one', 'o3');
is_deeply([since('/s/one,two', int($both[1] * 1000), 'one')], ['o2', 't1', 'o3'], 'several channels: in one order');
is_deeply([since('/pattern/o', int($both[1] * 1000), 'one')], ['o2', 'o3'], 'a pattern');
for my $way (['HTTP/1.0', '/s/', http => '1.0'], ['lean', '/lean/'], ['compressed', '/gzip/']) {
    my ($name, $path, %options) = @$way;
    my $client = $stage->stream("${path}news?since=$ms[2]", %options);
    ok(wait_for(sub { ($client->data) >= 3 }), "$name: events arrive");
    is_deeply([grep { /\A.\z/ } $client->data], ['c' .. 'e'], "$name: from the time on");
    $client->close;
}
SKIP: {
    skip 'nginx without TLS or HTTP/2, or no curl or openssl', 1 if !$has_tls;
    for my $way (['HTTP/2', '--http2-prior-knowledge', 'h2', 'http'], ['HTTP/2 over TLS', '--http2', 'tls', 'https'],
        ['lean over TLS', '--http1.1', 'tls', 'https', 'lean']) {
        my ($name, $option, $port, $scheme, $path) = @$way;
        my $curl = SSE::Curl->new($option, "$scheme://127.0.0.1:" . $nginx->port($port) . '/' . ($path // 's') . "/news?since=$ms[2]");
        ok(wait_for(sub { ($curl->data) >= 3 }, 10), "$name: events arrive");
        is_deeply([grep { /\A.\z/ } $curl->data], ['c' .. 'e'], "$name: from the time on");
        $curl->drop;
    }
}

# What has left.
my @lost = timed('lost', 'x', 'y');
request(port => $stage->port, path => '/admin?channel=lost', method => 'DELETE');
push @lost, timed('lost', 'z');
my @seen = since('/s/lost', int($lost[1] * 1000), 'lost');
is_deeply([map { s/ .*//r } @seen], ['sse.gap', 'z'], 'a gap event comes first if something from the time on has left');
is_deeply([since('/s/lost', int($lost[3] * 1000), 'lost')], ['z'], 'and none if it left before');
my $gap = $stage->stream('/s/lost?since=' . int($lost[1] * 1000));
$stage->seen($gap, 'lost');
is_deeply([$stage->replayed('/s/lost', 'lost', last_event_id => $gap->{last_event_id})], [], 'the client returns with an id, and receives nothing again');
$gap->close;

# Runs.
my @run = timed('run', 'first run');
finish('run');
push @run, timed('run', 'r1', 'r2');
is_deeply([since('/s/run', int($run[0] * 1000), 'run')], ['r1', 'r2'], 'a stream begins in the newest run');
is_deeply([since('/off/run', int($run[0] * 1000), 'run')], ['first run', 'r1', 'r2'], 'sse_finished off: in all');
finish('run');
is(get('/s/run?since=' . int($run[0] * 1000))->{status}, 204, 'of a finished channel: 204');
my $ended = SSE::Client->new(port => $stage->port, path => '/replay/run?since=' . int($run[3] * 1000));
ok(wait_for(sub { @{ $ended->{ends} } }, 10), 'sse_finished replay: a stream, which ends');
is_deeply([grep { !/fence/ } $ended->data], ['r2'], '... after what was published from the time on');
is(get('/replay/run?since=' . int(time() * 1000 + 1))->{status}, 204, 'sse_finished replay: 204 if that is nothing');

# A reload, and a worker that was killed.
$stage->publish('news', 'f');
$nginx->reload;
$stage->publish('news', 'g');
$nginx->kill_worker(($nginx->workers)[0]);
my @all = ('c' .. 'g');
is_deeply([since('/s/news', $ms[2])], \@all, 'a time is valid after a reload and a kill');

$stage->ends_cleanly;
done_testing();

sub get ($path) { return request(port => $stage->port, path => $path) }

sub finish ($channel) { return request(port => $stage->port, path => "/run/$channel?finish=1", body => '') }

# Publishes events at least 20 ms apart. Returns the times between them, before the first, and after the last.
sub timed ($channel, @data) {
    my @times = time();
    for (@data) {
        select undef, undef, undef, 0.02;
        $stage->publish($channel, $_);
        select undef, undef, undef, 0.02;
        push @times, time();
    }
    return @times;
}

# What a client receives from a time on, without the data of fences.
sub since ($path, $time, $channel = 'news') {
    return $stage->replayed("$path?since=$time", $channel);
}

sub unreadable () { return scalar(() = $nginx->error_log =~ /sse_since/g) }
