//! The words of every other module: times and ranges, field types, values, tag sets.
//!
//! Invariant: a [`TagSet`] is sorted by key, has no key twice and no empty key or value. Its order
//! ([`Ord`]) is the row order of blocks: column by column over the tag names in alphabetical order,
//! where a missing tag comes before every value, whatever other tags exist. Only metrics have another
//! one ([`SeriesOrder`]).

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use crate::corrupt::Result;
use crate::varint;

/// Nanoseconds since 1970 UTC. Plain, because columns of them are slices that kernels run over.
pub type Time = i64;

pub const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// The earliest and the latest time a point may have: InfluxDB's limits. The ends of `i64` itself stay
/// free, so that every point lies inside a half-open range.
pub const TIME_MIN: Time = i64::MIN + 2;
pub const TIME_MAX: Time = i64::MAX - 1;

/// `[start, end)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimeRange {
    pub start: Time,
    pub end: Time,
}

impl TimeRange {
    pub const ALL: TimeRange = TimeRange { start: i64::MIN, end: i64::MAX };

    pub fn new(start: Time, end: Time) -> TimeRange {
        TimeRange { start, end }
    }

    pub fn is_empty(self) -> bool {
        self.start >= self.end
    }

    pub fn contains(self, time: Time) -> bool {
        self.start <= time && time < self.end
    }

    pub fn covers(self, other: TimeRange) -> bool {
        other.is_empty() || (self.start <= other.start && other.end <= self.end)
    }

    pub fn intersect(self, other: TimeRange) -> TimeRange {
        TimeRange { start: self.start.max(other.start), end: self.end.min(other.end) }
    }

    /// The smallest range that covers both.
    pub fn hull(self, other: TimeRange) -> TimeRange {
        TimeRange::new(self.start.min(other.start), self.end.max(other.end))
    }

    pub fn overlaps(self, other: TimeRange) -> bool {
        !self.intersect(other).is_empty()
    }
}

/// The start of the slot of `width` that holds `time`, slots being counted from `origin`. Rounds down,
/// also before 1970; at the very ends of time it saturates.
pub fn floor_time(time: Time, width: i64, origin: Time) -> Time {
    saturate(slot_start(time, width, origin))
}

/// The first slot start at or after `time`.
pub fn ceil_time(time: Time, width: i64, origin: Time) -> Time {
    let start = slot_start(time, width, origin);
    saturate(if start == i128::from(time) { start } else { start + i128::from(width) })
}

fn slot_start(time: Time, width: i64, origin: Time) -> i128 {
    debug_assert!(width > 0, "bug: a slot needs a width");
    // Nearly every time is far from the ends, where 64 bits do.
    if let Some(offset) = time.checked_sub(origin)
        && let Some(start) = (offset.div_euclid(width)).checked_mul(width)
        && let Some(start) = start.checked_add(origin)
    {
        return i128::from(start);
    }
    let offset = i128::from(time) - i128::from(origin);
    offset.div_euclid(i128::from(width)) * i128::from(width) + i128::from(origin)
}

fn saturate(time: i128) -> Time {
    time.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as Time
}

/// What the values of a field are. The first write of a field decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum FieldType {
    Float = 1,
    Int = 2,
    UInt = 3,
    Bool = 4,
    Str = 5,
    /// Native histograms, in the bytes of [`histogram`](crate::histogram).
    Binary = 6,
}

impl FieldType {
    pub const ALL: [FieldType; 6] = [
        FieldType::Float,
        FieldType::Int,
        FieldType::UInt,
        FieldType::Bool,
        FieldType::Str,
        FieldType::Binary,
    ];

    pub fn from_byte(byte: u8) -> Option<FieldType> {
        FieldType::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }

    /// The word users see.
    pub fn name(self) -> &'static str {
        match self {
            FieldType::Float => "float",
            FieldType::Int => "integer",
            FieldType::UInt => "unsigned",
            FieldType::Bool => "boolean",
            FieldType::Str => "string",
            FieldType::Binary => "binary",
        }
    }

    pub fn from_name(name: &str) -> Option<FieldType> {
        FieldType::ALL.into_iter().find(|kind| kind.name() == name)
    }

    pub fn is_number(self) -> bool {
        matches!(self, FieldType::Float | FieldType::Int | FieldType::UInt)
    }
}

impl fmt::Display for FieldType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One field's value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Float(f64),
    Int(i64),
    UInt(u64),
    Bool(bool),
    Str(String),
    Binary(Vec<u8>),
}

impl Value {
    pub fn field_type(&self) -> FieldType {
        match self {
            Value::Float(_) => FieldType::Float,
            Value::Int(_) => FieldType::Int,
            Value::UInt(_) => FieldType::UInt,
            Value::Bool(_) => FieldType::Bool,
            Value::Str(_) => FieldType::Str,
            Value::Binary(_) => FieldType::Binary,
        }
    }
}

