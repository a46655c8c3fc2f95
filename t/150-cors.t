# sse_cors: what pages of other origins may read, which preflight requests are answered, and who may
# publish.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use MIME::Base64 qw(encode_base64);
use Test::More;
use SSE::HTTP qw(request);
use SSE::Stage;

my $basic = 'auth_basic "stream"; auth_basic_user_file %%DIR%%/users;';
my $stage = SSE::Stage->new(
    server => <<"EOF_CONFIG",
        location = /none/s { sse_stream news; }
        location = /none/p { sse_publish news; }
        location = /any/s  { sse_stream news \$arg_c split=,; sse_cors *; }
        location = /any/p  { sse_publish news; sse_cors *; }
        location /listed/ {
            sse_cors https://app.example HTTP://Localhost:5173 https://shop.example:443;
            location = /listed/s { sse_stream news; }
            location = /listed/p { sse_publish news; }
            location = /listed/off { sse_stream news; sse_cors off; }
            location = /listed/status { sse_status; }
        }
        location /trusted/ {
            sse_cors https://app.example credentials;
            location = /trusted/s { sse_stream \$arg_c; }
            location = /trusted/p { sse_publish news; }
        }
        location /locked/ {
            sse_cors https://app.example credentials;
            $basic
            location = /locked/s { sse_stream news; }
            location = /locked/denied { sse_stream news; deny all; }
            location = /locked/p { sse_publish news; client_max_body_size 1k; }
        }
EOF_CONFIG
    files => { users => "ann:{PLAIN}secret\n" },
);
my $app = 'https://app.example';

# Streams.
is_deeply(cors(stream('/none/s', $app)), {}, 'without sse_cors a stream has no CORS headers');
is_deeply(cors(stream('/any/s', $app)), { origin => '*' }, '*: any origin may read');
is_deeply(cors(stream('/any/s')), { origin => '*' }, '*: the response does not vary by origin');
my $listed = { origin => $app, vary => 'Origin' };
is_deeply(cors(stream('/listed/s', $app)), $listed, 'a listed origin is allowed, and the response has Vary: Origin');
is(cors(stream('/listed/s', 'http://localhost:5173'))->{origin}, 'http://localhost:5173', 'an origin with a port is compared without regard to case');
is(cors(stream('/listed/s', 'https://shop.example'))->{origin}, 'https://shop.example', 'the default port of the scheme is optional');
for my $origin ('https://evil.example', 'http://app.example', 'https://app.example:8443', 'https://app.example.evil.example',
    'https://APP.example', 'null', '', 'https://app.example, https://evil.example') {
    is_deeply(cors(stream('/listed/s', $origin)), { vary => 'Origin' }, "'$origin' is not allowed");
}
is_deeply(cors(stream('/listed/s')), { vary => 'Origin' }, 'a request without an origin is not allowed');
is_deeply(cors(stream('/trusted/s?c=news', $app)), { %$listed, credentials => 'true' }, 'credentials are allowed if configured');
is_deeply(cors(stream('/listed/off', $app)), {}, 'sse_cors off overrides outer levels');
is_deeply(cors(answer('/listed/status', $app)), { vary => 'Accept' }, 'the status has no CORS headers');

# Error responses can be read too.
my $refused = answer('/trusted/s?c=', $app);
is($refused->{status}, 400, 'an invalid channel is rejected');
is_deeply(cors($refused), { %$listed, credentials => 'true' }, 'the error can be read');
$refused = answer('/locked/s', $app);
is($refused->{status}, 401, 'a stream with auth_basic is rejected without a password');
is(cors($refused)->{origin}, $app, 'the 401 response of nginx can be read');
is(answer('/locked/denied', $app)->{status}, 403, 'deny applies');

# Preflight requests have no password.
for my $path ('/listed/s', '/trusted/p', '/locked/s', '/locked/p', '/locked/denied') {
    my $preflight = answer($path, $app, method => 'OPTIONS', headers =>
        ['Access-Control-Request-Method' => 'POST']);
    is($preflight->{status}, 204, "$path: a preflight is answered");
    is($preflight->{body}, '', "$path: without a body");
    my $cors = cors($preflight);
    is($cors->{origin}, $app, "$path: the origin is allowed");
    is($cors->{methods}, $path =~ m{/p\z} ? 'POST, PUT' : 'GET, HEAD', "$path: the methods are listed");
    for my $name (qw(Last-Event-ID Authorization Cache-Control Content-Type Idempotency-Key)) {
        like($cors->{headers}, qr/(?:\A|, )\Q$name\E(?:,|\z)/, "$path: $name is allowed");
    }
    like($cors->{max_age}, qr/\A\d+\z/, "$path: the preflight may be cached");
}

