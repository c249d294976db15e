//! OpenTelemetry's metrics -> rows of the table `metrics`, named and labelled as Prometheus' own OTLP receiver does.
//!
//! | OTLP | here |
//! |---|---|
//! | gauge, sum that may fall | a series of its name |
//! | sum that only rises | a series with the suffix `_total` |
//! | histogram | `_bucket` by `le`, `_sum`, `_count` |
//! | exponential histogram | a native histogram |
//! | summary | a series by `quantile`, `_sum`, `_count` |
//! | resource | `job`, `instance`, and the rest of its attributes as labels of `target_info` |
//!
//! Deltas are stored as they come, each for its own time, and so without `_total`: `sum_over_time` adds them up.
//! Invariant: a data point that is wrong harms no other one.
//! Not here: HTTP, JSON and compression (`server`), the names themselves (`names`).

mod names; // of metrics, units and labels

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Attribute;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1 as otlp;
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets as OtlpBuckets;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use storage_format::histogram::{Buckets, Histogram, ResetHint, SCHEMA_MAX, SCHEMA_MIN, Span};

use crate::error::Result;
use crate::ingest::Target;
use crate::ingest::samples::{Received, Samples, put_label};
use crate::series::{METRIC_NAME, MetricInfo, MetricKind};

/// The bit of a data point that says that its series has ended.
const NO_RECORDED_VALUE: u32 = 1;

/// The NaN that says so to Prometheus.
const STALE: f64 = f64::from_bits(crate::rows::STALE_MARKER_BITS);

/// What Prometheus takes for the width of the zero bucket where none is said.
const ZERO_THRESHOLD: f64 = 1e-128;

type Labels = Vec<(String, String)>;

/// Reads a request; what it cannot take is among the refused.
pub fn convert(request: &ExportMetricsServiceRequest, target: &Target<'_>) -> Result<Received> {
    let mut writer = Writer { samples: Samples::new(target), wire: Vec::new() };
    for resource in &request.resource_metrics {
        let attributes = resource.resource.as_ref().map(|resource| resource.attributes.as_slice());
        let attributes = attributes.unwrap_or_default();
        let shared = identity(attributes);
        let mut latest_ms = None;
        for metric in resource.scope_metrics.iter().flat_map(|scope| &scope.metrics) {
            writer.metric(metric, &shared, &mut latest_ms)?;
        }
        if let Some(time_ms) = latest_ms {
            writer.target_info(attributes, shared, time_ms)?;
        }
    }
    writer.samples.finish()
}

struct Writer<'a> {
    samples: Samples<'a>,
    /// Room for a series' labels.
    wire: Vec<u8>,
}

/// A metric as its points are written.
struct Named<'a> {
    name: String,
    /// Labels of its resource.
    shared: &'a Labels,
}

