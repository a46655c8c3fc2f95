import { StrictMode, useState } from "react";
import { createRoot } from "react-dom/client";
import { useEventSource } from "./useEventSource.js";

function Messages() {
  const [messages, setMessages] = useState([]);
  const state = useEventSource("/stream", (event) => {
    setMessages((earlier) => [{ id: event.lastEventId, text: event.data }, ...earlier].slice(0, 100));
  }, { onGap: () => location.reload() });

  async function publish(form) {
    await fetch("/publish", { method: "POST", body: form.get("text") });
  }
  return (
    <>
      <h1>Messages</h1>
      <form action={publish}>
        <input name="text" required placeholder="Hello, World!" autoComplete="off" />
        <button>Publish</button>
      </form>
      <p id="state" role="status">{state}</p>
      <ul id="list">{messages.map(({ id, text }) => <li key={id}>{text}</li>)}</ul>
    </>
  );
}

createRoot(document.getElementById("root")).render(<StrictMode><Messages /></StrictMode>);
