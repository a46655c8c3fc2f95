// The npm package eventsource, version 4.

import { EventSource } from "eventsource-4";
import { address, report } from "./report.mjs";

const source = new EventSource(address);
source.onopen = () => report({ open: true });
source.onmessage = event => report({ event: event.data });
source.onerror = event => {
    report({ error: event.message ?? "error" });
    if (source.readyState === EventSource.CLOSED) report({ end: "stops" });
};