impl Writer<'_> {
    fn metric(&mut self, metric: &otlp::Metric, shared: &Labels, latest_ms: &mut Option<i64>) -> Result<()> {
        let Some(data) = &metric.data else { return Ok(()) };
        let is_delta = |temporality: i32| temporality == otlp::AggregationTemporality::Delta as i32;
        let kind = match data {
            Data::Sum(sum) if is_delta(sum.aggregation_temporality) => MetricKind::Unknown,
            Data::Sum(sum) if sum.is_monotonic => MetricKind::Counter,
            Data::Gauge(_) | Data::Sum(_) => MetricKind::Gauge,
            Data::Histogram(_) | Data::ExponentialHistogram(_) => MetricKind::Histogram,
            Data::Summary(_) => MetricKind::Summary,
        };
        let named = Named { name: names::metric(&metric.name, &metric.unit, kind), shared };
        let unit = names::unit(&metric.unit);
        self.samples.describe(&named.name, MetricInfo { kind, help: metric.description.clone(), unit });
        let mut seen = |nanos: u64| {
            let time_ms = millis(nanos);
            *latest_ms = Some(latest_ms.map_or(time_ms, |latest| latest.max(time_ms)));
            time_ms
        };
        match data {
            Data::Gauge(otlp::Gauge { data_points }) | Data::Sum(otlp::Sum { data_points, .. }) => {
                for point in data_points {
                    let time_ms = seen(point.time_unix_nano);
                    self.number(&named, point, time_ms)?;
                }
            }
            Data::Histogram(histogram) => {
                for point in &histogram.data_points {
                    let time_ms = seen(point.time_unix_nano);
                    self.histogram(&named, point, time_ms)?;
                }
            }
            Data::ExponentialHistogram(histogram) => {
                let is_delta = is_delta(histogram.aggregation_temporality);
                for point in &histogram.data_points {
                    let time_ms = seen(point.time_unix_nano);
                    self.exponential(&named, point, is_delta, time_ms)?;
                }
            }
            Data::Summary(summary) => {
                for point in &summary.data_points {
                    let time_ms = seen(point.time_unix_nano);
                    self.summary(&named, point, time_ms)?;
                }
            }
        }
        Ok(())
    }

    fn number(&mut self, named: &Named<'_>, point: &otlp::NumberDataPoint, time_ms: i64) -> Result<()> {
        let value = match point.value {
            _ if point.flags & NO_RECORDED_VALUE != 0 => STALE,
            Some(Number::AsDouble(value)) => value,
            Some(Number::AsInt(value)) => value as f64,
            None => {
                let name = &named.name;
                self.samples.refused.add(|| format!("a data point of {name} has no value"));
                return Ok(());
            }
        };
        let series = self.sample(&named.name, named.labels(&point.attributes), time_ms, value)?;
        self.exemplars(series, &point.exemplars);
        Ok(())
    }

    fn histogram(&mut self, named: &Named<'_>, point: &otlp::HistogramDataPoint, time_ms: i64) -> Result<()> {
        let labels = named.labels(&point.attributes);
        let ended = point.flags & NO_RECORDED_VALUE != 0;
        let or_stale = |value: f64| if ended { STALE } else { value };
        let Named { name, .. } = named;
        let buckets = point.bucket_counts.len();
        if buckets > 0 && buckets != point.explicit_bounds.len() + 1 {
            let bounds = point.explicit_bounds.len();
            self.samples.refused.add(|| {
                format!("a data point of {name} has {buckets} buckets and {bounds} bounds; there must be one more bucket")
            });
            return Ok(());
        }
        if let Some(sum) = point.sum.or(ended.then_some(STALE)) {
            self.sample(&format!("{name}_sum"), labels.clone(), time_ms, or_stale(sum))?;
        }
        self.sample(&format!("{name}_count"), labels.clone(), time_ms, or_stale(point.count as f64))?;
        let mut below = 0u64;
        for (bound, count) in point.explicit_bounds.iter().zip(&point.bucket_counts) {
            below += count;
            let labels = with(labels.clone(), "le", bound.to_string());
            self.sample(&format!("{name}_bucket"), labels, time_ms, or_stale(below as f64))?;
        }
        let labels = with(labels, "le", "+Inf".to_string());
        let series = self.sample(&format!("{name}_bucket"), labels, time_ms, or_stale(point.count as f64))?;
        self.exemplars(series, &point.exemplars);
        Ok(())
    }

    fn exponential(
        &mut self,
        named: &Named<'_>,
        point: &otlp::ExponentialHistogramDataPoint,
        is_delta: bool,
        time_ms: i64,
    ) -> Result<()> {
        // Above the highest schema neighbouring buckets become one.
        let coarser = (point.scale - SCHEMA_MAX).max(0) as u32;
        let mut histogram = Histogram {
            reset_hint: if is_delta { ResetHint::Gauge } else { ResetHint::Unknown },
            is_whole: true,
            schema: point.scale.min(SCHEMA_MAX),
            zero_threshold: if point.zero_threshold == 0.0 { ZERO_THRESHOLD } else { point.zero_threshold },
            ..Histogram::default()
        };
        if point.flags & NO_RECORDED_VALUE != 0 {
            histogram.sum = STALE;
        } else {
            histogram.sum = point.sum.unwrap_or_default();
            histogram.count = point.count as f64;
            histogram.zero_count = point.zero_count as f64;
            histogram.positive = buckets(point.positive.as_ref(), coarser);
            histogram.negative = buckets(point.negative.as_ref(), coarser);
        }
        let why = match point.scale < SCHEMA_MIN {
            true => Some("its scale is below -4"),
            false => histogram.check().err(),
        };
        if let Some(why) = why {
            self.samples.refused.add(|| format!("an exponential histogram of {}: {why}", named.name));
            return Ok(());
        }
        let start = self.samples.start();
        self.samples.push_histogram(time_ms, &histogram)?;
        self.name_series(&named.name, named.labels(&point.attributes));
        let series = self.samples.end(start, &self.wire);
        self.exemplars(series, &point.exemplars);
        Ok(())
    }

    fn summary(&mut self, named: &Named<'_>, point: &otlp::SummaryDataPoint, time_ms: i64) -> Result<()> {
        let labels = named.labels(&point.attributes);
        let or_stale = |value: f64| if point.flags & NO_RECORDED_VALUE != 0 { STALE } else { value };
        let Named { name, .. } = named;
        self.sample(&format!("{name}_sum"), labels.clone(), time_ms, or_stale(point.sum))?;
        self.sample(&format!("{name}_count"), labels.clone(), time_ms, or_stale(point.count as f64))?;
        for quantile in &point.quantile_values {
            let labels = with(labels.clone(), "quantile", quantile.quantile.to_string());
            self.sample(name, labels, time_ms, or_stale(quantile.value))?;
        }
        Ok(())
    }

    /// What a resource says of itself, joined to its series by `job` and `instance`.
    fn target_info(&mut self, attributes: &[KeyValue], shared: Labels, time_ms: i64) -> Result<()> {
        let more: Vec<KeyValue> = attributes
            .iter()
            .filter(|attribute| !IDENTIFYING.contains(&attribute.key.as_str()))
            .cloned()
            .collect();
        if more.is_empty() || shared.is_empty() {
            return Ok(());
        }
        let name = "target_info".to_string();
        let info = MetricInfo {
            kind: MetricKind::Gauge,
            help: "Target metadata".to_string(),
            ..MetricInfo::default()
        };
        self.samples.describe(&name, info);
        let labels = Named { name: name.clone(), shared: &shared }.labels(&more);
        self.sample(&name, labels, time_ms, 1.0)?;
        Ok(())
    }

    fn sample(&mut self, name: &str, labels: Labels, time_ms: i64, value: f64) -> Result<Option<u32>> {
        let start = self.samples.start();
        self.samples.push(time_ms, value)?;
        self.name_series(name, labels);
        Ok(self.samples.end(start, &self.wire))
    }

    /// Writes the labels of a series, sorted, into `wire`.
    fn name_series(&mut self, name: &str, labels: Labels) {
        let labels = with(labels, METRIC_NAME, name.to_string());
        self.wire.clear();
        for (label, value) in &labels {
            put_label(&mut self.wire, label.as_bytes(), value.as_bytes());
        }
    }

    fn exemplars(&mut self, series: Option<u32>, exemplars: &[otlp::Exemplar]) {
        let Some(series) = series else { return };
        for exemplar in exemplars {
            let value = match exemplar.value {
                Some(otlp::exemplar::Value::AsDouble(value)) => value,
                Some(otlp::exemplar::Value::AsInt(value)) => value as f64,
                None => continue,
            };
            let mut labels = labels_of(&exemplar.filtered_attributes);
            for (name, id) in [("trace_id", &exemplar.trace_id), ("span_id", &exemplar.span_id)] {
                if !id.is_empty() {
                    let hex = id.iter().map(|byte| format!("{byte:02x}")).collect();
                    labels = with(labels, name, hex);
                }
            }
            self.wire.clear();
            for (label, value) in &labels {
                put_label(&mut self.wire, label.as_bytes(), value.as_bytes());
            }
            self.samples.exemplar(series, &self.wire, millis(exemplar.time_unix_nano), value);
        }
    }
}

