// The shared worker: one SharedSource for each address, whose clients are tabs.

import { SharedSource } from "./shared-source.js";

const sources = new Map();

self.onconnect = ({ ports: [port] }) => {
  if (typeof EventSource !== "function") return port.postMessage({ kind: "unsupported" });
  let key = null;
  const client = { deliver: (message) => port.postMessage(message) };
  const leave = () => {
    sources.get(key)?.detach(client);
    if (sources.get(key)?.isIdle) sources.delete(key);
    key = null;
    port.close();
  };
  port.onmessage = ({ data }) => {
    if (data.kind === "attach") {
      key = JSON.stringify([data.url, data.settings]);
      if (!sources.has(key)) sources.set(key, new SharedSource(data.url, data.settings));
      sources.get(key).attach(client, data.beginning, data.types);
      // The tab holds this lock until it is closed.
      if (data.lock) navigator.locks.request(data.lock, leave);
    } else if (data.kind === "types") {
      sources.get(key)?.listenTo(data.types);
    } else if (data.kind === "leave") {
      leave();
    }
  };
};