# The requested headers are allowed if they are valid.
my $fixed = cors(answer('/listed/s', $app, method => 'OPTIONS'))->{headers};
for my $case (
    ['datastar-request', 'datastar-request', 'the headers of Datastar'],
    ['authorization,hx-request-type,last-event-id', 'authorization, hx-request-type, last-event-id', 'the headers of htmx'],
    ['X-One , X_Two', 'X-One, X_Two', 'names of any kind'],
    ['a' x 1024, 'a' x 1024, 'a list of 1 KiB'],
    ['a' x 1025, $fixed, 'a longer list'],
    ['a b', $fixed, 'an invalid name'],
    ['x-good, "x-bad"', $fixed, 'a list with an invalid name'],
    [',', $fixed, 'an empty list'],
) {
    my ($asked, $allowed, $what) = @$case;
    for my $path ('/listed/s', '/listed/p', '/any/s', '/trusted/p') {
        my $cors = cors(answer($path, $app, method => 'OPTIONS', headers => ['Access-Control-Request-Headers' => $asked]));
        is($cors->{headers}, $allowed, "$path: $what is answered with " . ($allowed eq $fixed ? 'the usual ones' : 'that'));
        is($cors->{vary}, ($path eq '/any/s' ? '' : 'Origin, ') . 'Access-Control-Request-Headers', "$path: the response varies by the requested headers");
    }
}
is(cors(answer('/listed/s', 'https://evil.example', method => 'OPTIONS',
    headers => ['Access-Control-Request-Headers' => 'x-evil']))->{headers}, $fixed, 'another origin is not allowed any headers');
is(cors(stream('/listed/s', $app))->{vary}, 'Origin', 'a stream does not vary by the requested headers');
my $preflight = answer('/listed/s', 'https://evil.example', method => 'OPTIONS');
is($preflight->{status}, 204, 'a preflight of another origin is answered');
is(cors($preflight)->{origin}, undef, 'without allowing it');
is(cors(answer('/any/s', $app, method => 'OPTIONS'))->{origin}, '*', 'with * a preflight allows any origin');
for my $path ('/none/s', '/none/p', '/listed/status') {
    $refused = answer($path, $app, method => 'OPTIONS');
    is($refused->{status}, 405, "$path: without sse_cors preflight requests are rejected");
    unlike($refused->{header}{allow}[0], qr/OPTIONS/, "$path: Allow does not list OPTIONS");
}
is(answer('/listed/s', $app, method => 'DELETE')->{header}{allow}[0], 'GET, HEAD, OPTIONS', 'Allow of a stream lists OPTIONS');
is(answer('/listed/p', $app, method => 'DELETE')->{header}{allow}[0], 'POST, PUT, OPTIONS', 'Allow of a publisher lists OPTIONS');

# Publishing.
is(publish('/none/p'), 201, 'a client without an origin may publish');
is(publish('/none/p', Origin => $app), 403, 'a page of another origin may not');
is(publish('/none/p', Origin => 'http://localhost'), 201, 'a page of this host may');
is(publish('/none/p', 'Sec-Fetch-Site' => 'cross-site'), 403, 'a request marked as cross-site may not');
is(publish('/listed/p', Origin => $app), 201, 'with sse_cors a page of a listed origin may');
is(publish('/listed/p', Origin => $app, 'Sec-Fetch-Site' => 'cross-site'), 201, 'a listed origin may, even if marked as cross-site');
is(publish('/listed/p', Origin => 'https://evil.example'), 403, 'an origin that is not listed may not');
is(publish('/listed/p', Origin => 'null'), 403, 'an opaque origin may not');
is(publish('/listed/p', 'Sec-Fetch-Site' => 'cross-site'), 403, 'a cross-site request without an origin may not');
is(publish('/any/p', Origin => 'https://evil.example', 'Sec-Fetch-Site' => 'cross-site'), 201, 'with * any page may');
my $answer = answer('/listed/p', $app, body => 'x');
is_deeply(cors($answer), { %$listed, expose => 'Retry-After' }, 'the response can be read by the page');
$answer = answer('/listed/p', 'https://evil.example', body => 'x');
is_deeply(cors($answer), { vary => 'Origin', expose => 'Retry-After' }, 'a rejected page cannot read the error');
my @ann = (Authorization => 'Basic ' . encode_base64('ann:secret', ''));
is(publish('/locked/p', Origin => $app, @ann), 201, 'credentials with the right password are accepted');
is(publish('/locked/p', Origin => $app), 401, 'and not without');

$stage->ends_cleanly;
done_testing();

sub answer ($path, $origin = undef, %options) {
    my @origin = defined $origin ? (Origin => $origin) : ();
    return request(port => $stage->port, path => $path, timeout => 5, %options,
        headers => [@origin, @{ $options{headers} // [] }]);
}

# A header of a stream's response, read with HEAD.
sub stream ($path, $origin = undef) {
    my $head   = answer($path, $origin, method => 'HEAD');
    my $client = $stage->stream($path, headers => [defined $origin ? (Origin => $origin) : ()]);
    is_deeply(cors($client), cors($head), "$path: GET and HEAD have the same header");
    $client->close;
    return $head;
}

sub publish ($path, @headers) {
    return request(port => $stage->port, path => $path, body => 'x', headers => \@headers)->{status};
}

# The CORS headers of a response.
sub cors ($answer) {
    my %name = (origin => 'allow-origin', credentials => 'allow-credentials', methods => 'allow-methods',
        headers => 'allow-headers', max_age => 'max-age', expose => 'expose-headers');
    my %said = map { $_ => $answer->{header}{"access-control-$name{$_}"} } keys %name;
    $said{vary} = $answer->{header}{vary};
    return { map { $_ => join ' AND ', @{ $said{$_} } } grep { $said{$_} } keys %said };
}
