//! OpenTelemetry's names as Prometheus' OTLP receiver writes them: words joined by `_`, with the unit and `_total` at the end.
//!
//! Invariant: what comes out has only letters, digits, `_` and, in metrics, `:`, and no digit at its start.

use crate::series::MetricKind;

/// Units (UCUM) and the words that Prometheus' conventions have for them.
const UNITS: [(&str, &str); 27] = [
    ("d", "days"),
    ("h", "hours"),
    ("min", "minutes"),
    ("s", "seconds"),
    ("ms", "milliseconds"),
    ("us", "microseconds"),
    ("ns", "nanoseconds"),
    ("By", "bytes"),
    ("KiBy", "kibibytes"),
    ("MiBy", "mebibytes"),
    ("GiBy", "gibibytes"),
    ("TiBy", "tibibytes"),
    ("KBy", "kilobytes"),
    ("MBy", "megabytes"),
    ("GBy", "gigabytes"),
    ("TBy", "terabytes"),
    ("m", "meters"),
    ("V", "volts"),
    ("A", "amperes"),
    ("J", "joules"),
    ("W", "watts"),
    ("g", "grams"),
    ("Cel", "celsius"),
    ("Hz", "hertz"),
    ("K", "kelvin"),
    ("%", "percent"),
    ("1", ""),
];

/// The same behind a `/`.
const PER_UNITS: [(&str, &str); 7] = [
    ("s", "second"),
    ("m", "minute"),
    ("h", "hour"),
    ("d", "day"),
    ("w", "week"),
    ("mo", "month"),
    ("y", "year"),
];

/// `http.server.duration` in `ms` is `http_server_duration_milliseconds`.
pub fn metric(name: &str, unit: &str, kind: MetricKind) -> String {
    let is_kept = |letter: char| letter.is_ascii_alphanumeric() || letter == ':';
    let mut words: Vec<String> =
        name.split(|letter| !is_kept(letter)).filter(|word| !word.is_empty()).map(str::to_string).collect();
    let (main, per) = unit_words(unit);
    for word in [main, per] {
        if !word.is_empty() && !words.contains(&word) {
            words.push(word);
        }
    }
    let last = match kind {
        MetricKind::Counter => Some("total"),
        MetricKind::Gauge if unit == "1" => Some("ratio"),
        _ => None,
    };
    if let Some(last) = last {
        words.retain(|word| word != last);
        words.push(last.to_string());
    }
    let name = words.join("_");
    if name.starts_with(|first: char| first.is_ascii_digit()) { format!("_{name}") } else { name }
}

/// The unit alone, for the metadata.
pub fn unit(unit: &str) -> String {
    let (main, per) = unit_words(unit);
    [main, per].into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join("_")
}

/// The words of a unit and of what it is per. Annotations in braces are none.
fn unit_words(unit: &str) -> (String, String) {
    let (main, per) = unit.split_once('/').unwrap_or((unit, ""));
    let word = |part: &str, known: &[(&str, &str)]| {
        let part = part.trim();
        if part.contains(['{', '}']) {
            return String::new();
        }
        let word = known.iter().find(|(unit, _)| *unit == part).map_or(part, |(_, word)| word);
        let words =
            word.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
        words.collect::<Vec<_>>().join("_")
    };
    let per = word(per, &PER_UNITS);
    (word(main, &UNITS), if per.is_empty() { per } else { format!("per_{per}") })
}

/// `http.route` is `http_route`.
pub fn label(name: &str) -> String {
    let clean = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '_' };
    let label: String = name.chars().map(clean).collect();
    if label.starts_with(|first: char| first.is_ascii_digit()) {
        format!("key_{label}")
    } else if label.starts_with('_') && !label.starts_with("__") {
        format!("key{label}")
    } else {
        label
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_prometheus_receiver() {
        let cases = [
            ("http.server.duration", "ms", MetricKind::Histogram, "http_server_duration_milliseconds"),
            ("http.requests", "1", MetricKind::Counter, "http_requests_total"),
            ("http_requests_total", "", MetricKind::Counter, "http_requests_total"),
            ("queue..size_", "{items}", MetricKind::Gauge, "queue_size"),
            ("disk.used", "1", MetricKind::Gauge, "disk_used_ratio"),
            ("speed", "m/s", MetricKind::Gauge, "speed_meters_per_second"),
            ("network.bytes", "By", MetricKind::Counter, "network_bytes_total"),
            ("cpu.load", "%", MetricKind::Gauge, "cpu_load_percent"),
            ("2xx", "", MetricKind::Gauge, "_2xx"),
        ];
        for (name, unit, kind, expected) in cases {
            assert_eq!(metric(name, unit, kind), expected);
        }
        assert_eq!(
            ["http.route", "1st", "_own", "__name"].map(label),
            ["http_route", "key_1st", "key_own", "__name"]
        );
        assert_eq!(unit("By/s"), "bytes_per_second");
    }
}
