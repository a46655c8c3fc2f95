import { useEffect, useEffectEvent, useState } from "react";

// Listens to a stream as long as the component is shown. `onEvent` receives events of the named types; `onGap` is called
// when events were lost. Returns "connecting", "open", or "closed".
export function useEventSource(url, onEvent, { types = ["message"], onGap = () => {} } = {}) {
  const [state, setState] = useState("connecting");
  // The newest functions of the component, without connecting again when they change.
  const receive = useEffectEvent(onEvent), lose = useEffectEvent(onGap);
  const names = types.join(" ");
  useEffect(() => {
    const source = new EventSource(url);
    source.onopen = () => setState("open");
    source.onerror = () => setState(source.readyState === EventSource.CLOSED ? "closed" : "connecting");
    for (const type of names.split(" ")) source.addEventListener(type, (event) => receive(event));
    source.addEventListener("sse.gap", (event) => lose(event));
    return () => source.close();
  }, [url, names]);
  return state;
}
