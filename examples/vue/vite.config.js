import vue from "@vitejs/plugin-vue";

export default {
  plugins: [vue()],
  // npm run dev: nginx serves the streams.
  server: { proxy: { "/stream": "http://127.0.0.1:8080", "/publish": "http://127.0.0.1:8080" } },
};
