// The page: what its parts do together. The text, the database and the range stand in the address, so that it can be shared.

import * as chart from "./chart.js";
import * as editor from "./editor.js";
import { hasRange, statements } from "./language.js";
import * as server from "./server.js";
import * as side from "./side.js";
import * as table from "./table.js";

const CHECK_AFTER_MS = 400;
const RANGES = [["-15m", "last 15 min"], ["-1h", "last 1 h"], ["-6h", "last 6 h"], ["-1d", "last 1 day"], ["-7d", "last 7 days"],
    ["-30d", "last 30 days"], ["", "all time"], ["custom", "from … to …"]];
const RANGE_AT_FIRST = "-1h";
const CHANGES = ["create", "drop", "alter", "delete"];

const at = (id) => document.getElementById(id);
const [database, range, from, to] = ["database", "range", "from", "to"].map(at);

// What stops the query that runs.
let running;
let checking;
let waiting;

const selectView = side.tabs(document.querySelector(".answer-bar [role=tablist]"));

function parameters() {
    const given = { db: database.value };
    if (range.value === "custom") {
        // The fields have no zone; the page speaks UTC.
        if (from.value) given.from = `${withSeconds(from.value)}Z`;
        if (to.value) given.to = `${withSeconds(to.value)}Z`;
    } else if (range.value) {
        given.from = range.value;
        given.to = "now";
    }
    return given;
}

const withSeconds = (time) => (time.length === 16 ? `${time}:00` : time);

async function run({ readOnly = false } = {}) {
    const text = editor.value();
    if (text.trim() === "") return editor.focus();
    running?.abort();
    const mine = new AbortController();
    running = mine;
    clearTimeout(waiting);
    checking?.abort();
    editor.clearProblem();
    link();
    at("run").disabled = true;
    at("cancel").hidden = false;
    say("running …");
    const started = performance.now();
    try {
        const received = (bytes) => say(`running … ${size(bytes)} received`);
        const answer = await server.ask(text, parameters(), { signal: mine.signal, received, readOnly });
        side.remember(text);
        show(answer, performance.now() - started);
        if (changes(text)) {
            server.forget();
            side.refresh();
        }
    } catch (error) {
        if (running !== mine) return;
        if (mine.signal.aborted) say("cancelled");
        else {
            say("");
            editor.showProblem(error instanceof server.Refused ? error : { message: `the server cannot be reached: ${error.message}` });
        }
    } finally {
        if (running === mine) {
            running = undefined;
            at("run").disabled = false;
            at("cancel").hidden = true;
        }
    }
}

