# Invalid directives about tokens, and those that nginx warns of.

use v5.36;
use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;
use SSE::Cluster;
use SSE::Token qw(key_pair encode_base64url decode_base64 $SECRET);

my $rsa = key_pair('RS256');
my $ec  = key_pair('ES256');
my $der = decode_base64(join '', grep { !/^-/ } split /\n/, $rsa->{public});
system("openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024 2>/dev/null | openssl pkey -pubout -out $rsa->{dir}/weak.pem 2>/dev/null") == 0
    or die 'openssl failed';
system("openssl req -x509 -key $rsa->{dir}/key.pem -days 2 -subj /CN=x -out $rsa->{dir}/cert.pem 2>/dev/null") == 0 or die 'openssl failed';
my $jwk   = sub ($members) { return '{"kty":"oct","k":"' . encode_base64url($SECRET) . '"' . $members . '}' };
my %files = (
    secret   => "$SECRET\n",
    other    => 'b' x 32,
    short    => 'short',
    empty    => "\n",
    secret64 => 'YSBzZWNyZXQgb2YgdGhpcnR5LXR3byBieXRlcy4uLi4=',
    rsa      => $rsa->{public},
    ec       => $ec->{public},
    der      => $der,
    weak     => SSE::Cluster::slurp("$rsa->{dir}/weak.pem"),
    cert     => SSE::Cluster::slurp("$rsa->{dir}/cert.pem"),
    private  => SSE::Cluster::slurp("$rsa->{dir}/key.pem"),
    set      => '{"keys":[' . join(',', $jwk->(',"kid":"a"'), '{"kty":"EC","crv":"P-521"}', '7') . ']}',
    odd      => '{"keys":[{"kty":"EC","crv":"P-521"}]}',
    many     => '{"keys":[' . join(',', ('{}') x 65) . ']}',
    large    => 'x' x (1 << 20) . 'y',
);

my $key = 'sse_jwt_key secret secret;';
my $s   = 'sse_stream news;';

