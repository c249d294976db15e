//! The fifteen "devops" queries of the time series benchmark suite, over the real server's socket, one client, warm.
//!
//! Every answer is checked against the same question asked of the values in this process: as many rows, and the same sum of
//! all their values. The data are in blocks, merged; then a part of the queries is asked of data in memory.
//! Not here: the data (`tsbs`).

use std::sync::Mutex;

use arrow::ipc::reader::StreamReader;
use serde_json::Value as Json;

use super::http::next_body;
use super::server::Server;
use super::support::{Report, Size, wall};
use super::tsbs::{FIELDS, Hosts, STEP};

const MINUTE: i64 = 60_000_000_000;
const HOUR: i64 = 60 * MINUTE;

/// A query, and the same question in other words.
struct Query {
    name: &'static str,
    text: String,
    expected: Expected,
    heavy: bool,
}

/// What an answer adds up to.
#[derive(Debug, PartialEq)]
struct Expected {
    rows: usize,
    sum: f64,
}

/// All values of the hosts, to be asked without any database.
struct Table {
    hosts: usize,
    values: Vec<[u8; 10]>,
}

impl Table {
    fn ticks(&self) -> usize {
        self.values.len() / self.hosts
    }

    /// The value of a field of a host, tick by tick in a range of nanoseconds after the start.
    fn read(&self, host: usize, from: i64, to: i64) -> impl Iterator<Item = (i64, &[u8; 10])> {
        let of_tick = move |tick: usize| (tick as i64 * STEP, &self.values[tick * self.hosts + host]);
        (0..self.ticks()).map(of_tick).filter(move |(time, _)| (from..to).contains(time))
    }

    /// Per bucket and field an aggregate of these hosts: of each by itself, or of all together.
    fn buckets(
        &self,
        hosts: &[usize],
        fields: usize,
        range: (i64, i64),
        step: i64,
        how: How,
        pooled: bool,
    ) -> Expected {
        let mut rows = 0;
        let mut sum = 0.0;
        let groups: Vec<Vec<usize>> =
            if pooled { vec![hosts.to_vec()] } else { hosts.iter().map(|host| vec![*host]).collect() };
        for group in groups {
            let mut buckets: std::collections::BTreeMap<i64, Vec<(f64, f64, f64)>> =
                std::collections::BTreeMap::new();
            for host in group {
                for (time, values) in self.read(host, range.0, range.1) {
                    let cells =
                        buckets.entry(time / step).or_insert_with(|| vec![(0.0, 0.0, f64::MIN); fields]);
                    for (cell, value) in cells.iter_mut().zip(values) {
                        let value = f64::from(*value);
                        *cell = (cell.0 + value, cell.1 + 1.0, cell.2.max(value));
                    }
                }
            }
            rows += buckets.len();
            sum += buckets
                .values()
                .flatten()
                .map(|(sum, count, max)| match how {
                    How::Avg => sum / count,
                    How::Max => *max,
                })
                .sum::<f64>();
        }
        Expected { rows, sum }
    }

    /// Points of these hosts above 90 of the first field: all their values.
    fn high(&self, hosts: &[usize], range: (i64, i64)) -> Expected {
        let points: Vec<&[u8; 10]> = hosts
            .iter()
            .flat_map(|host| self.read(*host, range.0, range.1))
            .map(|(_, values)| values)
            .filter(|values| values[0] > 90)
            .collect();
        let sum = points.iter().flat_map(|values| values.iter()).map(|value| f64::from(*value)).sum();
        Expected { rows: points.len(), sum }
    }
}

#[derive(Clone, Copy)]
enum How {
    Avg,
    Max,
}

