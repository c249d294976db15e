//! An answer as a line chart: text for terminals, pipes and files, drawn by the same widget as the demo's picture.
//!
//! A line per value column and group. Where a value is null, or a bucket of an even grid is missing, the line has a gap.
//! In colours the lines are thin; without, several lines get a sign each, because they could not be told apart.
//! Invariant: every line stands in the legend with its newest value; lines that are left out are counted below it.
//! Not here: what a person can move (`demo`).

use std::collections::BTreeMap;
use std::io::Write;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use query_lang::time::format_time;
use ratatui::buffer::Buffer;
use ratatui::layout::{HorizontalAlignment, Rect};
use ratatui::style::{Color, Style as CellStyle};
use ratatui::symbols::Marker;
use ratatui::widgets::{Axis, Chart, Dataset, GraphType, Widget};
use serde_json::Value;

use crate::cli::answer::{Answer, counted};
use crate::cli::table::{Style, printable, put};
use crate::error::{Error, Result};

/// The parameter of a request whose answer is drawn.
pub const TIME: (&str, &str) = ("time", "ns");

/// More lines than this are a knot.
const LINES_MAX: usize = 8;

/// Colour, its code for terminals, and the sign that stands for it where there are no colours.
const PENS: [(Color, &str, char); LINES_MAX] = [
    (Color::Cyan, "36", '*'),
    (Color::Yellow, "33", 'o'),
    (Color::Magenta, "35", '+'),
    (Color::Green, "32", 'x'),
    (Color::Red, "31", '#'),
    (Color::Blue, "34", '@'),
    (Color::LightMagenta, "95", '%'),
    (Color::LightGreen, "92", '='),
];

/// Where there is no terminal.
const WIDTH: u16 = 100;
/// Below this there is no room for a picture.
const WIDTH_MIN: u16 = 30;

/// Rows of the picture above its time axis: a multiple of most numbers of steps, so that labels stand evenly.
const HEIGHT: u16 = 16;

const DIM: &str = "\x1b[2m";
const RESET: &str = "\x1b[0m";

struct Line {
    name: String,
    /// In order of time.
    points: Vec<(i64, Option<f64>)>,
}

/// Draws an answer whose times are nanoseconds ([`TIME`]).
pub fn write_chart(out: &mut dyn Write, answer: &Answer, style: Style) -> Result<()> {
    let mut lines = lines(answer)?;
    lines.retain(|line| line.values().next().is_some());
    let all = lines.len();
    if all == 0 {
        return put(out, "nothing to draw: the answer has no values\n");
    }
    if all > LINES_MAX {
        lines.sort_by(|a, b| b.mean().total_cmp(&a.mean()));
        lines.truncate(LINES_MAX);
        lines.sort_by(|a, b| a.name.cmp(&b.name));
    }
    let picture = Picture::new(&lines, style);
    picture.draw(out)?;
    legend(out, &lines, &picture)?;
    if all > LINES_MAX {
        let left_out = counted((all - LINES_MAX) as u64, "line");
        put(
            out,
            &format!("{left_out} with smaller averages left out; `| top` or a condition chooses others\n"),
        )?;
    }
    Ok(())
}

/// A line per value column and group.
fn lines(answer: &Answer) -> Result<Vec<Line>> {
    let of_role = |role: &'static str| {
        answer.columns.iter().enumerate().filter(move |(_, column)| column.role == role).map(|(at, _)| at)
    };
    let time = of_role("time").next().ok_or_else(|| {
        Error::invalid(
            "no_time",
            "a chart needs rows with a time; group along it (`every 5m ...`), or use --format table",
        )
    })?;
    let number = |at: &usize| {
        matches!(answer.columns[*at].type_name.as_str(), "float" | "integer" | "unsigned" | "boolean")
    };
    let values: Vec<usize> = of_role("value").filter(number).collect();
    if values.is_empty() {
        let what = "a chart needs a column of numbers, and the answer has none; use --format table";
        return Err(Error::invalid("no_numbers", what));
    }
    let tags: Vec<usize> = of_role("tag").collect();
    let mut lines: BTreeMap<(Vec<&str>, usize), Line> = BTreeMap::new();
    for row in &answer.rows {
        let cell = |at: usize| row.get(at).unwrap_or(&Value::Null);
        let Some(time) = cell(time).as_i64() else { continue };
        let group: Vec<&str> = tags.iter().map(|at| cell(*at).as_str().unwrap_or_default()).collect();
        for &at in &values {
            let named = || Line {
                name: name(answer, &tags, &group, (values.len() > 1 || tags.is_empty()).then_some(at)),
                points: Vec::new(),
            };
            let value = cell(at).as_f64().or(cell(at).as_bool().map(f64::from));
            lines.entry((group.clone(), at)).or_insert_with(named).points.push((time, value));
        }
    }
    let mut lines: Vec<Line> = lines.into_values().collect();
    for line in &mut lines {
        line.points.sort_by_key(|(time, _)| *time);
    }
    Ok(lines)
}

