# sse_lean: once a stream runs, nginx gets its request back. The access-log line comes at the start, the
# connection says that it will be closed, error lines still name the client, stub_status stays true; and
# requests that somebody else wants to see the end of stay as they are.

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
        location = /age      { sse_stream news; sse_max_age 500ms; }
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

# Who becomes lean, and who does not.
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
    is_deeply(became($path, %options), [0, 1], "$path stays ordinary");
}
is_deeply(became('/off'), [0, 0], 'sse_lean off asks for nothing');
my $two = "GET /s HTTP/1.1\r\nHost: x\r\n\r\n" x 2;
is_deeply(became('/s', raw_request => $two), [0, 1], 'with a further request behind it a stream stays ordinary');
if ($version) {
    my ($before, $http2) = (counted(), undef);
    $http2 = SSE::Curl->new('--http2-prior-knowledge', 'http://127.0.0.1:' . $nginx->port('h2c') . '/h2');
    ok(wait_for(sub { @{ $http2->{events} } }), 'a stream over HTTP/2 opens');
    ok(wait_for(sub { counted()->[1] == $before->[1] + 1 }), 'and stays ordinary');
    $http2->drop;
}

# limit_conn still counts.
my $holder = $stage->stream('/limited');
is(request(port => $stage->port, path => '/limited')->{status}, 503, 'limit_conn refuses a second stream');
$holder->close;
ok(wait_for(sub { $stage->subscribers('news') == 0 }), 'the first one goes');
my $next = $stage->stream('/limited');
is($next->{status}, 200, 'and makes room for another');
$next->close;

# Header and logs.
my $logged = () = lines('/s');
my $client = $stage->stream('/s');
is($client->header('connection'), 'close', 'the header says that the connection ends with the stream');
ok(wait_for(sub { lines('/s') == $logged + 1 }), 'the access log has its line at the start');
is((lines('/s'))[-1], 'GET /s 200 end=- sent=0 channel=news,sport', 'with the status');
my ($id) = reverse $stage->publish('news', 'one', 'two');
ok($client->wait_data('two'), 'events arrive');
$client->close;
ok(wait_for(sub { lean_lines()->[-1] =~ /ended: client, 2 events/ }), 'the error log tells of the end');
like(lean_lines()->[-1], qr/stream of "news,sport" ended: client, 2 events, last id "\Q$id\E" while streaming events, client: 127\.0\.0\.1\b/,
    'with channels, events, last id and client');
is(scalar(lines('/s')), $logged + 1, 'the access log has no second line');
my $off = $stage->stream('/off');
is($off->header('connection'), 'keep-alive', 'other streams say nothing of the kind');
$off->close;

# Resume, heartbeat, age.
my $back = $stage->stream('/s', last_event_id => $id);
my ($three) = $stage->publish('news', 'three');
ok($back->wait_data('three') && "@{[$back->data]}" eq 'three', 'an id resumes');
$back->close;
my $beats = $stage->stream('/beats');
ok(wait_for(sub { $beats->{parser}{comments} >= 5 }, 5), 'heartbeats come');
$beats->close;
my $aged = $stage->stream('/age');
ok(wait_for(sub { $aged->{state} eq 'ended' }, 5), 'sse_max_age ends a stream');
is($aged->{ends}[0]{how}, 'clean', 'with its last chunk');
cmp_ok($aged->{parser}{retry}, '<=', 1000, 'and a short retry');
like(lean_lines()->[-1], qr/ended: age/, 'which is told');
my $old = $stage->stream('/age', http => '1.0');
ok(wait_for(sub { $old->{state} eq 'ended' }, 5) && $old->{ends}[0]{how} eq 'closed', 'over HTTP/1.0 too');

