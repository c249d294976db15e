//! Random PromQL against an independent oracle: the real Prometheus, which has the same samples by remote write.
//!
//! tests/clients/promql makes series of all kinds (counters with resets, gauges, gaps, stale markers, NaN, classic and native histograms,
//! whole and fractional, with exponential and custom buckets), queries over all of the language, and compares results, errors by their
//! type, and annotations by their text.
//!
//! A failure prints the queries, what differs, and the seed; `SEED=n` runs one, `QUERIES=n` asks more.

use crate::clients::python;
use crate::prometheus::{free_port, start_prometheus};
use crate::support::server::{Server, folder};

const SEEDS: u64 = 2;
const QUERIES: u64 = 400;

#[test]
fn prometheus_gives_the_same_answers() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..SEEDS,
    };
    let queries = number("QUERIES").unwrap_or(QUERIES).to_string();
    for seed in seeds {
        let (ours, theirs) = (folder(), folder());
        let server = Server::start(ours.path(), &[]);
        let port = free_port();
        // The samples are old, and the functions that are behind a flag there are not here.
        let flags = [
            "--web.enable-remote-write-receiver",
            "--enable-feature=native-histograms,promql-experimental-functions,promql-per-step-stats,promql-duration-expr",
            "--storage.tsdb.retention.time=100y",
        ];
        let _prometheus = start_prometheus(theirs.path(), port, "", &flags);
        let address = format!("http://127.0.0.1:{port}");
        let verdict = python("promql/oracle.py", &[&server.url, &address, &seed.to_string(), &queries]);
        assert!(verdict.ends_with("ok\n"), "{verdict}");
    }
}
