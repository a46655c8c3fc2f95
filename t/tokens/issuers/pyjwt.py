"""Tokens of PyJWT: with a secret or a public key in PEM for each algorithm, and with fractions of a second."""

import json
import secrets
import time

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

now = time.time()
claims = {
    "iss": "https://pyjwt.example",
    "sub": "bob",
    "aud": "sse",
    "iat": now,
    "nbf": now - 0.5,
    "exp": now + 3600.5,
}


def private_key(alg):
    if alg.startswith(("RS", "PS")):
        return rsa.generate_private_key(public_exponent=65537, key_size=4096 if alg == "RS512" else 2048)
    if alg.startswith("ES"):
        return ec.generate_private_key({"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1()}[alg])
    return ed25519.Ed25519PrivateKey.generate()


def pem(key):
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form).decode()


keys, tokens = [], []
for alg in ["HS256", "HS384", "HS512"] + [family + size for family in ("RS", "PS") for size in ("256", "384", "512")] + ["ES256", "ES384", "EdDSA"]:
    if alg.startswith("HS"):
        key = secrets.token_hex(32)
        keys.append({"text": key + "\n", "options": f"secret alg={alg}"})
    else:
        key = private_key(alg)
        keys.append({"text": pem(key), "options": f"alg={alg}"})

    def token(title, status, **changes):
        changed = {name: value for name, value in {**claims, **changes}.items() if value is not None}
        tokens.append({"title": title, "token": jwt.encode(changed, key, algorithm=alg), "status": status})

    token(alg, 200)
    token(f"{alg}, expired a moment ago", 401, exp=now - 0.001)
    token(f"{alg}, not valid yet", 401, nbf=now + 3600.5)
    token(f"{alg}, without exp", 401, exp=None)
    token(f"{alg}, for others", 401, aud=["others", "sse2"])

site = {"name": "pyjwt", "keys": keys, "rules": "sse_jwt_require aud=sse;", "tokens": tokens}
print(json.dumps({"library": f"PyJWT {jwt.__version__}", "sites": [site]}))
