"""Sets of keys in the forms in which providers publish them, with keys that were made here: certificates, keys for
encryption, keys of other kinds, members of their own, and no `alg`. And tokens in the forms that they issue."""

import base64
import datetime
import hashlib
import json
import time

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

now = int(time.time())


def url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Key:
    """A pair of keys, as a JWK with these members."""

    def __init__(self, kind, **members):
        self.private = {
            "RSA": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
            "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
            "P-521": lambda: ec.generate_private_key(ec.SECP521R1()),
            "Ed25519": ed25519.Ed25519PrivateKey.generate,
        }[kind]()
        form = {"RSA": jwt.algorithms.RSAAlgorithm, "Ed25519": jwt.algorithms.OKPAlgorithm}.get(kind, jwt.algorithms.ECAlgorithm)
        jwk = json.loads(form.to_jwk(self.private.public_key()))
        jwk.pop("key_ops", None)
        der = self.private.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        self.id = members.pop("kid", None) or url(hashlib.sha256(der).digest())
        self.jwk = {"kid": self.id, **jwk, **members}

    def with_certificate(self):
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tokens.example")])
        begin = datetime.datetime.now(datetime.timezone.utc)
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(self.private.public_key())
        builder = builder.serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(begin).not_valid_after(begin + datetime.timedelta(days=30))
        certificate = builder.sign(self.private, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
        self.thumbprint = url(hashlib.sha1(certificate).digest())
        self.jwk |= {
            "x5c": [base64.b64encode(certificate).decode()],
            "x5t": self.thumbprint,
            "x5t#S256": url(hashlib.sha256(certificate).digest()),
        }
        return self

    def token(self, title, status, claims, alg="RS256", **header):
        text = jwt.encode(claims, self.private, algorithm=alg, headers={"kid": self.id, **header})
        return {"title": title, "token": text, "status": status}


def site(name, keys, options, rules, tokens, **more):
    text = json.dumps({"keys": [key.jwk for key in keys]}, indent=2)
    return {"name": name, "keys": [{"text": text, "options": options}], "rules": rules, "tokens": tokens, **more}


def keycloak():
    issuer = "https://sso.example/realms/demo"
    claims = {
        "exp": now + 300, "iat": now, "auth_time": now - 9, "jti": "onrtac:1", "iss": issuer, "aud": "account",
        "sub": "bob", "typ": "Bearer", "azp": "app", "sid": "s", "acr": "1", "allowed-origins": ["https://app.example"],
        "realm_access": {"roles": ["offline_access", "stream"]}, "scope": "openid profile",
    }
    encryption = Key("RSA", alg="RSA-OAEP", use="enc").with_certificate()
    signing = Key("RSA", alg="RS256", use="sig").with_certificate()
    curve = Key("P-256", alg="ES256", use="sig")
    large = Key("P-521", alg="ES512", use="sig")
    edwards = Key("Ed25519", alg="EdDSA", use="sig")
    tokens = [
        signing.token("RS256", 200, claims),
        curve.token("ES256", 200, claims, "ES256"),
        edwards.token("EdDSA", 200, claims, "EdDSA"),
        large.token("an algorithm that is not supported", 401, claims, "ES512"),
        encryption.token("signed with a key for encryption", 401, claims),
        signing.token("another realm", 401, {**claims, "iss": "https://sso.example/realms/master"}),
        signing.token("another algorithm of the same key", 401, claims, "PS256"),
        Key("RSA", kid=signing.id).token("another key with that id", 401, claims),
    ]
    return site("keycloak", [encryption, large, signing, curve, edwards], f"iss={issuer}", "sse_jwt_require aud=account;", tokens,
                warnings=["key 2 is of an unsupported kind"])


def auth0():
    issuer = "https://tenant.example/"
    claims = {
        "iss": issuer, "sub": "auth0|5f7c8ec7", "aud": ["https://api.example", "https://tenant.example/userinfo"],
        "iat": now, "exp": now + 86400, "azp": "app", "scope": "openid read:events", "permissions": ["read:events"],
    }
    current = Key("RSA", alg="RS256", use="sig").with_certificate()
    following = Key("RSA", alg="RS256", use="sig").with_certificate()
    tokens = [
        current.token("the current key", 200, claims),
        following.token("the next key", 200, claims, typ="at+jwt"),
        current.token("another audience", 401, {**claims, "aud": ["https://tenant.example/userinfo"]}),
        current.token("without the permission", 401, {**claims, "permissions": []}),
        Key("RSA").token("an unknown key", 401, claims),
    ]
    rules = "sse_jwt_require aud=https://api.example permissions=read:events;"
    return site("auth0", [current, following], f"iss={issuer}", rules, tokens)


def entra():
    """Keys without `alg`, and with an issuer in which the tenant is missing."""
    issuer = "https://login.example/9188040d/v2.0"
    claims = {
        "aud": "6cb04018", "iss": issuer, "iat": now, "nbf": now, "exp": now + 3900, "aio": "A==", "name": "Bob",
        "oid": "0000", "sub": "bob", "tid": "9188040d", "uti": "u", "ver": "2.0", "xms_tdbr": "EU",
    }
    keys = []
    for _ in range(5):
        key = Key("RSA", use="sig", issuer="https://login.example/{tenantid}/v2.0", cloud_instance_name="login.example")
        key.with_certificate()
        key.id = key.jwk["kid"] = key.thumbprint
        keys.append(key)
    tokens = [key.token("one of many keys", 200, claims, x5t=key.thumbprint) for key in keys]
    tokens.append(keys[0].token("another tenant", 401, {**claims, "iss": "https://login.example/other/v2.0"}))
    tokens.append(keys[0].token("the id of another key", 401, claims, kid=keys[1].id))
    return site("entra", keys, f"iss={issuer}", "sse_jwt_require aud=6cb04018;", tokens)


def google():
    claims = {
        "iss": "https://accounts.example", "azp": "app", "aud": "app", "sub": "10769150350006150715113082367",
        "email": "bob@example.com", "email_verified": True, "nonce": "n", "iat": now, "exp": now + 3600,
    }
    keys = [Key("RSA", alg="RS256", use="sig", kid=kid) for kid in ("8ae8c90a", "f12d9ab7")]
    tokens = [key.token("one of two keys", 200, claims) for key in keys]
    tokens.append(keys[0].token("another application", 401, {**claims, "aud": "other"}))
    return site("google", keys, "iss=https://accounts.example", "sse_jwt_require aud=app email_verified;", tokens)


print(json.dumps({"library": "sets of keys of providers", "sites": [keycloak(), auth0(), entra(), google()]}))