/// `avg_usage host=h1 region=eu`, without what all lines have in common.
fn name(answer: &Answer, tags: &[usize], group: &[&str], value: Option<usize>) -> String {
    let value = value.map(|at| answer.columns[at].name.clone());
    let tags = tags.iter().zip(group).map(|(at, tag)| format!("{}={tag}", answer.columns[*at].name));
    printable(&value.into_iter().chain(tags).collect::<Vec<_>>().join(" "))
}

impl Line {
    fn values(&self) -> impl Iterator<Item = f64> {
        self.points.iter().filter_map(|(_, value)| *value)
    }

    fn mean(&self) -> f64 {
        self.values().sum::<f64>() / self.values().count().max(1) as f64
    }

    /// Runs of points without a gap.
    fn pieces(&self) -> Vec<Vec<(i64, f64)>> {
        let grid = grid(&self.points);
        let mut pieces: Vec<Vec<(i64, f64)>> = Vec::new();
        let mut before = None;
        for (time, value) in &self.points {
            let goes_on = before.is_some_and(|before| grid.is_none_or(|step| time - before <= step));
            before = value.map(|_| *time);
            let Some(value) = value else { continue };
            match pieces.last_mut().filter(|_| goes_on) {
                Some(piece) => piece.push((*time, *value)),
                None => pieces.push(vec![(*time, *value)]),
            }
        }
        pieces
    }
}

/// The step of times that stand on an even grid, as those of buckets do; None for points of any time.
fn grid(points: &[(i64, Option<f64>)]) -> Option<i64> {
    let steps = || points.windows(2).map(|pair| pair[1].0 - pair[0].0);
    let step = steps().filter(|step| *step > 0).min()?;
    steps().all(|other| other % step == 0).then_some(step)
}

/// Where things stand.
struct Picture<'a> {
    lines: &'a [Line],
    colour: bool,
    width: u16,
    /// First and last time.
    times: [i64; 2],
    values: Scale,
}

/// A round scale: from `low` in `steps` steps.
#[derive(Debug, PartialEq)]
struct Scale {
    low: f64,
    step: f64,
    steps: u16,
}

impl Scale {
    fn over(least: f64, most: f64) -> Scale {
        // Amounts are compared with nothing; only values far from it are looked at by themselves.
        let low = if least >= 0.0 && least < most / 2.0 { 0.0 } else { least };
        let (low, high) = match low < most {
            true => (low, most),
            false if most > 0.0 => (0.0, most),
            false if most < 0.0 => (most, 0.0),
            false => (0.0, 1.0),
        };
        // Five steps or fewer.
        let rough = (high - low) / 5.0;
        let power = 10f64.powf(rough.log10().floor());
        let round = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().find(|round| round * power >= rough * 0.999);
        let step = round.unwrap_or(10.0) * power;
        let first = (low / step + 1e-9).floor();
        let last = (high / step - 1e-9).ceil();
        Scale { low: first * step, step, steps: (last - first).clamp(1.0, 8.0) as u16 }
    }

    fn high(&self) -> f64 {
        self.low + self.step * f64::from(self.steps)
    }

