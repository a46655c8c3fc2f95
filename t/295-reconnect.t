# sse_reconnect: how a stream ends if its client should reconnect. With "cut", every client sees that the response
# is interrupted, and has received everything before; with "clean", the response is complete.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Client;
use SSE::Curl;
use SSE::HTTP qw(request);
use SSE::HTTP2;
use SSE::Loop qw(wait_for);
use SSE::Nginx qw(has_module);
use SSE::Stage;
use SSE::TLS qw(certificate tls_and_http2_servers);

plan skip_all => 'nginx is built without TLS or HTTP/2' if !has_module('http_ssl') || !has_module('http_v2');
plan skip_all => 'curl or openssl is missing' if !`curl --version` || !`openssl version`;

my $locations = '';
for my $form (qw(cut clean)) {
    # "cut" is the default.
    my $reconnect = $form eq 'clean' ? 'sse_reconnect clean;' : '';
    for my $name (qw(direct lean filtered)) {
        my $more = $reconnect . { direct => '', lean => ' sse_lean on;', filtered => ' sse_direct off;' }->{$name};
        $locations .= <<"EOF_LOCATIONS";
            location = /$form/$name/admin { sse_stream $form; $more }
            location = /$form/$name/age   { sse_stream $form; sse_max_age 300ms; $more }
            location = /$form/$name/full  { sse_stream full; sse_max_subscribers 1; $more }
            location = /$form/$name/drain { sse_stream drained; $more }
EOF_LOCATIONS
    }
    $locations .= "location = /$form/gzip/admin { sse_stream $form; gzip on; gzip_types *; gzip_min_length 0; $reconnect }\n";
}
my $stage = SSE::Stage->new(
    workers => 1,
    http    => <<'EOF_HTTP' . tls_and_http2_servers($locations),
        sse_heartbeat off;
        sse_drain 500ms;
        log_format ends '$request_uri $server_protocol $status $sse_end $sse_events_sent';
        access_log %%DIR%%/ends.log ends;
        sse_hub default { history 100; }
EOF_HTTP
    server => "$locations location = /admin { sse_admin; } location = /holder { sse_stream full; }",
    files  => certificate(),
);
my $nginx  = $stage->cluster;
my $holder = $stage->stream('/holder');

# How each kind of client sees the two forms: the exit status of curl, or the end of a connection.
my %ways = (
    'HTTP/1.0'        => { cut => 'closed', clean => 'closed', opens => sub ($path) { plain($path, http => '1.0') } },
    'HTTP/1.1'        => { cut => 'abrupt', clean => 'clean',  opens => sub ($path) { plain($path) } },
    'HTTP/2'          => { cut => 'reset 2', clean => 'ended', opens => sub ($path) { http2($path) } },
    'TLS'             => { cut => 18,       clean => 0,        opens => sub ($path) { curl('--http1.1', $path) } },
    # After a GOAWAY, curl reports a reset as an incomplete response.
    'HTTP/2 over TLS' => { cut => qr/\A(?:18|92)\z/,       clean => 0,        opens => sub ($path) { curl('--http2',   $path) } },
);
my %reason = (admin => 'admin', age => 'age', full => 'error', drain => 'drain');

for my $form (qw(cut clean)) {
    for my $name (qw(direct lean filtered)) {
        for my $way (sort keys %ways) {
            # A lean stream over HTTP/2 is an ordinary one.
            next if $name eq 'lean' && $way =~ m{HTTP/2};
            for my $end (qw(admin age full)) {
                my $client = $ways{$way}{opens}->("/$form/$name/$end");
                if ($end eq 'admin') {
                    ok(wait_for(sub { text($client) =~ /sse\.open/ }), "$form, $name, $way: the stream opens");
                    $stage->publish($form, 'the last event');
                    request(port => $stage->port, method => 'DELETE', path => "/admin?channel=$form&only=streams");
                }
                ends_as($client, $ways{$way}{$form}, "$form, $name, $way, $end", $end eq 'full' ? '\d{5}' : '\d{1,4}');
                like(text($client), qr/^data: the last event$/m, '... after the last event') if $end eq 'admin';
                $client->drop;
            }
        }
    }
    my $gzip = SSE::Curl->new('--compressed', 'http://127.0.0.1:' . $stage->port . "/$form/gzip/admin");
    wait_for(sub { text($gzip) =~ /sse\.open/ });
    request(port => $stage->port, method => 'DELETE', path => "/admin?channel=$form&only=streams");
    ends_as($gzip, $form eq 'cut' ? 18 : 0, "$form, gzip", '\d{1,4}');
}

# HEAD is answered completely in any case.
is(request(port => $stage->port, method => 'HEAD', path => '/cut/direct/full')->{status}, 200, 'HEAD has a complete response');

