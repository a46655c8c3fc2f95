// The application: starts an answer of the model when it is asked, and gives the response away to nginx. The answer goes on
// whether or not anybody reads it. The model says the same in any case, word by word.
//
//     POST /api/chat             a question; answered with the stream of the chat
//     GET  /api/chat/ID/stream   the stream of the answer in progress, for a page that was loaded again
//     GET  /api/chat/ID          the saved messages

import http from "node:http";
import { setTimeout as sleep } from "node:timers/promises";

const { PORT = 8081, SITE = "http://127.0.0.1:8080" } = process.env;
const PAUSE = 120;   // between two words, in ms
const chats = new Map();

async function* model(question) {
  const answer = `You asked: “${question}” A stream is a response that does not end at once. nginx keeps what the ` +
    "model has said so far, so this page can be reloaded in the middle of a sentence, opened in another window, or " +
    "closed and opened again, and shows all of it. Meanwhile, the model is asked only once.";
  for (const word of answer.split(/(?<= )/)) {
    await sleep(PAUSE);
    yield word;
  }
}

// Publishes parts of an answer. A request with a key can be repeated until it succeeds.
async function publish(id, key, parts, { isLast = false } = {}) {
  const body = parts.map((part) => `data: ${typeof part === "string" ? part : JSON.stringify(part)}\n\n`).join("");
  const headers = { "Content-Type": "text/event-stream", "Idempotency-Key": key };
  for (let attempt = 0; ; attempt++) {
    const answer = await fetch(`${SITE}/publish/chat:${id}${isLast ? "?finish=1" : ""}`, { method: "POST", headers, body }).catch(() => null);
    if (answer?.status === 201) return;
    if (attempt === 10 || (answer && answer.status < 500)) throw new Error(`not published: ${answer?.status ?? "no response"}`);
    await sleep(500);
  }
}

// Lets the model answer. Returns when the beginning is published; the rest follows.
async function answer(id, question) {
  const messageId = crypto.randomUUID();
  await publish(id, `${messageId} start`, [{ type: "start", messageId }, { type: "text-start", id: "text" }]);
  const rest = async () => {
    let text = "", number = 0;
    for await (const delta of model(question)) {
      text += delta;
      await publish(id, `${messageId} ${number++}`, [{ type: "text-delta", id: "text", delta }]);
    }
    // Saved before the end is published, so that a page has it from one of the two.
    chats.get(id).push({ id: messageId, role: "assistant", parts: [{ type: "text", text }] });
    await publish(id, `${messageId} end`, [{ type: "text-end", id: "text" }, { type: "finish" }, "[DONE]"], { isLast: true });
  };
  rest().catch((error) => console.error(String(error)));
}

async function respond(request, response) {
  const [, id, stream] = /^\/api\/chat\/([a-z0-9-]{1,64})(\/stream)?$/.exec(request.url) ?? [];
  if (request.method === "POST" && request.url === "/api/chat") {
    let body = "";
    for await (const chunk of request) body += chunk;
    const { id: chat, messages } = JSON.parse(body);
    if (!/^[a-z0-9-]{1,64}$/.test(chat)) return response.writeHead(400).end();
    const question = messages.at(-1);
    if (!chats.has(chat)) chats.set(chat, []);
    chats.get(chat).push(question);
    await answer(chat, question.parts.map((part) => part.text ?? "").join(""));
    // nginx answers the request with the stream.
    response.writeHead(200, { "X-Accel-Redirect": `/stream/chat:${chat}` }).end();
  } else if (stream) {
    response.writeHead(200, { "X-Accel-Redirect": `/stream/chat:${id}` }).end();
  } else if (id) {
    response.writeHead(200, { "Content-Type": "application/json" }).end(JSON.stringify(chats.get(id) ?? []));
  } else {
    response.writeHead(404).end();
  }
}

http.createServer((request, response) => {
  respond(request, response).catch((error) => {
    console.error(String(error));
    response.writeHead(500).end();
  });
}).listen(Number(PORT), "127.0.0.1");
