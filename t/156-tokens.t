# Tokens (sse_jwt): which are accepted, where they may be, and the responses to those that are refused.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use IO::Socket::INET;
use Test::More;
use SSE::Curl;
use SSE::HTTP qw(request);
use SSE::Loop qw(wait_for);
use SSE::Nginx qw(has_module);
use SSE::Stage;
use SSE::TLS qw(certificate tls_and_http2_servers);
use SSE::Token qw(token signed encode_base64url decode_base64 key_pair $SECRET);

plan skip_all => 'nginx is built without TLS or HTTP/2' if !has_module('http_ssl') || !has_module('http_v2');

my %pair   = map { $_ => key_pair($_) } qw(RS256 PS256 ES256 ES384 EdDSA);
my $all    = 'bearer cookie=session arg=token value=$http_x_token';
my $key    = 'sse_jwt_key %%DIR%%/secret secret;';
my $point  = substr decode_base64(join '', grep { !/^-/ } split /\n/, $pair{ES256}{public}), -64;
my $jwk    = sprintf '{"kty":"EC","crv":"P-256","kid":"k","x":"%s","y":"%s"}', map { encode_base64url($_) } unpack 'a32 a32', $point;
my $server = <<"EOF_CONFIG";
    location = /s/bearer { sse_jwt bearer; sse_stream news; }
    location = /s/cookie { sse_jwt cookie=session; sse_stream news; }
    location = /s/arg    { sse_jwt arg=token; sse_stream news; }
    location = /s/value  { sse_jwt value=\$http_x_token; sse_stream news; }
    location = /s/all    { sse_jwt $all; sse_stream news; }
    location = /s/guest  { sse_jwt bearer optional; sse_stream news; }
    location = /s/typ    { sse_jwt bearer typ=at+jwt; sse_stream news; }
    location = /s/leeway { sse_jwt bearer leeway=5m; sse_stream news; }
    location = /s/role   { sse_jwt bearer; sse_jwt_require role=editor role=admin iss=https://a.example exp=optional; sse_stream news; }
    location = /s/off    { sse_jwt off; sse_stream news; }
    location = /p        { sse_jwt bearer; sse_publish news; }
    location = /admin    { sse_jwt bearer; sse_jwt_require role=admin; sse_admin; }
    location = /figures  { sse_jwt bearer; sse_status; }
    location = /public   { sse_jwt bearer; sse_jwt_key %%DIR%%/rsa.pem; sse_jwt_key %%DIR%%/ec.pem; sse_jwt_key %%DIR%%/ed.pem; sse_jwt_key %%DIR%%/p384.pem; sse_stream news; }
    location = /set      { sse_jwt bearer; sse_jwt_key %%DIR%%/set.json; sse_stream news; }
    location = /issuers  { sse_jwt bearer; sse_jwt_key %%DIR%%/secret secret iss=https://a.example; sse_jwt_key %%DIR%%/other secret iss=https://b.example; sse_stream news; }
    location = /pss      { sse_jwt bearer; sse_jwt_key %%DIR%%/pss.pem alg=PS256; sse_stream news; }
    location = /cookie/p { sse_jwt cookie=session; sse_cors https://app.example credentials; sse_publish news; }
    location = /cookie/admin { sse_jwt cookie=session; sse_jwt_require role=admin; sse_admin; }
    location = /value/p  { sse_jwt value=\$http_x_token; sse_cors *; sse_publish news; }
EOF_CONFIG
my $stage = SSE::Stage->new(
    http => <<"EOF_HTTP",
        $key
        large_client_header_buffers 4 16k;
        sse_jwt_set \$level app access;
        sse_jwt_set \$tenant Tenant;
        log_format claims '\$uri sub=\$sse_jwt_claim_sub level=\$level tenant=\$tenant';
        access_log %%DIR%%/claims.log claims;
        @{[ tls_and_http2_servers($server) ]}
EOF_HTTP
    server => "location = /status { sse_jwt off; sse_status; } $server",
    files  => {
        %{ certificate() }, secret => "$SECRET\n", other => 'b' x 32, 'set.json' => qq({"keys":[$jwk]}), 'rsa.pem' => $pair{RS256}{public}, 'ec.pem' => $pair{ES256}{public},
        'ed.pem' => $pair{EdDSA}{public}, 'p384.pem' => $pair{ES384}{public}, 'pss.pem' => $pair{PS256}{public},
    },
);
my $nginx = $stage->cluster;
my $valid = token({ sub => 'alice', app => { access => 3 }, Tenant => 'acme' });

# Valid tokens.
is(status('/s/bearer', Authorization => "Bearer $valid"), 200, 'a valid token opens a stream');
is(status('/p', Authorization => "Bearer $valid"), 201, 'a valid token publishes');
is(status('/figures', Authorization => "Bearer $valid"), 200, 'a valid token shows the status');
is(status('/admin', Authorization => 'Bearer ' . token({ role => 'admin' })), 200, 'a token with the required claim administers');
is(status('/admin', Authorization => "Bearer $valid"), 401, 'a token without the required claim does not administer');
is(status('/s/off'), 200, 'sse_jwt off needs no token');
is(status($_ eq 'PS256' ? '/pss' : '/public', Authorization => 'Bearer ' . token({}, pair => $pair{$_})), 200, "$_ is verified")
    for sort keys %pair;
ok(wait_for(sub { SSE::Cluster::slurp($nginx->dir . '/claims.log') =~ m{^/s/bearer sub=alice level=3 tenant=acme$}m }),
    'variables have the values of claims');

# Refusals: the same bytes for all.
my $answer = request(port => $stage->port, path => '/s/bearer');
is($answer->{status}, 401, 'without a token, a stream is refused');
is_deeply($answer->{header}{'www-authenticate'}, ['Bearer'], 'the challenge has no error');
my %refused;
my $refuse = sub ($name, $token, $path = '/s/bearer') {
    my $answer = request(port => $stage->port, path => $path, headers => [Authorization => "Bearer $token"]);
    my $bytes  = $answer ? "$answer->{status} " . ($answer->{header}{'www-authenticate'}[0] // '') . $answer->{body} : 'none';
    $refused{$bytes}++;
    is($answer && $answer->{status}, 401, "refused: $name");
    return;
};
my ($head, $claims, $mac) = split /\./, $valid;
my $hs = '{"alg":"HS256"}';
my $in_an_hour = '{"exp":' . (time + 3600) . '}';
$refuse->("alg $_", join '.', encode_base64url(qq({"alg":"$_"})), $claims, '') for qw(none None NONE nOnE);
$refuse->('no alg', signed('{}', $in_an_hour));
$refuse->('alg is a number', signed('{"alg":256}', $in_an_hour));
$refuse->('no signature', "$head.$claims.");
$refuse->('two parts', "$head.$claims");
$refuse->('four parts', "$valid.$mac");
$refuse->('padding', "$valid=");
$refuse->('other characters', "$head.$claims.+/$mac");
$refuse->('another secret', token({}, secret => 'x'));
$refuse->('an empty secret', token({}, secret => ''));
my $der = decode_base64(join '', grep { !/^-/ } split /\n/, $pair{RS256}{public});
$refuse->('HS256 with a public key in PEM', token({}, secret => $pair{RS256}{public}), '/public');
$refuse->('HS256 with that PEM without its last line break', token({}, secret => $pair{RS256}{public} =~ s/\n\z//r), '/public');
$refuse->('HS256 with the public key in DER', token({}, secret => $der), '/public');
$refuse->('RS256 by another key', token({}, pair => { %{ $pair{PS256} }, alg => 'RS256' }), '/public');
$refuse->('PS256 on a key for RS256', token({}, pair => { %{ $pair{PS256} }, alg => 'PS256' }), '/public');
$refuse->('RS256 on a key for PS256', token({}, pair => $pair{RS256}), '/pss');
$refuse->("ES256 with $_->[0]", join('.', encode_base64url('{"alg":"ES256"}'), $claims, encode_base64url($_->[1])), '/public')
    for ['r = s = 0', "\0" x 64], ['63 bytes', "\1" x 63], ['65 bytes', "\1" x 65], ['r and s above n', "\xff" x 64];
$refuse->("the header member $_", signed(qq({"alg":"HS256",$_}), $in_an_hour))
    for '"crit":["exp"]', '"b64":false', '"zip":"DEF"', '"alg":"HS256"', '"kid":1';
my ($rs_signed, $rs_signature) = token({}, pair => $pair{RS256}) =~ /\A(.*)\.([^.]+)\z/;
my $rs_bytes = MIME::Base64::decode_base64url($rs_signature);
$refuse->("RS256 with a signature that is $_->[0]", "$rs_signed." . encode_base64url($_->[1]), '/public')
    for ['a byte short', substr $rs_bytes, 1], ['a byte long', "\0$rs_bytes"], ['another byte long', "$rs_bytes\0"];
my $es_signed = join '.', map { encode_base64url($_) } '{"alg":"ES256"}', $in_an_hour;
my ($r, $s) = unpack 'a32 a32', $pair{ES256}{sign}->($es_signed);
$refuse->('ES256 with a signature in DER', "$es_signed." . encode_base64url("\x30\x46\x02\x21\0$r\x02\x21\0$s"), '/public');
is(status('/public', Authorization => "Bearer $es_signed." . encode_base64url("$r$s")), 200, 'ES256 with the same numbers is verified');
$refuse->('HS256 with the text of a JWK', token({}, secret => $_, header => { kid => 'k' }), '/set') for $jwk, qq({"keys":[$jwk]});
$refuse->('RS256 with the kid of an ES256 key', token({}, pair => $pair{RS256}, header => { kid => 'k' }), '/set');
my $by_kid = sub ($kid) { token({}, pair => $pair{ES256}, header => { kid => $kid }) };
is(status('/set', Authorization => 'Bearer ' . $by_kid->('k')), 200, 'the kid of a key chooses it');
$refuse->("the kid $_->[0]", $by_kid->($_->[1]), '/set')
    for ['of a file', '/dev/null'], ['with SQL', "k' OR '1'='1"], ['of 5,000 bytes', 'k' x 5000], ['with a NUL', "k\0"], ['in upper case', 'K'];
my $of_issuer = sub ($secret, @iss) { token({ @iss ? (iss => $iss[0]) : () }, secret => $secret) };
is(status('/issuers', Authorization => 'Bearer ' . $of_issuer->('b' x 32, 'https://b.example')), 200, 'a key verifies tokens of its issuer');
$refuse->("the issuer $_->[0]", $of_issuer->($_->[1], @$_[2 .. $#$_]), '/issuers')
    for ['of another key', $SECRET, 'https://b.example'], ['that is a prefix', $SECRET, 'https://a.exampl'], ['with more', $SECRET, 'https://a.example/'], ['is missing', $SECRET];
$refuse->('JSON serialization', qq({"protected":"$head","payload":"$claims","signature":"$mac"}));
$refuse->('a space', "$head. $claims.$mac");
$refuse->('bits that belong to no byte', "$head.$claims." . substr($mac, 0, -1) . chr(1 + ord substr $mac, -1));
my $of_length = sub ($length) {
    my $payload = int(($length - length(encode_base64url($hs)) - 45) * 3 / 4);
    my ($begin, $end) = ('{"exp":9000000000,"a":"', '"}');
    return signed($hs, $begin . 'a' x ($payload - length "$begin$end") . $end);
};
is(length $of_length->($_), $_, "a token of $_ bytes") for 8192, 8193;
is(status('/s/bearer', Authorization => 'Bearer ' . $of_length->(8192)), 200, 'the longest token is accepted');
$refuse->('a longer one', $of_length->(8193));
is(status('/s/bearer', Authorization => 'Bearer ' . signed($hs, '{"exp":9223372036854775808}')), 200, 'exp may be larger than 64 bits can count milliseconds');
my $local = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 5, Blocking => 0) or die "listen: $!";
my $keys  = 'http://127.0.0.1:' . $local->sockport . '/keys';
$refuse->("a key in the header: $_", signed(qq({"alg":"RS256","$_":"$keys"}), $in_an_hour), '/public') for qw(jku x5u);
$refuse->('a JWK in the header', signed('{"alg":"HS256","jwk":{"kty":"oct","k":"eA"}}', $in_an_hour, secret => 'x'));
$refuse->('an encrypted token', join '.', encode_base64url('{"alg":"dir","enc":"A128GCM"}'), '', 'AAAA', 'AAAA', 'AAAA');
$refuse->("claims that are $_", signed($hs, $_)) for 'null', '[]', '{', '', '{"exp":9e9,"exp":9e9}', '{"exp":"9000000000"}',
    '{"exp":1e400}', '{"exp":-1}', '{"exp":9e9,"sub":5}', '{"exp":9e9,"iss":["a"]}', '{"a":' . '[' x 1000 . ']' x 1000 . '}';
$refuse->('an expired token', token({ exp => time - 1 }));
$refuse->('a token without exp', token({ exp => undef }));
$refuse->('a token that is not valid yet', token({ nbf => time + 60 }));
$refuse->('another type', token(), '/s/typ');
$refuse->('another role', token({ role => 'reader', iss => 'https://a.example' }), '/s/role');
$refuse->('another issuer', token({ role => 'admin', iss => 'https://a.example.org' }), '/s/role');
is(scalar keys %refused, 1, 'all these responses have the same bytes');
like((keys %refused)[0], qr/\A401 Bearer error="invalid_token"/, 'the challenge says that the token is invalid');
ok(!$local->accept, 'no keys were fetched');
my $figures = request(port => $stage->port, path => '/status')->{json}{hubs}{default}{tokens_refused};
cmp_ok($figures->{$_}, '>', 0, "refusals are counted: $_") for qw(missing malformed algorithm signature claim expired not_yet);
my $log = $nginx->error_log;
like($log, qr/\[info\] .*sse: token refused: expired \d+ s ago, client/, 'the reason is logged');
unlike($log, qr/\Q$mac\E|\Q$claims\E/, 'no token is logged');

# Options.
is(status('/s/guest'), 200, 'with optional, no token is needed');
is(status('/s/guest', Authorization => 'Bearer x'), 401, 'with optional, an invalid token is refused');
is(status('/s/typ', Authorization => 'Bearer ' . token({}, header => { typ => 'application/AT+JWT' })), 200, 'the type is compared without prefix and case');
is(status('/s/leeway', Authorization => 'Bearer ' . token({ exp => time - 60 })), 200, 'leeway accepts an expired token for a while');
is(status('/s/leeway', Authorization => 'Bearer ' . token({ exp => time - 400 })), 401, 'and not longer');
is(status('/s/role', Authorization => 'Bearer ' . token({ role => ['x', $_], iss => 'https://a.example', exp => undef })), 200, "the role $_ is accepted")
    for qw(editor admin);
is(status('/s/bearer', Authorization => 'Bearer ' . token({ exp => time + 60.5 })), 200, 'times may have fractions');

# Places.
for my $scheme ('Bearer ', 'bearer ', 'BEARER   ') {
    is(status('/s/bearer', Authorization => "$scheme$valid"), 200, "the scheme \"$scheme\"");
}
is(status('/s/bearer', Authorization => "Basic $valid"), 401, 'another scheme has no token');
is(status('/s/cookie', Cookie => "a=1; session=$valid; b=2"), 200, 'a cookie');
is(status('/s/cookie', Cookie => 'a=1', Cookie => "session=$valid"), 200, 'a cookie in the second header');
is(status('/s/cookie', Cookie => "session=$valid; session=x"), 200, 'the first of two cookies counts');
is(status('/s/cookie', Cookie => "session=x; session=$valid"), 401, 'the second does not');
is(status('/s/cookie', Cookie => "Session=$valid"), 401, 'the name of a cookie has upper and lower case');
is(status("/s/arg?a=1&token=$valid"), 200, 'an argument');
is(status("/s/arg?TOKEN=$valid"), 200, 'the name of an argument has no case');
is(status('/s/arg?token=' . $valid =~ s/\./%2E/gr), 200, 'an argument may be percent-encoded');
is(status('/s/value', 'X-Token' => $valid), 200, 'a variable');
my %places = (bearer => [Authorization => "Bearer $valid"], cookie => [Cookie => "session=$valid"], value => ['X-Token' => $valid]);
is(status('/s/all', @{ $places{$_} }), 200, "one of several places: $_") for sort keys %places;
is(status("/s/all?token=$valid"), 200, 'one of several places: argument');
is(status("/s/all?token=x", @{ $places{cookie} }, 'X-Token' => 'x'), 200, 'the first place in the fixed order counts');
is(status('/s/all', Authorization => 'Bearer x', @{ $places{cookie} }), 401, 'another one is not tried after an invalid token');
for my $way (['--http2-prior-knowledge', 'http', 'h2c'], ['--http2', 'https', 'tls']) {
    my ($option, $scheme, $port) = @$way;
    my $address = "$scheme://127.0.0.1:" . $nginx->port($port);
    my @curl = ($option, '-k');
    is(curl(@curl, '-H', "Authorization: Bearer $valid", "$address/s/bearer"), 200, "HTTP/2 on $port: bearer");
    is(curl(@curl, '-H', "Cookie: a=1; session=$valid", "$address/s/cookie"), 200, "HTTP/2 on $port: cookie");
    is(curl(@curl, "$address/s/arg?token=$valid"), 200, "HTTP/2 on $port: argument");
    is(curl(@curl, "$address/s/arg?token=x"), 401, "HTTP/2 on $port: an invalid token");
}

# A page of another site must not use its visitor's cookie.
my @cookie = (Cookie => 'session=' . token({ role => 'admin' }));
my $origin = 'http://localhost';
is(post('/cookie/p', @cookie), 403, 'a publish with a cookie needs an origin');
is(post('/cookie/p', @cookie, Origin => 'https://evil.example'), 403, 'another origin is refused');
is(post('/cookie/p', @cookie, Origin => 'null'), 403, 'the origin null is refused');
is(post('/cookie/p', @cookie, Origin => $origin), 201, 'the own origin is accepted');
is(post('/cookie/p', @cookie, Origin => 'https://app.example'), 201, 'an origin of sse_cors is accepted');
is(post('/cookie/p', @cookie, 'Sec-Fetch-Site' => 'same-origin'), 201, 'a request of the same origin is accepted');
is(post('/cookie/p', @cookie, 'Sec-Fetch-Site' => $_), 403, "Sec-Fetch-Site: $_ is refused") for qw(cross-site same-site none);
is(post('/value/p', 'X-Token' => $valid), 403, 'a variable is treated like a cookie');
is(post('/value/p', 'X-Token' => $valid, Origin => 'https://evil.example'), 403, 'sse_cors * allows no origin then');
is(post('/p', Authorization => "Bearer $valid"), 201, 'a bearer token needs no origin');
my @delete = (port => $stage->port, method => 'DELETE', path => '/cookie/admin?channel=news&only=history');
is(request(@delete, headers => [@cookie])->{status}, 403, 'administration with a cookie needs an origin');
is(request(@delete, headers => [@cookie, Origin => $origin])->{status}, 200, 'the own origin may administer');

$stage->ends_cleanly;
done_testing();

# The status of a stream, which is closed, or of another response; of a publish for /p.
sub status ($path, @headers) {
    return post($path, @headers) if $path eq '/p';
    if ($path =~ m{^/(?:figures|admin)}) {
        my $answer = request(port => $stage->port, path => $path, headers => \@headers);
        return $answer && $answer->{status};
    }
    my $client = SSE::Client->new(port => $stage->port, path => $path, headers => \@headers);
    wait_for(sub { $client->{status} || $client->{state} !~ /waiting|connecting/ }, 10);
    $client->close;
    return $client->{status};
}

sub post ($path, @headers) {
    my $answer = request(port => $stage->port, path => $path, headers => \@headers, body => 'x');
    return $answer && $answer->{status};
}

# The status of a response to curl.
sub curl (@arguments) {
    my $stream = SSE::Curl->new(@arguments);
    wait_for(sub { $stream->{status} }, 10);
    my $status = $stream->{status};
    $stream->drop;
    return $status;
}