# Where: http, or the contents of a location; then the message.
my %refused = (
    'sse_jwt needs a place'                   => ["sse_jwt optional; $key $s", '"sse_jwt" needs "bearer", "cookie=", "arg=", or "value="'],
    'sse_jwt has no other parameter'          => ["sse_jwt header; $key $s", 'invalid parameter "header" in "sse_jwt" directive'],
    'a cookie has a name'                     => ["sse_jwt cookie=; $key $s", 'invalid parameter "cookie=" in "sse_jwt" directive'],
    'a place is given once'                   => ["sse_jwt cookie=a cookie=b; $key $s", '"sse_jwt" directive is duplicate'],
    'sse_jwt occurs once'                     => ["sse_jwt bearer; sse_jwt off; $key $s", '"sse_jwt" directive is duplicate'],
    'leeway is a time'                        => ["sse_jwt bearer leeway=soon; $key $s", 'invalid value "soon" in "sse_jwt" directive'],
    'leeway is at most 5m'                    => ["sse_jwt bearer leeway=6m; $key $s", '"leeway" must not be longer than 5m'],
    'sse_jwt needs a key'                     => ["sse_jwt bearer; $s", '"sse_jwt" needs "sse_jwt_key" in'],
    'it needs a key for its use'              => ["sse_jwt bearer; sse_jwt_key secret secret for=publish; $s", '"sse_jwt" needs "sse_jwt_key" in'],
    'a key file exists'                       => ["sse_jwt bearer; sse_jwt_key nothing; $s", 'key file ".*/nothing" cannot be used: No such file'],
    'a key file is a regular file'            => ["sse_jwt bearer; sse_jwt_key /dev/null; $s", 'key file "/dev/null" cannot be used: it is not a regular file'],
    'a key file is at most 1 MiB'             => ["sse_jwt bearer; sse_jwt_key large secret; $s", 'it is larger than 1 MiB'],
    'a key has no other parameter'            => ["sse_jwt bearer; sse_jwt_key secret hidden; $s", 'invalid parameter "hidden" in "sse_jwt_key" directive'],
    'a use is known'                          => ["sse_jwt bearer; sse_jwt_key secret secret for=all; $s", 'invalid parameter "for=all" in "sse_jwt_key" directive'],
    'an algorithm is known'                   => ["sse_jwt bearer; sse_jwt_key secret secret alg=none; $s", 'invalid algorithm "none" in "sse_jwt_key" directive'],
    'an algorithm fits the key'               => ["sse_jwt bearer; sse_jwt_key rsa alg=ES256; $s", '"alg" does not fit its keys'],
    'every algorithm fits a key'              => ["sse_jwt bearer; sse_jwt_key rsa alg=RS256,ES256; $s", '"alg" does not fit its keys'],
    'a secret is marked as one'               => ["sse_jwt bearer; sse_jwt_key secret; $s", 'it is neither PEM nor JSON; for a secret, add "secret" or "secret64"'],
    'a secret is not empty'                   => ["sse_jwt bearer; sse_jwt_key empty secret; $s", 'it is empty'],
    'a secret in base64 is base64'            => ["sse_jwt bearer; sse_jwt_key secret secret64; $s", 'it is not base64'],
    'a public key is no secret'               => ["sse_jwt bearer; sse_jwt_key rsa secret; $s", 'it is a public key or a certificate, not a secret'],
    'a public key in DER is no secret'        => ["sse_jwt bearer; sse_jwt_key der secret; $s", 'it is a public key or a certificate, not a secret'],
    'a certificate is no secret'              => ["sse_jwt bearer; sse_jwt_key cert secret; $s", 'it is a public key or a certificate, not a secret'],
    'a key set is no secret'                  => ["sse_jwt bearer; sse_jwt_key set secret; $s", 'it is a public key or a certificate, not a secret'],
    'a certificate is no key'                 => ["sse_jwt bearer; sse_jwt_key cert; $s", 'it contains a certificate; use its public key'],
    'a private key is refused'                => ["sse_jwt bearer; sse_jwt_key private; $s", 'it contains a private key; use the public key'],
    'a short RSA key is refused'              => ["sse_jwt bearer; sse_jwt_key weak; $s", 'it contains an RSA key of less than 2048 bits'],
    'a set has a usable key'                  => ["sse_jwt bearer; sse_jwt_key odd; $s", 'it contains no usable key: key 1 is of an unsupported kind'],
    'a set has at most 64 keys'               => ["sse_jwt bearer; sse_jwt_key many; $s", 'it contains more than 64 keys'],
    'a key is given once'                     => ["sse_jwt bearer; $key sse_jwt_key secret secret; $s", 'contains a key that another "sse_jwt_key" has for the same purpose'],
    'a key is given once, in any form'        => ["sse_jwt bearer; $key sse_jwt_key secret64 secret64; $s", 'contains a key that another "sse_jwt_key" has'],
    'a required claim has a name'             => ["sse_jwt bearer; sse_jwt_require =x; $key $s", 'a name of a claim is missing in "sse_jwt_require" directive'],
    'exp is optional or not'                  => ["sse_jwt bearer; sse_jwt_require exp=5; $key $s", '"exp" can only be "optional" in "sse_jwt_require" directive'],
    'a claim has values or not'               => ["sse_jwt bearer; sse_jwt_require a a=1; $key $s", 'a claim is listed both with and without a value'],
    'the channels are in a claim'             => ["sse_jwt bearer; sse_jwt_channels split=,; $key $s", 'no claim in "sse_jwt_channels" directive'],
    'split is one character'                  => ["sse_jwt bearer; sse_jwt_channels a split=ab; $key $s", 'invalid parameter "split=ab" in "sse_jwt_channels" directive'],
    'sse_admin does not inherit sse_jwt'      => ['sse_admin;', '"sse_admin" inherits "sse_jwt", so that every valid token would administer', "sse_jwt bearer; $key"],
    'not even with a key for administrators beside another one' =>
        ['sse_admin;', '"sse_admin" inherits "sse_jwt"', "sse_jwt bearer; $key sse_jwt_key other secret for=admin;"],
    'a variable begins with a dollar sign'    => [$s, 'invalid variable name "level" in "sse_jwt_set" directive', 'sse_jwt_set level a;'],
    'a variable needs a claim'                => [$s, 'invalid number of arguments in "sse_jwt_set"', 'sse_jwt_set $level;'],
    'a variable is new'                       => [$s, 'the duplicate "uri" variable', 'sse_jwt_set $uri a;'],
    'set does not redefine a claim'           => ["set \$sse_jwt_claim_sub alice; $s", 'the duplicate "sse_jwt_claim_sub" variable'],
    'nor does map'                            => [$s, 'the duplicate "sse_jwt_claim_sub" variable', 'map $uri $sse_jwt_claim_sub { default alice; }'],
    'nor does a named capture'                => ["if (\$uri ~ (?<sse_jwt_claim_sub>.+)) { return 204; } $s", 'the duplicate "sse_jwt_claim_sub" variable'],
    'nor does sse_jwt_set'                    => [$s, 'the duplicate "sse_jwt_claim_sub" variable', 'sse_jwt_set $sse_jwt_claim_sub a;'],
    'not even one that map has defined before' => [$s, 'the duplicate "level" variable', 'map $uri $level { default a; } sse_jwt_set $level b;'],
    'nor one that set has defined before'     => [$s, 'the duplicate "level" variable', 'server { listen 127.0.0.1:%%PORT_other%%; set $level a; } sse_jwt_set $level b;'],
    'a variable is declared once'             => [$s, 'the duplicate "level" variable', 'sse_jwt_set $level a; sse_jwt_set $level b;'],
    'an end has a time before it'             => ["sse_expires \$arg_u event=e before=soon; $s", 'invalid value "soon" in "sse_expires" directive'],
    'before needs an event'                   => ["sse_expires \$arg_u before=5s; $s", '"before" and "jitter" need "event="'],
    'required needs a value'                  => ["sse_expires required; $s", '"required" needs a value in "sse_expires" directive'],
    'an end has one value'                    => ["sse_expires \$arg_a \$arg_b; $s", '"sse_expires" directive is duplicate'],
    'the name of its event is valid'          => ["sse_expires \$arg_a event=error; $s", 'invalid event name "error" in "sse_expires" directive'],
    'sse_jwt_set stands in http'              => ["sse_jwt_set \$level a; $s", '"sse_jwt_set" directive is not allowed here'],
);
for my $title (sort keys %refused) {
    my ($location, $message, $http) = @{ $refused{$title} };
    my ($status, $said) = check($location, $http);
    like($said, qr/\[emerg\] .*$message/, $title);
}

