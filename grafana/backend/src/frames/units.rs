//! Units of columns, where their names say them, as Grafana calls units. A panel's own setting goes before.
//!
//! Invariant: no guess. A name ends in its unit, by the rules of Prometheus and of Telegraf's fields, or there is none. docs/grafana.md has
//! the list.

use crate::text::Statement;

/// What a name ends in, Grafana's unit, and that of its rate, if there is one.
const ENDINGS: [(&str, &str, Option<&str>); 21] = [
    ("percent", "percent", None),
    ("ratio", "percentunit", None),
    ("bytes", "bytes", Some("binBps")),
    ("bits", "bits", Some("bps")),
    ("nanoseconds", "ns", None),
    ("ns", "ns", None),
    ("microseconds", "µs", None),
    ("us", "µs", None),
    ("milliseconds", "ms", None),
    ("ms", "ms", None),
    ("seconds", "s", None),
    ("minutes", "m", None),
    ("hours", "h", None),
    ("days", "d", None),
    ("celsius", "celsius", None),
    ("volts", "volt", None),
    ("amperes", "amp", None),
    ("watts", "watt", None),
    ("joules", "joule", Some("watt")),
    ("hertz", "hertz", None),
    ("requests", "short", Some("reqps")),
];

/// Fields of Telegraf's table `cpu`.
const CPU_USAGES: [&str; 11] =
    ["active", "guest", "guest_nice", "idle", "iowait", "irq", "nice", "softirq", "steal", "system", "user"];

/// What an aggregate makes of a unit. Others leave it as it is.
const COUNTING: [&str; 7] =
    ["count", "distinct", "exact_distinct", "variance", "integral", "derivative", "mode"];

/// Of a column of a statement. `avg_used_percent` is what `avg(used_percent)` is called.
pub fn unit_of(column: &str, statement: &Statement) -> Option<&'static str> {
    let source = statement.source();
    let counts = COUNTING.iter().any(|function| begins(column, function).is_some());
    if counts {
        return None;
    }
    // A field may begin with the word as well.
    let is_rate = begins(column, "rate").is_some() && statement.has_word("rate");
    // Of a metric the field has no name of its own, and the metric has the unit.
    let said = match column.rsplit_once('_') {
        None | Some((_, "value")) => source,
        Some(_) => column,
    };
    let cumulative = said.strip_suffix("_total").or_else(|| said.strip_suffix("_sum"));
    let said = cumulative.unwrap_or(said);
    let ending = ENDINGS.iter().find(|(ending, ..)| ends(said, ending));
    match ending {
        Some((_, _, per_second)) if is_rate => *per_second,
        Some((_, unit, _)) => Some(unit),
        None if is_rate => cumulative.map(|_| "cps"),
        None => (is_cpu(source) && is_cpu_usage(said)).then_some("percent"),
    }
}

/// What follows a word at the start of a name: nothing, or after `_` more.
fn begins<'a>(name: &'a str, word: &str) -> Option<&'a str> {
    let rest = name.strip_prefix(word)?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix('_') }
}

fn ends(name: &str, word: &str) -> bool {
    name.strip_suffix(word).is_some_and(|rest| rest.ends_with('_'))
}

fn is_cpu(source: &str) -> bool {
    begins(source, "cpu").is_some()
}

fn is_cpu_usage(name: &str) -> bool {
    let mut parts = name.match_indices("usage_").map(|(at, _)| (&name[..at], &name[at + "usage_".len()..]));
    parts.any(|(before, usage)| (before.is_empty() || before.ends_with('_')) && CPU_USAGES.contains(&usage))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_its_unit_or_there_is_none() {
        for (column, source, unit) in [
            ("avg_used_percent", "mem", Some("percent")),
            ("used_bytes", "mem", Some("bytes")),
            ("rate_sent_bytes", "net", Some("binBps")),
            ("increase_sent_bytes", "net", Some("bytes")),
            ("count_sent_bytes", "net", None),
            ("p99_took_ms", "requests", Some("ms")),
            ("max_usage_user", "cpu", Some("percent")),
            ("avg_usage_idle", "cpu_1m", Some("percent")),
            ("usage_guest_nice", "cpu", Some("percent")),
            ("usage_system", "docker_container_cpu", None),
            ("avg_usage", "cpu", None),
            ("rate", "node_network_receive_bytes_total", Some("binBps")),
            ("rate_value", "http_requests_total", Some("reqps")),
            ("rate", "things_total", Some("cps")),
            ("rate", "things", None),
            ("avg_value", "request_duration_seconds", Some("s")),
            ("value", "node_memory_MemFree_bytes", Some("bytes")),
            ("rate_value", "process_cpu_seconds_total", None),
            ("variance_took_ms", "requests", None),
            ("rate_energy_joules", "meter", Some("watt")),
            ("rate_limit_bytes", "quota | limit 5", Some("bytes")),
            ("atoms", "x", None),
            ("percent", "x", None),
            ("status", "x", None),
        ] {
            let text = if source.contains('|') {
                source.to_string()
            } else {
                format!("{source} | every 1m rate(x), max(y)")
            };
            assert_eq!(unit_of(column, &Statement::last(&text)), unit, "{column} of {text}");
        }
    }
}
