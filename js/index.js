// SharedEventSource: an EventSource that all tabs of a site share. A shared worker holds the connection; without shared
// workers, one of the tabs does (Web Locks decide which), and the others receive its events (BroadcastChannel).

import { SharedSource } from "./shared-source.js";

const MAX_IDS = 2000;           // ids that a tab remembers, to recognize what it has received
const WORKER_TIMEOUT = 3000;    // how long a tab waits for the worker's first message, in ms
const MAX_RECENT = 200;         // events that a tab keeps in case it becomes the leader

export class SharedEventSource extends EventTarget {
  static CONNECTING = 0;
  static OPEN = 1;
  static CLOSED = 2;

  onopen = null;
  onmessage = null;
  onerror = null;
  ongap = null;

  #options;
  #settings;
  #types = new Set(["message"]);
  #storageKey;
  #ids = new Set();
  #recent = [];
  #end = new AbortController();       // aborted by close()
  #session = new AbortController();   // aborted when the page is left, too
  #link = null;   // { types, leave }: how the connection is reached

  constructor(url, options = {}) {
    super();
    this.url = new URL(url, location.href).href;
    this.readyState = SharedEventSource.CONNECTING;
    this.lastEventId = "";
    this.mode = "connecting";
    this.#options = options;
    this.#settings = {
      withCredentials: options.withCredentials ?? false,
      openEvent: options.openEvent ?? "sse.open",
      gapEvent: options.gapEvent ?? "sse.gap",
    };
    this.ongap = options.onGap ?? null;
    for (const type of options.types ?? []) this.#types.add(type);
    this.#storageKey = `nginx-sse ${this.url}`;
    this.lastEventId = this.#stored();
    // A page that is left may be kept, and continued later.
    const { signal } = this.#end;
    addEventListener("pagehide", () => this.#leave(), { signal });
    addEventListener("pageshow", ({ persisted }) => persisted && this.#start(), { signal });
    this.#start();
  }

  addEventListener(type, ...rest) {
    super.addEventListener(type, ...rest);
    if (this.#isEventType(type) && !this.#types.has(type)) {
      this.#types.add(type);
      this.#link?.types([type]);
    }
  }

  close() {
    if (this.readyState === SharedEventSource.CLOSED) return;
    this.readyState = SharedEventSource.CLOSED;
    this.#leave();
    this.#end.abort();
  }

  #leave() {
    this.#link?.leave();
    this.#link = null;
    this.#session.abort();
  }