pub fn run(size: Size) -> Vec<Report> {
    let hosts = size.pick(20, 4_000);
    let ticks = size.pick(400, 1_080);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let server = Server::start(folder.path());
    let mut hosts = Hosts::new(hosts);
    hosts.kept = Some(Vec::new());
    let data = Mutex::new((hosts, 0usize));
    while let Some(body) = next_body(&data, ticks) {
        server.post("/write?db=default", &body);
    }
    let (hosts, _) = data.into_inner().expect("no thread panicked");
    let count = hosts.hosts();
    let table = Table { hosts: count, values: hosts.kept.expect("they were kept") };
    let queries = queries(&table);
    let mut reports = Vec::new();
    for query in &queries {
        reports.extend(measure(&server, &format!("devops/memory/{}", query.name), query, size));
    }
    server.post("/api/flush", "");
    server.post("/api/compact", "");
    for query in &queries {
        reports.extend(measure(&server, &format!("devops/blocks/{}", query.name), query, size));
    }
    reports
}

/// Asks over and over, in JSON; the points of all hosts also as Arrow, which is how so many of them are asked for.
fn measure(server: &Server, name: &str, query: &Query, size: Size) -> Vec<Report> {
    check(server, query);
    let mut reports = vec![time(server, name, query, "json", size)];
    if query.name == "high-cpu-all" {
        let answer = server.post_for_bytes("/api/wql?format=arrow", &query.text);
        let reader = StreamReader::try_new(answer.as_slice(), None).expect("a stream");
        let rows: usize = reader.map(|batch| batch.expect("a batch").num_rows()).sum();
        assert_eq!(rows, query.expected.rows, "{}: fast and wrong is wrong", query.text);
        reports.push(time(server, &format!("{name}-arrow"), query, "arrow", size));
    }
    reports
}

fn check(server: &Server, query: &Query) {
    let answer: Json = serde_json::from_str(&server.post("/api/wql", &query.text)).expect("JSON");
    let columns = answer["columns"].as_array().expect("columns");
    let is_value: Vec<bool> = columns.iter().map(|column| column["role"] == "value").collect();
    let rows = answer["rows"].as_array().expect("rows");
    let cell = |(cell, is_value): (&Json, &bool)| if *is_value { cell.as_f64() } else { None };
    let row = |row: &Json| row.as_array().expect("a row").iter().zip(&is_value).filter_map(cell).sum::<f64>();
    let found = Expected { rows: rows.len(), sum: rows.iter().map(row).sum() };
    assert_eq!(found.rows, query.expected.rows, "{}: fast and wrong is wrong", query.text);
    let apart = (found.sum - query.expected.sum).abs() / query.expected.sum.abs().max(1.0);
    assert!(apart < 1e-9, "{}: fast and wrong is wrong: {found:?}, not {:?}", query.text, query.expected);
}

/// What a client reads at once: one that gathers a large answer in memory spends more on that than the server on the answer.
const CLIENT_BUFFER_BYTES: usize = 1 << 20;

