import react from "@vitejs/plugin-react";

export default {
  plugins: [react()],
  // npm run dev: nginx serves the streams.
  server: { proxy: { "/stream": "http://127.0.0.1:8080", "/publish": "http://127.0.0.1:8080" } },
};
