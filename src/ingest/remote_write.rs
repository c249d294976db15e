//! Prometheus remote write, 1.0 and 2.0: a message -> rows of the table `metrics`.
//!
//! The labels of a series are looked up as they stand in a 1.0 message. Those of a 2.0 message are numbers into a table of
//! symbols that is another one each time: each symbol is hashed once, a series is looked up by the hashes of its symbols, and
//! written out in the other form only if it is new.
//! Invariant: a message that is malformed stores nothing; a series or sample that is wrong harms no other one.
//! Not here: snappy and headers (`server`).

use crate::error::{Error, Result};
use crate::ingest::Target;
use crate::ingest::histograms;
use crate::ingest::protobuf::{Fields, Malformed, Packed, Value};
use crate::ingest::samples::{LABEL_KEY, Received, Samples, put_label};
use crate::series::{Key, METRIC_NAME, MetricInfo, MetricKind};

/// Which message a request carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// `prometheus.WriteRequest`
    V1,
    /// `io.prometheus.write.v2.Request`
    V2,
}

/// Reads a message. Errors are of the message as a whole.
pub fn parse(message: &[u8], version: Version, target: &Target<'_>) -> Result<Received> {
    let mut samples = Samples::new(target);
    match version {
        Version::V1 => request_v1(message, &mut samples)?,
        Version::V2 => request_v2(message, &mut samples)?,
    }
    samples.finish()
}

impl From<Malformed> for Error {
    fn from(malformed: Malformed) -> Error {
        Error::invalid(
            "bad_protobuf",
            format!("the body is not the message that its Content-Type names: {malformed}"),
        )
    }
}

fn request_v1(message: &[u8], samples: &mut Samples<'_>) -> Result<()> {
    let mut scattered = Vec::new();
    for field in Fields::of(message) {
        let field = field?;
        match field.number {
            1 => series_v1(field.value.bytes()?, samples, &mut scattered)?,
            3 => {
                let (metric, info) = metadata_v1(field.value.bytes()?)?;
                samples.describe(metric, info);
            }
            _ => {}
        }
    }
    Ok(())
}

/// `scattered` is room for labels that do not stand together.
fn series_v1(message: &[u8], samples: &mut Samples<'_>, scattered: &mut Vec<u8>) -> Result<()> {
    let start = samples.start();
    let mut wrong = None;
    let mut exemplars: Vec<&[u8]> = Vec::new();
    scattered.clear();
    let mut fields = Fields::of(message);
    let together = &message[..fields.pass_over(LABEL_KEY)?];
    for field in fields {
        let field = field?;
        match field.number {
            // Senders put labels first; the standard lets them stand anywhere.
            1 => scattered.extend_from_slice(&message[field.at]),
            2 => {
                let (time_ms, value) = sample(field.value.bytes()?)?;
                samples.push(time_ms, value)?;
            }
            3 => exemplars.push(field.value.bytes()?),
            4 => wrong = wrong.or(histogram(field.value.bytes()?, samples)?),
            _ => {}
        }
    }
    let labels = match scattered.is_empty() {
        true => together,
        false => {
            scattered.splice(0..0, together.iter().copied());
            scattered
        }
    };
    if let Some(why) = wrong {
        samples.refuse(start, labels, why);
        return Ok(());
    }
    let Some(series) = samples.end(start, labels) else { return Ok(()) };
    for message in exemplars {
        // Labels come first, as a series' do.
        let mut end = 0;
        let (mut time, mut value) = (0, 0.0);
        for field in Fields::of(message) {
            let field = field?;
            match field.number {
                1 => end = field.at.end,
                2 => value = field.value.double()?,
                3 => time = field.value.varint()? as i64,
                _ => {}
            }
        }
        samples.exemplar(series, &message[..end], time, value);
    }
    Ok(())
}