# Clients that are still sending receive everything, and an EventSource returns after either form.
my $noisy = $stage->stream('/cut/lean/admin');
syswrite $noisy->{socket}, 'x' x 1000;
$noisy->pause;
$stage->publish('cut', 'last ' . 'x' x 100_000);
request(port => $stage->port, method => 'DELETE', path => '/admin?channel=cut&only=streams');
syswrite $noisy->{socket}, 'x' x 1000;
$noisy->resume;
ok(wait_for(sub { $noisy->{state} eq 'ended' }), 'a client that sends something is ended');
is(length(($noisy->data)[-1] // ''), 100_005, 'it has the last event');
is($noisy->{ends}[0]{how}, 'abrupt', 'and an interrupted response');

for my $form (qw(cut clean)) {
    my $client = $stage->stream("/$form/direct/age", reconnect => 1);
    my @data   = map { "$form $_" } 1 .. 40;
    for my $data (@data) {
        $stage->publish($form, $data);
        $client->wait_data($data);
    }
    ok(wait_for(sub { $client->{openings} >= 3 }), "$form: an EventSource returns");
    is(join('|', $client->data), join('|', @data), 'and misses nothing');
    $client->drop;
}

# Several streams on one HTTP/2 connection: the others continue.
my $shared = SSE::HTTP2->new(port => $nginx->port('h2c'));
my $one    = $shared->request('/cut/direct/admin');
my $other  = $shared->request('/clean/direct/admin');
wait_for(sub { $one->{body} =~ /sse\.open/ && $other->{body} =~ /sse\.open/ });
request(port => $stage->port, method => 'DELETE', path => '/admin?channel=cut&only=streams');
ok(wait_for(sub { $one->{reset} }), 'a stream of a connection is reset');
$stage->publish('clean', 'still here');
ok(wait_for(sub { $other->{body} =~ /still here/ }), 'another one of the same connection continues');
$shared->drop;

# The drain on a reload.
my %drained;
for my $form (qw(cut clean)) {
    for my $name (qw(direct lean)) {
        for my $way (sort keys %ways) {
            next if $name eq 'lean' && $way =~ m{HTTP/2};
            $drained{"$form, $name, $way"} = [$ways{$way}{opens}->("/$form/$name/drain"), $ways{$way}{$form}];
        }
    }
}
ok(wait_for(sub { !grep { text($_->[0]) !~ /sse\.open/ } values %drained }), 'all streams are open');
$nginx->reload;
ends_as(@{ $drained{$_} }, "$_, drain", '\d{1,4}') for sort keys %drained;
ok($nginx->wait_old_workers_gone(10), 'the old workers exit');

# The access log: an interrupted response has its status and its reason.
my $log;
ok(wait_for(sub {
    $log = SSE::Cluster::slurp($nginx->dir . '/ends.log');
    !grep { $log !~ /^$_ /m } map { my $end = $_; map { "/$_ 200 $reason{$end}" } ways_to($end) } keys %reason;
}), 'the access log has status 200 and the reason for every way to end');

$holder->drop;
$stage->ends_cleanly;
done_testing();

# The path and the protocol of each form and protocol.
sub ways_to ($end) {
    return map { my $form = $_; map { "$form/direct/$end HTTP/$_" } '1.0', '1.1', '2.0' } qw(cut clean);
}

sub plain ($path, %options) {
    return SSE::Client->new(port => $stage->port, path => $path, keep_wire => 1, %options);
}

sub curl ($version, $path) {
    return SSE::Curl->new($version, 'https://127.0.0.1:' . $nginx->port('tls') . $path);
}

# A response over HTTP/2 without TLS, with the interface of a client.
sub http2 ($path) {
    my $connection = SSE::HTTP2->new(port => $nginx->port('h2c'));
    my $response   = $connection->request($path);
    $response->{connection} = $connection;
    return bless $response, 'SSE::HTTP2::Single';
}

sub SSE::HTTP2::Single::drop ($self) { return $self->{connection}->drop }

sub text ($client) { return $client->{wire} // $client->{body} // '' }

# How the client's response ended, once it has.
sub end_of ($client) {
    if (my $connection = $client->{connection}) {
        wait_for(sub { $client->{ended} || $client->{reset} });
        return $client->{reset} ? "reset $client->{reset}" : $client->{ended} ? 'ended' : 'open';
    }
    if ($client->isa('SSE::Curl')) {
        $client->wait_end(10);
        return $client->{exit} // 'open';
    }
    wait_for(sub { $client->{state} eq 'ended' });
    return $client->{ends}[0]{how} // 'open';
}

# Checks that the response ends with `retry` and a comment, without a blank line, and how it ends.
sub ends_as ($client, $wanted, $name, $time) {
    my $end = end_of($client);
    like($end, ref $wanted ? $wanted : qr/\A\Q$wanted\E\z/, "$name: the response ends as configured");
    # curl may discard what has arrived together with a reset.
    return if ref $wanted;
    my $text = text($client);
    $text =~ s/\r\n(?:0\r\n\r\n)?\z// if $client->isa('SSE::Client');
    like($text, qr/(?:\A|\n)retry: $time\n:\n(?:\r\n0\r\n\r\n)?\z/, '... after retry and a comment');
    return;
}