my %warned = (
    'a short secret'                    => ["sse_jwt bearer; sse_jwt_key short secret; $s", 'a secret that is shorter than the hash of its algorithm'],
    'a short secret for HS512'          => ["sse_jwt bearer; sse_jwt_key secret secret alg=HS512; $s", 'a secret that is shorter than the hash of its algorithm'],
    'a secret that everybody can read'  => ["sse_jwt bearer; $key $s", 'is secret, but every user can read it'],
    'a skipped key'                     => ["sse_jwt bearer; sse_jwt_require aud=x; sse_jwt_key set; $s", 'key 2 is of an unsupported kind, and is skipped'],
    'a key set without an audience'     => ["sse_jwt bearer; sse_jwt_key set; $s", 'a key set without "sse_jwt_require aud=..."'],
    'keys with and without an issuer'   => ["sse_jwt bearer; $key sse_jwt_key rsa iss=https://a.example; $s", '"sse_jwt_key" with and without "iss="'],
    'a token in the address'            => ["sse_jwt arg=token; $key $s", 'tokens in addresses \("arg="\) end up'],
    'a key without sse_jwt'             => ["$key $s", '"sse_jwt_key" has no effect without "sse_jwt"'],
    'a publisher that inherits sse_jwt' => ['sse_publish news;', '"sse_publish" inherits "sse_jwt", so that every valid token is accepted', "sse_jwt bearer; $key"],
    'a status that inherits sse_jwt'    => ['sse_status;', '"sse_status" inherits "sse_jwt", so that every valid token is accepted', "sse_jwt bearer; $key"],
);
for my $title (sort keys %warned) {
    my ($location, $message, $http) = @{ $warned{$title} };
    my ($status, $said) = check($location, $http);
    is($status, 0, "accepted: $title");
    like($said, qr/\[warn\] .*$message/, "with a warning: $title");
}

my %accepted = (
    'the usual case'                    => "sse_jwt cookie=session; sse_jwt_key rsa; $s",
    'all parameters'                    => "sse_jwt bearer cookie=a value=\$http_x optional leeway=5m typ=at+jwt; sse_jwt_key rsa alg=RS256,PS256 iss=https://a.example for=subscribe; sse_jwt_require aud=a aud=b exp=optional; sse_jwt_channels realm access split=, pattern; $s",
    'keys of several kinds'             => "sse_jwt bearer; sse_jwt_key rsa; sse_jwt_key ec; $s",
    'a key for two issuers'             => "sse_jwt bearer; sse_jwt_key rsa iss=a; sse_jwt_key rsa iss=b; $s",
    'an administrator of its own'       => 'sse_jwt bearer; sse_jwt_key rsa; sse_admin;',
    'an administrator with a claim'     => ['sse_jwt_require role=admin; sse_admin;', 'sse_jwt bearer; sse_jwt_key rsa;'],
    'an administrator with a key'       => ['sse_jwt_key ec for=admin; sse_admin;', 'sse_jwt bearer; sse_jwt_key rsa;'],
    'a location that needs no token'    => ["sse_jwt off; $s", 'sse_jwt bearer; sse_jwt_key rsa;'],
    'settings without a handler'        => 'sse_jwt bearer; return 204;',
);
for my $title (sort keys %accepted) {
    my ($location, $http) = ref $accepted{$title} ? @{ $accepted{$title} } : $accepted{$title};
    my ($status, $said) = check($location, $http);
    is($status, 0, "accepted: $title");
    unlike($said, qr/\[(?:warn|emerg)\]/, "without a warning: $title");
}

done_testing();

# The status and the output of `nginx -t`.
sub check ($location, $http = undef) {
    my $cluster = SSE::Cluster->new(http => $http // '', server => "location = /l { $location }", files => \%files);
    return $cluster->check_config;
}
