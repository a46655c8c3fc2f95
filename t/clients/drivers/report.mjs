// Prints what a client of Node.js does, one JSON object on each line.

export const address = process.argv[2];

export function report(what) {
    console.log(JSON.stringify(what));
}

// Reads a stream with `read`, and reports how it ended. It reports the events itself.
export async function reportEnd(read) {
    try {
        await read();
        report({ end: "complete" });
    } catch (error) {
        report({ end: "error", message: String(error?.message ?? error) });
    }
}
