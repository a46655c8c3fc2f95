// The order of event ids. An id is decimal numbers joined by hyphens: the milliseconds since 1970 and a sequence
// number; then, from a hub without Redis and for plain messages of Redis, the number of the hub's lifetime; then, for
// plain messages, a position in the hub's log.

// Compares two ids. Returns a negative number, 0, or a positive one; undefined if they have no order, because they are
// from two hubs, or not ids of the module.
export function compare(a, b) {
  const [first, second] = [parse(a), parse(b)];
  if (!first || !second) return undefined;
  const byTime = first.ms - second.ms || first.sequence - second.sequence;
  if (first.hub !== undefined && second.hub !== undefined && first.hub !== second.hub) return undefined;
  if (byTime !== 0 || a === b) return byTime;
  return first.position === undefined || second.position === undefined ? undefined : first.position - second.position;
}

// The time in an id, in milliseconds since 1970; NaN if there is none.
export function timeOf(id) {
  return parse(id)?.ms ?? NaN;
}

function parse(id) {
  if (typeof id !== "string" || !/^\d+-\d+(-\d+){0,2}$/.test(id)) return null;
  const [ms, sequence, hub, position] = id.split("-");
  return { ms: Number(ms), sequence: Number(sequence), hub, position: position === undefined ? undefined : Number(position) };
}
