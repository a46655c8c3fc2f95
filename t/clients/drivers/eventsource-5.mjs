// The npm package eventsource, version 5.

import { EventSource } from "eventsource-5";
import { address, report } from "./report.mjs";

const source = new EventSource(address);
source.onopen = () => report({ open: true });
source.onmessage = event => report({ event: event.data });
source.onerror = event => {
    report({ error: event.message ?? "error" });
    if (source.readyState === EventSource.CLOSED) report({ end: "stops" });
};

// Its timer for a reconnection does not keep Node.js running, unlike that of version 4. A server has other work.
setInterval(() => {}, 1000);