    fn labels(&self) -> Vec<String> {
        let largest = self.low.abs().max(self.high().abs());
        let (unit, name) = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")]
            .into_iter()
            .find(|(unit, _)| largest >= unit * 10.0)
            .unwrap_or((1.0, ""));
        let step = self.step / unit;
        let decimals = (0..9).find(|decimals| {
            let shifted = step * 10f64.powi(*decimals);
            (shifted - shifted.round()).abs() < 1e-6 * shifted
        });
        let label = |at: u16| {
            let value = (self.low + self.step * f64::from(at)) / unit;
            // Never "-0".
            let value = if value.abs() < step / 2.0 { 0.0 } else { value };
            match decimals {
                Some(decimals) => format!("{value:.*}{name}", decimals as usize),
                None => format!("{value:e}{name}"),
            }
        };
        (0..=self.steps).map(label).collect()
    }
}

impl<'a> Picture<'a> {
    fn new(lines: &'a [Line], style: Style) -> Picture<'a> {
        let values = || lines.iter().flat_map(Line::values);
        let times = || lines.iter().flat_map(|line| &line.points).map(|(time, _)| *time);
        Picture {
            lines,
            colour: style.colour,
            width: style.width.unwrap_or(WIDTH).max(WIDTH_MIN),
            times: [times().min().unwrap_or(0), times().max().unwrap_or(0)],
            values: Scale::over(
                values().fold(f64::INFINITY, f64::min),
                values().fold(f64::NEG_INFINITY, f64::max),
            ),
        }
    }

    fn draw(&self, out: &mut dyn Write) -> Result<()> {
        let labels = self.values.labels();
        let label_width = labels.iter().map(String::len).max().unwrap_or(0) as u16;
        let height = HEIGHT / self.values.steps * self.values.steps + 1;
        let mut buffer = Buffer::empty(Rect::new(0, 0, self.width, height + 2));
        self.chart(labels).render(buffer.area, &mut buffer);
        self.ticks(&mut buffer, label_width + 1, height);
        for y in 0..buffer.area.height {
            put(out, &self.row(&buffer, y))?;
        }
        let [from, to] = self.times.map(format_time);
        put(out, &self.dim(&format!("{from} to {to}, times in UTC")))?;
        put(out, "\n")
    }

    fn chart_pieces(&self) -> Vec<(usize, Vec<(f64, f64)>)> {
        let place = |(time, value): (i64, f64)| (self.seconds(time), value);
        let of_line = |(at, line): (usize, &Line)| {
            line.pieces()
                .into_iter()
                .map(move |piece| (at, piece.into_iter().map(place).collect::<Vec<_>>()))
                .collect::<Vec<_>>()
        };
        self.lines.iter().enumerate().flat_map(of_line).collect()
    }

    fn chart(&self, labels: Vec<String>) -> Drawn<'_> {
        Drawn { picture: self, pieces: self.chart_pieces(), labels }
    }

    /// Since the first one: as a float of 64 bits nanoseconds since 1970 are not exact.
    fn seconds(&self, time: i64) -> f64 {
        time.wrapping_sub(self.times[0]) as f64 / 1e9
    }

    /// One moment is drawn in the middle.
    fn bounds(&self) -> [f64; 2] {
        let span = self.seconds(self.times[1]);
        if span > 0.0 { [0.0, span] } else { [-1.0, 1.0] }
    }

    /// Round times below the axis, where they belong.
    fn ticks(&self, buffer: &mut Buffer, left: u16, height: u16) {
        let columns = self.width - left;
        let [low, high] = self.bounds();
        let mut free = 0;
        for (time, label) in times(self.times[0], self.times[1], columns) {
            let share = (self.seconds(time) - low) / (high - low);
            let column = left + (share * f64::from(columns - 1)).round() as u16;
            let width = label.len() as u16;
            let start = column.saturating_sub(width / 2).min(self.width - width);
            if start < free {
                continue;
            }
            free = start + width + 1;
            let axis = buffer[(column, height)].style();
            buffer.set_string(column, height, "┬", axis);
            buffer.set_string(start, height + 1, label, axis);
        }
    }