impl Named<'_> {
    /// A point's attributes and its resource's labels; those of the resource win, as in Prometheus.
    fn labels(&self, attributes: &[KeyValue]) -> Labels {
        let of_point = labels_of(attributes);
        self.shared.iter().fold(of_point, |labels, (name, value)| with(labels, name, value.clone()))
    }
}

/// Of a resource: what becomes `job` and `instance`.
const IDENTIFYING: [&str; 3] = ["service.namespace", "service.name", "service.instance.id"];

fn identity(attributes: &[KeyValue]) -> Labels {
    let text = |key: &str| {
        let value = attributes.iter().find(|attribute| attribute.key == key)?.value.as_ref()?;
        Some(text_of(value)).filter(|text| !text.is_empty())
    };
    let [namespace, name, instance] = IDENTIFYING.map(text);
    let job = name.map(|name| match namespace {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name,
    });
    let labels = [("instance", instance), ("job", job)];
    labels.into_iter().filter_map(|(label, value)| Some((label.to_string(), value?))).collect()
}

/// Sorted by name. Values of attributes whose names become the same label are joined by `;`, in the order of the names.
fn labels_of(attributes: &[KeyValue]) -> Labels {
    let mut attributes: Vec<&KeyValue> = attributes.iter().collect();
    attributes.sort_by(|a, b| a.key.cmp(&b.key));
    let mut labels: Labels = Vec::with_capacity(attributes.len());
    for attribute in attributes {
        let name = names::label(&attribute.key);
        let value = attribute.value.as_ref().map(text_of).unwrap_or_default();
        match labels.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = format!("{known};{value}"),
            None => labels.push((name, value)),
        }
    }
    labels.retain(|(name, value)| !name.is_empty() && !value.is_empty());
    labels.sort();
    labels
}

