//! Prometheus' samples: written like any points, with what senders say of their metrics beside them; and read as they came.
//!
//! Invariant: metadata are as durable as samples, since they are rows of a table and go through the same log.
//! Exemplars are kept in memory only.
//! Not here: the messages (`ingest`), PromQL.

use arrow::array::AsArray;
use hashbrown::HashMap;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use query_lang::plan::{TagFilter, TagTest};
use storage_format::point::{TagSet, TimeRange};

use crate::db::Db;
use crate::db::pipeline::Change;
use crate::error::Result;
use crate::exemplars::Exemplar;
use crate::guard::Guard;
use crate::ingest::otlp;
use crate::ingest::remote_write::{self, Version};
use crate::ingest::{METADATA_FIELDS, METADATA_TAG, Received, Refused, Target};
use crate::rows::Rows;
use crate::scan::{Captured, Touched};
use crate::series::{CompiledFilter, METADATA_TABLE, METRIC_HISTOGRAM, METRIC_VALUE, METRICS_TABLE};

/// A message of remote write.
pub struct RemoteWrite<'a> {
    pub database: &'a str,
    pub message: &'a [u8],
    pub version: Version,
}

/// What became of the series of one request.
#[derive(Debug, Default)]
pub struct SamplesWritten {
    pub samples: u64,
    pub histograms: u64,
    pub exemplars: u64,
    pub refused: Refused,
}

/// The samples of one series, stale markers included.
pub struct SeriesSamples {
    pub labels: TagSet,
    /// Ascending in time; the columns are `value` and `histogram`.
    pub rows: Vec<Rows>,
}

/// What senders have said of a metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricMetadata {
    pub metric: String,
    /// `counter`, `gauge`, ...: Prometheus' words.
    pub kind: String,
    pub help: String,
    pub unit: String,
}

impl Db {
    /// Parses in the calling thread; `done` is called when the samples are durable and readable, or were refused.
    pub fn write_samples(
        &self,
        request: &RemoteWrite<'_>,
        done: impl FnOnce(Result<SamplesWritten>) + Send + 'static,
    ) {
        let core = &self.core;
        if let Err(refusal) = core.check_writable() {
            return done(Err(refusal));
        }
        let parse = |target: &Target<'_>| remote_write::parse(request.message, request.version, target);
        match core.with_target(request.database, parse) {
            Ok(received) => self.store_samples(request.database, received, done),
            Err(error) => done(Err(error)),
        }
    }

    /// The same of OpenTelemetry's metrics.
    pub fn write_otlp(
        &self,
        database: &str,
        request: &ExportMetricsServiceRequest,
        done: impl FnOnce(Result<SamplesWritten>) + Send + 'static,
    ) {
        if let Err(refusal) = self.core.check_writable() {
            return done(Err(refusal));
        }
        match self.core.with_target(database, |target: &Target<'_>| otlp::convert(request, target)) {
            Ok(received) => self.store_samples(database, received, done),
            Err(error) => done(Err(error)),
        }
    }

    fn store_samples(
        &self,
        database: &str,
        received: Received,
        done: impl FnOnce(Result<SamplesWritten>) + Send + 'static,
    ) {
        let Received { batch, samples, histograms, exemplars, metadata, refused } = received;
        metrics::counter!(crate::metrics::SAMPLES_REFUSED).increment(refused.count);
        let database = self.core.registry.database_or_new(database);
        // Of series that are refused there are none. They are not durable, so they need not wait.
        let exemplars = self.core.exemplars.add(&database.name, exemplars);
        let written = SamplesWritten { samples, histograms, exemplars, refused };
        if batch.is_empty() {
            return done(Ok(written));
        }
        self.submit(Change::Points(batch), move |outcome| {
            if outcome.is_ok() {
                database.metadata.remember(metadata);
            }
            done(outcome.map(|_| written));
        });
    }

