// The AI SDK's own transport for chats, which opens the stream as after a reload of the page.

import { DefaultChatTransport } from "ai";
import { address, report, reportEnd } from "./report.mjs";

const transport = new DefaultChatTransport({ prepareReconnectToStreamRequest: () => ({ api: address }) });
await reportEnd(async () => {
    const stream = await transport.reconnectToStream({ chatId: "chat" });
    if (stream === null) return;
    report({ open: true });
    for await (const chunk of stream) report({ event: chunk.delta });
});
