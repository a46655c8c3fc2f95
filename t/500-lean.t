# sse_lean: nginx gets the request of a running stream back. The access log line is written at the start,
# the header has Connection: close, error lines still name the client, stub_status stays correct, and
# requests whose end another module needs to see are kept.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use POSIX ();
use Time::HiRes qw(time);
use SSE::Curl;
use SSE::HTTP qw(request);
use SSE::Loop qw(serve_for wait_for);
use SSE::Nginx qw(has_module);
use SSE::Stage;

my $stub    = has_module('http_stub_status');
my $sub     = has_module('http_sub');
my $realip  = has_module('http_realip');
my $version = has_module('http_v2');
my $auth    = has_module('http_auth_request');

my $stage = SSE::Stage->new(
    workers => 1,
    main    => 'error_log %%DIR%%/debug.log debug;',
    http    => <<'EOF_HTTP' . ($version ? <<'EOF_V2' : ''),
        sse_lean on;
        sse_heartbeat off;
        limit_conn_zone $binary_remote_addr zone=addresses:1m;
        log_format streams '$request_method $uri $status end=$sse_end sent=$sse_events_sent channel=$sse_channel';
        access_log %%DIR%%/streams.log streams;
EOF_HTTP
        server { listen 127.0.0.1:%%PORT_h2c%% http2; location = /h2 { sse_stream news; } }
EOF_V2
    server => join "\n", <<'EOF_CONFIG',
        location = /s        { sse_stream news sport; }
        location = /off      { sse_stream news; sse_lean off; }
        location = /beats    { sse_stream news; sse_heartbeat 200ms; }
        location = /age      { sse_stream news; sse_max_age 500ms; sse_reconnect clean; }
        location = /limited  { sse_stream news; limit_conn addresses 1; }
        location = /gzip     { sse_stream news; gzip on; gzip_types *; gzip_min_length 0; }
        location = /rate     { sse_stream news; limit_rate 100k; }
        location = /ssi      { sse_stream news; ssi on; ssi_types *; }
        location = /whole    { sse_stream news; chunked_transfer_encoding off; }
        location = /slow     { sse_stream slow; sse_slow_client close; }
        location = /stuck    { sse_stream stuck; send_timeout 1s; }
        location = /reset    { sse_stream stuck; send_timeout 1s; reset_timedout_connection on; }
        location = /status   { sse_status; }
EOF_CONFIG
    $sub    ? 'location = /sub { sse_stream news; sub_filter_types *; sub_filter colour color; }' : '',
    $realip ? 'location = /realip { sse_stream news; set_real_ip_from 127.0.0.1; }' : '',
    $stub   ? 'location = /stub { stub_status; }' : '',
    $auth   ? 'location = /auth { sse_stream news; auth_request /yes; } location = /yes { return 204; }' : '',
);
my $nginx = $stage->cluster;
my $quiet = stub();

# Which streams become lean.
my @lean = (['/s'], ['/beats'], ['/whole'], ['/s', http => '1.0']);
push @lean, ['/auth'] if $auth;
for my $case (@lean) {
    my ($path, %options) = @$case;
    is_deeply(became($path, %options), [1, 0], join ' ', $path, %options, 'becomes lean');
}
my @ordinary = (['/limited'], ['/rate'], ['/ssi'], ['/gzip', headers => ['Accept-Encoding' => 'gzip']]);
push @ordinary, ['/sub'] if $sub;
push @ordinary, ['/realip', headers => ['X-Real-IP' => '192.0.2.1']] if $realip;
for my $case (@ordinary) {
    my ($path, %options) = @$case;
    is_deeply(became($path, %options), [0, 1], "$path keeps its request");
}
is_deeply(became('/off'), [0, 0], 'with sse_lean off a stream keeps its request');
my $two = "GET /s HTTP/1.1\r\nHost: x\r\n\r\n" x 2;
is_deeply(became('/s', raw_request => $two), [0, 1], 'a stream with a pipelined request keeps its request');
if ($version) {
    my ($before, $http2) = (counted(), undef);
    $http2 = SSE::Curl->new('--http2-prior-knowledge', 'http://127.0.0.1:' . $nginx->port('h2c') . '/h2');
    ok(wait_for(sub { @{ $http2->{events} } }), 'a stream over HTTP/2 opens');
    ok(wait_for(sub { counted()->[1] == $before->[1] + 1 }), 'it keeps its request');
    $http2->drop;
}