    fn row(&self, buffer: &Buffer, y: u16) -> String {
        let mut text = String::new();
        let mut pen = "";
        for x in 0..buffer.area.width {
            let cell = &buffer[(x, y)];
            let code = PENS.iter().find(|(colour, ..)| *colour == cell.fg).map_or("", |(_, code, _)| *code);
            if self.colour && code != pen && cell.symbol() != " " {
                text.push_str(RESET);
                if !code.is_empty() {
                    text.push_str(&format!("\x1b[{code}m"));
                }
                pen = code;
            }
            // An empty cell of braille is a blank with a look of its own.
            text.push_str(if cell.symbol() == "\u{2800}" { " " } else { cell.symbol() });
        }
        let mut text = text.trim_end().to_string();
        if !pen.is_empty() {
            text.push_str(RESET);
        }
        text.push('\n');
        text
    }

    fn dim(&self, text: &str) -> String {
        if self.colour { format!("{DIM}{text}{RESET}") } else { text.to_string() }
    }

    /// Whether lines are told apart by signs.
    fn signs(&self) -> bool {
        !self.colour && self.lines.len() > 1
    }
}

/// The widget with what it borrows.
struct Drawn<'a> {
    picture: &'a Picture<'a>,
    pieces: Vec<(usize, Vec<(f64, f64)>)>,
    labels: Vec<String>,
}

impl Widget for Drawn<'_> {
    fn render(self, area: Rect, buffer: &mut Buffer) {
        let datasets = self.pieces.iter().map(|(at, piece)| {
            let (colour, _, sign) = PENS[*at % LINES_MAX];
            let marker = if self.picture.signs() { Marker::Custom(sign) } else { Marker::Braille };
            Dataset::default()
                .marker(marker)
                .graph_type(GraphType::Line)
                .style(CellStyle::new().fg(colour))
                .data(piece)
        });
        let values = &self.picture.values;
        Chart::new(datasets.collect())
            // The labels of times are set by `ticks`; blank ones make room for them.
            .x_axis(Axis::default().bounds(self.picture.bounds()).labels(["", ""]))
            .y_axis(
                Axis::default()
                    .bounds([values.low, values.high()])
                    .labels(self.labels)
                    .labels_alignment(HorizontalAlignment::Right),
            )
            .legend_position(None)
            .render(area, buffer);
    }
}

/// Names with their newest values, as many in a row as there is room for.
fn legend(out: &mut dyn Write, lines: &[Line], picture: &Picture<'_>) -> Result<()> {
    let mut used = 0;
    let mut text = String::new();
    for (at, line) in lines.iter().enumerate() {
        let (_, code, sign) = PENS[at % LINES_MAX];
        let value = line.values().last().map(short).unwrap_or_default();
        let words = format!(" {} {value}", line.name);
        let width = words.chars().count() + 2;
        if used > 0 && used + width + 3 > usize::from(picture.width) {
            text.push('\n');
            used = 0;
        }
        if used > 0 {
            text.push_str("   ");
            used += 3;
        }
        match (picture.colour, picture.signs()) {
            (true, _) => text.push_str(&format!("\x1b[{code}m━━{RESET}")),
            (_, true) => text.extend([sign, sign]),
            _ => text.push_str("━━"),
        }
        text.push_str(&words);
        used += width;
    }
    text.push('\n');
    put(out, &text)
}

/// Six significant digits.
fn short(value: f64) -> String {
    let size = value.abs();
    if value == value.trunc() && size < 1e15 {
        return format!("{value:.0}");
    }
    if !(1e-4..1e15).contains(&size) {
        return format!("{value:.5e}");
    }
    let decimals = (5 - size.log10().floor() as i32).clamp(0, 9) as usize;
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_string() } else { text }
}

const SECOND: i64 = 1_000_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// Distances of labels that a person counts in; months beyond.
const STEPS: [i64; 27] = [
    1_000_000,
    10_000_000,
    100_000_000,
    500_000_000,
    SECOND,
    2 * SECOND,
    5 * SECOND,
    10 * SECOND,
    15 * SECOND,
    30 * SECOND,
    MINUTE,
    2 * MINUTE,
    5 * MINUTE,
    10 * MINUTE,
    15 * MINUTE,
    30 * MINUTE,
    HOUR,
    2 * HOUR,
    3 * HOUR,
    6 * HOUR,
    12 * HOUR,
    DAY,
    2 * DAY,
    3 * DAY,
    7 * DAY,
    14 * DAY,
    28 * DAY,
];