/// Takes a native histogram, or says what is wrong with it.
fn histogram(message: &[u8], samples: &mut Samples<'_>) -> Result<Option<&'static str>> {
    let (time, histogram) = histograms::read(message)?;
    if let Err(why) = histogram.check() {
        return Ok(Some(why));
    }
    samples.push_histogram(time, &histogram)?;
    Ok(None)
}

/// Time in milliseconds, and value. What is 0 may be left out.
#[inline]
fn sample(message: &[u8]) -> Result<(i64, f64), Malformed> {
    if let Some((value, time)) = Fields::double_and_varint(message) {
        return Ok((time as i64, value));
    }
    let (mut time, mut value) = (0, 0.0);
    for field in Fields::of(message) {
        let field = field?;
        match field.number {
            1 => value = field.value.double()?,
            2 => time = field.value.varint()? as i64,
            _ => {}
        }
    }
    Ok((time, value))
}

fn metadata_v1(message: &[u8]) -> Result<(&str, MetricInfo), Malformed> {
    let mut metric = "";
    let mut info = MetricInfo::default();
    for field in Fields::of(message) {
        let field = field?;
        match field.number {
            1 => info.kind = kind(field.value.varint()?),
            2 => metric = field.value.text()?,
            4 => info.help = field.value.text()?.to_string(),
            5 => info.unit = field.value.text()?.to_string(),
            _ => {}
        }
    }
    Ok((metric, info))
}

/// Kinds of a later version are unknown.
fn kind(number: u64) -> MetricKind {
    usize::try_from(number).ok().and_then(|number| MetricKind::ALL.get(number)).copied().unwrap_or_default()
}

fn request_v2(message: &[u8], samples: &mut Samples<'_>) -> Result<()> {
    let mut symbols: Vec<&[u8]> = Vec::new();
    for field in Fields::of(message) {
        let field = field?;
        if field.number == 4 {
            symbols.push(field.value.bytes()?);
        }
    }
    let mut reader = ReaderV2 {
        symbols: &symbols,
        keys: symbols.iter().map(|symbol| samples.key(symbol)).collect(),
        refs: Vec::new(),
        room: Vec::new(),
        described: vec![false; symbols.len()],
    };
    for field in Fields::of(message) {
        let field = field?;
        if field.number == 5 {
            reader.series(field.value.bytes()?, samples)?;
        }
    }
    Ok(())
}

struct ReaderV2<'a> {
    symbols: &'a [&'a [u8]],
    /// Of each symbol.
    keys: Vec<Key>,
    /// Of the series being read.
    refs: Vec<u32>,
    /// For its key.
    room: Vec<u8>,
    /// By the symbol of a metric's name: whether its metadata were seen in this message.
    described: Vec<bool>,
}

/// Places in the table of symbols; one beyond all tables stands for a number that fits none.
fn read_refs(value: Value<'_>, refs: &mut Vec<u32>) -> Result<(), Malformed> {
    Packed::varints(value, |number| refs.push(u32::try_from(number).unwrap_or(u32::MAX)))
}