# limit_conn still counts lean streams.
my $holder = $stage->stream('/limited');
is(request(port => $stage->port, path => '/limited')->{status}, 503, 'limit_conn rejects a second stream');
$holder->close;
ok(wait_for(sub { $stage->subscribers('news') == 0 }), 'the first one ends');
my $next = $stage->stream('/limited');
is($next->{status}, 200, 'another one is accepted');
$next->close;

# The header and the logs.
my $logged = () = lines('/s');
my $client = $stage->stream('/s');
is($client->header('connection'), 'close', 'the header has Connection: close');
ok(wait_for(sub { lines('/s') == $logged + 1 }), 'the access log line is written at the start');
is((lines('/s'))[-1], 'GET /s 200 end=- sent=0 channel=news,sport', 'with the status 200');
my ($id) = reverse $stage->publish('news', 'one', 'two');
ok($client->wait_data('two'), 'events arrive');
$client->close;
ok(wait_for(sub { lean_lines()->[-1] =~ /ended: client, 2 events/ }), 'the error log has a line about the end');
like(lean_lines()->[-1], qr/stream of "news,sport" ended: client, 2 events, last id "\Q$id\E" while streaming events, client: 127\.0\.0\.1\b/,
    'with the channels, the events, the last id, and the client');
is(scalar(lines('/s')), $logged + 1, 'the access log has no second line');
my $off = $stage->stream('/off');
is($off->header('connection'), 'keep-alive', 'other streams have no such line');
$off->close;

# Resuming, heartbeats, and the maximum age.
my $back = $stage->stream('/s', last_event_id => $id);
my ($three) = $stage->publish('news', 'three');
ok($back->wait_data('three') && "@{[$back->data]}" eq 'three', 'Last-Event-ID resumes the stream');
$back->close;
my $beats = $stage->stream('/beats');
ok(wait_for(sub { $beats->{parser}{comments} >= 5 }, 5), 'heartbeats arrive');
$beats->close;
my $aged = $stage->stream('/age');
ok(wait_for(sub { $aged->{state} eq 'ended' }, 5), 'sse_max_age ends a stream');
is($aged->{ends}[0]{how}, 'clean', 'its response is complete');
cmp_ok($aged->{parser}{retry}, '<=', 1000, 'a short retry is sent at the end');
like(lean_lines()->[-1], qr/ended: age/, 'the reason is logged');
my $old = $stage->stream('/age', http => '1.0');
ok(wait_for(sub { $old->{state} eq 'ended' }, 5) && $old->{ends}[0]{how} eq 'closed', 'HTTP/1.0 works too');

# Slow clients.
my %stuck = map { $_ => $stage->stream("/$_", receive_buffer => 4096) } qw(slow stuck reset);
$_->pause for values %stuck;
$stage->publish('stuck', map { "$_ " . 'x' x 200_000 } 1 .. 40);
ok(wait_for(sub { 2 == grep { /"stuck" ended: timeout, \d+ events/ } @{ lean_lines() } }, 8), 'send_timeout disconnects clients that read nothing')
    or diag(join "\n", @{ lean_lines() });
$_->resume for @stuck{qw(stuck reset)};
ok(wait_for(sub { !grep { $_->is_open } @stuck{qw(stuck reset)} }), 'the connections are closed');
is($stuck{stuck}{ends}[0]{how}, 'abrupt', 'a stream cut off inside a frame has no last chunk');
is($stuck{reset}{ends}[0]{how}, 'reset', 'reset_timedout_connection applies');
$stage->publish('slow', map { "$_ " . 'x' x 200_000 } 1 .. 200);
$stuck{slow}->resume;
ok(wait_for(sub { grep { /"slow" ended: slow/ } @{ lean_lines() } }, 10), 'sse_slow_client close applies');

