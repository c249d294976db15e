//! What Grafana's users write for the range and the step of a panel: `$__interval` and its like, put in as literals of WQL.
//!
//! Invariant: the places of what was written can be found again ([`Expanded::back`]), so that an error stands where a person looks for it.
//! Not here: variables of dashboards, which only the browser knows and which come as bound values.

use crate::text::{Piece, pieces};

/// The range and the step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Frame {
    pub from_ms: i64,
    pub to_ms: i64,
    pub interval_ms: i64,
    pub max_data_points: i64,
}

pub struct Expanded {
    pub text: String,
    /// (start here, end here, end in what was written): from one's end on, what follows is moved.
    moved: Vec<(usize, usize, usize, usize)>,
}

/// `$__name`, `${__name}`, and `$__timeFilter` with or without brackets. Comments stay as they are.
pub fn expand(written: &str, frame: &Frame) -> Expanded {
    let mut text = String::with_capacity(written.len());
    let mut moved = Vec::new();
    let mut at = 0;
    for (piece, whole) in pieces(written) {
        let mut rest = whole;
        while let Some(dollar) = rest.find('$').filter(|_| piece != Piece::Comment) {
            let (before, from) = rest.split_at(dollar);
            text.push_str(before);
            let start = text.len();
            let length = match macro_at(from, frame) {
                Some((length, value)) => {
                    text.push_str(&value);
                    moved.push((start, text.len(), at + dollar, at + dollar + length));
                    length
                }
                None => {
                    text.push('$');
                    1
                }
            };
            at += dollar + length;
            rest = &from[length..];
        }
        text.push_str(rest);
        at += rest.len();
    }
    Expanded { text, moved }
}

impl Expanded {
    /// Of a text in which nothing is to be put.
    pub fn unchanged(written: &str) -> Expanded {
        Expanded { text: written.to_string(), moved: Vec::new() }
    }

    /// Where a place of the text stood in what was written; inside of what was put in, the start of the macro. From 1, in characters.
    pub fn back(&self, written: &str, line: usize, column: usize) -> (usize, usize) {
        let offset = self.offset_back(offset_of(&self.text, line, column)).min(written.len());
        let before = &written[..offset];
        let start = before.rfind('\n').map_or(0, |end| end + 1);
        (before.matches('\n').count() + 1, before[start..].chars().count() + 1)
    }

    fn offset_back(&self, offset: usize) -> usize {
        let mut back = offset;
        for (start, end, written_start, written_end) in &self.moved {
            if offset < *start {
                break;
            }
            back = if offset < *end { *written_start } else { written_end + (offset - end) };
        }
        back
    }
}

fn offset_of(text: &str, line: usize, column: usize) -> usize {
    let start = match line {
        0 | 1 => 0,
        _ => text.match_indices('\n').nth(line - 2).map_or(text.len(), |(end, _)| end + 1),
    };
    let inside =
        text[start..].char_indices().nth(column.saturating_sub(1)).map_or(text.len() - start, |(at, _)| at);
    start + inside
}

/// How long the macro at the start of the text is, and what it stands for.
fn macro_at(text: &str, frame: &Frame) -> Option<(usize, String)> {
    let (name, length) = match text.strip_prefix("${") {
        Some(inside) => {
            let end = inside.find('}')?;
            (&inside[..end], end + 3)
        }
        None => {
            let inside = &text[1..];
            let end = inside.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(inside.len());
            (&inside[..end], end + 1)
        }
    };
    let Frame { from_ms, to_ms, interval_ms, max_data_points } = frame;
    let range_ms = to_ms - from_ms;
    let value = match name {
        "__interval" => duration(*interval_ms),
        "__interval_ms" => interval_ms.to_string(),
        "__from" => format!("{from_ms}ms"),
        "__to" => format!("{to_ms}ms"),
        "__range" => format!("{range_ms}ms"),
        "__range_ms" => range_ms.to_string(),
        "__range_s" => ((range_ms + 500) / 1000).to_string(),
        "__maxDataPoints" => max_data_points.to_string(),
        "__timeFilter" => {
            let filter = format!("(time >= {from_ms}ms and time < {to_ms}ms)");
            return Some((length + brackets(&text[length..]), filter));
        }
        _ => return None,
    };
    Some((length, value))
}

/// The length of `()` or `(time)`, with blanks, if they follow.
fn brackets(rest: &str) -> usize {
    let Some(end) = rest.strip_prefix('(').and_then(|inside| inside.find(')')) else { return 0 };
    let inside = rest[1..=end].trim();
    if inside.is_empty() || inside == "time" { end + 2 } else { 0 }
}

/// In the largest unit that leaves nothing over. A day is none: a day of WQL follows the calendar.
fn duration(ms: i64) -> String {
    const UNITS: [(i64, &str); 3] = [(3_600_000, "h"), (60_000, "m"), (1000, "s")];
    let unit = UNITS.iter().find(|(length, _)| ms >= *length && ms % length == 0);
    unit.map_or(format!("{ms}ms"), |(length, unit)| format!("{}{unit}", ms / length))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: Frame = Frame { from_ms: 1000, to_ms: 61_000, interval_ms: 10_000, max_data_points: 500 };

    #[test]
    fn macros_become_literals() {
        for (written, expected) in [
            ("cpu | every $__interval avg(u)", "cpu | every 10s avg(u)"),
            ("cpu | every ${__interval} avg(u)", "cpu | every 10s avg(u)"),
            ("cpu | where $__timeFilter", "cpu | where (time >= 1000ms and time < 61000ms)"),
            (
                "cpu | where $__timeFilter( time ) and u > 1",
                "cpu | where (time >= 1000ms and time < 61000ms) and u > 1",
            ),
            (
                "cpu | where ($__timeFilter) and u > 1",
                "cpu | where ((time >= 1000ms and time < 61000ms)) and u > 1",
            ),
            ("cpu | between $__from and $__to", "cpu | between 1000ms and 61000ms"),
            ("cpu | limit $__maxDataPoints", "cpu | limit 500"),
            ("cpu | every $__range avg(u)", "cpu | every 60000ms avg(u)"),
            ("cpu | where n > $__range_s + $__interval_ms", "cpu | where n > 60 + 10000"),
            ("cpu{a=\"#$__range_ms\"} # $__from", "cpu{a=\"#60000\"} # $__from"),
            ("cpu{a='\\'', b=$host, c=$__nothing}", "cpu{a='\\'', b=$host, c=$__nothing}"),
        ] {
            assert_eq!(expand(written, &FRAME).text, expected);
        }
    }

    #[test]
    fn a_step_is_said_in_the_unit_that_fits() {
        for (ms, said) in
            [(1, "1ms"), (1500, "1500ms"), (60_000, "1m"), (90_000, "90s"), (86_400_000, "24h"), (0, "0ms")]
        {
            assert_eq!(duration(ms), said);
        }
    }

    #[test]
    fn places_are_found_again() {
        let written = "cpu{h=\"ü\"} | where $__timeFilter\n| every $__interval evry(u)";
        let expanded = expand(written, &FRAME);
        let column = |text: &str, word: &str| {
            let line = text.lines().last().unwrap();
            line.chars().count() - line[line.find(word).unwrap()..].chars().count() + 1
        };
        let sent = column(&expanded.text, "evry");
        assert_eq!(expanded.back(written, 2, sent), (2, column(written, "evry")));
        // Inside of what was put in.
        assert_eq!(expanded.back(written, 1, 30), (1, 20));
        assert_eq!(expanded.back(written, 1, 5), (1, 5));
        assert_eq!(expanded.back(written, 9, 9), (2, column(written, "evry") + 7));
    }
}
