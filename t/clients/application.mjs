// The application of chat.t, with a model that says what the test wants. It starts an answer when it is asked, publishes
// it to nginx, and gives the stream away with X-Accel-Redirect. Arguments: its port, and the URL below which channels
// are published to.
//
//     POST /api/chat                  starts an answer in the protocol of the AI SDK, on the channel chat:ID
//     GET  /api/chat/ID/stream        allows a page to read the answer
//     POST /api/v1/chat/completions   starts an answer in that of OpenAI, on the channel completion:MODEL
//     POST /model/CHANNEL             the model says the text of the body; it ends with an empty body
//     GET  /model/calls               how often the model was asked

import http from "node:http";

const [port, publishUrl] = process.argv.slice(2);
let calls = 0;

const delta = (content, finish_reason = null) => ({
    id: "answer",
    object: "chat.completion.chunk",
    created: 1,
    model: "model",
    choices: [{ index: 0, delta: content, finish_reason }],
});

// The events of an answer by the first part of its channel's name.
const protocols = {
    chat: {
        start: [{ type: "start", messageId: "answer" }, { type: "text-start", id: "text" }],
        part: text => [{ type: "text-delta", id: "text", delta: text }],
        end: [{ type: "text-end", id: "text" }, { type: "finish" }],
    },
    completion: {
        start: [delta({ role: "assistant", content: "" })],
        part: text => [delta({ content: text })],
        end: [delta({}, "stop")],
    },
};
const protocolOf = channel => protocols[channel.split(":")[0]];

async function publish(channel, events, last = false) {
    const texts = events.map(event => JSON.stringify(event));
    if (last) texts.push("[DONE]");
    const response = await fetch(`${publishUrl}/${channel}${last ? "?finish=1" : ""}`, {
        method: "POST",
        headers: { "Content-Type": "text/event-stream", ...(last && { "Idempotency-Key": `${channel} ${calls}` }) },
        body: texts.map(text => `data: ${text}\n\n`).join(""),
    });
    if (response.status !== 201) throw new Error(`${channel}: ${await response.text()}`);
}

const redirect = channel => ({ "X-Accel-Redirect": `/stream/${channel}` });

// Asks the model. Its first event is published before the stream is given away.
async function start(channel) {
    calls++;
    await publish(channel, protocolOf(channel).start);
    return redirect(channel);
}

// The headers of the response to a request.
async function answer(method, path, body) {
    if (path === "/api/chat") return start(`chat:${JSON.parse(body).id}`);
    if (path === "/api/v1/chat/completions") return start(`completion:${JSON.parse(body).model}`);
    const [, chat] = path.match(/^\/api\/chat\/([a-z0-9-]+)\/stream$/) ?? [];
    if (chat) return redirect(`chat:${chat}`);
    if (path === "/model/calls") return { "X-Calls": String(calls) };
    const channel = path.slice("/model/".length);
    const protocol = protocolOf(channel);
    await (body === "" ? publish(channel, protocol.end, true) : publish(channel, protocol.part(body)));
    return {};
}

http.createServer(async (request, response) => {
    let body = "";
    for await (const chunk of request) body += chunk;
    try {
        response.writeHead(200, await answer(request.method, request.url, body));
        response.end();
    } catch (error) {
        response.writeHead(500);
        response.end(String(error));
    }
}).listen(Number(port), "127.0.0.1");
