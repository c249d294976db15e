//! Answers for people: an aligned table, or one block of lines per row.
//!
//! Invariant: text from the database cannot move the cursor or set colours: control characters are shown, not sent.
//! Fractions are rounded to what a person compares (six significant digits of the column's largest); csv and json
//! are exact.
//! Not here: colour decisions (the caller hands over a [`Style`]).

use std::io::Write;

use comfy_table::{Cell, CellAlignment, ColumnConstraint, ContentArrangement, LineStyle, Table, TableStyle};
use serde_json::Value;

use crate::cli::answer::Answer;
use crate::error::{Error, Result};

/// How much of a terminal there is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Style {
    pub colour: bool,
    /// Columns of the terminal; None if the output is a file or a pipe.
    pub width: Option<u16>,
}

const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const RESET: &str = "\x1b[0m";

/// A rule under the header, nothing else.
const HEADER_RULE: TableStyle = TableStyle::new().header_separator(LineStyle::none().fill('─'));

/// Blanks between two columns.
const GAP: u16 = 2;

/// A text column narrower than this reads worse wrapped than running over the edge.
const WRAPPED_WIDTH_MIN: usize = 16;

/// Significant digits of a column's largest fraction.
const DIGITS: i32 = 6;

pub fn write_table(out: &mut dyn Write, answer: &Answer, style: Style) -> Result<()> {
    if answer.columns.is_empty() {
        return Ok(());
    }
    let columns = columns(answer);
    let mut table = Table::new();
    table.load_style(HEADER_RULE);
    table.set_header(columns.iter().map(|column| Cell::new(&column.name).set_alignment(column.alignment())));
    for row in 0..answer.rows.len() {
        table.add_row(
            columns.iter().map(|column| Cell::new(&column.cells[row]).set_alignment(column.alignment())),
        );
    }
    for (at, column) in columns.iter().enumerate() {
        let shown = table.column_mut(at).expect("a column per header");
        shown.set_padding((0, if at + 1 < columns.len() { GAP } else { 0 }));
        if !column.wraps {
            shown.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    if let Some(width) = style.width.filter(|width| wraps_well(&columns, *width)) {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    }
    let mut in_header = true;
    for line in table.lines() {
        let line = line.trim_end();
        let rule = in_header && line.starts_with('─');
        match style.colour && in_header {
            true => put(out, &format!("{}{line}{RESET}\n", if rule { DIM } else { BOLD }))?,
            false => put(out, &format!("{line}\n"))?,
        }
        in_header &= !rule;
    }
    Ok(())
}

pub fn write_vertical(out: &mut dyn Write, answer: &Answer, style: Style) -> Result<()> {
    let columns = columns(answer);
    let width = columns.iter().map(|column| column.name.chars().count()).max().unwrap_or(0);
    let (dim, reset) = if style.colour { (DIM, RESET) } else { ("", "") };
    for row in 0..answer.rows.len() {
        put(out, &format!("{dim}── row {} ──{reset}\n", row + 1))?;
        for column in &columns {
            let cell = column.cells[row].trim_start();
            put(out, format!("{:width$}  {cell}", column.name).trim_end())?;
            put(out, "\n")?;
        }
    }
    Ok(())
}

/// Writes to standard output; a reader that went away is a closed pipe, which is no failure of ours.
pub fn put(out: &mut dyn Write, text: &str) -> Result<()> {
    out.write_all(text.as_bytes()).map_err(|source| Error::io("write to", "standard output", source))
}

struct Shown {
    name: String,
    cells: Vec<String>,
    numeric: bool,
    /// Whether its cells may be broken into several lines.
    wraps: bool,
}

impl Shown {
    fn alignment(&self) -> CellAlignment {
        if self.numeric { CellAlignment::Right } else { CellAlignment::Left }
    }

    fn width(&self) -> usize {
        let cells = self.cells.iter().map(|cell| cell.chars().count()).max().unwrap_or(0);
        cells.max(self.name.chars().count())
    }
}

fn wraps_well(columns: &[Shown], width: u16) -> bool {
    let narrowest = |column: &Shown| match column.wraps {
        true => column.width().min(WRAPPED_WIDTH_MIN),
        false => column.width(),
    };
    columns.iter().map(|column| narrowest(column) + usize::from(GAP)).sum::<usize>() <= usize::from(width)
}

fn columns(answer: &Answer) -> Vec<Shown> {
    let column = |(at, column): (usize, &crate::cli::answer::Column)| {
        let values: Vec<&Value> = answer.rows.iter().map(|row| row.get(at).unwrap_or(&Value::Null)).collect();
        let numeric = values.iter().any(|value| value.is_number());
        let decimals = decimals(&values);
        let cells: Vec<String> = values.iter().map(|value| cell(value, decimals)).collect();
        Shown {
            name: printable(&column.name),
            wraps: cells.iter().any(|cell| cell.contains(' ')),
            cells,
            numeric,
        }
    };
    answer.columns.iter().enumerate().map(column).collect()
}

fn cell(value: &Value, decimals: Option<usize>) -> String {
    match (value, decimals) {
        (Value::Null, _) => String::new(),
        (Value::String(text), _) => printable(text),
        (Value::Number(number), Some(decimals)) if number.is_f64() => {
            format!("{:.decimals$}", number.as_f64().unwrap_or(f64::NAN))
        }
        (other, _) => other.to_string(),
    }
}

/// Digits after the point for a column's fractions; None if only the exact text will do.
fn decimals(values: &[&Value]) -> Option<usize> {
    let fractions = values.iter().filter(|value| value.is_f64()).filter_map(|value| value.as_f64());
    let (mut largest, mut smallest) = (0.0_f64, f64::INFINITY);
    for value in fractions.clone().map(f64::abs).filter(|value| *value > 0.0) {
        (largest, smallest) = (largest.max(value), smallest.min(value));
    }
    if largest == 0.0 {
        return Some(0);
    }
    // Beyond these a fixed point is a row of zeros, or hides the small ones.
    if !(1e-4..1e15).contains(&largest) || smallest < largest * 1e-5 && smallest < 1e-2 {
        return None;
    }
    let before_point = largest.log10().floor() as i32 + 1;
    let most = usize::try_from(DIGITS - before_point).unwrap_or(0);
    let needed = |value: f64| {
        let text = format!("{value:.most$}");
        text.split_once('.').map_or(0, |(_, fraction)| fraction.trim_end_matches('0').len())
    };
    fractions.map(needed).max()
}

/// Control characters as escapes, so that data cannot drive the terminal.
pub fn printable(text: &str) -> String {
    if !text.contains(char::is_control) {
        return text.to_string();
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if c.is_control() { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(names: &[&str], rows: Value) -> Answer {
        let columns: Vec<Value> = names.iter().map(|name| serde_json::json!({ "name": name })).collect();
        serde_json::from_value(serde_json::json!({ "columns": columns, "rows": rows })).unwrap()
    }

    fn table(answer: &Answer, width: Option<u16>) -> String {
        let mut out = Vec::new();
        write_table(&mut out, answer, Style { colour: false, width }).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_stand_right_and_nulls_are_empty() {
        let answer = answer(
            &["time", "host", "avg_usage", "count"],
            serde_json::json!([
                ["2026-01-01T00:00:00Z", "h1", 12.345678901234, 60],
                ["2026-01-01T00:01:00Z", "h22", 3.5, 1000],
                ["2026-01-01T00:02:00Z", "h1", null, 2],
            ]),
        );
        let expected = "\
time                  host  avg_usage  count
────────────────────────────────────────────
2026-01-01T00:00:00Z  h1      12.3457     60
2026-01-01T00:01:00Z  h22      3.5000   1000
2026-01-01T00:02:00Z  h1                   2
";
        assert_eq!(table(&answer, None), expected);
    }

    #[test]
    fn rows_can_stand_below_each_other() {
        let answer = answer(&["host", "max"], serde_json::json!([["h1", 50.0], ["h2", 25.0]]));
        let mut out = Vec::new();
        write_vertical(&mut out, &answer, Style::default()).unwrap();
        let expected = "── row 1 ──\nhost  h1\nmax   50\n── row 2 ──\nhost  h2\nmax   25\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn data_cannot_drive_the_terminal() {
        let answer = answer(&["host"], serde_json::json!([["\u{1b}[31mred\nline"]]));
        assert!(table(&answer, None).ends_with("\\u{1b}[31mred\\nline\n"));
    }

    #[test]
    fn texts_wrap_and_numbers_do_not() {
        let text = "create rollup cpu_1m as cpu | every 1m avg(usage) by host, cpu";
        let answer = answer(&["rollup", "dirty", "definition"], serde_json::json!([["cpu_1m", 12, text]]));
        for line in table(&answer, Some(50)).lines() {
            assert!(line.chars().count() <= 50, "{line}");
        }
        assert_eq!(table(&answer, Some(20)).lines().count(), 3, "too narrow: runs over the edge");
    }

    #[test]
    fn rounding_never_hides_a_small_value() {
        let answer = answer(&["v"], serde_json::json!([[1000.25], [0.0000123]]));
        assert!(table(&answer, None).contains("0.0000123") || table(&answer, None).contains("1.23e-5"));
    }
}