/// Months between labels, where days are too close.
const MONTHS: [i16; 7] = [1, 3, 6, 12, 24, 60, 120];

/// Columns that a label takes at the least, with the blank before it.
const LABEL_WIDTH: i64 = 13;

/// Round times of the range with their labels.
fn times(from: i64, to: i64, columns: u16) -> Vec<(i64, String)> {
    let room = (i64::from(columns) / LABEL_WIDTH).max(1);
    let span = to.saturating_sub(from);
    let fits = |step: &i64| span / step <= room;
    if let Some(step) = STEPS.into_iter().find(fits) {
        let first = from.div_euclid(step).saturating_mul(step);
        let steps = (0..=room + 1).map(|n| first.saturating_add(n * step));
        return steps
            .filter(|time| (from..=to).contains(time))
            .map(|time| (time, label(time, step)))
            .collect();
    }
    let months = MONTHS.into_iter().find(|months| fits(&(30 * DAY * i64::from(*months)))).unwrap_or(600);
    let utc =
        |time: i64| Timestamp::from_nanosecond(i128::from(time)).map(|time| TimeZone::UTC.to_datetime(time));
    let (Ok(start), Ok(end)) = (utc(from), utc(to)) else { return Vec::new() };
    let mut found = Vec::new();
    let mut month = (start.year() * 12).div_euclid(months) * months;
    while month <= end.year() * 12 + 11 {
        let first =
            jiff::civil::DateTime::new(month.div_euclid(12), month.rem_euclid(12) as i8 + 1, 1, 0, 0, 0, 0);
        let first = first.and_then(|first| TimeZone::UTC.to_timestamp(first));
        let time = first.ok().and_then(|first| i64::try_from(first.as_nanosecond()).ok());
        if let Some(time) = time.filter(|time| (from..=to).contains(time)) {
            found.push((time, format_time(time)[..7].to_string()));
        }
        month += months;
    }
    found
}

