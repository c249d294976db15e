//! What is known of metrics: kind, help and unit, as senders say them again and again.
//!
//! The truth is the table `metrics_metadata`; this remembers what was written there, so that saying the same again costs
//! a look-up and no row.
//! Invariant: what is remembered is durable.

use hashbrown::HashMap;
use parking_lot::RwLock;

/// Metrics whose metadata are remembered per database. Those above it are written each time that they are sent.
const REMEMBERED_MAX: usize = 100_000;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MetricKind {
    #[default]
    Unknown,
    Counter,
    Gauge,
    Histogram,
    GaugeHistogram,
    Summary,
    Info,
    StateSet,
}

impl MetricKind {
    /// In the order of remote write's numbers for them.
    pub const ALL: [MetricKind; 8] = [
        MetricKind::Unknown,
        MetricKind::Counter,
        MetricKind::Gauge,
        MetricKind::Histogram,
        MetricKind::GaugeHistogram,
        MetricKind::Summary,
        MetricKind::Info,
        MetricKind::StateSet,
    ];

    /// The word of Prometheus' API.
    pub fn name(self) -> &'static str {
        match self {
            MetricKind::Unknown => "unknown",
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
            MetricKind::GaugeHistogram => "gaugehistogram",
            MetricKind::Summary => "summary",
            MetricKind::Info => "info",
            MetricKind::StateSet => "stateset",
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct MetricInfo {
    pub kind: MetricKind,
    pub help: String,
    pub unit: String,
}

#[derive(Default)]
pub struct Metadata {
    known: RwLock<HashMap<String, MetricInfo>>,
}

impl Metadata {
    pub fn knows(&self, metric: &str, info: &MetricInfo) -> bool {
        self.known.read().get(metric) == Some(info)
    }

    /// Of what is durable now.
    pub fn remember(&self, written: Vec<(String, MetricInfo)>) {
        let mut known = self.known.write();
        for (metric, info) in written {
            if known.len() < REMEMBERED_MAX || known.contains_key(&metric) {
                known.insert(metric, info);
            }
        }
    }
}
