package SSE::Token;

# Signed tokens (JSON Web Tokens) and keys for the tests.

use v5.36;
use Digest::SHA qw(hmac_sha256 hmac_sha384 hmac_sha512);
use Exporter qw(import);
use File::Temp;
use JSON::PP;
use MIME::Base64 qw(encode_base64url decode_base64);
use SSE::Cluster;

our @EXPORT_OK = qw(token signed encode_base64url decode_base64 key_pair $SECRET);

our $SECRET = 'a secret of thirty-two bytes....';

my $json = JSON::PP->new->utf8->canonical;
my %hmac = (HS256 => \&hmac_sha256, HS384 => \&hmac_sha384, HS512 => \&hmac_sha512);

# A token with these claims, which expires in an hour unless they have an `exp`. Options: header, secret,
# and pair, a pair of key_pair() that signs it.
sub token ($claims = {}, %options) {
    my $pair   = $options{pair};
    my $header = { alg => $pair ? $pair->{alg} : 'HS256', typ => 'JWT', %{ $options{header} // {} } };
    $claims = { exp => time + 3600, %$claims };
    delete $claims->{exp} if !defined $claims->{exp};
    return signed($json->encode($header), $json->encode($claims), %options);
}

# A token with the bytes of this header and of these claims.
sub signed ($header, $claims, %options) {
    my $text = join '.', map { encode_base64url($_) } $header, $claims;
    my $pair = $options{pair} or return "$text." . encode_base64url(hmac_sha256($text, $options{secret} // $SECRET));
    return "$text." . encode_base64url($pair->{sign}->($text));
}

# A new pair of keys for an algorithm: its public key in PEM as `public`, and as `jwk`.
sub key_pair ($alg) {
    my $dir = File::Temp->newdir;
    my %how = (
        RS256 => ['RSA -pkeyopt rsa_keygen_bits:2048', 'dgst -sha256 -sign'],
        PS256 => ['RSA -pkeyopt rsa_keygen_bits:2048', 'dgst -sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:-1 -sign'],
        ES256 => ['EC -pkeyopt ec_paramgen_curve:P-256', 'dgst -sha256 -sign'],
        ES384 => ['EC -pkeyopt ec_paramgen_curve:P-384', 'dgst -sha384 -sign'],
        EdDSA => ['ED25519', 'pkeyutl -sign -rawin -inkey'],
    );
    my ($kind, $sign) = @{ $how{$alg} };
    openssl("genpkey -algorithm $kind -out $dir/key.pem");
    openssl("pkey -in $dir/key.pem -pubout -out $dir/public.pem");
    my $coordinate = { ES256 => 32, ES384 => 48 }->{$alg};
    my $signature  = sub ($text) {
        SSE::Cluster::write_file("$dir/text", $text);
        openssl("$sign $dir/key.pem " . ($alg eq 'EdDSA' ? "-in $dir/text -out $dir/sig" : "-out $dir/sig $dir/text"));
        my $bytes = SSE::Cluster::slurp("$dir/sig");
        return $coordinate ? fixed($bytes, $coordinate) : $bytes;
    };
    return { alg => $alg, public => SSE::Cluster::slurp("$dir/public.pem"), sign => $signature, dir => $dir };
}

# The two numbers of an ECDSA signature in DER, each with this many bytes.
sub fixed ($der, $len) {
    my @numbers = $der =~ /\A\x30.(.*)\z/s ? numbers($1) : die 'no signature';
    return join '', map { substr "\0" x $len . $_, -$len } @numbers;
}

sub numbers ($bytes) {
    my @numbers;
    while ($bytes =~ s/\A\x02(.)//s) {
        push @numbers, substr $bytes, 0, ord $1, '';
    }
    return @numbers;
}

sub openssl ($arguments) {
    system("openssl $arguments >/dev/null 2>&1") == 0 or die "openssl $arguments failed";
    return;
}

1;