    /// The samples of the series of `metrics` that pass, in the range, in no particular order of series.
    pub fn read_samples(
        &self,
        database: &str,
        filter: &TagFilter,
        range: TimeRange,
        guard: &Guard,
    ) -> Result<Vec<SeriesSamples>> {
        let filter = CompiledFilter::new(filter)?;
        let Some(table) = self.core.registry.table(database, METRICS_TABLE) else { return Ok(Vec::new()) };
        let names = [METRIC_VALUE, METRIC_HISTOGRAM];
        let columns = names.map(|name| (table.column(name).map_or(u32::MAX, |(id, _)| id), name.to_string()));
        let captured = {
            let live = self.core.live.read();
            let range = self.visible_part(&live, &table, range);
            Captured::samples(&live.view_for(guard), &table, &filter, range, &columns)?
        };
        let scan = captured.open_within(guard)?;
        let each = |found: &mut Vec<SeriesSamples>, labels: &TagSet, pieces: &[Rows]| {
            // A slice would keep all that was decoded with it.
            let rows: Vec<Rows> = pieces.iter().map(Rows::copied).collect();
            guard.reserve(rows.iter().map(Rows::heap_bytes).sum())?;
            found.push(SeriesSamples { labels: labels.clone(), rows });
            Ok(())
        };
        let join = |mut a: Vec<SeriesSamples>, b: Vec<SeriesSamples>| {
            a.extend(b);
            Ok(a)
        };
        let found = scan.fold(guard, &Touched::default(), Vec::new, each, join)?;
        // A long series comes in slices.
        let mut whole: HashMap<TagSet, Vec<Rows>> = HashMap::new();
        for SeriesSamples { labels, rows } in found {
            whole.entry(labels).or_default().extend(rows);
        }
        let series = whole.into_iter().map(|(labels, mut rows)| {
            rows.sort_by_key(|rows| rows.times.first().copied());
            SeriesSamples { labels, rows }
        });
        Ok(series.collect())
    }

    /// What senders have said of their metrics, by name; of one of them or of all.
    pub fn metric_metadata(
        &self,
        database: &str,
        metric: Option<&str>,
        guard: &Guard,
    ) -> Result<Vec<MetricMetadata>> {
        let Some(table) = self.core.registry.table(database, METADATA_TABLE) else { return Ok(Vec::new()) };
        let fields = METADATA_FIELDS.map(str::to_string);
        let columns = crate::rollup::columns_of(&table, &fields);
        let filter = CompiledFilter::new(&match metric {
            Some(metric) => {
                TagFilter::Match { tag: METADATA_TAG.to_string(), test: TagTest::Equal(metric.to_string()) }
            }
            None => TagFilter::All,
        })?;
        let captured = {
            let live = self.core.live.read();
            let range = self.visible_part(&live, &table, TimeRange::ALL);
            Captured::samples(&live.view_for(guard), &table, &filter, range, &columns)?
        };
        let mut found = Vec::new();
        captured.open_within(guard)?.for_each(guard, |tags, pieces| {
            let Some(rows) = pieces.last() else { return Ok(()) };
            let text = |field: usize| {
                let array = rows.columns.get(field)?.as_ref()?;
                array.as_string_opt::<i32>()?.iter().next_back()?.map(str::to_string)
            };
            let [kind, help, unit] = [0, 1, 2].map(|field| text(field).unwrap_or_default());
            let metric = tags.get(METADATA_TAG).unwrap_or_default().to_string();
            guard.reserve(metric.len() + kind.len() + help.len() + unit.len())?;
            found.push(MetricMetadata { metric, kind, help, unit });
            Ok(())
        })?;
        Ok(found)
    }

    /// The exemplars in a range of the series that pass, series after series, each ascending in time.
    pub fn exemplars(&self, database: &str, filter: &TagFilter, range: TimeRange) -> Result<Vec<Exemplar>> {
        let filter = CompiledFilter::new(filter)?;
        Ok(self.core.exemplars.of(database, range, |series| filter.passes(series)))
    }

    /// The blocking form.
    pub fn write_samples_now(&self, request: &RemoteWrite<'_>) -> Result<SamplesWritten> {
        let (send, receive) = crossbeam_channel::bounded(1);
        self.write_samples(request, move |outcome| drop(send.send(outcome)));
        receive.recv().unwrap_or_else(|_| Err(crate::db::closing()))
    }
}
