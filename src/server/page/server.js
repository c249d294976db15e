// What the page asks of the server, all of it on the page's own origin.

// An answer larger than this is not taken: a browser would stand still over it.
const ANSWER_BYTES_MAX = 256 * 1024 * 1024;

export class Refused extends Error {
    constructor(status, error) {
        super(error.message);
        this.status = status;
        this.line = error.line ?? undefined;
        this.column = error.column ?? undefined;
        this.hint = error.hint ?? undefined;
    }
}

async function request(path, parameters, options) {
    const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value));
    const response = await fetch(`${path}?${query}`, options);
    if (response.ok) return response;
    const body = await response.json().catch(() => ({}));
    throw new Refused(response.status, body.error ?? { message: `the server answers ${response.status}` });
}

const post = (body, signal, accept = "application/json") =>
    ({ method: "POST", body, signal, headers: { "content-type": "text/plain; charset=utf-8", accept } });

// Runs a script. `received` is told how many bytes have come. With `readOnly` the server refuses what changes anything.
export async function ask(text, parameters, { signal, received, readOnly } = {}) {
    const response = readOnly
        ? await request("/api/wql", { ...parameters, q: text }, { signal, headers: { accept: "application/json" } })
        : await request("/api/wql", parameters, post(text, signal));
    const pieces = [];
    let bytes = 0;
    const reader = response.body.getReader();
    for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        bytes += value.length;
        if (bytes > ANSWER_BYTES_MAX) {
            await reader.cancel();
            throw new Refused(0, {
                message: `the answer is larger than ${ANSWER_BYTES_MAX / 1024 / 1024} MB, which this page does not take`,
                hint: "aggregate with `every`, or take fewer rows with `limit`; the command line exports more",
            });
        }
        pieces.push(value);
        received?.(bytes);
    }
    return JSON.parse(await new Blob(pieces).text());
}

export async function csv(text, parameters) {
    return (await request("/api/wql", parameters, post(text, undefined, "text/csv"))).blob();
}

// Throws what is wrong with a statement, without running it.
export async function check(text, parameters, signal) {
    await request("/api/wql/explain", parameters, post(text, signal));
}

export async function rollups(db) {
    return (await (await request("/api/rollups", { db })).json()).rollups;
}

export async function progress(db, name) {
    return (await request(`/api/rollups/${encodeURIComponent(name)}/progress`, { db })).json();
}

export async function databases() {
    const answer = await (await request("/query", { q: "SHOW DATABASES" })).json();
    return (answer.results?.[0]?.series?.[0]?.values ?? []).map(([name]) => name);
}

// Names for completion and the side panel, asked for once and kept until `forget`.
const kept = new Map();

export function forget() {
    kept.clear();
}

export function rowsOf(statement, db) {
    const key = `${db}\n${statement}`;
    if (!kept.has(key)) {
        const asked = ask(statement, { db }).then((answer) => answer.rows);
        kept.set(key, asked);
        asked.catch(() => kept.delete(key));
    }
    return kept.get(key);
}
