import htmx from "htmx.org";

// The extension expects it there.
window.htmx = htmx;
