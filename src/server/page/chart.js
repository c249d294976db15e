// The answer as lines over time, drawn by uPlot (vendor/): one line per series and column of numbers.

import { numeric } from "./table.js";

// More lines than this are no picture.
const SERIES_MAX = 200;
// Lines that the box at the pointer names.
const HOVER_MAX = 8;
const HEIGHT = 340;
// Apart for eyes that see fewer colours (Okabe and Ito, changed for two backgrounds).
const COLOURS = ["#2f7ed8", "#e07b00", "#109a72", "#c2499d", "#8a63d2", "#c9a400", "#d1495b", "#3aa6c9", "#6b8e23", "#8c6d5a"];

const place = document.getElementById("chart");
const legend = document.getElementById("legend");
const note = document.getElementById("chart-note");
const unzoom = document.getElementById("unzoom");
const number = new Intl.NumberFormat("en", { maximumSignificantDigits: 6 });
const hover = Object.assign(document.createElement("div"), { id: "hover", hidden: true });

let plot;
let lines = [];

new ResizeObserver(() => plot?.setSize({ width: place.clientWidth, height: HEIGHT })).observe(place);
unzoom.addEventListener("click", () => plot?.setData(plot.data));

// What is drawn, for those who cannot see it: the tests.
place.chart = () => ({
    series: lines.map(({ label }, index) => ({ label, shown: plot.series[index + 1].show })),
    points: plot?.data[0].length ?? 0,
    from: plot?.scales.x.min,
    to: plot?.scales.x.max,
});

// Whether there is something to draw.
export function show(answer) {
    plot?.destroy();
    plot = undefined;
    lines = [];
    legend.replaceChildren();
    unzoom.hidden = true;
    note.textContent = "";
    if (answer === undefined) return false;
    const time = answer.columns.findIndex(({ role }) => role === "time");
    const values = answer.columns.flatMap(({ role, type }, index) => (role === "value" && numeric(type) ? [index] : []));
    if (time < 0 || values.length === 0 || answer.rows.length === 0) {
        note.textContent = answer.rows.length === 0 ? "No rows." : "An answer without times and numbers has no lines; see the table.";
        return false;
    }
    const all = collect(answer, time, values);
    lines = all.slice(0, SERIES_MAX);
    if (all.length > SERIES_MAX) note.textContent = `The first ${SERIES_MAX} of ${all.length} lines; pool them with \`by\`.`;
    draw(aligned(lines));
    return true;
}

function collect(answer, time, values) {
    const tags = answer.columns.flatMap(({ role }, index) => (role === "tag" ? [index] : []));
    const found = new Map();
    for (const row of answer.rows) {
        const key = tags.map((index) => row[index]).join("\u0000");
        let group = found.get(key);
        if (group === undefined) {
            const name = tags.filter((index) => row[index]).map((index) => `${answer.columns[index].name}=${row[index]}`).join(" ");
            group = values.map((index) => {
                const column = answer.columns[index].name;
                const label = name === "" ? column : values.length > 1 ? `${column} ${name}` : name;
                return { label, times: [], values: [] };
            });
            found.set(key, group);
        }
        const at = Date.parse(row[time]);
        values.forEach((index, line) => {
            group[line].times.push(at);
            group[line].values.push(row[index]);
        });
    }
    return [...found.values()].flat();
}

// uPlot's shape: all times once, in order, and a value per time and line; undefined where a line has no point.
function aligned(all) {
    const times = Float64Array.from(new Set(all.flatMap((line) => line.times))).sort();
    const place = new Map();
    times.forEach((time, at) => place.set(time, at));
    const columns = all.map((line) => {
        const column = new Array(times.length).fill(undefined);
        line.times.forEach((time, at) => { column[place.get(time)] = line.values[at]; });
        return column;
    });
    return [Array.from(times), ...columns];
}

