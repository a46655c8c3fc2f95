# Clients that keep sending while the server ends their stream receive all of it: the connection is closed
# when they close their side, or after lingering_timeout or lingering_time.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use POSIX ();
use SSE::Cluster;
use SSE::HTTP qw(request);
use SSE::Loop qw(serve_for wait_for);
use SSE::Nginx qw(has_module);
use SSE::Stage;
use SSE::TLS qw(certificate);

plan skip_all => 'nginx is built without stub_status' if !has_module('http_stub_status');
my $tls = has_module('http_ssl') && `openssl version`;

my $stage = SSE::Stage->new(
    workers => 2,
    http    => <<'EOF_HTTP' . ($tls ? <<'EOF_TLS' : '') . '}',
        sse_reconnect clean;
        sse_lean on;
        sse_heartbeat off;
        sse_drain 500ms;
        lingering_time 3s;
        lingering_timeout 2s;
        server {
            listen 127.0.0.1:%%PORT_wide%% sndbuf=512k;
            location = /s        { sse_stream $arg_c; }
            location = /old      { sse_stream $arg_c; chunked_transfer_encoding off; }
            location = /age      { sse_stream $arg_c; sse_max_age 1500ms; }
            location = /ordinary { sse_stream $arg_c; sse_lean off; }
            location = /off      { sse_stream $arg_c; lingering_close off; }
            location = /always   { sse_stream $arg_c; lingering_close always; lingering_timeout 60s; lingering_time 60s; }
EOF_HTTP
            listen 127.0.0.1:%%PORT_tls%% ssl sndbuf=512k;
            ssl_protocols TLSv1.2 TLSv1.3;
            ssl_certificate %%DIR%%/cert.pem;
            ssl_certificate_key %%DIR%%/key.pem;
            location = /tls { sse_stream $arg_c; lingering_timeout 60s; lingering_time 60s; }
EOF_TLS
    server => <<'EOF_CONFIG',
        location = /stub   { access_log off; stub_status; }
        location = /status { sse_status; }
        location ~ ^/admin { sse_admin; }
EOF_CONFIG
    files => $tls ? certificate() : {},
);
my $nginx = $stage->cluster;
my $quiet = active();
my @noise;

# An administrator ends streams whose clients send endlessly and read late.
my @ways = (['/s'], ['/old'], ['/s', http => '1.0'], ['/ordinary', headers => [Connection => 'close']]);
for my $way (@ways) {
    my ($path, %options) = @$way;
    my $http    = $options{http} // '1.1';
    my @clients = map { noisy($path, 'plain', %options) } 1 .. 6;
    my @data    = map { "$_ " . 'x' x 50_000 } 1, 2;
    $stage->publish('plain', @data);
    end_streams('plain');
    is_deeply(taken(\@clients, $data[1]), [(1) x 6], "$path, HTTP/$http: every client receives the last event");
    my $ends = $path eq '/old' || $http eq '1.0' ? 'clean|closed' : 'clean';
    is(scalar(grep { ($_->{ends}[0]{how} // '') =~ /\A(?:$ends)\z/ } @clients), 6, 'each response is complete');
    hush(@clients);
    ok(wait_for(sub { active() == $quiet }), 'no connection is left') or diag(active());
}

# The same clients when streams reach their maximum age.
my @aged = map { noisy('/age', 'aged') } 1 .. 6;
$stage->publish('aged', 'last ' . 'x' x 100_000);
wait_ended('aged');
is_deeply(taken(\@aged, 'last ' . 'x' x 100_000), [(1) x 6], 'every client receives the last event');
is(scalar(grep { $_->{ends}[0]{how} eq 'clean' } @aged), 6, 'each response is complete');

# The time is limited, even if clients neither close nor stop sending.
ok(wait_for(sub { active() == $quiet }), 'connections are closed after lingering_time') or diag(active());
hush(@aged);

# lingering_timeout: a client that has sent once and does not close.
my $silent = $stage->stream('/s?c=silent', port => $nginx->port('wide'));
syswrite $silent->{socket}, 'something';
serve_for(0.1);
$silent->pause;
end_streams('silent');
wait_ended('silent');
is(active(), $quiet + 1, 'the connection of a client that has sent something stays open');
ok(wait_for(sub { active() == $quiet }), 'it is closed after lingering_timeout');
$silent->drop;

# An ordinary stream is not counted either while nginx lingers on its connection.
my $ordinary = $stage->stream('/ordinary?c=ordinary', port => $nginx->port('wide'), headers => [Connection => 'close']);
syswrite $ordinary->{socket}, 'something';
serve_for(0.1);
$ordinary->pause;
end_streams('ordinary');
wait_ended('ordinary');
is(active(), $quiet + 1, 'the connection of an ordinary stream whose client has sent something stays open');
ok(wait_for(sub { active() == $quiet }), 'it is closed after lingering_timeout');
$ordinary->drop;

# A client that has sent nothing is disconnected at once unless lingering_close is "always"; with "off"
# every client is.
my $mute = $stage->stream('/s?c=mute', port => $nginx->port('wide'));
$mute->pause;
end_streams('mute');
wait_ended('mute');
ok(wait_for(sub { active() == $quiet }, 1), 'a client that has sent nothing is disconnected at once');
$mute->drop;
my $always = $stage->stream('/always?c=always', port => $nginx->port('wide'));
$always->pause;
end_streams('always');
wait_ended('always');
serve_for(0.2);
is(active(), $quiet + 1, 'with lingering_close always its connection stays open');
$always->drop;
ok(wait_for(sub { active() == $quiet }), 'until the client closes');
my @off = map { noisy('/off', 'off') } 1 .. 4;
end_streams('off');
wait_ended('off');
ok(wait_for(sub { active() == $quiet }, 1), 'with lingering_close off every client is disconnected at once');
hush(@off);

if ($tls) {
    for my $version ('1.2', '1.3') {
        my @programs = map { noisy_tls($version, 'tls') } 1 .. 6;
        is($stage->subscribers('tls'), 6, "TLS $version: streams are open");
        $stage->publish('tls', 'last ' . 'x' x 50_000);
        end_streams('tls');
        wait_ended('tls');
        ok(wait_for(sub { !grep { !has_exited($_) } @programs }), 'the clients exit') or kill 'KILL', map { $_->{pid} } @programs;
        my @whole = grep { slurp($_->{file}) =~ /^data: last x{50000}\n.*\r\n0\r\n\r\n\z/ms } @programs;
        is(scalar @whole, 6, 'every client has the last event and a complete response');
        is_deeply([grep { $_ ne '' } map { slurp("$_->{file}.err") =~ s/^(?:Connecting to|depth|verify|Can't use SSL_get_servername).*\n//mgr } @programs], [],
            'without an error');
        hush();
        ok(wait_for(sub { active() == $quiet }), 'no connection is left') or diag(active());
    }
}

# Reload: an old worker exits despite such clients.
my @streams = map { noisy($_, 'reload', headers => [Connection => 'close']) } ('/s') x 4, ('/ordinary') x 2;
$stage->publish('reload', 'last ' . 'x' x 100_000);
ok($nginx->reload, 'nginx reloads');
ok(wait_for(sub { $stage->subscribers('reload') == 0 }), 'the old workers end their streams');
is_deeply(taken(\@streams, 'last ' . 'x' x 100_000), [(1) x 6], 'every client receives the last event');
is(scalar(grep { $_->{ends}[0]{how} eq 'clean' } @streams), 6, 'each response is complete');
ok($nginx->wait_old_workers_gone(15), 'the old workers exit although the clients keep sending');
hush(@streams);

is_deeply([grep { /\[(?:crit|error|alert|emerg)\]/ } split /\n/, $nginx->error_log], [], 'no error is logged');

# A fast shutdown does not wait.
my @last = map { noisy('/always', 'end') } 1 .. 2;
end_streams('end');
wait_ended('end');
is(active(), $quiet + 2, 'two connections are lingering');
kill 'TERM', $nginx->pid;
ok(wait_for(sub { $nginx->is_gone }), 'nginx exits on TERM');
hush(@last);

$stage->ends_cleanly;
done_testing();

# Opens a stream whose client sends endlessly, from a separate process, and does not read yet.
sub noisy ($path, $channel, %options) {
    my $client = $stage->stream("$path?c=$channel", port => $nginx->port('wide'), receive_buffer => 8192, %options);
    $client->pause;
    make_noise($client->{socket});
    serve_for(0.02);
    return $client;
}

# Starts a process that writes until it fails.
sub make_noise ($to) {
    my $pid = fork() // die "fork: $!";
    if ($pid) {
        push @noise, $pid;
        return;
    }
    $to->blocking(1);
    local $SIG{PIPE} = 'DEFAULT';
    my $noise = 'noise ' x 500;
    while (syswrite $to, $noise) { select undef, undef, undef, 0.0005 }
    POSIX::_exit(0);
}

# Ends these processes and closes the connections that they share.
sub hush (@clients) {
    kill 'KILL', @noise;
    waitpid $_, 0 for @noise;
    @noise = ();
    $_->drop for @clients;
    return;
}

# A client over TLS that sends endlessly: openssl s_client, which writes what it receives into a file. It exits
# when it has read the end. It reads nothing more when it fails to write, so nginx lingers until then, however
# long that takes.
sub noisy_tls ($version, $channel) {
    state $count = 0;
    my $file = $nginx->dir . '/tls-' . ++$count;
    my $flag = '-tls' . $version =~ tr/./_/r;
    pipe my $from, my $to or die "pipe: $!";
    syswrite $to, "GET /tls?c=$channel HTTP/1.1\r\nHost: x\r\n\r\n";
    my $pid = fork() // die "fork: $!";
    if (!$pid) {
        open STDIN,  '<&', $from;
        open STDOUT, '>',  $file;
        open STDERR, '>',  "$file.err";
        close $_ for $from, $to;
        exec qw(openssl s_client -quiet -connect), '127.0.0.1:' . $nginx->port('tls'), $flag or POSIX::_exit(127);
    }
    close $from;
    wait_for(sub { slurp($file) =~ /sse\.open/ });
    make_noise($to);
    return { file => $file, pid => $pid };
}

sub has_exited ($program) {
    $program->{exited} ||= waitpid($program->{pid}, POSIX::WNOHANG()) != 0;
    return $program->{exited};
}

sub slurp ($file) { return SSE::Cluster::slurp($file) }

# Streams whose connections are lingering are not counted.
sub wait_ended ($channel) {
    return ok(wait_for(sub { $stage->subscribers($channel) == 0 }), 'all of them');
}

sub end_streams ($channel) {
    my $answer = request(port => $stage->port, method => 'DELETE', path => "/admin?channel=$channel&only=streams");
    is($answer->{status}, 200, "streams of $channel are ended");
    return;
}

# Whether each client receives this event and then the end of the response.
sub taken ($clients, $data) {
    serve_for(0.1);
    $_->resume for @$clients;
    wait_for(sub { !grep { $_->{state} ne 'ended' } @$clients });
    return [map { my $client = $_; scalar grep { $_ eq $data } $client->data } @$clients];
}

# The number of connections of nginx, including that of this request.
sub active {
    my $answer = request(port => $stage->port, path => '/stub');
    return $answer->{body} =~ /Active connections: (\d+)/ ? $1 : -1;
}