/// A series' or a group's tags, in one allocation: `key NUL value NUL key NUL value NUL ...`.
/// NUL cannot occur inside, since line protocol refuses it, so equal bytes mean equal tags. Copies share the allocation:
/// whoever has a million series keeps their text once.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct TagSet {
    text: Arc<str>,
}

impl TagSet {
    /// Sorts the pairs. Pairs with an empty value are dropped: a missing tag and an empty one are the
    /// same, as in Prometheus. The caller has refused NUL and duplicate keys.
    pub fn new<K: AsRef<str>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (K, V)>) -> TagSet {
        let mut pairs: Vec<(K, V)> =
            pairs.into_iter().filter(|(_, value)| !value.as_ref().is_empty()).collect();
        pairs.sort_by(|a, b| a.0.as_ref().cmp(b.0.as_ref()));
        TagSet::from_sorted(pairs.iter().map(|(key, value)| (key.as_ref(), value.as_ref())))
    }

    /// From pairs already sorted by key, without duplicates or empty values.
    pub fn from_sorted<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> TagSet {
        let mut text = TagText { text: String::with_capacity(256) };
        let mut previous: Option<&str> = None;
        for (key, value) in pairs {
            debug_assert!(previous < Some(key), "bug: tags must be sorted and distinct");
            debug_assert!(!key.is_empty() && !value.is_empty(), "bug: empty tag");
            previous = Some(key);
            text.push(key, value);
        }
        text.to_tags()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut rest: &str = &self.text;
        let mut part = move || {
            let (part, after) = rest.split_once('\0')?;
            rest = after;
            Some(part)
        };
        std::iter::from_fn(move || Some((part()?, part()?)))
    }

    pub fn get(&self, key: &str) -> Option<&str> {
        self.iter().find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Bytes whose equality is the tags' equality; good for hashing.
    pub fn as_bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }

    /// Only the tags named in `keys`, which are sorted.
    pub fn project(&self, keys: &[String]) -> TagSet {
        let mut text = TagText::default();
        text.project(self, keys);
        text.to_tags()
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        varint::put_bytes(out, self.text.as_bytes());
    }

    pub fn decode(rest: &mut &[u8]) -> Result<TagSet> {
        use crate::corrupt::Corrupt;
        let bytes = varint::take_bytes(rest)?;
        let text = std::str::from_utf8(bytes).map_err(|_| Corrupt::new("tags are not UTF-8"))?;
        if !text.is_empty() && !text.ends_with('\0') {
            return Err(Corrupt::new("tags do not end"));
        }
        let parts: Vec<&str> = text.split_terminator('\0').collect();
        let sorted = parts.chunks(2).map(|pair| pair.first()).is_sorted_by(|a, b| a < b);
        if !parts.len().is_multiple_of(2) || !sorted || parts.contains(&"") {
            return Err(Corrupt::new("tags are not sorted pairs"));
        }
        Ok(TagSet { text: text.into() })
    }
}

/// Room to write tags into before it is known whether anybody keeps them. Equal to, and hashed like, the tags that it would
/// become.
#[derive(Default, PartialEq, Eq, Hash)]
pub struct TagText {
    text: String,
}

impl TagText {
    /// Holds of `tags` those named in `keys`, which are sorted, and nothing else.
    pub fn project(&mut self, tags: &TagSet, keys: &[String]) {
        self.text.clear();
        let mut keys = keys.iter().map(String::as_str).peekable();
        let mut tags = tags.iter();
        while keys.peek().is_some()
            && let Some((key, value)) = tags.next()
        {
            while keys.next_if(|wanted| *wanted < key).is_some() {}
            if keys.peek() == Some(&key) {
                self.push(key, value);
            }
        }
    }

    pub fn is(&self, tags: &TagSet) -> bool {
        *self.text == *tags.text
    }

    pub fn to_tags(&self) -> TagSet {
        TagSet { text: self.text.as_str().into() }
    }

    fn push(&mut self, key: &str, value: &str) {
        for text in [key, value] {
            self.text.push_str(text);
            self.text.push('\0');
        }
    }
}

/// Column by column, a tag that is missing before every value of it: of two sets the one that lacks the smaller key where
/// they part comes first. Told from the first byte that differs, since sorting series compares them by the million.
impl Ord for TagSet {
    fn cmp(&self, other: &TagSet) -> Ordering {
        if Arc::ptr_eq(&self.text, &other.text) {
            return Ordering::Equal;
        }
        let (mine, theirs) = (self.text.as_bytes(), other.text.as_bytes());
        let common = common_prefix(mine, theirs);
        match (mine.get(common), theirs.get(common)) {
            (None, None) => Ordering::Equal,
            (None, Some(_)) => Ordering::Less,
            (Some(_), None) => Ordering::Greater,
            (Some(a), Some(b)) => {
                let ends = mine.iter().take(common).filter(|byte| **byte == 0).count();
                // Behind an even number of ends stands a key. The smaller one is a column that the other side lacks.
                if ends % 2 == 0 { b.cmp(a) } else { a.cmp(b) }
            }
        }
    }
}

