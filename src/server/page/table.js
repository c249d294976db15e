// The answer as a table. Only the rows in sight are in the document, so that 100,000 rows cost no more than forty.

const ROW_HEIGHT = 28;
// Rows above and below the ones in sight, so that a scroll finds some.
const MARGIN = 10;
// Browsers draw nothing taller than some 30 million pixels.
const ROWS_MAX = 1_000_000;
// The widths of columns are taken from so many rows.
const SAMPLE = 300;
const CHARACTERS_MAX = 60;

const view = document.getElementById("table-view");
let answer;

view.addEventListener("scroll", draw);
new ResizeObserver(draw).observe(view);

export function show(given) {
    answer = given;
    view.scrollTo(0, 0);
    view.replaceChildren();
    if (answer === undefined) return;
    const table = document.createElement("table");
    const rows = answer.rows.length;
    table.setAttribute("aria-rowcount", String(rows + 1));
    const columns = document.createElement("colgroup");
    let width = 0;
    answer.columns.forEach(({ name, type }, index) => {
        const step = Math.max(1, Math.floor(rows / SAMPLE));
        let characters = Math.max(name.length, type.length) + 1;
        for (let row = 0; row < rows; row += step) characters = Math.max(characters, shown(answer.rows[row][index]).length);
        const column = document.createElement("col");
        characters = Math.min(characters, CHARACTERS_MAX) + 3;
        width += characters;
        column.style.width = `${characters}ch`;
        columns.append(column);
    });
    table.style.width = `${width}ch`;
    const head = document.createElement("thead");
    const names = head.insertRow();
    for (const { name, type, role } of answer.columns) {
        const cell = document.createElement("th");
        cell.scope = "col";
        cell.className = numeric(type) ? "number" : role;
        cell.append(name, Object.assign(document.createElement("small"), { textContent: type }));
        names.append(cell);
    }
    table.append(columns, head, document.createElement("tbody"));
    view.append(table);
    if (rows === 0) view.append(Object.assign(document.createElement("p"), { className: "note", textContent: "No rows." }));
    if (rows > ROWS_MAX) {
        const note = `The first ${ROWS_MAX.toLocaleString("en")} of ${rows.toLocaleString("en")} rows.`;
        view.append(Object.assign(document.createElement("p"), { className: "note", textContent: note }));
    }
    draw();
}

export const numeric = (type) => ["float", "integer", "unsigned"].includes(type);

function shown(value) {
    return value === null ? "" : String(value);
}

function draw() {
    const body = view.querySelector("tbody");
    if (body === null) return;
    const count = Math.min(answer.rows.length, ROWS_MAX);
    const from = Math.max(0, Math.floor(view.scrollTop / ROW_HEIGHT) - MARGIN);
    const to = Math.min(count, from + Math.ceil(view.clientHeight / ROW_HEIGHT) + 2 * MARGIN);
    const rows = [gap(from)];
    for (let index = from; index < to; index += 1) {
        const row = document.createElement("tr");
        row.setAttribute("aria-rowindex", String(index + 2));
        answer.rows[index].forEach((value, column) => {
            const cell = row.insertCell();
            const { type, role } = answer.columns[column];
            cell.className = value === null ? "null" : numeric(type) ? "number" : role;
            cell.textContent = value === null ? "null" : shown(value);
            cell.title = cell.textContent;
        });
        rows.push(row);
    }
    body.replaceChildren(...rows, gap(count - to));
}

// Stands for rows that are out of sight.
function gap(rows) {
    const row = document.createElement("tr");
    row.className = "gap";
    row.setAttribute("aria-hidden", "true");
    row.style.height = `${rows * ROW_HEIGHT}px`;
    return row;
}
