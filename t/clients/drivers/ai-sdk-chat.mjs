// A page with the AI SDK's own transport: sends a message, or, with "resume", reads on after it was loaded again.
// Arguments: the URL of the chats, the id of the chat, and "send" or "resume".

import { DefaultChatTransport } from "ai";
import { report, reportEnd } from "./report.mjs";

const [api, chatId, action] = process.argv.slice(2);
const transport = new DefaultChatTransport({ api });
const messages = [{ id: "question", role: "user", parts: [{ type: "text", text: "What is a stream?" }] }];

await reportEnd(async () => {
    const stream =
        action === "send"
            ? await transport.sendMessages({ chatId, messages, trigger: "submit-message", messageId: undefined })
            : await transport.reconnectToStream({ chatId });
    report({ active: stream !== null });
    if (stream === null) return;
    for await (const chunk of stream) report(chunk.type === "text-delta" ? { event: chunk.delta } : { chunk: chunk.type });
});
