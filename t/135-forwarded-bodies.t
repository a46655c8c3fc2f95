# The body of a publish request that is redirected from another location, and bodies that do not arrive
# completely.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use POSIX ();
use Test::More;
use SSE::HTTP qw(request);
use SSE::Loop qw(serve_for wait_for);
use SSE::Nginx qw(free_port has_module);
use SSE::Stage;
use SSE::TLS qw(certificate tls_and_http2_servers);

plan skip_all => 'nginx is built without TLS or HTTP/2' if !has_module('http_ssl') || !has_module('http_v2');
plan skip_all => 'curl or openssl is missing' if !`curl --version` || !`openssl version`;

# Nothing listens on the port $nobody, and the server `rude` closes the connection of every request.
my $nobody    = free_port();
my $locations = <<"EOF_LOCATIONS";
    location = /one     { sse_stream news; error_page 405 = \@say; }
    location = /lean    { sse_stream news; sse_lean on; error_page 405 = \@say; }
    location = /figures { sse_status; error_page 405 = \@say; }
    location = /file    { sse_stream news; error_page 405 = \@file; }
    location = /app     { sse_stream news; error_page 405 = \@app; }
    location = /tried   { try_files /nothing /one; }
    location = /denied  { sse_stream news; deny all; error_page 403 = \@say; }
    location = /down    { proxy_pass http://127.0.0.1:$nobody; error_page 502 = \@say; }
    location = /half    { proxy_pass http://127.0.0.1:$nobody; proxy_request_buffering off; error_page 502 = \@say; }
    location = /kept    { proxy_pass http://127.0.0.1:%%PORT_rude%%; error_page 502 = \@say; }
    location = /eaten   { proxy_pass http://127.0.0.1:%%PORT_rude%%; proxy_request_buffering off; error_page 502 = \@say; }
    location = /limited { sse_publish news; client_max_body_size 10; error_page 413 = \@say; }
    location \@say      { sse_publish news; }
    location \@file     { sse_publish news; client_body_in_file_only clean; client_body_buffer_size 1k; }
    location \@app      { proxy_pass http://127.0.0.1:%%PORT_app%%; }
EOF_LOCATIONS
my $stage = SSE::Stage->new(
    http => <<"EOF_HTTP",
        client_max_body_size 10m;
        proxy_http_version 1.1;
        sse_open_event off;
        server { listen 127.0.0.1:%%PORT_rude%%; access_log off; return 444; }
        server { listen 127.0.0.1:%%PORT_app%%; location / { sse_publish news; } }
        @{[ tls_and_http2_servers($locations) ]}
EOF_HTTP
    server => $locations,
    files  => certificate(),
);
my $client = $stage->stream('/one');
# If set, the second piece of a body is sent only when this file exists.
my $hold;

# Each protocol sends the pieces as one body and returns the status and the id of the event, if any.
my ($tls, $h2c) = map { $stage->cluster->port($_) } qw(tls h2c);
my %ways = (
    'HTTP/1.1'              => sub ($path, @pieces) { return by_length($path, @pieces) },
    'HTTP/1.1 in chunks'    => sub ($path, @pieces) { return by_chunks($path, @pieces) },
    'HTTP/1.1 over TLS'     => sub ($path, @pieces) { return by_curl('--http1.1', "https://localhost:$tls$path", @pieces) },
    'HTTP/2 over TLS'       => sub ($path, @pieces) { return by_curl('--http2', "https://localhost:$tls$path", @pieces) },
    'HTTP/2 in clear'       => sub ($path, @pieces) { return by_curl('--http2-prior-knowledge', "http://localhost:$h2c$path", @pieces) },
    'HTTP/2 with a length'  => sub ($path, @pieces) { return by_curl('--http2-prior-knowledge', "http://localhost:$h2c$path", join '', @pieces) },
);
my $large = join '', map { "line $_ " . 'x' x 90 . "\n" } 1 .. 900;
my %bodies = (
    'a body'                => ['Hello, World!'],
    'a body in two packets' => ['Hello, ', 'World!'],
    'a large body'          => [$large, $large =~ tr/x/y/r],
);
for my $way (sort keys %ways) {
    for my $body (sort keys %bodies) {
        my @pieces = @{ $bodies{$body} };
        for my $path (qw(/one /lean /figures /file /app /tried /denied /down /kept)) {
            my ($status, $id) = $ways{$way}->($path, @pieces);
            is($status, 201, "$way, $path: $body is published");
            ok(data_of($id) eq join('', @pieces), "$way, $path: the event has the complete body");
        }
    }
}

# An incomplete body is rejected, whichever location or server has read the rest.
my $before = published();
for my $way (sort keys %ways) {
    for my $body ('a body', 'a body in two packets') {
        is(logged(sub { $ways{$way}->('/limited', @{ $bodies{$body} }) }), 400, "$way: $body that nginx has discarded is rejected");
    }
    next if $way eq 'HTTP/2 with a length';
    for my $path (qw(/half /eaten)) {
        for my $body ('a body in two packets', 'a large body') {
            is(begun($way, $path, @{ $bodies{$body} }), 400, "$way, $path: $body of which a part is missing is rejected");
        }
    }
}
my $refused = request(port => $stage->port, path => '/limited', body => 'x' x 20);
like($refused->{json}{error}, qr/\bbody\b/, 'the response has a JSON error about the body');
is(published(), $before, 'no incomplete body is published');

# Unbuffered, but already complete when the request is redirected.
my ($status, $id) = by_length('/half', 'whole');
is($status, 201, 'an unbuffered body that arrived at once is accepted');
is(data_of($id), 'whole', 'it is published');

my $one = request(port => $stage->port, path => '/one', method => 'POST', body => 'x');
is_deeply([$one->{status}, $one->{header}{allow}], [201, undef], 'the response does not list the methods of the first location');

$stage->ends_cleanly;
done_testing();

# The status of a request whose second piece is sent only after the response.
sub begun ($way, $path, @pieces) {
    my $go = $stage->cluster->dir . '/go';
    unlink $go;
    $hold = $go;
    my $status = logged(sub { $ways{$way}->($path, @pieces) });
    $hold = undef;
    return $status;
}

# The status from the access log: over HTTP/2, curl does not always report a response that precedes the end
# of the request.
sub logged ($ask) {
    my $log   = sub { return [$stage->cluster->access_log =~ m{^\S+ - - \[[^\]]*\] "POST [^"]*" (\d+)}mg] };
    my $count = @{ $log->() };
    my $pid = $hold ? fork() // die "fork: $!" : undef;
    if (!$pid) {
        $ask->();
        POSIX::_exit(0) if defined $pid;
    }
    wait_for(sub { @{ $log->() } > $count });
    SSE::Cluster::write_file($hold, '') if $hold;
    waitpid $pid, 0 if $pid;
    return $log->()[-1];
}

# The number of events published so far.
sub published {
    my $answer = request(port => $stage->port, path => '/figures');
    return $answer->{json}{hubs}{default}{events_in};
}

sub data_of ($id) {
    return 'no event' if !defined $id;
    wait_for(sub { grep { $_->{id} eq $id } @{ $client->{events} } });
    my ($event) = grep { $_->{id} eq $id } @{ $client->{events} };
    $client->{events} = [];
    return $event ? $event->{data} : 'no event';
}

sub by_length ($path, @pieces) {
    my $length = 0;
    $length += length for @pieces;
    return in_packets($path, ['Content-Length' => $length], @pieces);
}

sub by_chunks ($path, @pieces) {
    my @chunks = map { sprintf "%x\r\n%s\r\n", length, $_ } @pieces;
    $chunks[-1] .= "0\r\n\r\n";
    return in_packets($path, ['Transfer-Encoding' => 'chunked'], @chunks);
}

# Sends the head with the first piece, then each piece when the previous one has been sent.
sub in_packets ($path, $headers, $first, @others) {
    my ($answer, $over);
    my $connection = SSE::HTTP->new($stage->port, sub ($got) { ($answer, $over) = ($got, 1); return });
    $connection->send(method => 'POST', path => $path, headers => $headers);
    $connection->{sending} .= $first;
    for my $piece (@others) {
        wait_for(sub { $connection->{sending} eq '' || $over });
        $hold ? wait_for(sub { -e $hold }) : serve_for(0.02);
        $connection->{sending} .= $piece;
        SSE::Loop::want_write($connection->fileno, 1) if $connection->is_open;
    }
    wait_for(sub { $over });
    $connection->drop;
    return ($answer->{status} // 'no answer', $answer->{json}{id});
}

# A single piece has a Content-Length; several are read from a pipe and have none.
sub by_curl ($version, $address, @pieces) {
    my $dir = $stage->cluster->dir;
    for my $number (0 .. $#pieces) {
        open my $out, '>:raw', "$dir/piece$number" or die "piece: $!";
        print {$out} $pieces[$number];
        close $out;
    }
    my $curl = "curl -sk --max-time 20 $version -X POST -H Expect: -w '\\n%{http_code}'";
    my $wait = $hold ? "while [ ! -e $hold ]; do sleep 0.01; done" : 'sleep 0.02';
    my $said = @pieces == 1
        ? `$curl --data-binary \@$dir/piece0 $address`
        : `(cat $dir/piece0; $wait; cat $dir/piece1) | $curl -T - $address`;
    my ($status) = $said =~ /\n(\d+)\z/;
    my ($id)     = $said =~ /"id":"([^"]+)"/;
    return ($status // 'no answer', $id);
}
