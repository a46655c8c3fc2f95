// Tokens of npm's jose: with a set of keys, and with a public key in PEM for each algorithm.

import { readFileSync } from 'node:fs';
import { SignJWT, exportJWK, exportSPKI, generateKeyPair, generateSecret } from 'jose';

const now = Math.floor(Date.now() / 1000);
const secrets = ['HS256', 'HS384', 'HS512'];
const pairs = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'EdDSA'];

const sign = (alg, key, kid, change = (token) => token) =>
  change(
    new SignJWT({ scope: 'read', nested: { roles: ['a'] } })
      .setProtectedHeader({ alg, kid, typ: 'JWT' })
      .setSubject('bob')
      .setIssuer('https://jose.example')
      .setAudience(['sse', 'other'])
      .setJti('1')
      .setIssuedAt()
      .setNotBefore('-1s')
      .setExpirationTime('1h'),
  ).sign(key);

const set = { name: 'jose-set', keys: [], tokens: [] };
const pem = { name: 'jose-pem', keys: [], tokens: [] };
const jwks = [];

for (const alg of [...secrets, ...pairs]) {
  const isSecret = secrets.includes(alg);
  const { privateKey, publicKey } = isSecret
    ? await generateSecret(alg, { extractable: true }).then((key) => ({ privateKey: key, publicKey: key }))
    : await generateKeyPair(alg, { extractable: true });
  const kid = `${alg}-1`;
  jwks.push({ ...(await exportJWK(publicKey)), kid, alg, use: 'sig' });
  const token = await sign(alg, privateKey, kid);
  set.tokens.push({ title: alg, token, status: 200 });
  set.tokens.push({ title: `${alg}, expired`, token: await sign(alg, privateKey, kid, (t) => t.setExpirationTime(now - 1)), status: 401 });
  set.tokens.push({ title: `${alg}, not yet valid`, token: await sign(alg, privateKey, kid, (t) => t.setNotBefore('1h')), status: 401 });
  set.tokens.push({ title: `${alg}, of another key`, token: await sign(alg, privateKey, 'HS256-0'), status: 401 });
  if (!isSecret) {
    pem.keys.push({ text: await exportSPKI(publicKey), options: `alg=${alg}` });
    pem.tokens.push({ title: alg, token, status: 200 });
  }
}
set.keys.push({ text: JSON.stringify({ keys: jwks }), options: 'iss=https://jose.example' });

const { version } = JSON.parse(readFileSync('node_modules/jose/package.json', 'utf8'));
console.log(JSON.stringify({ library: `jose ${version}`, sites: [set, pem] }));
