//! What a panel says about its answer: which rollups gave it, what the server warns of, what it cost.

use serde_json::{Value, json};

use crate::answer::{Answer, RollupStats};

pub fn notices(answer: &Answer, notes: &[String]) -> Value {
    let rollups = answer.stats.rollups.iter().map(|RollupStats { name, buckets, dirty_recomputed }| {
        let again = match dirty_recomputed {
            0 => "none recomputed".to_string(),
            n => format!("{} recomputed", counted(*n, "bucket")),
        };
        let text = format!("from {name}, exact, {}, {again}", counted(*buckets, "bucket"));
        json!({ "severity": "info", "text": text, "inspect": "stats" })
    });
    let warnings = answer.warnings.iter().chain(notes);
    rollups.chain(warnings.map(|text| json!({ "severity": "warning", "text": text }))).collect()
}

pub fn stats(answer: &Answer) -> Value {
    let stats = &answer.stats;
    let rollups = stats.rollups.iter();
    let mut said = vec![
        json!({ "displayName": "Rows", "value": answer.rows.len() }),
        json!({ "displayName": "Series read", "value": stats.series }),
        json!({ "displayName": "Points read", "value": stats.rows_read }),
        json!({ "displayName": "Bytes read", "value": stats.bytes_read, "unit": "bytes" }),
        json!({ "displayName": "Files read", "value": stats.files }),
        json!({ "displayName": "Time in the server", "value": stats.elapsed_ms, "unit": "ms" }),
    ];
    said.extend(
        rollups
            .map(|used| json!({ "displayName": format!("Buckets of {}", used.name), "value": used.buckets })),
    );
    Value::Array(said)
}

/// `1,200 buckets`.
fn counted(n: u64, word: &str) -> String {
    let digits = n.to_string();
    let mut number = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            number.push(',');
        }
        number.push(digit);
    }
    format!("{number} {word}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::counted;

    #[test]
    fn numbers_are_counted_in_thousands() {
        for (n, said) in
            [(0, "0 buckets"), (1, "1 bucket"), (999, "999 buckets"), (1_234_567, "1,234,567 buckets")]
        {
            assert_eq!(counted(n, "bucket"), said);
        }
    }
}
