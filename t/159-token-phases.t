# Tokens beside nginx's other access checks, in internal redirects, and over changes of the keys.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use MIME::Base64 qw(encode_base64);
use Test::More;
use SSE::HTTP qw(request);
use SSE::Loop qw(wait_for);
use SSE::Nginx qw(has_module);
use SSE::Stage;
use SSE::Token qw(token key_pair encode_base64url $SECRET);

plan skip_all => 'nginx is built without auth_request' if !has_module('http_auth_request');

my $basic = 'auth_basic stream; auth_basic_user_file %%DIR%%/users;';
my %files = (secret => $SECRET, users => "reader:{PLAIN}password\n");
my $stage = SSE::Stage->new(
    http => <<'EOF_HTTP',
        sse_jwt_key %%DIR%%/secret secret;
        limit_conn_zone $sse_jwt_claim_sub zone=users:1m;
        limit_conn_status 429;
EOF_HTTP
    server => <<"EOF_CONFIG",
        location = /any     { satisfy any; sse_jwt bearer; $basic sse_stream news; }
        location = /allowed { satisfy any; sse_jwt bearer; allow 127.0.0.1; deny all; sse_stream news; }
        location = /all     { satisfy all; sse_jwt cookie=session; $basic sse_stream news; }
        location = /denied  { sse_jwt bearer; deny all; sse_stream news; }
        location = /one     { sse_jwt bearer; limit_conn users 1; sse_stream news; }
        location = /asks    { sse_jwt bearer; auth_request /check; sse_stream news; }
        location = /check   { internal; if (\$sse_jwt_claim_sub = 'alice') { return 204; } return 403; }
        location = /page    { sse_jwt bearer; error_page 401 /login; sse_stream news; }
        location = /page-ok { sse_jwt bearer; error_page 401 = /fallback; sse_stream news; }
        location = /login   { default_type text/plain; return 401 "log in\\n"; }
        location = /fallback { sse_stream news; }
        location = /methods { sse_jwt bearer; limit_except GET { deny all; } sse_publish news; }
        location = /if      { sse_jwt bearer; if (\$arg_a) { set \$b 1; } sse_stream news; }
        location = /if/admin { sse_jwt bearer; if (\$arg_a) { set \$b 1; } sse_admin; }
        location = /by-claim { sse_jwt bearer optional; if (\$sse_jwt_claim_sub = 'eve') { return 404; } sse_stream news; }
        location = /first   { sse_jwt bearer optional; error_page 418 = /second; if (\$arg_next) { return 418; } sse_stream news; }
        location = /second  { internal; sse_jwt bearer; sse_jwt_require role=admin; sse_stream news; }
        location = /accel   { sse_jwt bearer; error_page 404 = /second; sse_publish news; }
        location = /cors    { sse_jwt bearer; sse_cors https://app.example; sse_stream news; }
        location = /mirrored { sse_jwt bearer; mirror /mirror; sse_publish news; }
        location = /mirror  { internal; sse_jwt bearer; sse_publish copies; }
        location = /mirrored-to { sse_jwt bearer; mirror /mirror-to; sse_publish news; }
        location = /mirror-to { internal; sse_jwt bearer; sse_jwt_channels channels; sse_publish \$arg_c; }
        location = /unverified-to { mirror /mirror-to; sse_publish news; }
        location = /application { proxy_pass http://127.0.0.1:%%PORT%%/sends; }
        location = /sends   { add_header X-Accel-Redirect /inner; return 200; }
        location = /inner   { internal; sse_jwt bearer; sse_stream "user:\$sse_jwt_claim_sub"; }
        location = /figures { sse_jwt bearer; sse_status; }
        location = /copies  { sse_jwt off; sse_stream copies; }
        location = /value   { sse_jwt value=\$sse_jwt_claim_sub; sse_stream news; }
        location = /rewritten { rewrite ^ /any last; }
EOF_CONFIG
    files => \%files,
);
my $nginx  = $stage->cluster;
my $valid  = token({ sub => 'alice' });
my @bearer = (Authorization => "Bearer $valid");
my @basic  = (Authorization => 'Basic ' . encode_base64('reader:password', ''));

is(status('/any', @bearer), 200, 'satisfy any: a token is enough');
is(status('/any', @basic), 200, 'satisfy any: a password is enough');
is(status('/any'), 401, 'satisfy any: neither is not');
is_deeply([challenges('/any')], ['Bearer', 'Basic realm="stream"'], 'satisfy any: both challenges are sent');
is_deeply([challenges('/any', @basic)], [], 'satisfy any: a success has no challenge');
is_deeply([challenges('/allowed')], [], 'nor has one that an address permits');
is(status('/allowed'), 200, 'an address is enough');
is(status('/all', @basic), 401, 'satisfy all: a password is not enough');
is(status('/all', Cookie => "session=$valid"), 401, 'satisfy all: nor is a token');
is(status('/all', @basic, Cookie => "session=$valid"), 200, 'satisfy all: both are');
is(status('/denied', @bearer), 403, 'deny applies in addition');
is(status('/denied'), 401, 'a token is asked for first');
is(status('/rewritten', @bearer), 200, 'after a rewrite');

my $first = $stage->stream('/one', headers => \@bearer);
is(status('/one', @bearer), 429, 'limit_conn counts by claim');
is(status('/one', Authorization => 'Bearer ' . token({ sub => 'bob' })), 200, 'and another subject for itself');
$first->close;

is(status('/asks', @bearer), 200, 'the location of auth_request sees the claim');
is(status('/asks', Authorization => 'Bearer ' . token({ sub => 'bob' })), 403, 'and another one');

my $answer = request(port => $stage->port, path => '/page');
is("$answer->{status} $answer->{body}", "401 log in\n", 'error_page has the body of a refusal');
is(status('/page-ok'), 200, 'error_page may answer in another way');
is_deeply([challenges('/page-ok')], ['Bearer'], 'with the challenge, as nginx does');
is(request(port => $stage->port, path => '/methods', body => 'x', headers => \@bearer)->{status}, 403, 'limit_except applies in addition');
is(request(port => $stage->port, path => '/methods', body => 'x')->{status}, 401, 'a block of limit_except inherits sse_jwt');
is(status('/if'), 401, 'a location with if needs a token');
is(status('/if?a=1'), 401, 'so does a block of if');
is(status('/if?a=1', @bearer), 200, 'which accepts it');
is(request(port => $stage->port, path => '/if/admin?a=1', headers => \@bearer)->{status}, 200, 'also for an administrator');
is(status('/by-claim', @bearer), 200, 'a claim can be used in if');
is(status('/by-claim', Authorization => 'Bearer ' . token({ sub => 'eve' })), 404, 'before the access phase');
is(status('/first', @bearer), 200, 'a location with an internal redirect');
is(status('/first?next=1', @bearer), 401, 'the target verifies the token with its own settings');
is(status('/first?next=1', Authorization => 'Bearer ' . token({ role => 'admin' })), 200, 'and accepts what they allow');
is(status('/value'), 401, 'a token cannot be its own claim');

$answer = request(port => $stage->port, method => 'OPTIONS', path => '/cors',
    headers => [Origin => 'https://app.example', 'Access-Control-Request-Method' => 'GET', 'Access-Control-Request-Headers' => 'Authorization']);
is($answer->{status}, 204, 'a preflight needs no token');
$answer = request(port => $stage->port, path => '/cors', headers => [Origin => 'https://app.example']);
is("$answer->{status} $answer->{header}{'access-control-allow-origin'}[0]", '401 https://app.example', 'a page can read that it was refused');

my $copies = $stage->stream('/copies');
is(request(port => $stage->port, path => '/mirrored', body => 'mirrored', headers => \@bearer)->{status}, 201, 'a mirrored publish');
ok($copies->wait_data('mirrored'), 'the target of mirror is not asked for a token');
my $for_others = token({ channels => ['others'] });
my $for_copies = token({ channels => ['copies'] });
for my $case (['/mirrored-to', $for_others], ['/unverified-to', $for_copies], ['/mirrored-to', $for_copies]) {
    my ($path, $token) = @$case;
    request(port => $stage->port, path => "$path?c=copies", body => "to $path", headers => [Authorization => "Bearer $token"]);
}
ok($copies->wait_data('to /mirrored-to'), 'in a subrequest, the token of the request allows channels');
is(join(' ', $copies->data), 'mirrored to /mirrored-to', 'and no others; without sse_jwt in its location, it allows none');
$copies->close;

is(status('/application'), 401, 'the target of X-Accel-Redirect needs a token');
is(status('/application', @bearer), 200, 'and accepts one');
my $expired = token({ sub => 'eve', exp => time - 1 });
is(status('/by-claim', Authorization => "Bearer $expired"), 401, 'an invalid token has no claims');

# Each request of a connection has a token of its own.
SKIP: {
    skip 'curl is missing', 1 if !`curl --version`;
    my $address = 'http://127.0.0.1:' . $stage->port . '/figures';
    my @with    = ('-H', "Authorization: Bearer $valid");
    my @each    = ('-s', '-o', '/dev/null', '-w', '%{http_code} %{num_connects}\n');
    my @request = map { ['--next', @each, @$_, $address] } [], [@with], [], ['-H', "Authorization: Bearer $expired"], [@with];
    open my $curl, '-|', 'curl', @each, @with, $address, map { @$_ } @request or die "curl: $!";
    is(join(' ', map { s/\n//r } <$curl>), '200 1 401 0 200 0 401 0 401 0 200 0', 'requests on one connection are verified for themselves');
}

# Keys.
my $rsa     = key_pair('RS256');
my $dir     = $nginx->dir;
my $reloads = sub ($title, $keys, %files) {
    SSE::Cluster::write_file("$dir/$_", $files{$_}) for keys %files;
    $nginx->configure(http => "$keys limit_conn_zone \$sse_jwt_claim_sub zone=users:1m; limit_conn_status 429;");
    ok($nginx->reload, $title);
};
my $by_rsa = token({ sub => 'alice' }, pair => $rsa);
my $other  = token({ sub => 'alice' }, secret => 'b' x 32);
my $old    = 'sse_jwt_key %%DIR%%/secret secret;';
$reloads->('a new secret is added', "$old sse_jwt_key %%DIR%%/new secret;", new => 'b' x 32);
is(status('/denied', Authorization => "Bearer $_"), 403, 'tokens of both secrets are accepted') for $valid, $other;
$reloads->('a public key replaces a secret', 'sse_jwt_key %%DIR%%/new secret; sse_jwt_key %%DIR%%/rsa.pem;', 'rsa.pem' => $rsa->{public});
is(status('/denied', Authorization => "Bearer $valid"), 401, 'tokens of a removed key are refused');
is(status('/denied', Authorization => "Bearer $_"), 403, 'others are accepted') for $other, $by_rsa;
my $set = sub (@kids) { '{"keys":[' . join(',', map { '{"kty":"oct","kid":"' . $_ . '","k":"' . encode_base64url($_ x 32) . '"}' } @kids) . ']}' };
my $of  = sub ($kid) { token({ sub => 'alice' }, header => { kid => $kid }, secret => $kid x 32) };
$reloads->('a set of keys', 'sse_jwt_key %%DIR%%/set;', set => $set->('a', 'b'));
is(status('/denied', Authorization => 'Bearer ' . $of->($_->[0])), $_->[1], "key $_->[0]: $_->[1]") for ['a', 403], ['b', 403], ['c', 401];
$reloads->('a set that has changed', 'sse_jwt_key %%DIR%%/set;', set => $set->('b', 'c'));
is(status('/denied', Authorization => 'Bearer ' . $of->($_->[0])), $_->[1], "key $_->[0]: $_->[1]") for ['a', 401], ['b', 403], ['c', 403];
SSE::Cluster::write_file("$dir/set", 'broken');
$nginx->allow(qr/key file .* cannot be used/);
kill 'HUP', $nginx->pid;
ok($nginx->wait_lines(qr/key file .*set" cannot be used: it is neither PEM nor JSON/), 'an invalid file is reported on a reload');
is(status('/denied', Authorization => 'Bearer ' . $of->('b')), 403, 'and the keys from before stay');

$stage->ends_cleanly;
done_testing();

sub opened ($path, @headers) {
    my $client = SSE::Client->new(port => $stage->port, path => $path, headers => \@headers);
    wait_for(sub { $client->{status} || $client->{state} !~ /waiting|connecting/ }, 10);
    $client->close;
    return $client;
}

sub status ($path, @headers) { return opened($path, @headers)->{status} }

sub challenges ($path, @headers) {
    my $client = opened($path, @headers);
    return @{ $client->{header}{'www-authenticate'} // [] };
}
