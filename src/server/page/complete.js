// What may stand at the cursor: words of the language, and names that the server has. The Grafana plugin (grafana/plugin) completes
// with this, too; each says how it asks for rows.

import { AGGREGATES, FOLLOWING, FUNCTIONS, SHOWN, STAGES, VERBS, meaningful, nameOf, quoteName, quoteText, tokens } from "./language.js";

// More than this nobody reads.
const CHOICES_MAX = 50;
const TESTS = ["=", "!=", "=~", "!~"];

// {from, to, choices: [{label, insert, kind}]}: `insert` replaces the text from `from` to `to`. `rowsOf` promises the rows of a statement.
export async function complete(text, cursor, rowsOf) {
    const before = tokens(text.slice(0, cursor));
    const last = before[before.length - 1];
    if (last?.kind === "comment") return undefined;
    const open = last !== undefined && ["word", "keyword", "function", "quoted", "text"].includes(last.kind);
    // A closed quote is done.
    if (open && /^(["'`]).*\1$/s.test(last.text) && last.text.length > 1) return undefined;
    if (last?.kind === "number" || last?.kind === "time") return undefined;
    const typed = open ? last.text.replace(/^["'`]/, "") : "";
    const from = open ? last.start : cursor;
    let to = cursor;
    // The quote that closes the one being typed is typed over.
    if (open && /^["'`]/.test(last.text) && text[cursor] === last.text[0]) to += 1;
    const solid = meaningful(open ? before.slice(0, -1) : before);
    const start = solid.findLastIndex((token) => token.text === ";") + 1;
    const lets = solid.slice(0, start).flatMap((token, at, all) => (token.text === "let" ? [nameOf(all[at + 1])] : []));
    const choices = await candidates(solid.slice(start), { inText: open && last.kind === "text", rowsOf, lets });
    const wanted = typed.toLowerCase();
    const scored = choices
        .map((choice) => ({ choice, at: choice.label.toLowerCase().indexOf(wanted) }))
        .filter(({ choice, at }) => at >= 0 && choice.label !== typed);
    scored.sort((a, b) => (a.at > 0) - (b.at > 0));
    return { from, to, choices: scored.slice(0, CHOICES_MAX).map(({ choice }) => choice) };
}

async function candidates(line, { inText, rowsOf, lets }) {
    const end = line[line.length - 1]?.text;
    const inside = openBracket(line);
    const source = sourceOf(line);
    const tags = () => names(`show tags from ${quoteName(source)}`, rowsOf, "tag");
    const fields = () => names(`show fields from ${quoteName(source)}`, rowsOf, "field");
    const values = (tag) => rowsOf(`show values of ${quoteName(tag)} from ${quoteName(source)}`).then(
        (rows) => rows.map(([value]) => ({ label: value, insert: quoteText(value), kind: "value" })), () => []);

    const asked = testedTag(line);
    if (asked !== undefined && source !== undefined) return values(asked);
    if (inText) return [];
    const sources = async () => [...named(lets, "let"), ...await tablesRollupsMetrics(rowsOf)];
    if (end === undefined || end === "explain") return [...await sources(), ...words(VERBS)];
    if (end === "show") return words(SHOWN);
    if (end === "of" && line[0].text === "show") return [];
    if (line[0].text === "let" && line.length < 4) return end === "=" ? sources() : [];
    if (["from", "join"].includes(end) || (end === "as" && line[0].text === "create")) return sources();
    if (end === "create" || end === "drop") return words(["rollup"]);
    if (end === "alter") return words(["table", "rollup", "database"]);
    if (line[0].text === "show" && SHOWN.includes(end)) return words(end === "values" ? ["of"] : ["from"]);
    if (source === undefined) return words(["keep", "late"]);
    if (inside?.text === "{") return tags();
    const stage = line.slice(line.findLastIndex((token) => token.text === "|") + 1);
    const by = stage.findLastIndex((token) => token.text === "by");
    const opener = stage[0]?.text;
    // Before an aggregate there are the table's columns, after it what it has made.
    const made = madeBefore(line);
    const columns = async () => [...named(made, "column"), ...await fields(), ...await tags()];
    if (by >= 0 && ["by", "per", ",", "("].includes(end)) return opener === "top" || opener === "bottom" ? columns() : tags();
    if (inside !== undefined && inside.call) return [...await columns(), ...calls(FUNCTIONS)];
    if (end === "|") return [...words(STAGES), ...calls(AGGREGATES)];
    const wants = stage.length === 1 || ["and", "or", "not", "(", ",", "=", "+", "-", "*", "/", "<", ">", "<=", ">="].includes(end);
    if (opener === "where") return wants ? [...await columns(), ...calls(FUNCTIONS), ...words(["not"])] : words(["and", "or", "not", "in"]);
    if (opener === "extend") return wants ? [...await columns(), ...calls(FUNCTIONS)] : [];
    if (opener === "sort" && wants) return columns();
    if (end === "on") return [...words(["time"]), ...await tags()];
    if (Object.hasOwn(FOLLOWING, opener)) return words(FOLLOWING[opener]);
    // An aggregate: its step, its functions and their ends.
    return end === ")" ? words(["by", "as", "in"]) : [...calls(AGGREGATES), ...words(["by", "as", "over", "offset", "in"])];
}

// Columns that the stages so far have made: `avg(x)` makes `avg_x`, `as` and `extend` name theirs.
function madeBefore(line) {
    const last = line.findLastIndex((token) => token.text === "|");
    const found = [];
    let opener;
    line.forEach((token, at) => {
        if (at >= 1 && line[at - 1].text === "|") opener = token.text;
        const next = line[at + 1];
        if (opener === "extend" && next?.text === "=" && ["extend", ","].includes(line[at - 1]?.text)) found.push(nameOf(token));
        if (at >= last || opener === "where" || opener === "extend") return;
        if (token.text === "as") found.push(nameOf(next));
        const field = token.kind === "function" && next?.text === "(" && line[at + 3]?.text === ")" ? nameOf(line[at + 2]) : undefined;
        if (field !== undefined && line[at + 4]?.text !== "as") found.push(`${token.text}_${field}`);
    });
    return [...new Set(found.filter((name) => name !== undefined))];
}

const named = (list, kind) => list.map((name) => ({ label: name, insert: quoteName(name), kind }));
const words = (list) => list.map((word) => ({ label: word, insert: word, kind: "word" }));
const calls = (list) => list.map((word) => ({ label: word, insert: word, kind: "function" }));

const names = (statement, rowsOf, kind) => rowsOf(statement).then(
    (rows) => rows.map(([name, type]) => ({ label: name, insert: quoteName(name), kind: type ?? kind })), () => []);

async function tablesRollupsMetrics(rowsOf) {
    const kinds = ["table", "rollup", "metric"];
    const all = await Promise.all(kinds.map((kind) => names(`show ${kind}s`, rowsOf, kind)));
    return all.flatMap((list, at) => list.map((choice) => ({ ...choice, kind: kinds[at] })));
}

// The table of the statement: the first name that is no verb, or what stands after `from` or `as`.
function sourceOf(line) {
    const at = line.findIndex((token) => token.kind !== "keyword");
    if (line[0]?.text === "let") return nameOf(line[3]);
    const verb = line.findIndex((token) => token.text === "from" || (line[0]?.text === "create" && token.text === "as"));
    if (verb >= 0) return nameOf(line[verb + 1]);
    return ["show", "create", "drop", "alter", "delete"].includes(line[0]?.kind === "keyword" ? line[0].text : "") ? undefined : nameOf(line[at]);
}

// The innermost bracket that is still open, and whether it is a call's.
function openBracket(line) {
    const open = [];
    line.forEach((token, at) => {
        if (token.text === "{" || token.text === "(") open.push({ text: token.text, call: line[at - 1]?.kind === "function" });
        else if (token.text === "}" || token.text === ")") open.pop();
    });
    return open[open.length - 1];
}

// The tag whose value is being typed: `host=`, `host in ("a",`.
function testedTag(line) {
    const end = line.length - 1;
    if (TESTS.includes(line[end]?.text)) return nameOf(line[end - 1]);
    let at = end;
    while (at >= 0 && (line[at].text === "," || line[at].kind === "text")) at -= 1;
    if (line[at]?.text !== "(" || line[at - 1]?.text !== "in") return undefined;
    if (line[end].kind === "text") return undefined;
    return nameOf(line[at - 2]?.text === "not" ? line[at - 3] : line[at - 2]);
}