function show(answer, elapsed) {
    table.show(answer);
    // A chart takes the width of its place, which must be in sight for that.
    at("chart-view").hidden = false;
    const drawn = chart.show(answer);
    selectView(at(drawn ? view.chosen : "tab-table"));
    at("download").hidden = false;
    say(...told(answer, elapsed));
    at("warnings").replaceChildren(...answer.warnings.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
    at("warnings").hidden = answer.warnings.length === 0;
}

// The view that a person chose stays, as long as the answer can be drawn.
const view = { chosen: "tab-chart" };
for (const id of ["tab-chart", "tab-table"]) at(id).addEventListener("click", () => { view.chosen = id; });

const changes = (text) => statements(text).some(([first]) => CHANGES.includes(first.text));

// Counts, and who answered.
function told({ rows, stats }, elapsed) {
    const count = (number, word) => `${number.toLocaleString("en")} ${word}${number === 1 || word.endsWith("s") ? "" : "s"}`;
    const parts = [count(rows.length, "row"), count(stats.series, "series"), `${stats.rows_read.toLocaleString("en")} rows read`,
        `${stats.elapsed_ms.toFixed(1)} ms (${Math.round(elapsed)} ms here)`];
    const line = [parts.join(" · ")];
    if (stats.series > 0) line.push(" · ", who(stats, count));
    return line;
}

function who(stats, count) {
    const used = stats.rollups.map(({ name, buckets, dirty_recomputed: again }) =>
        `${name} (${count(buckets, "bucket")}${again > 0 ? `, ${again.toLocaleString("en")} computed again` : ""})`);
    const text = used.length === 0 ? "answered from raw points" : `answered by rollup ${used.join(" and ")}`;
    return Object.assign(document.createElement("span"), { id: "answered-by", className: used.length === 0 ? "" : "rolled", textContent: text });
}

function say(...parts) {
    at("stats").replaceChildren(...parts);
}

const size = (bytes) => (bytes < 1e6 ? `${Math.round(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(1)} MB`);

// Asks the server, once nobody types, what is wrong. To explain runs nothing; what it says without a place is not about the text.
function check() {
    clearTimeout(waiting);
    checking?.abort();
    const text = editor.value();
    at("own-range").hidden = !hasRange(text);
    if (statements(text).length === 0) return;
    waiting = setTimeout(async () => {
        checking = new AbortController();
        try {
            await server.check(text, parameters(), checking.signal);
        } catch (error) {
            // What is not written to its end yet is no mistake; running it says what is missing.
            if (error instanceof server.Refused && error.line !== undefined && editor.value() === text && !editor.atEnd(error)) editor.showProblem(error);
        }
    }, CHECK_AFTER_MS);
}

// The address says what is asked.
function link() {
    const given = new URLSearchParams({ q: editor.value(), db: database.value, range: range.value });
    if (range.value === "custom") {
        given.set("from", from.value);
        given.set("to", to.value);
    }
    window.history.replaceState(null, "", `#${given}`);
}

async function readLink() {
    const given = new URLSearchParams(location.hash.slice(1));
    if (given.has("db")) chooseDatabase(given.get("db"));
    if (given.has("range") && RANGES.some(([value]) => value === given.get("range"))) range.value = given.get("range");
    from.value = given.get("from") ?? "";
    to.value = given.get("to") ?? "";
    at("custom").hidden = range.value !== "custom";
    side.refresh();
    const text = given.get("q") ?? "";
    editor.setValue(text);
    // A link may read, and no more: the server sees to that. What changes something waits for a person to run it.
    if (text !== "" && !changes(text)) await run({ readOnly: true });
}

function chooseDatabase(name) {
    if (![...database.options].some((option) => option.value === name)) database.add(new Option(name, name));
    database.value = name;
}

async function start() {
    range.append(...RANGES.map(([value, label]) => new Option(label, value)));
    range.value = RANGE_AT_FIRST;
    chooseDatabase("default");
    editor.start({ database: () => database.value, onChange: check, onRun: () => run() });
    side.start({ database: () => database.value, insert: editor.insert, open: (text) => { editor.setValue(text); editor.focus(); } });
    at("run").addEventListener("click", () => run());
    at("cancel").addEventListener("click", () => running?.abort());
    document.addEventListener("keydown", (event) => {
        if (event.key === "Escape" && !event.defaultPrevented) running?.abort();
    });
    range.addEventListener("change", () => {
        at("custom").hidden = range.value !== "custom";
        if (range.value !== "custom" && editor.value().trim() !== "") run();
    });
    database.addEventListener("change", () => {
        side.refresh();
        check();
    });
    at("share").addEventListener("click", share);
    at("download").addEventListener("click", download);
    at("side-toggle").addEventListener("click", () => {
        const open = document.body.classList.toggle("side-open");
        at("side-toggle").setAttribute("aria-expanded", String(open));
    });
    themes();
    window.addEventListener("hashchange", readLink);
    const known = server.databases().then((list) => list.forEach((name) => {
        if (![...database.options].some((option) => option.value === name)) database.add(new Option(name, name));
    }), () => {});
    await readLink();
    editor.focus();
    await known;
}

async function share() {
    link();
    let said = "Copied";
    try {
        await navigator.clipboard.writeText(location.href);
    } catch {
        said = "In the address bar";
    }
    at("share").textContent = said;
    setTimeout(() => { at("share").textContent = "Copy link"; }, 1500);
}

async function download() {
    try {
        const address = URL.createObjectURL(await server.csv(editor.value(), parameters()));
        Object.assign(document.createElement("a"), { href: address, download: "waterclock.csv" }).click();
        URL.revokeObjectURL(address);
    } catch (error) {
        editor.showProblem(error);
    }
}

function themes() {
    const system = matchMedia("(prefers-color-scheme: dark)");
    const root = document.documentElement;
    const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
    const told = () => {
        at("theme").setAttribute("aria-pressed", String(dark()));
        chart.repaint();
    };
    at("theme").addEventListener("click", () => {
        root.dataset.theme = dark() ? "light" : "dark";
        try {
            localStorage.setItem("waterclock.theme", root.dataset.theme);
        } catch {
            // No storage: for this visit, then.
        }
        told();
    });
    system.addEventListener("change", told);
    told();
}

start();
