<?php
// Tokens of lcobucci/jwt, whose times have fractions of a second: php lcobucci.php FOLDER [NOW], where FOLDER has its
// src/.

declare(strict_types=1);

use Lcobucci\JWT\Encoding\ChainedFormatter;
use Lcobucci\JWT\Encoding\JoseEncoder;
use Lcobucci\JWT\Signer\Ecdsa;
use Lcobucci\JWT\Signer\Eddsa;
use Lcobucci\JWT\Signer\Hmac;
use Lcobucci\JWT\Signer\Key\InMemory;
use Lcobucci\JWT\Signer\Rsa;
use Lcobucci\JWT\Token\Builder;

$folder = $argv[1];
$now = (float) ($argv[2] ?? microtime(true));
spl_autoload_register(function (string $class) use ($folder): void {
    $file = $folder . '/src/' . strtr(substr($class, strlen('Lcobucci\\JWT\\')), '\\', '/') . '.php';
    if (str_starts_with($class, 'Lcobucci\\JWT\\') && is_file($file)) {
        require $file;
    }
});

function base64url(string $bytes): string
{
    return rtrim(strtr(base64_encode($bytes), '+/', '-_'), '=');
}

function at(float $seconds): DateTimeImmutable
{
    return DateTimeImmutable::createFromFormat('U.u', sprintf('%.6F', $seconds));
}

// The private key for the signer, and the public JWK.
function keys(string $alg): array
{
    if (str_starts_with($alg, 'HS')) {
        $secret = random_bytes(64);
        return [$secret, ['kty' => 'oct', 'k' => base64url($secret)]];
    }
    if ($alg === 'EdDSA') {
        $pair = sodium_crypto_sign_keypair();
        $public = base64url(sodium_crypto_sign_publickey($pair));
        return [sodium_crypto_sign_secretkey($pair), ['kty' => 'OKP', 'crv' => 'Ed25519', 'x' => $public]];
    }
    $curve = ['ES256' => 'prime256v1', 'ES384' => 'secp384r1'][$alg] ?? null;
    $pair = openssl_pkey_new($curve
        ? ['private_key_type' => OPENSSL_KEYTYPE_EC, 'curve_name' => $curve]
        : ['private_key_type' => OPENSSL_KEYTYPE_RSA, 'private_key_bits' => 2048]);
    openssl_pkey_export($pair, $private);
    $details = openssl_pkey_get_details($pair);
    if (!$curve) {
        return [$private, ['kty' => 'RSA', 'n' => base64url($details['rsa']['n']), 'e' => base64url($details['rsa']['e'])]];
    }
    $length = ['ES256' => 32, 'ES384' => 48][$alg];
    $coordinate = fn(string $name): string => base64url(str_pad($details['ec'][$name], $length, "\0", STR_PAD_LEFT));
    $name = ['ES256' => 'P-256', 'ES384' => 'P-384'][$alg];
    return [$private, ['kty' => 'EC', 'crv' => $name, 'x' => $coordinate('x'), 'y' => $coordinate('y')]];
}

$signers = [
    'HS256' => new Hmac\Sha256(), 'HS384' => new Hmac\Sha384(), 'HS512' => new Hmac\Sha512(),
    'RS256' => new Rsa\Sha256(), 'RS384' => new Rsa\Sha384(), 'RS512' => new Rsa\Sha512(),
    'ES256' => new Ecdsa\Sha256(), 'ES384' => new Ecdsa\Sha384(), 'EdDSA' => new Eddsa(),
];
$jwks = [];
$tokens = [];
foreach ($signers as $alg => $signer) {
    [$private, $jwk] = keys($alg);
    $jwks[] = $jwk + ['kid' => $alg, 'alg' => $alg, 'use' => 'sig'];
    $issue = fn(float $from, float $to): string =>
        (new Builder(new JoseEncoder(), ChainedFormatter::default()))
            ->issuedBy('https://lcobucci.example')
            ->permittedFor('sse')
            ->relatedTo('bob')
            ->identifiedBy('1')
            ->issuedAt(at($now))
            ->canOnlyBeUsedAfter(at($from))
            ->expiresAt(at($to))
            ->withHeader('kid', $alg)
            ->getToken($signer, InMemory::plainText($private))
            ->toString();
    $tokens[] = ['title' => $alg, 'token' => $issue($now - 0.25, $now + 3600.75), 'status' => 200];
    $tokens[] = ['title' => "$alg, expired a moment ago", 'token' => $issue($now - 9.5, $now - 0.001), 'status' => 401];
    $tokens[] = ['title' => "$alg, not valid yet", 'token' => $issue($now + 3600.25, $now + 7200.5), 'status' => 401];
}
$site = [
    'name' => 'lcobucci',
    'keys' => [['text' => json_encode(['keys' => $jwks], JSON_UNESCAPED_SLASHES), 'options' => 'iss=https://lcobucci.example']],
    'rules' => 'sse_jwt_require aud=sse;',
    'tokens' => $tokens,
];
echo json_encode(['library' => 'lcobucci/jwt', 'sites' => [$site]], JSON_UNESCAPED_SLASHES), "\n";
