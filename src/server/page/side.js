// The side: tables with their tags and fields, rollups and how fresh they are, and what was asked before.

import { quoteName, quoteText } from "./language.js";
import { progress, rollups, rowsOf } from "./server.js";

const HISTORY_MAX = 100;
const VALUES_MAX = 200;
const ROLLUPS_EVERY_MS = 5_000;
const STORED = "waterclock.history";

const tables = document.getElementById("tables");
const rollupList = document.getElementById("rollups");
const history = document.getElementById("history");

let database = () => "default";
let insert = () => {};
let open = () => {};
// The most buckets that each rollup was seen to lack: where its progress begins.
const lacked = new Map();

export function start(handlers) {
    ({ database, insert, open } = handlers);
    tabs(document.querySelector("#side [role=tablist]"));
    setInterval(() => {
        if (!document.hidden && !rollupList.hidden) showRollups();
    }, ROLLUPS_EVERY_MS);
    document.getElementById("tab-rollups").addEventListener("click", showRollups);
    showHistory();
}

export function refresh() {
    showTables();
    showRollups();
}

// Tabs as the keyboard expects them: one stop for Tab, arrows go between.
export function tabs(list) {
    const all = [...list.querySelectorAll("[role=tab]")];
    const select = (tab) => all.forEach((other) => {
        const selected = other === tab;
        other.setAttribute("aria-selected", String(selected));
        other.tabIndex = selected ? 0 : -1;
        document.getElementById(other.getAttribute("aria-controls")).hidden = !selected;
    });
    all.forEach((tab, at) => {
        tab.addEventListener("click", () => select(tab));
        tab.addEventListener("keydown", (event) => {
            const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
            if (step === undefined) return;
            const next = all[(at + step + all.length) % all.length];
            next.focus();
            next.click();
        });
    });
    return select;
}

function element(tag, properties = {}, ...inside) {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...inside);
    return made;
}

function failed(place, error) {
    place.replaceChildren(element("p", { className: "note", textContent: error.message }));
}

function inserter(label, text, kind) {
    const button = element("button", { className: "name", title: `Insert ${text}` }, label);
    if (kind) button.append(element("small", { textContent: kind }));
    button.addEventListener("click", () => insert(text));
    return button;
}

// Something that opens; what is inside is asked for when it does.
function opener(summary, fill) {
    const details = element("details", {}, element("summary", {}, summary));
    const inside = element("div", { className: "inside" });
    details.append(inside);
    details.addEventListener("toggle", () => {
        if (details.open) fill(inside).catch((error) => failed(inside, error));
    });
    return details;
}

async function showTables() {
    const db = database();
    try {
        const rows = await rowsOf("show tables", db);
        if (rows.length === 0) {
            const how = "Nothing has been written here yet. Send line protocol to POST /write.";
            return tables.replaceChildren(element("p", { className: "note", textContent: how }));
        }
        tables.replaceChildren(...rows.map(([table, series]) => opener(
            inserter(table, quoteName(table), `${Number(series).toLocaleString("en")} series`), (inside) => columns(inside, table, db))));
    } catch (error) {
        failed(tables, error);
    }
}

async function columns(inside, table, db) {
    const [tags, fields] = await Promise.all([
        rowsOf(`show tags from ${quoteName(table)}`, db), rowsOf(`show fields from ${quoteName(table)}`, db)]);
    inside.replaceChildren(
        ...tags.map(([tag]) => opener(inserter(tag, quoteName(tag), "tag"), async (place) => {
            const values = await rowsOf(`show values of ${quoteName(tag)} from ${quoteName(table)}`, db);
            place.replaceChildren(...values.slice(0, VALUES_MAX).map(([value]) => inserter(value, `${quoteName(tag)}=${quoteText(value)}`)));
            const more = values.length - VALUES_MAX;
            if (more > 0) place.append(element("p", { className: "note", textContent: `and ${more.toLocaleString("en")} more` }));
        })),
        ...fields.map(([field, type]) => inserter(field, quoteName(field), type)));
}

