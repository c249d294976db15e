// What may stand at the cursor: words of the language, and names that the server has.

import { AGGREGATES, FUNCTIONS, INNER, SHOWN, STAGES, VERBS, meaningful, nameOf, quoteName, quoteText, tokens } from "./language.js";
import { rowsOf } from "./server.js";

// More than this nobody reads.
const CHOICES_MAX = 50;
const TESTS = ["=", "!=", "=~", "!~"];

// {from, to, choices: [{label, insert, kind}]}: `insert` replaces the text from `from` to `to`.
export async function complete(text, cursor, db) {
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
    const choices = await candidates(solid.slice(start), open && last.kind === "text", db, typed);
    const wanted = typed.toLowerCase();
    const scored = choices
        .map((choice) => ({ choice, at: choice.label.toLowerCase().indexOf(wanted) }))
        .filter(({ choice, at }) => at >= 0 && choice.label !== typed);
    scored.sort((a, b) => (a.at > 0) - (b.at > 0));
    return { from, to, choices: scored.slice(0, CHOICES_MAX).map(({ choice }) => choice) };
}

async function candidates(line, inText, db, typed) {
    const end = line[line.length - 1]?.text;
    const inside = openBracket(line);
    const source = sourceOf(line);
    const tags = () => names(`show tags from ${quoteName(source)}`, db, "tag");
    const fields = () => names(`show fields from ${quoteName(source)}`, db, "field");
    const values = (tag) => rowsOf(`show values of ${quoteName(tag)} from ${quoteName(source)}`, db).then(
        (rows) => rows.map(([value]) => ({ label: value, insert: quoteText(value), kind: "value" })), () => []);

    const asked = testedTag(line);
    if (asked !== undefined && source !== undefined) return values(asked);
    if (inText) return [];
    if (end === undefined || end === "explain") return [...await tablesAndRollups(db), ...words(VERBS)];
    if (end === "show") return words(SHOWN);
    if (end === "of" && line[0].text === "show") return [];
    if (["from", "join"].includes(end) || (end === "as" && line[0].text === "create")) return tablesAndRollups(db);
    if (end === "create" || end === "drop") return words(["rollup"]);
    if (end === "alter") return words(["table", "rollup", "database"]);
    if (line[0].text === "show" && SHOWN.includes(end)) return words(end === "values" ? ["of"] : ["from"]);
    if (source === undefined) return words(INNER);
    if (inside?.text === "{") return tags();
    const stage = line.slice(line.findLastIndex((token) => token.text === "|") + 1);
    const by = stage.findLastIndex((token) => token.text === "by");
    if (by >= 0 && (end === "by" || end === "," || end === "(")) return tags();
    if (inside !== undefined && inside.call) return [...await fields(), ...await tags(), ...calls(FUNCTIONS)];
    if (end === "|") return [...words(STAGES), ...calls(AGGREGATES)];
    const opener = stage[0]?.text;
    if (opener === "where") {
        const wants = ["where", "and", "or", "not", "("].includes(end);
        return wants ? [...await tags(), ...await fields(), ...words(["not"])] : words(["and", "or", "not", "in"]);
    }
    if (opener === "extend" || opener === "sort") return [...await fields(), ...await tags(), ...calls(FUNCTIONS), ...words(["desc"])];
    if (["last", "since", "between"].includes(opener) && stage.length < 3) return words(["now", "and"]);
    // An aggregate, or what follows its step.
    const offered = [...calls(AGGREGATES), ...words(["by", "as", "over", "in"])];
    return typed === "" && end === ")" ? words(["by", "as"]) : offered;
}

const words = (list) => list.map((word) => ({ label: word, insert: word, kind: "word" }));
const calls = (list) => list.map((word) => ({ label: word, insert: word, kind: "function" }));

const names = (statement, db, kind) => rowsOf(statement, db).then(
    (rows) => rows.map(([name, type]) => ({ label: name, insert: quoteName(name), kind: type ?? kind })), () => []);

async function tablesAndRollups(db) {
    const both = await Promise.all([names("show tables", db, "table"), names("show rollups", db, "rollup")]);
    return both.flatMap((list, at) => list.map((choice) => ({ ...choice, kind: ["table", "rollup"][at] })));
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
