import "./htmx.js";
import "htmx-ext-sse";
