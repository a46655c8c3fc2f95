// Publishes an event:   node publish.mjs http URL DATA     node publish.mjs redis URL CHANNEL DATA

async function publishHttp(url, data) {
  // With a key, the request can be repeated if there is no response.
  const headers = { "Content-Type": "text/plain", "Idempotency-Key": crypto.randomUUID() };
  const answer = await fetch(url, { method: "POST", headers, body: data, signal: AbortSignal.timeout(5000) });
  if (!answer.ok) throw new Error(`${answer.status}: ${await answer.text()}`);
  return answer.text();
}

async function publishRedis(url, channel, data) {
  const { createClient } = await import("redis");   // npm install redis
  const client = await createClient({ url }).connect();
  const count = await client.publish(channel, data);
  await client.close();
  return count;
}

const [how, ...rest] = process.argv.slice(2);
console.log(await { http: publishHttp, redis: publishRedis }[how](...rest));
