// SharedSource with an EventSource that the test plays.

import assert from "node:assert/strict";
import { test } from "node:test";
import { compare, timeOf } from "../ids.js";
import { SharedSource } from "../shared-source.js";

let opened = [];

class PlayedEventSource extends EventTarget {
  constructor(url) {
    super();
    this.url = new URL(url);
    this.readyState = 0;
    opened.push(this);
  }
  open() {
    this.readyState = 1;
    this.onopen();
  }
  fail(readyState) {
    this.readyState = readyState;
    this.onerror();
  }
  send(id, { type = "message", data = `event ${id}` } = {}) {
    this.dispatchEvent(Object.assign(new Event(type), { data, lastEventId: id, origin: "" }));
  }
  close() {
    this.readyState = 2;
  }
}
globalThis.EventSource = PlayedEventSource;

const settings = { openEvent: "sse.open", gapEvent: "sse.gap" };
const id = (number, hub = 7) => `${1000 + number}-0-${hub}`;

function newSource(recent) {
  opened = [];
  return new SharedSource("http://site/stream", settings, recent);
}

// A client, with short words for what it was sent.
function client(source, beginning = {}, types = []) {
  const words = [];
  const made = {
    deliver(message) {
      if (message.kind === "event") words.push(message.id.split("-")[0] - 1000);
      else if (message.kind === "gap") words.push("gap");
      else if (message.kind === "state") words.push(`state ${message.readyState}`);
    },
    words,
    take() { return words.splice(0).join(" "); },
  };
  source.attach(made, beginning, types);
  return made;
}

test("all clients receive each event of one connection", () => {
  const source = newSource();
  const first = client(source), second = client(source);
  assert.equal(opened.length, 1);
  opened[0].open();
  opened[0].send(id(1));
  opened[0].send(id(2));
  assert.equal(first.take(), "state 1 1 2");
  assert.equal(second.take(), "state 1 1 2");
});

test("a client that comes later receives the newest events that it asks for", () => {
  const source = newSource();
  client(source);
  for (let number = 1; number <= 5; number++) opened[0].send(id(number));
  assert.equal(client(source).take(), "");
  assert.equal(client(source, { replay: 2 }).take(), "4 5");
  assert.equal(client(source, { replay: 100 }).take(), "1 2 3 4 5");
});

test("a client with an id receives what it lacks", () => {
  const source = newSource();
  client(source, { id: id(0) });
  for (let number = 1; number <= 5; number += 2) opened[0].send(id(number));
  assert.equal(client(source, { id: id(3) }).take(), "5");
  assert.equal(client(source, { id: id(0) }).take(), "1 3 5");
  assert.equal(client(source, { id: id(2) }).take(), "3 5", "a position is not an event's id");
  assert.equal(client(source, { id: id(9) }).take(), "");
  assert.equal(opened.length, 1);
});

test("a client that needs older events has the connection opened again, and others receive nothing twice", () => {
  const source = newSource();
  const here = client(source, { id: id(5) });
  opened[0].send(id(6));
  assert.equal(here.take(), "6");
  const older = client(source, { id: id(2) });
  assert.equal(opened.length, 2);
  assert.equal(opened[0].readyState, 2);
  assert.equal(opened[1].url.searchParams.get("last_event_id"), id(2));
  const between = client(source, { id: id(5) });
  assert.equal(between.take(), "6");
  opened[0].send(id(100));
  for (let number = 3; number <= 7; number++) opened[1].send(id(number));
  assert.equal(older.take(), "3 4 5 6 7");
  assert.equal(here.take(), "7");
  assert.equal(between.take(), "7");
});

test("two clients that need older events receive each what they lack", () => {
  const source = newSource();
  client(source, { id: id(5) });
  opened[0].send(id(6));
  const [newer, oldest] = [client(source, { id: id(4) }), client(source, { id: id(2) })];
  assert.equal(opened.at(-1).url.searchParams.get("last_event_id"), id(2));
  for (let number = 3; number <= 7; number++) opened.at(-1).send(id(number));
  assert.equal(newer.take(), "5 6 7");
  assert.equal(oldest.take(), "3 4 5 6 7");
  const again = client(source, { id: id(3) });
  opened.at(-1).send(id(4));
  client(source, { id: id(4) });
  assert.equal(opened.at(-1).url.searchParams.get("last_event_id"), id(3), "the other one is still behind");
  opened.at(-1).send(id(4));
  opened.at(-1).send(id(5));
  assert.equal(again.take(), "4 4 5");
});