# A client that sends endlessly does not block others.
my $flood = $stage->stream('/s');
my $pid   = fork() // die "fork: $!";
if (!$pid) {
    my $noise = 'x' x 1_000_000;
    $flood->{socket}->blocking(1);
    local $SIG{PIPE} = 'DEFAULT';
    my $until = time + 60;
    while (time < $until && syswrite $flood->{socket}, $noise) { }
    POSIX::_exit(0);
}
serve_for(0.2);
my $answered = grep { request(port => $stage->port, path => '/status') } 1 .. 20;
is($answered, 20, 'other requests are answered');
is(waitpid($pid, POSIX::WNOHANG()), 0, 'while a client sends endlessly');
kill 'KILL', $pid;
waitpid $pid, 0;
$flood->close;
ok(wait_for(sub { $stage->subscribers('news') == 0 }), 'that client is noticed when it disconnects');

# Many clients that connect and disconnect while events are published.
my $steady = $stage->stream('/s');
my $writer = SSE::Publisher->new(port => $stage->port, path => '/to/news');
$writer->stream(200, sub ($number) { "live $number " . 'y' x 5_000 });
my $head   = "GET /s HTTP/1.1\r\nHost: x\r\n\r\n";
for my $round (1 .. 200) {
    my @short = map { SSE::Client->new(port => $stage->port, raw_request => $head) } 1 .. 10;
    serve_for(0.002 * ($round % 6));
    $_->half_close for grep { $_->{socket} } @short[0 .. 2];
    $round % 2 ? $_->reset : $_->close for @short;
}
$writer->stop;
$writer->wait_idle;
my $last = $writer->last->{data};
ok($steady->wait_data($last), 'a lasting stream receives everything meanwhile');
is(join('|', map { /^live (\d+)/ ? $1 : () } $steady->data), join('|', 1 .. $writer->accepted), 'each event arrives once and in order');
$_->drop for $steady, $writer;
ok(wait_for(sub { $stage->subscribers('news') == 0 }), 'none of 2,000 short streams is left');
is_deeply(stub(), $quiet, 'stub_status is unchanged') if $stub;
my $figures = $stage->status;
is($figures->{streams_ended}{error}, 0, 'no stream ended because of an error') or diag(explain($figures->{streams_ended}));

if (SSE::Nginx::built_with() =~ /--with-debug/) {
    my $debug = SSE::Cluster::slurp($nginx->dir . '/debug.log');
    unlike($debug, qr/http request already closed|connection already closed/, 'nothing is closed twice');
    like($debug, qr/http sse send: \d+ frames?, lean, Chunks: All/, 'debug log: frames bypass the filters');
    like($debug, qr/http sse send: \d+ frames?, lean, Bodies: All/, 'HTTP/1.0 works too');
    like($debug, qr/http sse send: \d+ frames?, lean, Chunks: Blocked/, 'debug log: until the client reads no more');
}

$stage->ends_cleanly;
done_testing();

# The numbers of lean streams, and of those that kept their request.
sub counted { my $lean = $stage->status->{lean}; return [@$lean{qw(lean ordinary)}] }

# By how much one stream increases these numbers.
sub became ($path, %options) {
    my $before = counted();
    my $stream = $path eq '/gzip' || $path eq '/ssi' ? SSE::Client->new(port => $stage->port, path => $path, %options)
        : $stage->stream($path, %options);
    wait_for(sub { $stage->subscribers('news') >= 1 });
    serve_for(0.05);
    my $after = counted();
    $stream->close;
    wait_for(sub { $stage->subscribers('news') == 0 });
    return [map { $after->[$_] - $before->[$_] } 0, 1];
}

sub lines ($uri) { return grep { (split)[1] eq $uri } split /\n/, SSE::Cluster::slurp($nginx->dir . '/streams.log') }

sub lean_lines { my @lines = grep { /sse: lean stream/ } split /\n/, $nginx->error_log; return @lines ? \@lines : [''] }

# Reading, Writing, and Waiting of stub_status.
sub stub {
    return if !$stub;
    my $answer = request(port => $stage->port, path => '/stub');
    return [$answer->{body} =~ /Active connections: (\d+)/, $answer->{body} =~ /Reading: (\d+) Writing: (\d+) Waiting: (\d+)/];
}