# Slow clients.
my %stuck = map { $_ => $stage->stream("/$_", receive_buffer => 4096) } qw(slow stuck reset);
$_->pause for values %stuck;
$stage->publish('stuck', map { "$_ " . 'x' x 200_000 } 1 .. 40);
ok(wait_for(sub { 2 == grep { /"stuck" ended: timeout, \d+ events/ } @{ lean_lines() } }, 8), 'send_timeout closes who takes nothing')
    or diag(join "\n", @{ lean_lines() });
$_->resume for @stuck{qw(stuck reset)};
ok(wait_for(sub { !grep { $_->is_open } @stuck{qw(stuck reset)} }), 'the connections are closed');
is($stuck{stuck}{ends}[0]{how}, 'abrupt', 'in the middle of a frame there is no last chunk');
is($stuck{reset}{ends}[0]{how}, 'reset', 'reset_timedout_connection holds');
$stage->publish('slow', map { "$_ " . 'x' x 200_000 } 1 .. 200);
$stuck{slow}->resume;
ok(wait_for(sub { grep { /"slow" ended: slow/ } @{ lean_lines() } }, 10), 'sse_slow_client close holds');

# Who sends without end keeps nobody waiting.
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
is($answered, 20, 'others are answered');
is(waitpid($pid, POSIX::WNOHANG()), 0, 'while a client sends without end');
kill 'KILL', $pid;
waitpid $pid, 0;
$flood->close;
ok(wait_for(sub { $stage->subscribers('news') == 0 }), 'and goes as any other');

# Many that come and go while something is published.
my $steady = $stage->stream('/s');
my $writer = SSE::Publisher->new(port => $stage->port, path => '/to/news');
$writer->stream(200, sub ($number) { "live $number " . 'y' x 5_000 });
my $head   = "GET /s HTTP/1.1\r\nHost: x\r\n\r\n";
for my $round (1 .. 200) {
    my @crowd = map { SSE::Client->new(port => $stage->port, raw_request => $head) } 1 .. 10;
    serve_for(0.002 * ($round % 6));
    $_->half_close for grep { $_->{socket} } @crowd[0 .. 2];
    $round % 2 ? $_->reset : $_->close for @crowd;
}
$writer->stop;
$writer->wait_idle;
my $last = $writer->last->{data};
ok($steady->wait_data($last), 'a steady stream gets everything meanwhile');
is(join('|', map { /^live (\d+)/ ? $1 : () } $steady->data), join('|', 1 .. $writer->accepted), 'once and in order');
$_->drop for $steady, $writer;
ok(wait_for(sub { $stage->subscribers('news') == 0 }), 'of 2,000 quick clients none is left');
is_deeply(stub(), $quiet, 'and stub_status is what it was before') if $stub;
my $figures = $stage->status;
is($figures->{streams_ended}{error}, 0, 'no stream ended for an error') or diag(explain($figures->{streams_ended}));

if (SSE::Nginx::built_with() =~ /--with-debug/) {
    my $debug = SSE::Cluster::slurp($nginx->dir . '/debug.log');
    unlike($debug, qr/http request already closed|connection already closed/, 'nothing is closed twice');
    like($debug, qr/http sse send: \d+ frames, lean, Chunks: All/, 'frames go past the filters');
    like($debug, qr/http sse send: \d+ frames, lean, Bodies: All/, 'over HTTP/1.0 too');
    like($debug, qr/http sse send: \d+ frames, lean, Chunks: Blocked/, 'until the client takes no more');
}

$stage->ends_cleanly;
done_testing();

# The figures of requests given back, and of those that were to be.
sub counted { my $lean = $stage->status->{lean}; return [@$lean{qw(lean ordinary)}] }

# What a stream adds to them.
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

# Reading, Writing and Waiting, while the question is the only request.
sub stub {
    return if !$stub;
    my $answer = request(port => $stage->port, path => '/stub');
    return [$answer->{body} =~ /Active connections: (\d+)/, $answer->{body} =~ /Reading: (\d+) Writing: (\d+) Waiting: (\d+)/];
}
