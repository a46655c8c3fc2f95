import { ref, toValue, watchEffect } from "vue";

// Listens to a stream as long as the component is shown; `url` may be a ref. `onEvent` receives events of the named types;
// `onGap` is called when events were lost. Returns a ref: "connecting", "open", or "closed".
export function useEventSource(url, onEvent, { types = ["message"], onGap = () => {} } = {}) {
  const state = ref("connecting");
  watchEffect((onCleanup) => {
    const source = new EventSource(toValue(url));
    state.value = "connecting";
    source.onopen = () => (state.value = "open");
    source.onerror = () => (state.value = source.readyState === EventSource.CLOSED ? "closed" : "connecting");
    for (const type of types) source.addEventListener(type, onEvent);
    source.addEventListener("sse.gap", onGap);
    onCleanup(() => source.close());
  });
  return state;
}
