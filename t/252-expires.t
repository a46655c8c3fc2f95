# sse_expires, and the expiry of tokens: streams end when their client's permission does, after an event that tells
# the page to renew it. Clients that return with a new permission miss nothing.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use Time::HiRes ();
use SSE::Curl;
use SSE::FakeClock;
use SSE::HTTP qw(request);
use SSE::Loop qw(serve_for wait_for);
use SSE::Nginx qw(has_module);
use SSE::Stage;
use SSE::TLS qw(certificate tls_and_http2_servers);
use SSE::Token qw(token $SECRET);

plan skip_all => 'nginx is built without TLS or HTTP/2' if !has_module('http_ssl') || !has_module('http_v2');

my $locations = <<'EOF_LOCATIONS';
    location = /jwt      { sse_jwt bearer; sse_stream news; }
    location = /leeway   { sse_jwt bearer leeway=2s; sse_stream news; }
    location = /guest    { sse_jwt bearer optional; sse_stream news; }
    location = /until    { sse_expires $arg_until; sse_stream news; }
    location = /required { sse_expires $arg_until required; sse_stream news; }
    location = /both     { sse_jwt bearer; sse_expires $arg_until; sse_stream news; }
    location = /age      { sse_max_age 1s; sse_expires $arg_until; sse_stream news; }
    location = /lean     { sse_lean on; sse_expires $arg_until; sse_stream news; }
    location = /filters  { sse_direct off; sse_expires $arg_until; sse_stream news; }
    location = /event    { sse_expires $arg_until event=sse.expires before=2s; sse_stream news; }
    location = /lean-event { sse_lean on; sse_expires $arg_until event=sse.expires before=2s; sse_stream news; }
    location = /clean    { sse_reconnect clean; sse_expires $arg_until; sse_stream news; }
    location = /feed     { sse_expires $arg_until; sse_status; }
EOF_LOCATIONS
my $clock = SSE::FakeClock->new;
my $stage = $clock->in(sub { SSE::Stage->new(
    http => <<"EOF_HTTP",
        sse_hub default { history 10000; }
        sse_jwt_key %%DIR%%/secret secret;
        sse_retry 100ms;
        sse_drain 200ms;
        log_format ends '\$request_uri \$sse_end';
        access_log %%DIR%%/ends.log ends;
        @{[ tls_and_http2_servers($locations) ]}
EOF_HTTP
    server => "location = /status { sse_status; } $locations",
    files  => { secret => $SECRET, %{ certificate() } },
) });
my $nginx = $stage->cluster;
my $SECONDS = 2.5;

# When streams end.
{
    my $until  = sprintf '%.2f', Time::HiRes::time() + $SECONDS;
    my %stream = map { $_ => $stage->stream("/$_?until=$until") } qw(until required lean filters age clean);
    $stream{feed}  = $stage->stream("/feed?until=$until", headers => [Accept => 'text/event-stream']);
    $stream{jwt}   = $stage->stream('/jwt', headers => [bearer({ exp => $until + 0 })]);
    $stream{both}  = $stage->stream("/both?until=$until", headers => [bearer({})]);
    $stream{leeway} = $stage->stream('/leeway', headers => [bearer({ exp => $until + 0 })]);
    my $guest    = $stage->stream('/guest');
    my $unlimited = $stage->stream('/until?until=');
    my @now = keys %stream;
    ok(wait_for(sub { $stream{age}{state} eq 'ended' }, 10), 'sse_max_age ends a stream before');
    cmp_ok($stream{age}{ends}[0]{at}, '<', $until, 'because it is earlier');
    my @ended = grep { !/age|leeway/ } @now;
    ok(wait_for(sub { !grep { $stream{$_}{state} ne 'ended' } @ended }, 10), 'all other streams end');
    for my $name (sort @ended) {
        my $at = $stream{$name}{ends}[0]{at} - $until;
        cmp_ok($at, '>', -0.5, sprintf "$name: not long before the permission does (%.3f s)", $at);
        is($stream{$name}{ends}[0]{how}, $name eq 'clean' ? 'clean' : 'abrupt', "$name: so that clients return");
        is(scalar @{ $stream{$name}{parser}{retries} }, 2, "$name: with a last retry");
    }
    ok(wait_for(sub { $stream{leeway}{state} eq 'ended' }, 10), 'leeway');
    cmp_ok($stream{leeway}{ends}[0]{at}, '>', $until + 1, 'lets a stream last longer');
    ok($guest->is_open, 'a stream without a token stays open');
    ok($unlimited->is_open, 'so does one whose end is empty');
    $_->close for $guest, $unlimited;
    is(ends()->{"/until?until=$until"}, 'expired', '$sse_end');
    cmp_ok($stage->status->{streams_ended}{expired}, '>=', 8, 'the status counts them');
}

# What is refused.
my $past = time - 1;
is(status("/until?until=$past"), 403, 'a permission that has ended');
is(status('/until?until=tomorrow'), 403, 'a value that is not a time');
is(status('/required?until='), 403, 'required: no permission');
is(status('/until?until='), 200, 'not required: no permission');
like($nginx->error_log, qr/\[error\] .*sse_expires is not a time: "tomorrow"/, 'an invalid value is an error of the configuration');