function draw(data) {
    // Asked for at each drawing: they change with the theme.
    const soft = () => getComputedStyle(note).color;
    const faint = () => getComputedStyle(place).borderTopColor;
    const axis = {
        stroke: soft,
        font: `12px ${getComputedStyle(place).fontFamily}`,
        grid: { stroke: faint, width: 1 },
        ticks: { stroke: faint, width: 1 },
    };
    const DAY = 86_400_000;
    const date = "\n{YYYY}-{MM}-{DD}";
    const clock = { ...axis, space: 70, values: [
        [365 * DAY, "{YYYY}", null, null, null, null, null, null, 1],
        [28 * DAY, "{MMM}", "\n{YYYY}", null, null, null, null, null, 1],
        [DAY, "{MM}-{DD}", "\n{YYYY}", null, null, null, null, null, 1],
        [60_000, "{HH}:{mm}", date, null, date, null, null, null, 1],
        [1_000, "{HH}:{mm}:{ss}", date, null, date, null, null, null, 1],
        [1, "{HH}:{mm}:{ss}.{fff}", date, null, date, null, null, null, 1],
    ] };
    const wide = (self, labels) => Math.max(...(labels ?? [""]).map((label) => label.length)) * 8 + 16;
    plot = new uPlot({
        width: place.clientWidth,
        height: HEIGHT,
        ms: 1,
        tzDate: (at) => uPlot.tzDate(new Date(at), "Etc/UTC"),
        legend: { show: false },
        cursor: { drag: { x: true, y: false }, focus: { prox: 24 } },
        focus: { alpha: 0.35 },
        axes: [clock, { ...axis, size: wide, values: (self, splits) => splits.map((split) => number.format(split)) }],
        series: [{}, ...lines.map(({ label }, index) => ({
            label,
            stroke: COLOURS[index % COLOURS.length],
            width: 1.5,
            points: { show: data[0].length === 1 ? true : undefined, size: 4 },
        }))],
        hooks: {
            setCursor: [point],
            setScale: [(self, scale) => {
                if (scale !== "x") return;
                const times = self.data[0];
                unzoom.hidden = self.scales.x.min <= times[0] && self.scales.x.max >= times[times.length - 1];
            }],
        },
    }, data, place);
    plot.over.append(hover);
    legend.replaceChildren(...lines.map(entry));
}

// A button per line shows or hides it; with Alt or a double click, only it.
function entry({ label }, index) {
    const item = document.createElement("li");
    const button = document.createElement("button");
    button.setAttribute("aria-pressed", "true");
    button.title = "Click hides or shows it, a double click shows only it";
    const key = document.createElement("i");
    key.style.background = COLOURS[index % COLOURS.length];
    button.append(key, label);
    button.addEventListener("click", (event) => (event.altKey ? only(index) : toggle(index, !plot.series[index + 1].show)));
    button.addEventListener("dblclick", () => only(index));
    button.addEventListener("pointerenter", () => plot.setSeries(index + 1, { focus: true }));
    button.addEventListener("pointerleave", () => plot.setSeries(null, { focus: true }));
    item.append(button);
    return item;
}

function toggle(index, shown) {
    plot.setSeries(index + 1, { show: shown });
    legend.children[index].firstChild.setAttribute("aria-pressed", String(shown));
}

function only(index) {
    const alone = lines.every((_, other) => plot.series[other + 1].show === (other === index));
    plot.batch(() => lines.forEach((_, other) => toggle(other, alone || other === index)));
}

// The box at the pointer: the time, and the lines nearest to the pointer with their values there.
function point(self) {
    const { left, top, idx } = self.cursor;
    if (left === undefined || left < 0 || idx === null || idx === undefined) {
        hover.hidden = true;
        return;
    }
    const near = [];
    lines.forEach(({ label }, index) => {
        const value = self.data[index + 1][idx];
        if (value === undefined || value === null || !self.series[index + 1].show) return;
        near.push({ label, value, index, away: Math.abs(self.valToPos(value, "y") - top) });
    });
    near.sort((a, b) => a.away - b.away);
    const rows = near.slice(0, HOVER_MAX).map(({ label, value, index }) => {
        const row = document.createElement("div");
        const key = document.createElement("i");
        key.style.background = COLOURS[index % COLOURS.length];
        row.append(key, label, Object.assign(document.createElement("b"), { textContent: number.format(value) }));
        return row;
    });
    const more = near.length - rows.length;
    if (more > 0) rows.push(Object.assign(document.createElement("small"), { textContent: `and ${more} more` }));
    const time = new Date(self.data[0][idx]).toISOString().replace("T", " ").replace(/(\.000)?Z$/, " UTC");
    hover.replaceChildren(Object.assign(document.createElement("time"), { textContent: time }), ...rows);
    hover.hidden = false;
    const right = left > self.over.clientWidth / 2;
    hover.style.left = right ? "" : `${left + 14}px`;
    hover.style.right = right ? `${self.over.clientWidth - left + 14}px` : "";
    hover.style.top = `${Math.max(0, Math.min(top - 20, self.over.clientHeight - hover.offsetHeight))}px`;
}

// The colours have changed.
export function repaint() {
    plot?.redraw();
}
