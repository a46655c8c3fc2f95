// One EventSource for several clients, and the newest events that it has received, for clients that attach later or
// return. It runs in the shared worker, or in the tab that leads the others.
//
// A client is an object with a method deliver(message). Messages are
//
//   { kind: "attached", readyState, id }   after the client has received what it had missed; id: the newest id, or ""
//   { kind: "event", type, data, id, origin }
//   { kind: "gap", data, id, origin }      events that the client has not received are lost
//   { kind: "id", id }                     the stream begins here, and nothing was sent before
//   { kind: "state", readyState }          the connection was opened (1), lost (0), or is closed for good (2)
//
// Where a client begins is { id } of the last event that it has, or of the position of its page; { since }, a time in ms
// since 1970; or { replay }, a number of events.

import { compare, timeOf } from "./ids.js";

const MAX_EVENTS = 1000;          // events that are kept
const MAX_CHARACTERS = 1 << 21;   // and the characters of their data

export class SharedSource {
  #url;
  #settings;
  #source = null;
  #types = new Set(["message"]);
  #clients = new Set();
  #behind = new Map();      // clients for which the EventSource was opened again further back, and where they begin
  #recent = [];
  #ids = new Set();         // those of `recent`
  #characters = 0;
  #base = "";               // everything after this id was received; "" if there is no such id
  #since = NaN;             // everything from this time on was received; in ms since 1970
  #lastId = "";
  #unclear = null;          // a gap for which only the next event shows which clients it concerns

  // settings: { withCredentials, openEvent, gapEvent }; recent: events to begin with.
  constructor(url, settings, recent = []) {
    this.#url = url;
    this.#settings = settings;
    for (const event of recent) this.#keep(event);
    this.#base = recent[0]?.id ?? "";
    this.#lastId = recent.at(-1)?.id ?? "";
  }

  get isIdle() {
    return this.#clients.size === 0;
  }

