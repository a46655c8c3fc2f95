// For pages: keeps what a client does in `lines`, which the test reads. The address of the stream is in the query.

window.address = location.search.slice(1);
window.lines = [];
window.report = what => lines.push(what);

// Reports the text of elements that a library adds to the element with this id.
window.reportAdded = id =>
    new MutationObserver(changes => {
        for (const node of changes.flatMap(change => [...change.addedNodes])) report({ event: node.textContent });
    }).observe(document.getElementById(id), { childList: true });

// Reports the errors of an EventSource, and when it has given up.
window.reportErrors = source =>
    source.addEventListener("error", () => {
        report({ error: "error" });
        if (source.readyState === EventSource.CLOSED) report({ end: "stops" });
    });
