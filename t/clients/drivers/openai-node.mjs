// The npm package openai, which reads a chat completion.

import OpenAI from "openai";
import { address, report, reportEnd } from "./report.mjs";

const client = new OpenAI({ apiKey: "none", baseURL: address });
await reportEnd(async () => {
    const stream = await client.chat.completions.create({ model: "none", messages: [], stream: true });
    for await (const chunk of stream) report({ event: chunk.choices[0].delta.content });
});
