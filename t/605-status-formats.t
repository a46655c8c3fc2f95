# Other formats of the status: Prometheus, the page, and the stream that updates it; and figures that add up
# however streams end.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use File::Temp;
use List::Util qw(sum);
use Test::More;
use SSE::HTTP qw(request);
use SSE::Loop qw(serve_for wait_for);
use SSE::Stage;

my $stage = SSE::Stage->new(
    http => <<'EOF_CONFIG',
        sse_hub default { zone 4m; history 10; }
        sse_hub tiny { zone 2m; max_event_size 256; }
        sse_retry 100ms jitter=100ms;
        sse_drain 1s;
        sse_gap_event off;
EOF_CONFIG
    server => <<'EOF_CONFIG',
        location = /s      { sse_stream secret-channel; }
        location = /old    { sse_stream secret-channel; sse_max_age 300ms; }
        location = /status { sse_status; }
        location = /one    { sse_status hub=default; }
        location = /tiny   { sse_status hub=tiny; }
        location = /admin  { sse_admin; }
EOF_CONFIG
);
my $nginx = $stage->cluster;
my $html  = 'text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8';

# Which format a request receives.
for my $case (
    [undef,                                   '',                   qr{\Aapplication/json\z}],
    ['*/*',                                   '',                   qr{\Aapplication/json\z}],
    [$html,                                   '',                   qr{\Atext/html}],
    ['text/plain;version=0.0.4;q=1,*/*;q=0.1', '',                  qr{\Atext/plain; version=0\.0\.4}],
    ['application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1', '',
        qr{\Atext/plain; version=0\.0\.4}],
    [$html,                                   '?format=prometheus', qr{\Atext/plain; version=0\.0\.4}],
    [$html,                                   '?format=json',       qr{\Aapplication/json\z}],
    [undef,                                   '?format=html',       qr{\Atext/html}],
) {
    my ($accept, $query, $type) = @$case;
    my @headers = defined $accept ? (Accept => $accept) : ();
    for my $method (qw(GET HEAD)) {
        my $answer = get("/status$query", headers => \@headers, method => $method);
        my $name   = "$method $query for " . ($accept // 'anybody');
        is($answer->{status}, 200, $name);
        like($answer->{header}{'content-type'}[0], $type, "$name: type");
        is($answer->{header}{vary}[0], 'Accept', "$name: Vary");
        is($answer->{header}{'cache-control'}[0], 'no-store', "$name: the response must not be cached");
        is($answer->{body} eq '', $method eq 'HEAD', "$name: body");
    }
}
my $unknown = get('/status?format=xml');
is("$unknown->{status} $unknown->{json}{error}", '400 format must be json, prometheus, html, or health', 'an unknown format is rejected');
for my $method (qw(POST DELETE)) {
    my $answer = get('/status', method => $method);
    is("$answer->{status} $answer->{header}{allow}[0]", '405 GET, HEAD', "$method is not allowed");
}

# The page.
my $page = get('/status?format=html');
like($page->{header}{'content-security-policy'}[0], qr/default-src 'none'/, 'the page may connect only to its own host');
unlike($page->{body}, qr{https?://}, 'the page refers to no other host');

# All hubs, or one.
is_deeply([sort keys %{ get('/status')->{json}{hubs} }], [qw(default tiny)], 'without hub= all hubs are shown');
is_deeply([keys %{ get('/tiny')->{json}{hubs} }], ['tiny'], 'with hub= only that hub is shown');

# Figures add up with clients that disconnect or reset, streams at their maximum age, a killed worker, and a
# reload.
my @clients = map { $stage->stream('/s', reconnect => 1) } 1 .. 12;
$stage->publish('secret-channel', map { "secret data $_" } 1 .. 20);
ok(wait_for(sub { !grep { $_->data < 20 } @clients }), 'every stream receives the events');
$_->close for @clients[0, 1];
$_->reset for @clients[2, 3];
my @old = map { $stage->stream('/old') } 1 .. 3;
ok(wait_for(sub { !grep { $_->is_open } @old }, 5), 'some streams reach their maximum age');
my $ended = by_reason(7);
is_deeply({ map { $_ => $ended->{$_} } grep { $ended->{$_} } keys %$ended }, { client => 4, age => 3 }, 'ends are counted by reason')
    or diag explain $ended;

my @here = @clients[4 .. 11];
my ($victim) = map { $_->worker } @here;
my $lost = grep { $_->worker == $victim } @here;
ok($nginx->kill_worker($victim), 'a worker is killed');
ok(wait_for(sub { !grep { !$_->is_open } @here }, 10), 'its clients reconnect');
ok(wait_for(sub { figures()->{streams_ended}{exit} == $lost }, 5), 'their streams are counted as ended by the crash');
ok($nginx->reload && $nginx->wait_old_workers_gone(5), 'nginx reloads');
ok(wait_for(sub { !grep { !$_->is_open } @here }, 10), 'all clients reconnect');
ok(wait_for(sub { figures()->{subscribers} == 8 }, 5), 'eight streams are open');
my $now = figures();
# A client that returns to a worker that has not begun to drain is ended once more.
my $drained = $now->{streams_ended}{drain};
cmp_ok($drained, '>=', 8, 'eight streams were ended by the drain');
is($now->{streams_opened}, $now->{subscribers} + sum(values %{ $now->{streams_ended} }), 'opened streams are the sum of open and ended ones')
    or diag explain $now;
is($now->{streams_resumed}, $drained + $lost, 'reconnects are counted');
is($now->{events_out}, 12 * 20, 'every event was counted once for every client');
cmp_ok($now->{delivery}{count}, '>', 0, 'deliveries are timed');
cmp_ok($now->{delivery}{seconds}, '>', 0, 'with a precision that shows deliveries of less than a millisecond');

# Prometheus.
my $text = get('/status?format=prometheus')->{body};
my %sample = $text =~ /^(nginx_sse_\w+\{[^}]*\}) (\S+)$/mg;
is($sample{'nginx_sse_subscribers{hub="default"}'}, 8, 'Prometheus has the same number of subscribers');
is($sample{'nginx_sse_streams_ended_total{hub="default",reason="drain"}'}, $drained, 'Prometheus has the reasons');
is($sample{'nginx_sse_zone_bytes{hub="tiny"}'}, get('/tiny')->{json}{hubs}{tiny}{zone_bytes}, 'Prometheus has every hub');
my %type = $text =~ /^# TYPE (\S+) (\S+)$/mg;
my $json = figures();
is(scalar keys %type, 1 + keys %$json, 'Prometheus has every figure of JSON, and the version');
is($type{nginx_sse_delivery_seconds}, 'histogram', 'the time of deliveries is a histogram');
my $delivery = $json->{delivery};
my %bucket   = $text =~ /^nginx_sse_delivery_seconds_bucket\{hub="default",le="([^"]+)"\} (\d+)$/mg;
is(delete $bucket{'+Inf'}, $delivery->{count}, 'its last bucket has all measurements');
is_deeply(\%bucket, $delivery->{buckets}, 'its buckets are those of JSON');
is($sample{'nginx_sse_delivery_seconds_sum{hub="default"}'}, $delivery->{seconds}, 'its sum is that of JSON');
is($sample{'nginx_sse_delivery_seconds_count{hub="default"}'}, $delivery->{count}, 'its count is that of JSON');
my @counts_by_bound = map { $bucket{$_} } sort { $a <=> $b } keys %bucket;
is_deeply(\@counts_by_bound, [sort { $a <=> $b } @counts_by_bound], 'its buckets are cumulative');
SKIP: {
    my $checker = checker() or skip 'neither promtool nor python3-prometheus-client is here', 1;
    my ($status, $said) = check($checker, $text);
    is($status, 0, "the output is accepted by $checker->[0]") or diag $said;
}

# The stream: the same JSON every second, from one worker for all watchers.
my $before   = figures();
my @watchers = map { $stage->stream($_, headers => [Accept => 'text/event-stream']) } ('/status') x 4, '/one';
is($watchers[0]->header('content-type'), 'text/event-stream', 'a request for an event stream receives one');
is($watchers[0]->header('vary'), 'Accept', 'the response varies by Accept');
serve_for(3.6);
my @counts = map { scalar $_->data } @watchers;
is(scalar(grep { $_ < 2 || $_ > 4 } @counts), 0, "in 3.6 s the figures arrive about once a second (@counts)");
my $seen = JSON::PP->new->decode(($watchers[0]->data)[-1]);
is_deeply([sort keys %{ $seen->{hubs} }], [qw(default tiny)], 'with all hubs');
is_deeply([sort keys %{ JSON::PP->new->decode(($watchers[-1]->data)[-1])->{hubs} }], ['default'], 'or with one hub');
cmp_ok($seen->{time_ms} / 1000, '>', time - 10, 'with the time');
my $after = figures();
for my $key (qw(subscribers events_in bytes_in events_out bytes_out streams_opened delivery)) {
    is_deeply($after->{$key}, $before->{$key}, "watching does not change $key");
}
$_->close for @watchers;
my $returned = $stage->stream('/status', headers => [Accept => 'text/event-stream'], last_event_id => '1-1-1');
ok(wait_for(sub { $returned->data }, 3), 'a returning client receives the next figures');
is_deeply([$returned->types], ['message'], 'and no earlier ones');
$returned->close;

# Figures larger than max_event_size cannot be streamed, which is logged once.
my $vain = $stage->stream('/tiny', headers => [Accept => 'text/event-stream']);
serve_for(2.5);
is(scalar($vain->data), 0, 'figures that are too large are not sent');
is(scalar(my @lines = $nginx->error_log =~ /\[warn\].*hub "tiny": the figures are larger than max_event_size/g), 1, 'this is logged once');
$vain->close;

# No private data.
for my $path ('/status', '/status?format=prometheus', '/status?format=html') {
    unlike(get($path)->{body}, qr/secret/, "$path shows neither channels nor data");
}
unlike($seen->{hubs} && ($watchers[0]->data)[-1], qr/secret/, 'the stream shows neither channels nor data');
$_->close for @here;
ok(wait_for(sub { figures()->{subscribers} == 0 }, 5), 'there are no subscribers at the end');

$stage->ends_cleanly;
done_testing();

sub get ($path, %options) { return request(port => $stage->port, path => $path, %options) }

sub figures { return get('/status')->{json}{hubs}{default} }

# The number of ended streams by reason, once that many have ended.
sub by_reason ($count) {
    my $ended;
    wait_for(sub { $ended = figures()->{streams_ended}; sum(values %$ended) >= $count }, 5);
    return $ended;
}

# A program that validates Prometheus text from its standard input.
sub checker {
    return ['promtool', 'check', 'metrics'] if grep { -x "$_/promtool" } split /:/, $ENV{PATH};
    my @python = ('/usr/bin/python3', '-c');
    return if system("$python[0] -c 'import prometheus_client.parser' 2>/dev/null") != 0;
    return [@python, 'import sys; from prometheus_client.parser import text_string_to_metric_families as read; '
        . 'families = list(read(sys.stdin.read())); assert families and all(f.documentation and f.type != "unknown" for f in families)'];
}

sub check ($checker, $input) {
    my $file = File::Temp->new;
    print {$file} $input;
    close $file;
    my $command = join ' ', map { "'" . s/'/'\\''/gr . "'" } @$checker;
    my $said    = `$command <$file 2>&1`;
    return ($? >> 8, $said);
}