/// Sets a label, and keeps them sorted.
fn with(mut labels: Labels, name: &str, value: String) -> Labels {
    match labels.binary_search_by(|(known, _)| known.as_str().cmp(name)) {
        Ok(at) => labels[at].1 = value,
        Err(at) => labels.insert(at, (name.to_string(), value)),
    }
    labels
}

/// Lists and maps as JSON has them, as all OpenTelemetry exporters write them.
fn text_of(value: &AnyValue) -> String {
    match &value.value {
        Some(Attribute::StringValue(text)) => text.clone(),
        Some(Attribute::ArrayValue(list)) => {
            let items: Vec<String> = list.values.iter().map(json_of).collect();
            format!("[{}]", items.join(","))
        }
        Some(Attribute::KvlistValue(map)) => {
            let item = |item: &KeyValue| {
                format!("{:?}:{}", item.key, item.value.as_ref().map_or("null".into(), json_of))
            };
            format!("{{{}}}", map.values.iter().map(item).collect::<Vec<_>>().join(","))
        }
        Some(Attribute::BoolValue(value)) => value.to_string(),
        Some(Attribute::IntValue(value)) => value.to_string(),
        Some(Attribute::DoubleValue(value)) => value.to_string(),
        Some(Attribute::BytesValue(bytes)) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        // A place in a table that only profiles have.
        Some(Attribute::StringValueStrindex(_)) | None => String::new(),
    }
}

fn json_of(value: &AnyValue) -> String {
    match &value.value {
        Some(Attribute::StringValue(text)) => format!("{text:?}"),
        None => "null".to_string(),
        Some(_) => text_of(value),
    }
}

/// `coarser` neighbours to the power of two become one bucket.
fn buckets(from: Option<&OtlpBuckets>, coarser: u32) -> Buckets {
    let mut buckets = Buckets::default();
    let Some(from) = from else { return buckets };
    let mut last: Option<i32> = None;
    for (at, count) in from.bucket_counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        // OTLP counts buckets by their lower bounds, Prometheus by their upper ones.
        let index = ((from.offset.saturating_add(at as i32)) >> coarser).saturating_add(1);
        match (last, buckets.spans.last_mut(), buckets.counts.last_mut()) {
            (Some(before), _, Some(known)) if before == index => *known += *count as f64,
            (Some(before), Some(span), _) if before + 1 == index => {
                span.length += 1;
                buckets.counts.push(*count as f64);
            }
            _ => {
                let offset = last.map_or(index, |before| index - before - 1);
                buckets.spans.push(Span { offset, length: 1 });
                buckets.counts.push(*count as f64);
            }
        }
        last = Some(index);
    }
    buckets
}

fn millis(nanos: u64) -> i64 {
    i64::try_from(nanos / 1_000_000).unwrap_or(i64::MAX)
}
