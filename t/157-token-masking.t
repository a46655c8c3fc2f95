# Tokens in addresses (sse_jwt arg=): nginx logs asterisks in their place, and nothing else changes.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Curl;
use SSE::HTTP qw(request);
use SSE::Loop qw(wait_for);
use SSE::Nginx qw(has_module);
use SSE::Stage;
use SSE::TLS qw(certificate tls_and_http2_servers);
use SSE::Token qw(token $SECRET);

plan skip_all => 'nginx is built without TLS or HTTP/2' if !has_module('http_ssl') || !has_module('http_v2');

my $constant  = token({ sub => 'constant' });
my $locations = <<"EOF_LOCATIONS";
    location = /s        { sse_jwt arg=token; sse_stream news; }
    location = /unused   { sse_jwt bearer arg=token; sse_stream news; }
    location = /denied   { sse_jwt arg=token; deny all; sse_stream news; }
    location = /named    { sse_jwt arg=token; error_page 401 = \@named; sse_stream news; }
    location \@named      { sse_jwt arg=other; sse_stream news; }
    location = /constant { error_page 418 = /m?token=$constant&kept=1; return 418; }
    location = /cors     { sse_jwt arg=token; sse_cors https://app.example; sse_stream news; }
    location = /m        { sse_jwt arg=token; sse_stream news; }
    location = /set      { set \$args "a=1&token=\$arg_token"; sse_jwt arg=token; sse_stream news; }
    location = /p        { sse_jwt arg=token; sse_publish \$arg_channel; }
    location /in/        { sse_jwt arg=token; sse_stream news; }
    location = /error    { sse_jwt arg=token; sse_stream \$arg_channel; }
EOF_LOCATIONS
my $stage = SSE::Stage->new(
    http => <<"EOF_HTTP",
        sse_jwt_key %%DIR%%/secret secret;
        large_client_header_buffers 4 16k;
        log_format all '\$request|\$request_uri|\$uri|\$args|\$is_args|\$arg_token|\$arg_a|\$sse_jwt_claim_sub|\$status';
        access_log %%DIR%%/all.log all;
        @{[ tls_and_http2_servers($locations) ]}
EOF_HTTP
    server => $locations,
    files  => { secret => $SECRET, %{ certificate() } },
);
my $nginx = $stage->cluster;

my @secrets = ($constant);
my $mask    = sub ($token) { push @secrets, $token; return '*' x length $token };
my $valid   = sub ($name) { return token({ sub => $name }) };

{
    my $token = $valid->('one');
    my $stars = $mask->($token);
    is(status("/s?a=1&token=$token&b=2"), 200, 'a token in the address opens a stream');
    is(line('one'), "GET /s?a=1&token=$stars&b=2 HTTP/1.1|/s?a=1&token=$stars&b=2|/s|a=1&token=$stars&b=2|?|$stars|1|one|200", 'it is masked in every variable');
}
{
    my ($token, $other) = ($valid->('two'), 'secret-of-somebody');
    my ($stars, $others) = map { $mask->($_) } $token, $other;
    is(status("/s?token=$token&TOKEN=$other&a=token=$other?token=x"), 200, 'with several arguments of the name, the first counts');
    $secrets[-1] = "TOKEN=$other";
    is(line('two') =~ s/\|.*//r, "GET /s?token=$stars&TOKEN=$others&a=token=$other?token=x HTTP/1.1", 'all of them are masked, and nothing else');
}
{
    my $token = $valid->('three');
    my $stars = $mask->($token);
    is(status("/in/$stars//$stars?token=$token"), 200, 'an address that contains the same bytes');
    is((split /\|/, line('three'))[2], "/in/$stars/$stars", '$uri is not changed');
}
{
    my ($used, $unused) = map { $valid->($_) } qw(four unused);
    my $stars = $mask->($unused);
    is(status("/unused?token=$unused", Authorization => "Bearer $used"), 200, 'a token in the header is used first');
    is((split /\|/, line('four'))[1], "/unused?token=$stars", 'the one in the address is masked nevertheless');
}
for my $path (qw(/denied /error)) {
    my $token = $valid->("refused$path");
    my $stars = $mask->($token);
    isnt(status("$path?token=$token"), 200, "a request for $path is rejected");
    is((split /\|/, line("refused$path"))[1], "$path?token=$stars", 'the token is masked');
}
{
    my $bad = 'not.a.token-at-all';
    $mask->($bad);
    is(status("/s?token=$bad"), 401, 'an invalid token is refused');
    is(status("/s?token="), 401, 'an empty token is none');
    is(status("/named?token=$bad&other=" . $valid->('six')), 200, 'a named location has its own settings');
    like((split /\|/, line('six'))[1], qr/\A\/named\?token=\*+&other=\*+\z/, 'the arguments of both locations are masked');
}
is(status('/constant'), 200, 'the configuration may add a token');
like(line('constant'), qr/\AGET \/constant HTTP.*\|\/m\|token=\*+&kept=1\|/, 'its text is not overwritten, but a copy of it is masked');
is(status('/constant'), 200, 'so that it is still there for the next request');
{
    my $token = $valid->('seven');
    status("/set?token=$token");
    my @parts = split /\|/, line('seven');
    like($parts[3], qr/\Aa=1&token=\*+\z/, 'arguments that a rewrite has set are masked');
}
{
    my $token = $valid->('nine');
    my $stars = $mask->($token);
    my $answer = request(port => $stage->port, method => 'OPTIONS', path => "/cors?token=$token",
        headers => [Origin => 'https://app.example', 'Access-Control-Request-Method' => 'GET']);
    is($answer->{status}, 204, 'a preflight is answered');
    is((split /\|/, line('nine'))[1], "/cors?token=$stars", 'its token is masked');
}
{
    # A request line that does not fit into the first buffer.
    my $token = $valid->('eight');
    $mask->($token);
    is(status("/s?token=$token&long=" . 'x' x 6000, Cookie => 'c=' . 'y' x 7000), 200, 'a large request');
    my @parts = split /\|/, line('eight');
    like($parts[1], qr/\A\/s\?token=\*+&long=x{6000}\z/, 'is masked');
}
for my $way (['--http2-prior-knowledge', 'http', 'h2c'], ['--http2', 'https', 'tls'], ['--http1.1', 'https', 'tls']) {
    my ($option, $scheme, $port) = @$way;
    my $token  = $valid->("over$option");
    my $stars  = $mask->($token);
    my $stream = SSE::Curl->new($option, "$scheme://127.0.0.1:" . $nginx->port($port) . "/s?a=1&token=$token");
    ok(wait_for(sub { $stream->{status} }, 10), "$option over $scheme: a response");
    is($stream->{status}, 200, "$option over $scheme: a stream");
    $stream->drop;
    my @parts = split /\|/, line("over$option");
    like($parts[0], qr/\AGET \/s\?a=1&token=\Q$stars\E HTTP/, "$option over $scheme: it is masked in the request line");
    is($parts[1], "/s?a=1&token=$stars", "$option over $scheme: and in the address");
}
{
    my $token = $valid->('publisher');
    $mask->($token);
    my $answer = request(port => $stage->port, path => "/p?channel=sse.x&token=$token", body => 'x');
    is($answer->{status}, 400, 'a publish is refused');
}
my $logs = $nginx->error_log . SSE::Cluster::slurp($nginx->dir . '/all.log');
for my $secret (@secrets) {
    next if $secret eq $constant;
    ok(index($logs, $secret) < 0, 'no log contains ' . substr $secret, -12);
}
like($nginx->error_log, qr/request: "GET \/denied\?token=\*+ HTTP/, 'lines of the error log have asterisks');

$stage->ends_cleanly;
done_testing();

sub status ($path, @headers) {
    my $client = SSE::Client->new(port => $stage->port, path => $path, headers => \@headers);
    wait_for(sub { $client->{status} || $client->{state} !~ /waiting|connecting/ }, 10);
    my $status = $client->{status};
    $client->close;
    return $status;
}

# The line of the log about the request whose token has this subject, or about the refused request to a path.
sub line ($subject) {
    my ($path) = $subject =~ m{refused(/.*)};
    my $wanted = defined $path ? qr/^GET \Q$path\E\?/ : qr/\|\Q$subject\E\|\d+$/;
    my $line;
    wait_for(sub { ($line) = grep { $_ =~ $wanted } reverse split /\n/, SSE::Cluster::slurp($nginx->dir . '/all.log') }, 10);
    return $line // 'none';
}
