/** Where and how a shared stream begins, and what happens to it. */
export interface SharedEventSourceOptions {
  /** Types of events besides `message`. All tabs should name the same; `addEventListener` adds others. */
  types?: Iterable<string>;
  /** The position of the page (`$sse_position`), from which it begins if this tab has no last id. */
  position?: string;
  /** The time from which it begins if there is neither (`sse_since`): a date, or milliseconds since 1970. */
  since?: Date | number;
  /** The number of earlier events that a tab receives if it has none of these: the count of `sse_replay`. */
  replay?: number;
  /** Called when events are lost; the page should fetch its state again. Also an event of the type `gapEvent`. */
  onGap?: (event: MessageEvent<string>) => void;
  /** Whether the last id is kept in `sessionStorage`, so that a reloaded tab continues after it. Default: true. */
  remember?: boolean;
  /** Whether a shared worker may be used. Default: true. */
  worker?: boolean;
  /** As in `EventSourceInit`. */
  withCredentials?: boolean;
  /** The name that `sse_open_event` sets. Default: `sse.open`. */
  openEvent?: string;
  /** The name that `sse_gap_event` sets. Default: `sse.gap`. */
  gapEvent?: string;
}

export interface SharedEventSourceEventMap {
  open: Event;
  error: Event;
  message: MessageEvent<string>;
}

/** An EventSource that all tabs of a site share. */
export declare class SharedEventSource extends EventTarget {
  static readonly CONNECTING: 0;
  static readonly OPEN: 1;
  static readonly CLOSED: 2;

  constructor(url: string | URL, options?: SharedEventSourceOptions);

  readonly url: string;
  readonly readyState: 0 | 1 | 2;
  /** The id of the last event that this tab has received. */
  readonly lastEventId: string;
  /** Where the connection is: in a shared worker, in this tab (`leader`), in another one, or in this one `alone`. */
  readonly mode: "connecting" | "worker" | "leader" | "follower" | "alone";

  onopen: ((event: Event) => void) | null;
  onmessage: ((event: MessageEvent<string>) => void) | null;
  onerror: ((event: Event) => void) | null;
  ongap: ((event: MessageEvent<string>) => void) | null;

  addEventListener<K extends keyof SharedEventSourceEventMap>(
    type: K,
    listener: (event: SharedEventSourceEventMap[K]) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: (event: MessageEvent<string>) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;

  /** Detaches this tab; the connection is closed when the last tab has been detached. */
  close(): void;
}