/// The label that is the name of a metric.
pub const METRIC_NAME: &str = "__name__";

/// Which of two series comes first where the rows of a table stand in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SeriesOrder {
    /// As [`TagSet`]s are ordered.
    #[default]
    Tags,
    /// By [`METRIC_NAME`] before all other tags, so that the series of a metric follow one another: labels such as `Host`
    /// would come before it.
    Name,
}

impl SeriesOrder {
    pub fn cmp(self, a: &TagSet, b: &TagSet) -> Ordering {
        let by_first = self.first().map_or(Ordering::Equal, |tag| a.get(tag).cmp(&b.get(tag)));
        by_first.then_with(|| a.cmp(b))
    }

    /// The tag that comes before all others, which follow in alphabetical order.
    pub fn first(self) -> Option<&'static str> {
        match self {
            SeriesOrder::Tags => None,
            SeriesOrder::Name => Some(METRIC_NAME),
        }
    }
}

/// How many leading bytes are equal.
fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    const AT_ONCE: usize = 16;
    let (a_blocks, b_blocks) = (a.as_chunks::<AT_ONCE>().0, b.as_chunks::<AT_ONCE>().0);
    let equal = a_blocks.iter().zip(b_blocks).take_while(|(a, b)| a == b).count() * AT_ONCE;
    equal + a.iter().zip(b).skip(equal).take_while(|(a, b)| a == b).count()
}

impl PartialOrd for TagSet {
    fn partial_cmp(&self, other: &TagSet) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// `host=a,region=eu`, for people.
impl fmt::Display for TagSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (key, value)) in self.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{key}={value}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for TagSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{self}}}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_tags_sort_first_column_by_column() {
        let order = [
            TagSet::default(),
            TagSet::new([("b", "1")]),
            TagSet::new([("a", "1")]),
            TagSet::new([("a", "1"), ("b", "0")]),
            TagSet::new([("a", "1"), ("b", "1")]),
            TagSet::new([("a", "2")]),
        ];
        assert!(order.is_sorted());
    }

    #[test]
    fn metrics_sort_by_name_before_all_other_tags() {
        let metric =
            |name: &str, host: &str| TagSet::new([("Host", host), (METRIC_NAME, name), ("job", "x")]);
        let ordered = [
            TagSet::new([("Host", "z")]),
            TagSet::new([(METRIC_NAME, "a")]),
            metric("a", "m"),
            metric("a", "n"),
            metric("b", "a"),
        ];
        assert!(ordered.is_sorted_by(|a, b| SeriesOrder::Name.cmp(a, b) == Ordering::Less));
        assert!(!ordered.is_sorted(), "the order of all other tables is another one");
        assert!(ordered.iter().all(|tags| SeriesOrder::Name.cmp(tags, tags) == Ordering::Equal));
    }

    proptest::proptest! {
        /// Against comparing tag by tag.
        #[test]
        fn the_first_byte_that_differs_tells_the_order(
            a in proptest::collection::btree_map("[ab]{1,3}", "[a-cé]{1,18}", 0..4),
            b in proptest::collection::btree_map("[ab]{1,3}", "[a-cé]{1,18}", 0..4),
        ) {
            let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            let columns = |tags: &std::collections::BTreeMap<String, String>| {
                keys.iter().map(|key| tags.get(*key).cloned()).collect::<Vec<Option<String>>>()
            };
            proptest::prop_assert_eq!(TagSet::new(&a).cmp(&TagSet::new(&b)), columns(&a).cmp(&columns(&b)));
            proptest::prop_assert!(TagSet::new(&a).iter().eq(a.iter().map(|(key, value)| (key.as_str(), value.as_str()))));
        }
    }

    #[test]
    fn tags_round_trip_and_damage_is_refused() {
        let tags = TagSet::new([("region", "eu"), ("host", "a b"), ("gone", "")]);
        assert_eq!(tags.to_string(), "host=a b,region=eu");
        let mut bytes = Vec::new();
        tags.encode(&mut bytes);
        assert_eq!(TagSet::decode(&mut bytes.as_slice()), Ok(tags));
        for bad in ["a", "a\0", "b\x001\0a\x001\0", "a\0\0"] {
            let mut bytes = Vec::new();
            varint::put_bytes(&mut bytes, bad.as_bytes());
            assert!(TagSet::decode(&mut bytes.as_slice()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn times_floor_before_1970_and_at_the_ends() {
        assert_eq!(floor_time(-1, 10, 0), -10);
        assert_eq!(floor_time(-11, 10, 0), -20);
        assert_eq!(floor_time(1, 10, 2), -8);
        assert_eq!(ceil_time(11, 10, 0), 20);
        assert_eq!(ceil_time(20, 10, 0), 20);
        assert_eq!(floor_time(TIME_MIN, 3_600 * NANOS_PER_SECOND, 0), i64::MIN);
        assert_eq!(ceil_time(TIME_MAX, 3_600 * NANOS_PER_SECOND, 0), i64::MAX);
    }
}
