// WQL's words and tokens: what the editor paints and completes. The grammar itself is query-lang/GRAMMAR.md, and only the
// server parses. A test compares the lists of stages and functions with the language's own.

// How a statement may begin, beside the name of a table.
export const VERBS = ["show", "explain", "let", "create", "drop", "alter", "pause", "resume", "refresh", "delete"];

// How a stage may begin, beside an aggregate.
export const STAGES = ["last", "since", "between", "where", "every", "session", "fill", "extend", "sort", "top", "bottom",
    "limit", "join", "left join", "asof join"];

// What stands inside of stages and statements.
const INNER = ["over", "offset", "by", "per", "as", "and", "or", "not", "in", "on", "within", "desc", "asc", "from", "of", "keep", "late", "now",
    "true", "false", "null", "previous", "linear", "table", "rollup", "database", "forever", "default", "merge", "refuse"];

// What may follow the first word of a stage, or its parts, where that is no name.
export const FOLLOWING = {
    last: ["now"], since: ["now"], between: ["now", "and"], fill: ["null", "previous", "linear", "max"], sort: ["asc", "desc"],
    top: ["by", "per"], bottom: ["by", "per"], limit: ["offset"], join: ["on", "within"], left: ["join", "on"], asof: ["join", "on", "within"],
};

export const SHOWN = ["tables", "rollups", "metrics", "storage", "tags", "fields", "values", "series", "cardinality"];

export const AGGREGATES = ["count", "sum", "avg", "min", "max", "first", "last", "spread", "stddev", "variance", "median",
    "quantile", "p50", "p75", "p90", "p95", "p99", "p999", "distinct", "mode", "rate", "increase", "delta", "resets",
    "integral", "twa", "exact_quantile", "exact_distinct"];

// Of rows, and along the time axis.
export const FUNCTIONS = ["abs", "ceil", "floor", "round", "sqrt", "ln", "log2", "log10", "exp", "pow", "clamp_min", "clamp_max", "if",
    "coalesce", "exists", "lower", "upper", "trim", "length", "concat", "contains", "starts_with", "ends_with", "replace", "substr",
    "float", "int", "text", "shift", "diff", "derivative", "moving_avg", "ewma", "cumulative"];

const WORDS = new Set([...VERBS, ...STAGES, ...INNER, ...SHOWN].flatMap((words) => words.split(" ")));
const CALLED = new Set([...AGGREGATES, ...FUNCTIONS]);
const RANGES = new Set(["last", "since", "between"]);

const TOKEN = new RegExp([
    "(?<comment>#.*)",
    "(?<blank>\\s+)",
    "(?<text>\"(?:\\\\.|[^\"\\\\])*\"?|'(?:\\\\.|[^'\\\\])*'?)",
    "(?<quoted>`(?:\\\\.|[^`\\\\])*`?)",
    "(?<time>\\d{4}-\\d{2}-\\d{2}(?:[T ]\\d{2}:\\d{2}(?::\\d{2}(?:\\.\\d+)?)?)?(?:Z|[+-]\\d{2}:\\d{2})?)",
    "(?<number>\\d+(?:\\.\\d+)?[eE][+-]?\\d+|\\d[\\w.µ]*|\\$\\w*)",
    "(?<word>[\\p{L}_][\\p{L}\\p{N}_:]*)",
    "(?<sign>=~|!~|!=|<=|>=|==|[|{}(),;=<>+*/%-])",
    "(?<other>[^])",
].join("|"), "gu");

// All of the text, in order: {kind, text, start, end}. Words become `keyword` and `function` where they act as such.
export function tokens(text) {
    const found = [];
    for (const match of text.matchAll(TOKEN)) {
        const kind = Object.keys(match.groups).find((name) => match.groups[name] !== undefined);
        found.push({ kind, text: match[0], start: match.index, end: match.index + match[0].length });
    }
    const solid = meaningful(found);
    solid.forEach((token, at) => {
        if (token.kind !== "word") return;
        const before = solid[at - 1]?.text;
        const opens = solid[at + 1]?.text === "(";
        // The first word of a statement is a table, unless it is a verb and no stage follows.
        const first = before === undefined || before === ";" || before === "explain";
        const stage = before === "|";
        if (first) {
            if (VERBS.includes(token.text) && solid[at + 1]?.text !== "|" && solid[at + 1]?.text !== "{") token.kind = "keyword";
        } else if (CALLED.has(token.text) && (opens || !WORDS.has(token.text)) && before !== "(") {
            token.kind = "function";
        } else if (WORDS.has(token.text) && before !== "(" && !(stage && opens)) {
            token.kind = "keyword";
        }
    });
    return found;
}

export function meaningful(list) {
    return list.filter((token) => token.kind !== "blank" && token.kind !== "comment");
}

// The name that a token stands for, or undefined.
export function nameOf(token) {
    if (token === undefined) return undefined;
    if (token.kind === "quoted") return token.text.slice(1, -1).replace(/\\(.)/g, "$1");
    return /^[\p{L}_]/u.test(token.text) ? token.text : undefined;
}

// A name as the language takes it.
export function quoteName(name) {
    return /^[\p{L}_][\p{L}\p{N}_:]*$/u.test(name) ? name : "`" + name.replace(/[\\`]/g, "\\$&") + "`";
}

export function quoteText(text) {
    return '"' + text.replace(/[\\"]/g, "\\$&").replace(/\n/g, "\\n") + '"';
}

// Whether a statement names its range itself.
export function hasRange(text) {
    const solid = meaningful(tokens(text));
    return solid.some((token, at) => token.kind === "keyword" && RANGES.has(token.text) && solid[at - 1]?.text === "|");
}

// The statements of a script, as pieces of it.
export function statements(text) {
    const pieces = [[]];
    for (const token of meaningful(tokens(text))) {
        if (token.text === ";") pieces.push([]);
        else pieces[pieces.length - 1].push(token);
    }
    return pieces.filter((piece) => piece.length > 0);
}
