import "./htmx.js";
import "htmx.org/dist/ext/hx-sse.js";