impl ReaderV2<'_> {
    fn series(&mut self, message: &[u8], samples: &mut Samples<'_>) -> Result<()> {
        let start = samples.start();
        let mut metadata = None;
        let (mut floats, mut histograms) = (0, 0);
        let mut wrong = None;
        let mut exemplars: Vec<&[u8]> = Vec::new();
        self.refs.clear();
        for field in Fields::of(message) {
            let field = field?;
            match field.number {
                1 => read_refs(field.value, &mut self.refs)?,
                2 => {
                    let (time_ms, value) = sample(field.value.bytes()?)?;
                    samples.push(time_ms, value)?;
                    floats += 1;
                }
                3 => {
                    wrong = wrong.or(histogram(field.value.bytes()?, samples)?);
                    histograms += 1;
                }
                4 => exemplars.push(field.value.bytes()?),
                5 => metadata = Some(field.value.bytes()?),
                _ => {}
            }
        }
        if let Err(why) = self.check_refs() {
            samples.refuse(start, &self.labels(), &why);
            return Ok(());
        }
        let why = match (floats, histograms) {
            (0, 0) => Some("it has neither samples nor histograms".to_string()),
            (1.., 1..) => Some(
                "it has samples and histograms; a series of one request has one or the other".to_string(),
            ),
            _ => wrong.map(str::to_string),
        };
        let why = why.or_else(|| self.describe(metadata?, samples).err());
        if let Some(why) = why {
            samples.refuse(start, &self.labels(), &why);
            return Ok(());
        }
        let words = self.refs.iter().map(|number| self.keys[*number as usize]);
        let key = samples.key_of_words(words, &mut self.room);
        let Some(series) = samples.end_by(start, key, || self.labels()) else { return Ok(()) };
        for message in exemplars {
            self.refs.clear();
            let (mut time, mut value) = (0, 0.0);
            for field in Fields::of(message) {
                let field = field?;
                match field.number {
                    1 => read_refs(field.value, &mut self.refs)?,
                    2 => value = field.value.double()?,
                    3 => time = field.value.varint()? as i64,
                    _ => {}
                }
            }
            if self.check_refs().is_ok() {
                samples.exemplar(series, &self.labels(), time, value);
            }
        }
        Ok(())
    }

    fn symbol(&self, number: u32) -> std::result::Result<&[u8], String> {
        self.symbols.get(number as usize).copied().ok_or_else(|| {
            format!("it refers to the symbol {number}, and there are {}, counted from 0", self.symbols.len())
        })
    }

    fn check_refs(&self) -> std::result::Result<(), String> {
        self.refs.iter().try_for_each(|number| self.symbol(*number).map(drop))?;
        if self.refs.len() % 2 == 1 {
            return Err(format!(
                "it has {} references to symbols; labels are pairs of them, a name's and a value's",
                self.refs.len()
            ));
        }
        Ok(())
    }

    /// The labels in the form of a 1.0 message. Of references that are wrong those before.
    fn labels(&self) -> Vec<u8> {
        let mut labels = Vec::new();
        for pair in self.refs.chunks_exact(2) {
            let (Ok(name), Ok(value)) = (self.symbol(pair[0]), self.symbol(pair[1])) else { break };
            put_label(&mut labels, name, value);
        }
        labels
    }

    /// What the series says of its metric, once per message.
    fn describe(&mut self, message: &[u8], samples: &mut Samples<'_>) -> std::result::Result<(), String> {
        let is_name = |pair: &&[u32]| self.symbols.get(pair[0] as usize) == Some(&METRIC_NAME.as_bytes());
        let Some(name) = self.refs.chunks_exact(2).find(is_name).map(|pair| pair[1]) else { return Ok(()) };
        if std::mem::replace(&mut self.described[name as usize], true) {
            return Ok(());
        }
        let mut info = MetricInfo::default();
        for field in Fields::of(message) {
            let field = field.map_err(|malformed| malformed.to_string())?;
            let number = field.value.varint().map_err(|malformed| malformed.to_string())?;
            match field.number {
                1 => info.kind = kind(number),
                3 => info.help = self.text(number)?,
                4 => info.unit = self.text(number)?,
                _ => {}
            }
        }
        samples.describe(family(&self.text(u64::from(name))?, info.kind), info);
        Ok(())
    }

    fn text(&self, symbol: u64) -> std::result::Result<String, String> {
        let bytes = self.symbol(u32::try_from(symbol).unwrap_or(u32::MAX))?;
        String::from_utf8(bytes.to_vec()).map_err(|_| format!("the symbol {symbol} is not UTF-8"))
    }
}

/// The metric that a series is a part of: 1.0 and the API name metadata so.
fn family(metric: &str, kind: MetricKind) -> &str {
    let suffixes: &[&str] = match kind {
        MetricKind::Histogram | MetricKind::GaugeHistogram => &["_bucket", "_count", "_sum"],
        MetricKind::Summary => &["_count", "_sum"],
        _ => &[],
    };
    suffixes.iter().find_map(|suffix| metric.strip_suffix(suffix)).unwrap_or(metric)
}