test("a time is a beginning, too", () => {
  const source = newSource();
  client(source, { since: 1003 });
  assert.equal(opened[0].url.searchParams.get("since"), "1003");
  opened[0].send(id(4));
  opened[0].send(id(6));
  assert.equal(client(source, { since: 1003 }).take(), "4 6");
  assert.equal(client(source, { since: 1005 }).take(), "6");
  assert.equal(opened.length, 1);
  client(source, { since: 1001 });
  assert.equal(opened.at(-1).url.searchParams.get("since"), "1001");
});

test("a gap is reported to those whom it concerns", () => {
  const source = newSource();
  const here = client(source, { id: id(5) });
  opened[0].send(id(6));
  const older = client(source, { id: id(2) });
  opened[1].send(id(4), { type: "sse.gap", data: "{}" });
  opened[1].send(id(6));
  opened[1].send(id(7));
  assert.equal(older.take(), "gap 6 7");
  assert.equal(here.take(), "6 7", "what is lost is older");
  const old = client(source, { id: id(3) });
  opened[2].send(id(8), { type: "sse.gap", data: "{}" });
  opened[2].send(id(9));
  assert.equal(old.take(), "gap 9");
  assert.equal(here.take(), "gap 9", "events after 7 may be lost");
  opened[2].send(id(10), { type: "sse.gap", data: "{}" });
  assert.equal(here.take(), "gap", "without another opening, it concerns all");
});

test("a client of another hub is told that events may be lost", () => {
  const source = newSource();
  client(source, { id: id(5) });
  opened[0].send(id(6));
  assert.equal(client(source, { id: id(6, 8) }).take(), "gap 6");
});

test("a bounded number of events is kept", () => {
  const source = newSource();
  const first = client(source, { id: id(0) });
  for (let number = 1; number <= 1500; number++) opened[0].send(id(number));
  assert.equal(first.words.length, 1500);
  assert.equal(client(source, { replay: 5000 }).words.length, 1000);
  assert.equal(client(source, { id: id(500) }).words.length, 1000);
  assert.equal(opened.length, 1);
  client(source, { id: id(499) });
  assert.equal(opened.length, 2);
  opened[1].send(id(2000), { data: "x".repeat(3_000_000) });
  assert.equal(client(source, { replay: 5000 }).words.length, 1);
});

test("types are listened for as soon as a client asks", () => {
  const source = newSource();
  const first = client(source, {}, ["price"]);
  opened[0].send(id(1), { type: "price" });
  opened[0].send(id(2), { type: "news" });
  client(source, {}, ["news", "price"]);
  opened[0].send(id(3), { type: "news" });
  opened[0].dispatchEvent(new Event("message"));
  assert.equal(first.take(), "1 3");
});

test("a leader goes on with the events that it has received as a follower", () => {
  const recent = [3, 4, 5].map((number) => ({ kind: "event", type: "message", data: "", id: id(number), origin: "" }));
  const source = newSource(recent);
  const own = client(source, { id: id(5) });
  assert.equal(opened[0].url.searchParams.get("last_event_id"), id(5));
  assert.equal(client(source, { id: id(4) }).take(), "5");
  assert.equal(client(source, { id: id(6) }).take(), "", "a follower that was faster");
  opened[0].send(id(6));
  assert.equal(own.take(), "6");
});

test("the connection is closed with the last client, or for good by the server", () => {
  const source = newSource();
  const [first, second] = [client(source), client(source)];
  source.detach(first);
  assert.equal(opened[0].readyState, 0);
  source.detach(second);
  assert.equal(opened[0].readyState, 2);
  const third = client(source);
  opened[1].fail(0);
  opened[1].fail(2);
  assert.equal(third.take(), "state 0 state 2");
  assert.ok(source.isIdle);
  opened[1].send(id(1));
  assert.equal(third.take(), "");
});

test("ids have an order within a hub", () => {
  const ordered = ["9-0-7", "10-0-7", "10-2-7", "10-10-7"];
  for (const [a, b] of ordered.slice(1).map((after, at) => [ordered[at], after])) {
    assert.ok(compare(a, b) < 0 && compare(b, a) > 0, `${a} ${b}`);
  }
  assert.equal(compare("10-0-7", "10-0-7"), 0);
  assert.ok(compare("10-0-7-5", "10-0-7-12") < 0);
  assert.ok(compare("10-0", "11-0-7-5") < 0);
  for (const [a, b] of [["10-0-7", "11-0-8"], ["10-0", "10-0-7-5"], ["x", "10-0"], ["", "10-0"], ["10", "10-0"]]) {
    assert.equal(compare(a, b), undefined, `${a} ${b}`);
  }
  assert.equal(timeOf("10-0-7"), 10);
  assert.ok(Number.isNaN(timeOf("x")));
});