fn time(server: &Server, name: &str, query: &Query, format: &str, size: Size) -> Report {
    let runs = size.pick(1, if query.heavy { 10 } else { 100 });
    let path = format!("/api/wql?format={format}");
    let mut buffer = vec![0; CLIENT_BUFFER_BYTES];
    let cpu = server.cpu_nanos();
    let mut millis: Vec<f64> = (0..runs)
        .map(|_| {
            let started = wall();
            assert!(server.post_and_read(&path, &query.text, &mut buffer) > 0);
            started.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    let cpu = (server.cpu_nanos() - cpu) / runs as u64;
    millis.sort_by(f64::total_cmp);
    let note = format!(
        "{:.2} ms in the middle, {:.2} at best, {:.2} ms CPU, {} rows",
        millis[millis.len() / 2],
        millis[0],
        cpu as f64 / 1e6,
        query.expected.rows
    );
    Report { name: name.to_string(), values: 0, cpu_nanos: 0, bytes: 0, note }
}

fn queries(table: &Table) -> Vec<Query> {
    let all: Vec<usize> = (0..table.hosts).collect();
    let end = table.ticks() as i64 * STEP;
    let hour = (20 * MINUTE, (20 * MINUTE + HOUR).min(end / MINUTE * MINUTE));
    let everything = (0, end);
    let eight: Vec<usize> = (0..8).map(|at| at * table.hosts / 8 + 1).collect();
    let names =
        |hosts: &[usize]| hosts.iter().map(|host| format!("\"host_{host}\"")).collect::<Vec<_>>().join(", ");
    let items = |function: &str, fields: usize| {
        FIELDS[..fields].iter().map(|field| format!("{function}({field})")).collect::<Vec<_>>().join(", ")
    };
    let between = |range: (i64, i64)| {
        let at = |offset: i64| format!("{}ns", super::tsbs::START + offset);
        format!("between {} and {}", at(range.0), at(range.1))
    };
    let mut queries = Vec::new();
    let single = [
        ("single-groupby-1-1-1", 1, &eight[..1], hour),
        ("single-groupby-1-1-12", 1, &eight[..1], everything),
        ("single-groupby-1-8-1", 1, &eight[..], hour),
        ("single-groupby-5-1-1", 5, &eight[..1], hour),
        ("single-groupby-5-1-12", 5, &eight[..1], everything),
        ("single-groupby-5-8-1", 5, &eight[..], hour),
    ];
    for (name, fields, hosts, range) in single {
        queries.push(Query {
            name,
            text: format!(
                "cpu{{hostname in ({})}} | {} | every 1m {} by ()",
                names(hosts),
                between(range),
                items("max", fields)
            ),
            expected: table.buckets(hosts, fields, range, MINUTE, How::Max, true),
            heavy: false,
        });
    }
    for (name, hosts) in [("cpu-max-all-1", &eight[..1]), ("cpu-max-all-8", &eight[..])] {
        queries.push(Query {
            name,
            text: format!(
                "cpu{{hostname in ({})}} | {} | every 1h {} by ()",
                names(hosts),
                between(everything),
                items("max", 10)
            ),
            expected: table.buckets(hosts, 10, everything, HOUR, How::Max, true),
            heavy: false,
        });
    }
    for (name, fields) in [("double-groupby-1", 1), ("double-groupby-5", 5), ("double-groupby-all", 10)] {
        queries.push(Query {
            name,
            text: format!("cpu | {} | every 1h {} by hostname", between(everything), items("avg", fields)),
            expected: table.buckets(&all, fields, everything, HOUR, How::Avg, false),
            heavy: true,
        });
    }
    queries.push(Query {
        name: "high-cpu-1",
        text: format!(
            "cpu{{hostname in ({})}} | {} | where usage_user > 90",
            names(&eight[..1]),
            between(everything)
        ),
        expected: table.high(&eight[..1], everything),
        heavy: false,
    });
    queries.push(Query {
        name: "high-cpu-all",
        text: format!("cpu | {} | where usage_user > 90", between(everything)),
        expected: table.high(&all, everything),
        heavy: true,
    });
    let last = items("last", 10);
    let newest = &table.values[table.values.len() - table.hosts..];
    queries.push(Query {
        name: "lastpoint",
        text: format!("cpu | {last} by hostname"),
        expected: Expected {
            rows: table.hosts,
            sum: newest.iter().flatten().map(|value| f64::from(*value)).sum(),
        },
        heavy: true,
    });
    let before = hour.1;
    let minutes = |minute: i64| {
        let range = (minute * MINUTE, (minute + 1) * MINUTE);
        table.buckets(&all, 1, range, MINUTE, How::Max, true).sum
    };
    let last_minute = (before - 1) / MINUTE;
    queries.push(Query {
        name: "groupby-orderby-limit",
        text: format!(
            "cpu | {} | every 1m max(usage_user) by () | sort time desc | limit 5",
            between((0, before))
        ),
        expected: Expected { rows: 5, sum: (last_minute - 4..=last_minute).map(minutes).sum() },
        heavy: true,
    });
    queries
}
