// Compiles if the types of the package are right.

import { SharedEventSource, type SharedEventSourceOptions } from "../index.js";

const options: SharedEventSourceOptions = { types: ["price"], since: new Date(), onGap: (event) => console.log(event.data.length) };
const events = new SharedEventSource(new URL("https://site.example/stream"), options);
events.onmessage = (event) => console.log(event.data.toUpperCase(), event.lastEventId);
events.addEventListener("price", (event) => console.log(Number(event.data)));
events.addEventListener("open", (event) => console.log(event.type));
if (events.readyState === SharedEventSource.CLOSED || events.mode === "leader") events.close();

// @ts-expect-error: there is no such option
new SharedEventSource("/stream", { position: 1 });
