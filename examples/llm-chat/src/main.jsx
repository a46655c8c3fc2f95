import { useChat } from "@ai-sdk/react";
import { DefaultChatTransport } from "ai";
import { useEffect, useState } from "react";
import { createRoot } from "react-dom/client";

// The chat's id is in the page's address, so that a reload, or another device, shows the same chat.
const id = location.hash.slice(1) || crypto.randomUUID();
location.hash = id;
const transport = new DefaultChatTransport({ api: "/api/chat" });

function Chat({ earlier }) {
  const [text, setText] = useState("");
  const { messages, sendMessage, setMessages, resumeStream, status } = useChat({
    id, messages: earlier, transport, onError: () => setTimeout(resume, 500),
  });

  // Reads the answer in progress from its beginning: after the page was loaded, and when the stream is interrupted, for
  // instance by a reload of nginx. The answer may have become complete in the meantime: then the application has it.
  async function resume() {
    await resumeStream();
    const saved = await savedMessages();
    if (saved.at(-1)?.role !== "assistant") return;
    // Unless another question was asked here meanwhile.
    setMessages((shown) => (shown.length > saved.length ? shown : saved));
  }
  useEffect(() => { resume(); }, []);

  function ask(event) {
    event.preventDefault();
    sendMessage({ text });
    setText("");
  }
  return (
    <>
      <h1>A chat with a model</h1>
      {messages.map((message) => (
        <article key={message.id} className={message.role}>
          {message.parts.map((part, at) => part.type === "text" && <span key={at}>{part.text}</span>)}
        </article>
      ))}
      <form onSubmit={ask}>
        <input name="text" value={text} onChange={(event) => setText(event.target.value)} required placeholder="What is a stream?" />
        <button disabled={status === "submitted" || status === "streaming"}>Ask</button>
      </form>
      <p id="state" role="status">{status}</p>
    </>
  );
}

// What the application has saved: questions and complete answers.
async function savedMessages() {
  return (await fetch(`/api/chat/${id}`)).json();
}

createRoot(document.getElementById("root")).render(<Chat earlier={await savedMessages()} />);