/// As much of a time as a step needs: the date at midnight, else the clock.
fn label(time: i64, step: i64) -> String {
    let Ok(at) = Timestamp::from_nanosecond(i128::from(time)) else { return String::new() };
    let form = match step {
        DAY.. => "%Y-%m-%d",
        _ if time.rem_euclid(DAY) == 0 => "%Y-%m-%d",
        MINUTE.. => "%H:%M",
        SECOND.. => "%H:%M:%S",
        _ => "%H:%M:%S%.3f",
    };
    at.strftime(form).to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer(columns: &[(&str, &str, &str)], rows: Value) -> Answer {
        let columns: Vec<Value> = columns
            .iter()
            .map(|(name, kind, role)| json!({ "name": name, "type": kind, "role": role }))
            .collect();
        serde_json::from_value(json!({ "columns": columns, "rows": rows })).unwrap()
    }

    fn drawn(answer: &Answer, style: Style) -> String {
        let mut out = Vec::new();
        write_chart(&mut out, answer, style).unwrap();
        String::from_utf8(out).unwrap()
    }

    /// 2026-01-01T00:00:00Z and so many minutes.
    fn minute(minutes: i64) -> i64 {
        1_767_225_600 * SECOND + minutes * MINUTE
    }

    const NARROW: Style = Style { colour: false, width: Some(60) };

    #[test]
    fn one_line_with_a_gap() {
        let points = (0..=60).filter(|n| !(20..30).contains(n));
        let rows: Vec<Value> = points.map(|n| json!([minute(n), f64::from(n as i32) * 1.5])).collect();
        let columns = [("time", "time", "time"), ("avg", "float", "value")];
        let text = drawn(&answer(&columns, json!(rows)), NARROW);
        assert_eq!(text, include_str!("chart/one_line.txt"), "\n{text}");
    }

    #[test]
    fn groups_without_colours_have_signs() {
        let mut rows = Vec::new();
        for n in 0..=24 {
            rows.push(json!([minute(n * 60), "h1", 50 + n, n % 2 == 0]));
            rows.push(json!([
                minute(n * 60),
                "h2",
                if n == 3 { Value::Null } else { json!(100 - 2 * n) },
                null
            ]));
        }
        let columns = [
            ("time", "time", "time"),
            ("host", "string", "tag"),
            ("n", "integer", "value"),
            ("up", "boolean", "value"),
        ];
        let text = drawn(&answer(&columns, json!(rows)), NARROW);
        assert_eq!(text, include_str!("chart/groups.txt"), "\n{text}");
    }

    #[test]
    fn colours_stand_only_where_they_are_asked_for() {
        let rows = json!([[minute(0), 1], [minute(1), 2]]);
        let answer = answer(&[("time", "time", "time"), ("n", "integer", "value")], rows);
        assert!(!drawn(&answer, NARROW).contains('\x1b'));
        let text = drawn(&answer, Style { colour: true, width: Some(60) });
        assert!(
            text.contains("\x1b[36m") && text.lines().all(|line| line.matches("\x1b[36m").count() <= 1),
            "{text}"
        );
    }

    #[test]
    fn what_cannot_be_drawn_says_why() {
        let why = |columns: &[(&str, &str, &str)]| {
            write_chart(&mut Vec::new(), &answer(columns, json!([])), NARROW).unwrap_err().to_string()
        };
        assert!(why(&[("max", "float", "value")]).starts_with("a chart needs rows with a time"));
        assert!(why(&[("time", "time", "time"), ("s", "string", "value")]).contains("column of numbers"));
        let empty = answer(&[("time", "time", "time"), ("n", "integer", "value")], json!([]));
        assert_eq!(drawn(&empty, NARROW), "nothing to draw: the answer has no values\n");
    }

    #[test]
    fn many_lines_are_counted() {
        let rows: Vec<Value> = (0..20).map(|n| json!([minute(n), format!("h{n:02}"), n])).collect();
        let columns = [("time", "time", "time"), ("host", "string", "tag"), ("n", "integer", "value")];
        let text = drawn(&answer(&columns, json!(rows)), NARROW);
        assert!(text.contains("host=h19 19") && !text.contains("host=h11 "), "{text}");
        assert!(text.contains("12 lines with smaller averages left out"), "{text}");
    }

    #[test]
    fn scales_are_round() {
        let labels = |least, most| Scale::over(least, most).labels().join(" ");
        assert_eq!(labels(3.0, 97.0), "0 20 40 60 80 100");
        assert_eq!(labels(95.2, 97.1), "95.0 95.5 96.0 96.5 97.0 97.5");
        assert_eq!(labels(-3.0, 4.0), "-4 -2 0 2 4");
        assert_eq!(labels(0.0, 0.0), "0.0 0.2 0.4 0.6 0.8 1.0");
        assert_eq!(labels(7.0, 7.0), "0 2 4 6 8");
        assert_eq!(labels(0.0, 4.5e6), "0k 1000k 2000k 3000k 4000k 5000k");
        assert_eq!(labels(0.0, 2.5e10), "0G 5G 10G 15G 20G 25G");
    }

    #[test]
    fn times_are_round_at_every_scale() {
        let labels = |from: i64, to: i64| {
            times(from, to, 60).into_iter().map(|(_, label)| label).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(labels(minute(7), minute(67)), "00:15 00:30 00:45 01:00");
        assert_eq!(labels(minute(-120), minute(120)), "22:00 23:00 2026-01-01 01:00 02:00");
        assert_eq!(
            labels(minute(0) + SECOND, minute(0) + 3 * SECOND),
            "00:00:01.000 00:00:01.500 00:00:02.000 00:00:02.500 00:00:03.000"
        );
        assert_eq!(labels(minute(0), minute(3 * 24 * 60)), "2026-01-01 2026-01-02 2026-01-03 2026-01-04");
        assert_eq!(labels(minute(0), minute(365 * 24 * 60)), "2026-01 2026-04 2026-07 2026-10 2027-01");
        assert!(labels(i64::MIN, i64::MAX).starts_with("1700-01 1750-01"));
    }
}
