//! An answer of `/api/wql` as JSON brings it, and the line that says how it was made.
//!
//! Invariant: every row has as many cells as there are columns.
//! Not here: tables (`table`), the request (`client`).

use serde::Deserialize;
use serde_json::Value;

#[derive(Debug, Deserialize)]
pub struct Answer {
    pub columns: Vec<Column>,
    pub rows: Vec<Vec<Value>>,
    #[serde(default)]
    pub stats: Stats,
    #[serde(default)]
    pub warnings: Vec<String>,
}

#[derive(Debug, Deserialize)]
pub struct Column {
    pub name: String,
    /// `float`, `string` and so on; empty in answers of our own.
    #[serde(default, rename = "type")]
    pub type_name: String,
    /// `time`, `tag` or `value`.
    #[serde(default)]
    pub role: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Stats {
    pub series: u64,
    pub files: u64,
    pub elapsed_ms: f64,
    pub rollups: Vec<RollupUse>,
}

#[derive(Debug, Deserialize)]
pub struct RollupUse {
    pub name: String,
    #[serde(default)]
    pub buckets: u64,
    #[serde(default)]
    pub dirty_recomputed: u64,
}

impl Answer {
    /// An answer of our own, to be shown like a server's.
    pub fn of_texts<const N: usize>(names: [&str; N], rows: impl Iterator<Item = [String; N]>) -> Answer {
        let columns = names.iter().map(|name| Column {
            name: (*name).to_string(),
            type_name: String::new(),
            role: String::new(),
        });
        let columns = columns.collect();
        let rows = rows.map(|row| row.map(Value::String).to_vec()).collect();
        Answer { columns, rows, stats: Stats::default(), warnings: Vec::new() }
    }

    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// `12 rows in 3 ms · from cpu_1m (720 buckets, 1 recomputed)`.
    pub fn summary(&self) -> String {
        let stats = &self.stats;
        let mut line = format!("{} in {}", counted(self.rows.len() as u64, "row"), elapsed(stats.elapsed_ms));
        if let Some(source) = stats.source() {
            line.push_str(" · from ");
            line.push_str(&source);
        }
        line
    }
}

impl Stats {
    /// What gave the answer; None for statements that read no points.
    pub fn source(&self) -> Option<String> {
        // A rollup whose buckets are all still open gives none of them: those come from the newest points.
        let uses: Vec<String> =
            self.rollups.iter().filter(|rollup| rollup.buckets > 0).map(RollupUse::describe).collect();
        if !uses.is_empty() {
            return Some(uses.join(" and "));
        }
        if self.series == 0 {
            return None;
        }
        let mut parts = vec![counted(self.series, "series")];
        if self.files > 0 {
            parts.push(counted(self.files, "file"));
        }
        Some(format!("raw points ({})", parts.join(", ")))
    }
}

impl RollupUse {
    fn describe(&self) -> String {
        let mut text = format!("{} ({}", self.name, counted(self.buckets, "bucket"));
        if self.dirty_recomputed > 0 {
            text.push_str(&format!(", {} recomputed", thousands(self.dirty_recomputed)));
        }
        text.push(')');
        text
    }
}

/// `3,112 rows`, `1 row`.
pub fn counted(count: u64, thing: &str) -> String {
    let plural = if count == 1 || thing.ends_with('s') { "" } else { "s" };
    format!("{} {thing}{plural}", thousands(count))
}

/// `1234567` as `1,234,567`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

pub fn elapsed(ms: f64) -> String {
    match ms {
        ms if ms >= 10_000.0 => format!("{:.1} s", ms / 1_000.0),
        ms if ms >= 10.0 => format!("{ms:.0} ms"),
        ms if ms >= 1.0 => format!("{ms:.1} ms"),
        ms => format!("{ms:.2} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(stats: &str) -> String {
        let text = format!(r#"{{"columns":[{{"name":"n"}}],"rows":[[1]],"stats":{stats}}}"#);
        serde_json::from_str::<Answer>(&text).unwrap().summary()
    }

    #[test]
    fn the_summary_says_what_gave_the_answer() {
        assert_eq!(
            summary(
                r#"{"elapsed_ms":12.3,"rollups":[{"name":"cpu_1m","buckets":1720,"dirty_recomputed":1}]}"#
            ),
            "1 row in 12 ms · from cpu_1m (1,720 buckets, 1 recomputed)"
        );
        assert_eq!(
            summary(r#"{"elapsed_ms":3.14,"series":4000,"files":1}"#),
            "1 row in 3.1 ms · from raw points (4,000 series, 1 file)"
        );
        assert_eq!(summary(r#"{"elapsed_ms":0.05}"#), "1 row in 0.05 ms");
    }
}