# Nothing is sent after the end, and a client that returns with a new permission misses nothing.
for my $path (qw(/until /lean)) {
    my $until  = Time::HiRes::time() + 1.5;
    my $client = $stage->stream("$path?until=$until");
    my ($id, @data, @seen);
    for my $round (1 .. 3) {
        while ($client->{state} ne 'ended') {
            push @data, scalar @data;
            $stage->publish('news', $data[-1]);
            serve_for(0.005);
        }
        cmp_ok($client->{events}[-1]{at} // 0, '<=', $until + 0.5, "$path: no event after the end") if defined $client->{events}[-1]{at};
        push @seen, $client->data;
        ($id) = map { $_->{id} } reverse @{ $client->{events} };
        $until  = Time::HiRes::time() + 1;
        $client = $stage->stream("$path?until=$until", headers => ['Last-Event-ID' => $id]);
    }
    $stage->publish('news', 'last');
    $client->wait_data('last');
    push @seen, $client->data;
    is(join(' ', @seen), join(' ', @data, 'last'), "$path: each event once and in order");
    $client->close;
}

# The event before the end.
for my $path (qw(/event /lean-event)) {
    my $until  = time + 4;
    my $client = $stage->stream("$path?until=$until");
    $stage->publish('news', 'before');
    ok($client->wait_data('before'), "$path: an event");
    my $id = $client->{parser}{last_id} // $client->{events}[-1]{id};
    ok(wait_for(sub { $client->events('sse.expires') }, 10), "$path: an event announces the end");
    my ($event) = $client->events('sse.expires');
    like($event->{data}, qr/\A\{"in":\d\}\z/, "$path: it says when that is");
    is($event->{id}, $id, "$path: it does not change the last id");
    ok(wait_for(sub { $client->{state} eq 'ended' }, 10), "$path: then the stream ends");
    is(scalar(my @all = $client->events('sse.expires')), 1, "$path: it is sent once");
}

# HTTP/2.
for my $way (['--http2-prior-knowledge', 'http', 'h2c'], ['--http2', 'https', 'tls']) {
    my ($option, $scheme, $port) = @$way;
    my $until  = sprintf '%.2f', Time::HiRes::time() + 2;
    my $stream = SSE::Curl->new($option, "$scheme://127.0.0.1:" . $nginx->port($port) . "/event?until=$until");
    ok(wait_for(sub { $stream->{status} }, 10), "HTTP/2 on $port: a stream");
    is($stream->wait_end, 92, "HTTP/2 on $port: it ends with a reset");
    like($stream->{body}, qr/event: sse\.expires\ndata: \{"in":\d\}\n\n(?:.*\n)*retry: \d+\n:\n\z/, "HTTP/2 on $port: after the event");
}

# A reload in between.
{
    my $until  = time + 4;
    my $client = $stage->stream("/event?until=$until", reconnect => 1);
    ok($nginx->reload, 'a reload');
    ok(wait_for(sub { $client->{openings} >= 2 && $client->events('sse.expires') }, 10), 'the new process knows the end, too');
    $client->close;
}

# The clock is set.
{
    my $client = $stage->stream('/event?until=' . (time + 3600));
    my $far    = $stage->stream('/event?until=' . (time + 10_800));
    $clock->set(3700);
    ok(wait_for(sub { $client->{state} eq 'ended' }, 10), 'when the clock is set forward, permissions end at once');
    ok($far->is_open, 'if their time has come');
    $clock->set(0);
    my $back = $stage->stream('/event?until=' . (time + 2));
    $clock->set(-60);
    serve_for(3);
    ok($back->is_open, 'when it is set back, they last longer');
    $clock->set(10);
    ok(wait_for(sub { $back->{state} eq 'ended' }, 10), 'and end in their time');
    $clock->set(0);
    $far->close;
}

# A process that was suspended.
{
    my $client = $stage->stream('/until?until=' . (time + 2));
    my $pid    = $client->worker;
    $stage->cluster->pause($pid);
    serve_for(3);
    ok($client->is_open, 'a suspended process does not end its streams');
    $stage->cluster->resume($pid);
    ok(wait_for(sub { $client->{state} eq 'ended' }, 10), 'but does when it continues');
}

$stage->ends_cleanly;
done_testing();

sub bearer ($claims) { return (Authorization => 'Bearer ' . token($claims)) }

sub status ($path, @headers) {
    my $client = SSE::Client->new(port => $stage->port, path => $path, headers => \@headers);
    wait_for(sub { $client->{status} || $client->{state} !~ /waiting|connecting/ }, 10);
    $client->close;
    return $client->{status};
}

# The values of $sse_end, by address.
sub ends {
    my %ends;
    wait_for(sub { %ends = SSE::Cluster::slurp($nginx->dir . '/ends.log') =~ /^(\S+) (\S+)$/mg }, 10);
    return \%ends;
}
