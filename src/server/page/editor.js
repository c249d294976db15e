// The editor: a text area, over its own text painted in colours. The browser keeps what it does well (typing, undo, selection);
// paint, completions and marks of errors are added.

import { complete } from "./complete.js";
import { tokens } from "./language.js";
import { rowsOf } from "./server.js";

const text = document.getElementById("text");
const painted = document.getElementById("painted");
const choices = document.getElementById("choices");
const problem = document.getElementById("problem");

// Where the error stands, as offsets in the text.
let mark;
// The completion on show: {from, to, choices}, and the chosen one.
let offer;
let chosen = 0;
// The newest question for completions; older answers are dropped.
let asked = 0;
let database = () => "default";
let onChange = () => {};
let onRun = () => {};

export function start(handlers) {
    ({ database, onChange, onRun } = handlers);
    text.addEventListener("input", () => {
        clearProblem();
        onChange();
        suggest(false);
    });
    text.addEventListener("keydown", keydown);
    text.addEventListener("blur", close);
    text.addEventListener("click", close);
    text.addEventListener("scroll", () => painted.scrollTo(text.scrollLeft, text.scrollTop));
    // Before the text area loses the focus.
    choices.addEventListener("mousedown", (event) => {
        event.preventDefault();
        const item = event.target.closest("[role=option]");
        if (item !== null) accept([...choices.children].indexOf(item));
    });
    paint();
}

export const value = () => text.value;
export const focus = () => text.focus();

export function setValue(to) {
    text.value = to;
    clearProblem();
    close();
    onChange();
}

// Puts a name where the cursor is, set off by a blank from a word before it.
export function insert(name) {
    const at = text.selectionStart;
    const glued = /[\p{L}\p{N}_`"')}]$/u.test(text.value.slice(0, at));
    text.focus();
    replace(at, text.selectionEnd, (glued ? " " : "") + name);
}

// Shows what is wrong, with a mark at its place: line and column count from 1, columns in characters.
export function showProblem({ message, hint, line, column }) {
    mark = line === undefined ? undefined : placeOf(text.value, line, column);
    problem.textContent = "";
    const where = line === undefined ? "" : `line ${line}, column ${column}: `;
    problem.append(Object.assign(document.createElement("strong"), { textContent: where }), message);
    if (hint) problem.append(Object.assign(document.createElement("em"), { textContent: hint }));
    problem.hidden = false;
    text.setAttribute("aria-invalid", "true");
    paint();
}

export function clearProblem() {
    mark = undefined;
    problem.hidden = true;
    text.removeAttribute("aria-invalid");
    paint();
}

export function atEnd({ line, column }) {
    return placeOf(text.value, line, column).start >= text.value.trimEnd().length;
}

// The word at a place, or the one character there.
function placeOf(script, line, column) {
    const lines = script.split("\n");
    const before = lines.slice(0, line - 1).reduce((sum, one) => sum + one.length + 1, 0);
    const characters = [...(lines[line - 1] ?? "")];
    const start = before + characters.slice(0, column - 1).join("").length;
    const word = /^[\p{L}\p{N}_]+|^[^]/u.exec(script.slice(start));
    return { start, end: start + (word?.[0].length ?? 0) };
}

function paint() {
    const pieces = [];
    for (const token of tokens(text.value)) {
        const cuts = [token.start, token.end];
        if (mark !== undefined) cuts.push(...[mark.start, mark.end].filter((at) => at > token.start && at < token.end));
        cuts.sort((a, b) => a - b);
        for (let at = 0; at + 1 < cuts.length; at += 1) {
            const piece = document.createElement("span");
            piece.className = token.kind;
            if (mark !== undefined && cuts[at] >= mark.start && cuts[at + 1] <= mark.end) piece.classList.add("wrong");
            piece.textContent = text.value.slice(cuts[at], cuts[at + 1]);
            pieces.push(piece);
        }
    }
    if (mark !== undefined && mark.start >= text.value.length) {
        pieces.push(Object.assign(document.createElement("span"), { className: "wrong", textContent: " " }));
    }
    // A last line that is empty still has a height.
    painted.replaceChildren(...pieces, "\n");
    text.style.height = "auto";
    text.style.height = `${text.scrollHeight}px`;
}

function keydown(event) {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
        event.preventDefault();
        close();
        onRun();
    } else if (event.key === " " && event.ctrlKey) {
        event.preventDefault();
        suggest(true);
    } else if (offer !== undefined) {
        const moves = { ArrowDown: 1, ArrowUp: -1 };
        if (event.key in moves) {
            choose((chosen + moves[event.key] + offer.choices.length) % offer.choices.length);
        } else if ((event.key === "Tab" && !event.shiftKey) || (event.key === "Enter" && offer.explicit)) {
            accept(chosen);
        } else if (event.key === "Escape") {
            close();
        } else {
            if (event.key === "Enter" || event.key.startsWith("Arrow")) close();
            return;
        }
        event.preventDefault();
    }
}

async function suggest(wanted) {
    const question = asked += 1;
    const cursor = text.selectionStart;
    const typing = wanted || /[\p{L}\p{N}_"'`{,|=~ ]$/u.test(text.value.slice(0, cursor));
    const found = typing && text.value.trim() !== "" || wanted ? await complete(text.value, cursor, (statement) => rowsOf(statement, database())) : undefined;
    if (question !== asked || document.activeElement !== text) return;
    if (found === undefined || found.choices.length === 0) return close();
    offer = found;
    // Enter makes a new line until an arrow has chosen.
    offer.explicit = wanted;
    choices.replaceChildren(...found.choices.map(({ label, kind }, at) => {
        const item = document.createElement("li");
        item.setAttribute("role", "option");
        item.id = `choice-${at}`;
        item.append(label, Object.assign(document.createElement("small"), { textContent: kind }));
        return item;
    }));
    choices.hidden = false;
    text.setAttribute("aria-expanded", "true");
    choose(0, wanted);
    place(found.from);
}

function choose(at, explicit = true) {
    chosen = at;
    offer.explicit = explicit;
    [...choices.children].forEach((item, index) => item.setAttribute("aria-selected", String(index === at)));
    choices.children[at].scrollIntoView({ block: "nearest" });
    text.setAttribute("aria-activedescendant", `choice-${at}`);
}

// Below the place in the painted text, inside of the editor.
function place(offset) {
    const range = document.createRange();
    let left = offset;
    const walker = document.createTreeWalker(painted, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node !== null; node = walker.nextNode()) {
        if (left < node.length) {
            range.setStart(node, left);
            range.setEnd(node, left + 1);
            break;
        }
        left -= node.length;
    }
    const editor = painted.parentElement.getBoundingClientRect();
    const rects = range.getClientRects();
    const at = rects[rects.length - 1] ?? painted.getBoundingClientRect();
    choices.style.top = `${at.bottom - editor.top + 4}px`;
    choices.style.left = `${Math.max(0, Math.min(at.left - editor.left, editor.width - choices.offsetWidth - 4))}px`;
}

function accept(at) {
    const { from, to, choices: list } = offer;
    close();
    replace(from, to, list[at].insert);
}

// As if typed, so that undo takes it back.
function replace(from, to, by) {
    text.setSelectionRange(from, to);
    if (!document.execCommand("insertText", false, by)) {
        text.setRangeText(by, from, to, "end");
        text.dispatchEvent(new Event("input"));
    }
    close();
}

function close() {
    asked += 1;
    offer = undefined;
    choices.hidden = true;
    text.setAttribute("aria-expanded", "false");
    text.removeAttribute("aria-activedescendant");
}