async function showRollups() {
    const db = database();
    try {
        const list = await rollups(db);
        const cards = await Promise.all(list.map(async (rollup) => {
            const state = rollup.missing_buckets > 0 ? { ...rollup, ...await progress(db, rollup.name) } : rollup;
            return card(rollup, state, `${db}\n${rollup.name}`);
        }));
        if (cards.length === 0) {
            cards.push(element("p", { className: "note", textContent: "No rollups. `create rollup NAME as cpu | every 1m avg(usage)` makes one." }));
        }
        if (db === database()) rollupList.replaceChildren(...cards);
    } catch (error) {
        failed(rollupList, error);
    }
}

function card({ name, on, definition, keep, last_error, state: word, rebuilt }, { missing_buckets: missing, dirty_buckets: dirty, computed_until, seconds_left }, key) {
    const count = (buckets) => `${buckets.toLocaleString("en")} bucket${buckets === 1 ? "" : "s"}`;
    const most = Math.max(missing, lacked.get(key) ?? 0);
    lacked.set(key, missing === 0 ? 0 : most);
    const made = element("div", { className: "rollup" }, inserter(name, quoteName(name), `on ${on}`));
    const state = missing > 0 ? `${count(missing)} to compute` : dirty > 0 ? `${count(dirty)} to compute again` : "up to date";
    const line = element("p", { className: missing + dirty > 0 ? "state busy" : "state" }, state);
    if (computed_until) line.append(`, computed to ${computed_until.slice(0, 16).replace("T", " ")} (${ago(Date.parse(computed_until))})`);
    made.append(line);
    if (missing > 0) {
        const bar = element("progress", { max: most, value: most - missing });
        bar.setAttribute("aria-label", `${name}: first computation`);
        made.append(bar);
    }
    if (seconds_left) made.append(element("p", { className: "note", textContent: `about ${Math.ceil(seconds_left).toLocaleString("en")} s left` }));
    if (word === "paused") made.append(element("p", { className: "note", textContent: "paused: nothing is computed in the background" }));
    if (rebuilt) {
        const bar = element("progress", { max: rebuilt.total_buckets, value: rebuilt.done_buckets });
        bar.setAttribute("aria-label", `${name}: what it is altered to`);
        made.append(element("p", { className: "note", textContent: "being altered; the old states answer meanwhile" }), bar);
    }
    if (last_error) made.append(element("p", { className: "wrong-note", textContent: last_error }));
    made.append(element("code", { textContent: definition.replace(/^create rollup \S+ as /, "") }));
    if (keep !== "forever") made.append(element("p", { className: "note", textContent: `kept ${keep}` }));
    return made;
}

function ago(time) {
    const seconds = Math.round((Date.now() - time) / 1000);
    if (seconds < 0) return "in the bucket that runs";
    const [unit, size] = [["d", 86400], ["h", 3600], ["min", 60]].find(([, size]) => seconds >= size) ?? ["s", 1];
    return `${Math.floor(seconds / size)} ${unit} ago`;
}

function stored() {
    try {
        const list = JSON.parse(localStorage.getItem(STORED) ?? "[]");
        return Array.isArray(list) ? list.filter((one) => typeof one === "string") : [];
    } catch {
        return [];
    }
}

export function remember(text) {
    const list = [text, ...stored().filter((other) => other !== text)].slice(0, HISTORY_MAX);
    keepHistory(list);
}

function keepHistory(list) {
    try {
        localStorage.setItem(STORED, JSON.stringify(list));
    } catch {
        // No storage, or none left: the query runs all the same.
    }
    showHistory();
}

function showHistory() {
    const list = stored();
    const items = list.map((text) => {
        const button = element("button", { className: "past", title: "Open it in the editor", textContent: text });
        button.addEventListener("click", () => open(text));
        return button;
    });
    if (items.length === 0) items.push(element("p", { className: "note", textContent: "What you run is kept here, in this browser only." }));
    else {
        const clear = element("button", { className: "quiet", textContent: "Clear history" });
        clear.addEventListener("click", () => keepHistory([]));
        items.push(clear);
    }
    history.replaceChildren(...items);
}
