# Streams over HTTP/3: delivery, resume, many streams on one connection, publishing, the drain, sse_max_age, and
# clients that stop reading, cancel, or vanish.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::HTTP qw(request);
use SSE::HTTP3;
use SSE::Loop qw(wait_for);
use SSE::Nginx qw(has_module);
use SSE::Stage;
use SSE::TLS qw(certificate);

plan skip_all => 'nginx is built without HTTP/3'                if !has_module('http_v3');
plan skip_all => 'no Python with aioquic; scripts/test installs it' if !SSE::HTTP3::python();
plan skip_all => 'openssl is missing'                           if !`openssl version`;

my $workers = 2;
my $stage   = SSE::Stage->new(
    workers => $workers,
    main    => 'worker_shutdown_timeout 10s;',
    http    => <<'EOF_HTTP',
        sse_drain 1s;
        sse_reconnect clean;
        sse_heartbeat off;
        log_format ends '$request_uri $server_protocol $status $sse_end';
        access_log %%DIR%%/ends.log ends;
        sse_hub default { zone 32m; history 200; runs 1000; }
        server {
            listen 127.0.0.1:%%PORT_h3%% quic reuseport;
            ssl_certificate %%DIR%%/cert.pem;
            ssl_certificate_key %%DIR%%/key.pem;
            http3_max_concurrent_streams 256;
            location = /s       { sse_stream news; }
            location = /lean    { sse_stream news; sse_lean on; }
            location = /age     { sse_stream old; sse_max_age 1s; }
            location = /stuck   { sse_stream stuck; send_timeout 1s; }
            location = /idle    { sse_stream idle; }
            location = /gone    { sse_stream gone; }
            location = /deleted { sse_stream deleted; }
            location = /cut     { sse_stream news; sse_max_age 1s; sse_reconnect cut; }
            location = /publish { sse_publish news; client_max_body_size 64k; }
            location = /run     { sse_stream run; sse_replay run; }
            location = /finish  { sse_publish run finish; }
        }
        server {
            listen 127.0.0.1:%%PORT_hasty%% quic reuseport;
            ssl_certificate %%DIR%%/cert.pem;
            ssl_certificate_key %%DIR%%/key.pem;
            keepalive_timeout 1s;
            location = /vanish { sse_stream vanish; }
        }
EOF_HTTP
    server => 'location = /admin { sse_admin; }',
    files  => certificate(),
);
my $nginx = $stage->cluster;
my $h3    = SSE::HTTP3->new;
my $port  = $nginx->port('h3');
my $one   = $h3->connect($port);
ok($one->{open}, 'a connection opens') or BAIL_OUT($one->{reason} // 'no answer');

# Live events and an exact resume, with and without sse_lean.
for my $path ('/s', '/lean') {
    my $stream = $one->request($path);
    ok($stream->wait_open, "$path: a stream opens");
    is($stream->{headers}{'content-type'}, 'text/event-stream', "$path: Content-Type is text/event-stream");
    is($stream->{headers}{'cache-control'}, 'no-cache, no-transform', "$path: the response must not be cached");
    like($stream->{body}, qr/\Aretry: 3000\n:\nevent: sse\.open\ndata: \{\}\nid: \S+\n\n\z/, "$path: the stream begins with retry, a comment, and the open event");
    my @data = ("one $path", "two\nlines $path", 'x' x 200_000, map { "quick $path $_" } 1 .. 100);
    $stage->publish('news', @data[0 .. 2]);
    $stage->batch('news', @data[3 .. $#data]);
    ok($stream->wait_data($data[-1]), "$path: events arrive");
    is(join('|', $stream->data), join('|', @data), "$path: each arrives once, in order, and unchanged");
    my $back = $one->request($path, headers => ['Last-Event-ID' => $stream->{events}[-3]{id}]);
    ok($back->wait_data($data[-1]), "$path: a client with an id resumes");
    is_deeply([$back->data], [@data[-2, -1]], "$path: exactly after it");
    $one->cancel($_) for $stream, $back;
    ok(wait_for(sub { $stage->subscribers('news') == 0 }), "$path: cancelled streams are not counted");
}

# The client cancels an idle stream, on which nothing is sent that could fail. The access log is checked,
# because asking for the number of subscribers would publish an event.
my $quiet = $one->request('/gone');
$quiet->wait_open;
$one->cancel($quiet);
ok(wait_for(sub { ends('/gone') }), 'an idle stream ends at once when it is cancelled');
is(ends('/gone'), 'client', 'with end=client');

# Publishing.
my $reader = $one->request('/s');
$reader->wait_open;
my $text    = join '', map { "part $_;" } 1 .. 2000;
my $created = $one->request('/publish', pieces => [unpack '(a1000)*', $text]);
ok($created->wait_end, 'a publish whose body has many frames receives a response');
is($created->{status}, 201, 'its status is 201');
ok($reader->wait_data($text), 'its event arrives unchanged');
my $sized = $one->request('/publish', pieces => ['with a length'], headers => ['content-length' => 13]);
ok($reader->wait_data('with a length'), 'so does one with Content-Length');

# The host that an origin is compared with is in ":authority"; there is no "Host" header.
for (['https://localhost', 201], ['https://localhost:443', 201], ['https://other.example', 403]) {
    my ($origin, $status) = @$_;
    my $posted = $one->request('/publish', pieces => ["from $origin"], headers => [origin => $origin]);
    $posted->wait_end;
    is($posted->{status}, $status, "a publish of a page of $origin is answered with $status");
}

# Runs that finish.
for my $run (1, 2) {
    $stage->publish('run', "begin $run");
    my $stream = $one->request('/run');
    ok($stream->wait_data("begin $run"), "run $run: a new client receives it from its first event");
    my $finish = $one->request('/finish?finish', pieces => ["end $run"]);
    ok($finish->wait_end, "run $run: a finish is answered");
    is($finish->{status}, 201, "run $run: with 201");
    ok($stream->wait_end, "run $run: the stream ends");
    is_deeply([$stream->data], ["begin $run", "end $run"], "run $run: with all events of this run, and no others");
    like($stream->{body}, qr/retry: \d+\n:\n\z/, "run $run: and a retry");
    my $after = $one->request('/run');
    ok($after->wait_end, "run $run: the next request is answered at once");
    is($after->{status}, 204, "run $run: with 204");
}

# HEAD, and requests that are rejected.
my $head = $one->request('/s', method => 'HEAD');
ok($head->wait_end, 'a HEAD request receives a complete response');
is($head->{status}, 200, 'its status is 200');
is($head->{body}, '', 'it has no body');
my $wrong = $one->request('/s', method => 'DELETE');
$wrong->wait_end;
is($wrong->{status}, 405, 'other methods are rejected');
my $large = $one->request('/publish', pieces => [('y' x 10_000) x 8]);
$large->wait_end;
is($large->{status}, 413, 'a body that is too large is rejected');
my $announced = $one->request('/publish', headers => ['content-length' => 80_000], pieces => ['y' x 100], unfinished => 1);
$announced->wait_end;
is($announced->{status}, 413, 'before it arrives, if Content-Length announces it');
$stage->publish('news', 'still here');
ok($reader->wait_data('still here'), 'the other streams of the connection continue');

# Many streams on one connection, while another connection is open.
my $two  = $h3->connect($port);
my @many = map { $two->request('/s') } 1 .. 50;
ok(wait_for(sub { !grep { !@{ $_->{events} } } @many }), '50 streams share one connection');
my @shared = map { "shared $_ " . 'y' x 3000 } 1 .. 60;
$stage->publish('news', @shared);
ok((!grep { !$_->wait_data($shared[-1], 20) } @many), 'all receive the last event');
is(scalar(grep { join('|', $_->data) ne join('|', @shared) } @many), 0, 'each receives all events in order');
$two->close;
ok(wait_for(sub { $stage->subscribers('news') == 1 }), 'when the connection is closed, all its streams end');

# Streams that the server ends.
my $aged = $one->request('/age');
ok($aged->wait_end, 'sse_max_age ends a stream');
ok($aged->{ended}, 'with a complete response');
like($aged->{body}, qr/^retry: \d+\n[^\n]*\n?\n?\z/m, 'after a retry');
my $cut = $one->request('/cut');
ok($cut->wait_end, 'with sse_reconnect cut, it ends a stream, too');
is($cut->{reset}, 0x102, 'with a reset (H3_INTERNAL_ERROR)');
my $deleted = $one->request('/deleted');
$deleted->wait_open;
$stage->publish('deleted', 'soon gone');
$deleted->wait_data('soon gone');
request(port => $stage->port, method => 'DELETE', path => '/admin?channel=deleted');
ok($deleted->wait_end, 'DELETE of a channel ends its streams');
ok($deleted->{ended}, 'with a complete response');

# Clients that read nothing.
my $narrow = $h3->connect($port, window => 20_000);
my $stuck  = $narrow->request('/stuck');
my $idle   = $narrow->request('/idle');
$_->wait_open for $stuck, $idle;
$narrow->pause;
$stage->publish('stuck', map { "$_ " . 'z' x 5000 } 1 .. 60);
ok(wait_for(sub { $stage->subscribers('stuck') == 0 }), 'send_timeout ends a stream whose client does not open its window');
ok(wait_for(sub { ends('/stuck') }), 'it is logged');
is(ends('/stuck'), 'timeout', 'with end=timeout');
is($stage->subscribers('idle'), 1, 'a stream on which nothing is sent stays open');
$narrow->resume;
$stage->publish('idle', 'awake');
ok($idle->wait_data('awake'), 'and receives its events later');

my $lost   = $h3->connect($nginx->port('hasty'));
my $vanish = $lost->request('/vanish');
$vanish->wait_open;
$lost->vanish;
ok(wait_for(sub { ends('/vanish') }, 20), 'an idle stream whose client vanishes ends with the connection');
is(ends('/vanish'), 'client', 'with end=client');

# A drain. nginx leaves its QUIC sockets open in old workers, so that new ones read some of the packets of
# old connections. An old worker whose client's packets are lost that way waits for the idle timeout, or for
# worker_shutdown_timeout.
close_all($one, $two, $narrow);
my @connections = map { $h3->connect($port) } 1 .. 4;
my @drained     = map { $_->request('/s'), $_->request('/idle') } @connections;
ok(wait_for(sub { !grep { !@{ $_->{events} } } @drained }), 'streams of several connections open');
$nginx->reload;
ok(wait_for(sub { !grep { !$_->is_over } @drained }, 20), 'on a reload every response is ended');
is(scalar(grep { !$_->{ended} } @drained), 0, 'completely');
is_deeply([grep { !/\nretry: \d+\n:?\n*\z/ } map { $_->{body} } @drained], [], 'with complete last lines');
is(scalar(grep { $_->{parser}{retry} <= 1000 } @drained), scalar @drained, 'after a short retry');
ok($nginx->wait_old_workers_gone(20), 'the old workers exit');

my $after = $h3->connect($port);
my $new   = $after->request('/s');
ok($new->wait_open, 'new workers accept connections');
$stage->publish('news', 'after the reload');
ok($new->wait_data('after the reload'), 'and deliver events');

close_all($after);
$stage->ends_cleanly;
done_testing();

# Connections are closed in order, so that nginx does not wait for them.
sub close_all (@open) {
    my @left = grep { !defined $_->{closed} } @open;
    $_->close for @left;
    wait_for(sub { !grep { !defined $_->{closed} } @left });
    return;
}

# The end reason of the last stream of a location in the access log; undef if none has ended.
sub ends ($path) {
    my @lines = SSE::Cluster::slurp($nginx->dir . '/ends.log') =~ m{^\Q$path\E HTTP/3.0 \d+ (\S+)$}mg;
    return $lines[-1];
}