  // An EventSource has open and error events of its own.
  #isEventType(type) {
    return type !== "open" && type !== "error" && type !== this.#settings.gapEvent && type !== this.#settings.openEvent;
  }

  async #start() {
    this.#session = new AbortController();
    this.readyState = SharedEventSource.CONNECTING;
    const { signal } = this.#session;
    const lock = await this.#holdLock(signal);
    if (signal.aborted) return;
    if (this.#options.worker !== false && typeof SharedWorker === "function") this.#useWorker(lock);
    else this.#withoutWorker(lock);
  }

  // Holds a lock, by which others notice that the tab has ended. Returns its name.
  async #holdLock(signal) {
    if (!navigator.locks) return null;
    const name = `nginx-sse ${crypto.randomUUID()}`;
    await new Promise((held) => {
      navigator.locks.request(name, () => {
        held();
        return aborted(signal);
      });
    });
    return name;
  }

  #beginning() {
    if (this.lastEventId) return { id: this.lastEventId };
    const { position, since, replay } = this.#options;
    if (position) return { id: position };
    if (since !== undefined) return { since: since instanceof Date ? since.getTime() : Number(since) };
    return { replay: replay ?? 0 };
  }

  #attachMessage(lock) {
    return { kind: "attach", url: this.url, settings: this.#settings, beginning: this.#beginning(), types: [...this.#types], lock };
  }

  // --- With a shared worker

  #useWorker(lock) {
    let worker;
    try {
      worker = new SharedWorker(new URL("./worker.js", import.meta.url), { type: "module" });
    } catch {
      return this.#withoutWorker(lock);
    }
    const { port } = worker;
    const { signal } = this.#session;
    let isServed = false;
    const fallBack = () => {
      if (isServed || signal.aborted) return;
      isServed = true;
      port.close();
      this.#withoutWorker(lock);
    };
    // The worker's file is missing, or a policy forbids it. A browser does not always say so.
    worker.onerror = fallBack;
    setTimeout(fallBack, WORKER_TIMEOUT);
    const leave = () => port.postMessage({ kind: "leave" });
    port.onmessage = ({ data }) => {
      if (data.kind === "unsupported") return fallBack();
      if (signal.aborted) return;
      isServed = true;
      this.mode = "worker";
      this.#take(data);
    };
    this.#link = { types: (types) => port.postMessage({ kind: "types", types }), leave };
    port.postMessage(this.#attachMessage(lock));
  }

  // --- Without: a leader, or this tab alone

  #withoutWorker(lock) {
    if (!lock || typeof BroadcastChannel !== "function") return this.#lead("alone", () => {});
    const name = `nginx-sse leader ${JSON.stringify(this.#settings)} ${this.url}`;
    const { signal } = this.#session;
    const all = new BroadcastChannel(name), own = new BroadcastChannel(lock);
    signal.addEventListener("abort", () => [all, own].forEach((channel) => channel.close()));
    let leader = null;   // the lock of the tab that leads
    const attach = () => all.postMessage(this.#attachMessage(lock));
    this.mode = "follower";
    this.#link = {
      types: (types) => all.postMessage({ kind: "types", types }),
      leave: () => all.postMessage({ kind: "leave", lock }),
    };
    // What an earlier leader has sent is not lost: it comes again from the new one.
    own.onmessage = ({ data }) => {
      if (data.kind === "welcome") leader = data.leader;
      else if (data.leader === leader && this.mode === "follower") this.#take(data.message);
    };
    all.onmessage = ({ data }) => {
      if (data.kind === "leader" && this.mode === "follower") attach();
    };
    navigator.locks.request(name, { signal }, async () => {
      await this.#lead("leader", (source) => this.#serveFollowers(source, all, lock));
      await aborted(signal);
    }).catch(() => { /* aborted: this object was closed */ });
    attach();
  }

  #lead(mode, serve) {
    const source = new SharedSource(this.url, this.#settings, this.#recent);
    const client = { deliver: (message) => this.#take(message) };
    this.mode = mode;
    this.#session.signal.addEventListener("abort", () => source.close());
    serve(source);
    this.#link = { types: (types) => source.listenTo(types), leave: () => source.close() };
    source.attach(client, this.#beginning(), [...this.#types]);
  }

  #serveFollowers(source, all, leader) {
    const { signal } = this.#session;
    const followers = new Map();   // by their locks
    const remove = (lock) => {
      const follower = followers.get(lock);
      if (!follower) return;
      followers.delete(lock);
      source.detach(follower);
      follower.channel.close();
    };
    all.onmessage = ({ data }) => {
      if (data.kind === "types") source.listenTo(data.types);
      if (data.kind === "leave") remove(data.lock);
      if (data.kind !== "attach") return;
      remove(data.lock);
      const channel = new BroadcastChannel(data.lock);
      const follower = { channel, deliver: (message) => channel.postMessage({ leader, message }) };
      followers.set(data.lock, follower);
      channel.postMessage({ kind: "welcome", leader });
      source.attach(follower, data.beginning, data.types);
      navigator.locks.request(data.lock, { signal }, () => remove(data.lock)).catch(() => {});
    };
    all.postMessage({ kind: "leader" });
  }

  // --- Messages of a SharedSource

  #take(message) {
    if (this.readyState === SharedEventSource.CLOSED) return;
    if (message.kind === "event") return this.#takeEvent(message);
    if (message.kind === "gap") return this.#takeGap(message);
    if (message.kind === "state") return this.#setState(message.readyState);
    if (message.id) this.#remember(message.id);
    if (message.kind === "attached" && message.readyState === SharedEventSource.OPEN) this.#setState(message.readyState);
  }

  #takeEvent({ kind, type, data, id, origin }) {
    if (this.#ids.has(id)) return;
    if (id) this.#ids.add(id);
    if (this.#ids.size > MAX_IDS) this.#ids.delete(this.#ids.values().next().value);
    this.#recent.push({ kind, type, data, id, origin });
    if (this.#recent.length > MAX_RECENT) this.#recent.shift();
    this.#remember(id);
    const event = new MessageEvent(type, { data, lastEventId: id, origin });
    if (type === "message") this.onmessage?.(event);
    this.dispatchEvent(event);
  }

  #takeGap({ data, id, origin }) {
    if (id) this.#remember(id);
    const event = new MessageEvent(this.#settings.gapEvent, { data, lastEventId: id, origin });
    this.ongap?.(event);
    this.dispatchEvent(event);
  }

  #setState(readyState) {
    const wasOpen = this.readyState === SharedEventSource.OPEN;
    this.readyState = readyState;
    const event = new Event(readyState === SharedEventSource.OPEN ? "open" : "error");
    if (event.type === "open" && wasOpen) return;
    this[`on${event.type}`]?.(event);
    this.dispatchEvent(event);
    if (readyState !== SharedEventSource.CLOSED) return;
    this.#session.abort();
    this.#end.abort();
  }

  // --- The last id, which survives a reload of the tab

  #stored() {
    if (this.#options.remember === false) return "";
    try { return sessionStorage.getItem(this.#storageKey) ?? ""; } catch { return ""; }
  }

  #remember(id) {
    this.lastEventId = id;
    if (this.#options.remember === false) return;
    try { sessionStorage.setItem(this.#storageKey, id); } catch { /* forbidden or full */ }
  }
}

function aborted(signal) {
  return signal.aborted ? Promise.resolve() : new Promise((done) => signal.addEventListener("abort", done));
}