  attach(client, beginning, types = []) {
    this.#clients.add(client);
    this.listenTo(types);
    const opened = { kind: "attached", readyState: 0, id: beginning.id ?? "" };
    if (this.#source === null) {
      this.#open(beginning);
      return client.deliver(opened);
    }
    const missed = this.#missedBy(beginning);
    if (missed === null && this.#canReopenFrom(beginning)) {
      this.#behind.set(client, beginning);
      this.#open([...this.#behind.values()].reduce((a, b) => (isBefore(a, b) ? a : b)));
      return client.deliver(opened);
    }
    if (missed === null) {
      client.deliver({ kind: "gap", data: JSON.stringify({ after: beginning.id ?? "" }), id: "", origin: "" });
    }
    for (const event of missed ?? this.#recent) client.deliver(event);
    client.deliver({ kind: "attached", readyState: this.#source.readyState, id: this.#lastId });
  }

  detach(client) {
    this.#clients.delete(client);
    this.#behind.delete(client);
    if (this.isIdle) this.close();
  }

  // An EventSource delivers only the types that have a listener.
  listenTo(types) {
    for (const type of types) {
      if (this.#types.has(type)) continue;
      this.#types.add(type);
      this.#listenOn(this.#source, type);
    }
  }

  close() {
    this.#source?.close();
    this.#source = this.#unclear = null;
    for (const kept of [this.#clients, this.#behind, this.#ids]) kept.clear();
    [this.#recent, this.#characters, this.#base, this.#since, this.#lastId] = [[], 0, "", NaN, ""];
  }

  // Opens the EventSource where a client begins; another one is closed.
  #open({ id, since }) {
    this.#source?.close();
    const url = new URL(this.#url);
    if (id) url.searchParams.set("last_event_id", id);
    else if (since !== undefined) url.searchParams.set("since", since);
    const isReopened = this.#source !== null;
    const source = new EventSource(url.href, { withCredentials: this.#settings.withCredentials ?? false });
    this.#source = source;
    if (!isReopened && id && this.#base === "") this.#base = id;
    if (!isReopened && since !== undefined) this.#since = Number(since);
    source.onopen = () => this.#reportState(source);
    source.onerror = () => this.#reportState(source);
    for (const type of this.#types) this.#listenOn(source, type);
    const { openEvent, gapEvent } = this.#settings;
    source.addEventListener(openEvent, (event) => source === this.#source && this.#begin(event.lastEventId));
    source.addEventListener(gapEvent, (event) => source === this.#source && this.#lose(event));
  }

  #listenOn(source, type) {
    if (type === this.#settings.openEvent || type === this.#settings.gapEvent) return;
    source?.addEventListener(type, (event) => {
      // Without data: the EventSource's own open and error.
      if (source !== this.#source || typeof event.data !== "string") return;
      this.#receive({ kind: "event", type, data: event.data, id: event.lastEventId, origin: event.origin });
    });
  }

  #reportState(source) {
    if (source !== this.#source) return;
    const clients = [...this.#clients];
    if (source.readyState === 2) this.close();
    for (const client of clients) client.deliver({ kind: "state", readyState: source.readyState });
  }

  // A new stream without history.
  #begin(id) {
    if (this.#base === "") this.#base = id;
    if (this.#recent.length === 0) this.#lastId = id;
    this.#deliver({ kind: "id", id }, (client) => this.#behind.size === 0 || this.#behind.has(client));
  }

  #receive(event) {
    const isReopened = this.#behind.size > 0;
    if (this.#ids.has(event.id) || (isReopened && compare(event.id, this.#base) <= 0)) {
      this.#unclear = null;
      return this.#deliver(event, (client) => this.#behind.has(client) && !isUpTo(event.id, this.#behind.get(client)));
    }
    // All clients have now received the same events.
    if (this.#unclear) this.#deliver(this.#unclear, (client) => !this.#behind.has(client));
    this.#unclear = null;
    this.#behind.clear();
    if (this.#base === "" && this.#recent.length === 0) this.#base = event.id;
    this.#keep(event);
    this.#lastId = event.id;
    this.#deliver(event, () => true);
  }

  // If the EventSource was opened again for a client, what that client has lost may be older than what others have.
  #lose(event) {
    const gap = { kind: "gap", data: event.data, id: event.lastEventId, origin: event.origin };
    const isReopened = this.#behind.size > 0;
    this.#deliver(gap, (client) => !isReopened || this.#behind.has(client));
    if (isReopened) this.#unclear = gap;
  }

  #deliver(message, isFor) {
    for (const client of [...this.#clients]) {
      if (isFor(client)) client.deliver(message);
    }
  }

  #keep(event) {
    this.#recent.push(event);
    if (event.id) this.#ids.add(event.id);
    this.#characters += event.data.length;
    while (this.#recent.length > MAX_EVENTS || this.#characters > MAX_CHARACTERS && this.#recent.length > 1) {
      const gone = this.#recent.shift();
      this.#ids.delete(gone.id);
      this.#characters -= gone.data.length;
      this.#base = gone.id;
      this.#since = NaN;
    }
  }

  // The kept events that a client lacks; null if some of them are not kept.
  #missedBy({ id, since, replay = 0 }) {
    if (id) {
      const at = this.#recent.findLastIndex((event) => event.id === id);
      if (at >= 0) return this.#recent.slice(at + 1);
      if (id === this.#base) return this.#recent;
      return compare(this.#base, id) <= 0 ? this.#recent.filter((event) => !(compare(event.id, id) <= 0)) : null;
    }
    if (since !== undefined) {
      const time = Number(since);
      const covers = this.#since <= time || timeOf(this.#base) < time;
      return covers ? this.#recent.filter((event) => !(timeOf(event.id) < time)) : null;
    }
    return replay > 0 ? this.#recent.slice(-replay) : [];
  }

  // Whether a stream from there has everything that the other clients will receive, too.
  #canReopenFrom({ id, since }) {
    if (this.#base === "") return false;
    return id ? compare(id, this.#base) < 0 : Number(since) <= timeOf(this.#base);
  }
}

// Whether an event is one that a client which begins there does not want.
function isUpTo(id, beginning) {
  return beginning.id ? compare(id, beginning.id) <= 0 : timeOf(id) < Number(beginning.since);
}

// Whether a client that begins at `a` wants more than one that begins at `b`.
function isBefore(a, b) {
  if (a.id && b.id) return compare(a.id, b.id) < 0;
  return (a.id ? timeOf(a.id) : Number(a.since)) < (b.id ? timeOf(b.id) : Number(b.since));
}
