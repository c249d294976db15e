//! Lines of text to rows of numbers.
//!
//! Two ways for each line. The fast one: the series' text is known and the fields are those of its last line, so
//! that a line costs one hash, one compare per name and the parsing of its values. The slow one: everything is
//! looked up by name and, where new, registered.
//! Invariant: a line that is refused leaves nothing behind but, at worst, names.
//! Not here: the grammar of a line (`line_protocol`).

use std::borrow::Cow;
use std::sync::Arc;

use hashbrown::HashMap;
use storage_format::point::{FieldType, TagSet, Time};
use storage_format::wal::{PointRow, Points, StrRef};

use crate::batch::{Batch, BatchPart};
use crate::config::Limits;
use crate::ingest::Accepted;
use crate::ingest::line_protocol::{self, FieldValue, Line, LineError, Precision};
use crate::series::{Database, Layout, LookUps, Pin, Registry, Spelling, Table, is_accepted};

/// Where the lines go.
pub struct Target<'a> {
    pub registry: &'a Registry,
    pub database: &'a Arc<Database>,
    pub limits: &'a Limits,
    /// Says why nobody may write to a table of this name.
    pub refusal: &'a dyn Fn(&str) -> Option<String>,
    /// Which times of a table's points are taken.
    pub accepted: &'a dyn Fn(&Table) -> Accepted,
}

/// What became of a body.
#[derive(Default)]
pub struct Parsed {
    pub batch: Batch,
    pub errors: Vec<LineError>,
}

/// Parses a body of line protocol. Lines without a time get `server_time`.
pub fn parse_lines(body: &[u8], target: &Target<'_>, precision: Precision, server_time: Time) -> Parsed {
    let pin = target.registry.pin();
    let mut builder = Builder {
        target,
        pin: &pin,
        look_ups: target.database.spellings.look_ups(),
        parts: Vec::new(),
        last_part: 0,
        places: HashMap::new(),
    };
    let mut errors = Vec::new();
    for line in line_protocol::lines(body) {
        if let Err(error) = line.and_then(|line| builder.add(&line, precision, server_time)) {
            errors.push(*error);
        }
    }
    let parts = builder.finish();
    Parsed { batch: Batch { parts, pin: Some(pin) }, errors }
}

struct Builder<'a> {
    target: &'a Target<'a>,
    pin: &'a Pin,
    look_ups: LookUps<'a>,
    parts: Vec<Part>,
    /// Lines of one table tend to follow each other.
    last_part: usize,
    /// A table's number -> its place in `parts`.
    places: HashMap<u32, usize>,
}

struct Part {
    table: Arc<Table>,
    accepted: Accepted,
    points: Points,
    /// The layouts of `points`, in the same order.
    layouts: Vec<Arc<Layout>>,
    /// Layout number -> place in `layouts` plus one.
    by_id: Vec<u32>,
}

impl Builder<'_> {
    fn finish(self) -> Vec<BatchPart> {
        let split = |part: Part| BatchPart::split(part.table, part.points, part.accepted.from);
        self.parts.into_iter().flat_map(split).collect()
    }

    fn add(&mut self, line: &Line<'_>, precision: Precision, server_time: Time) -> line_protocol::Result<()> {
        let time = line.time_or(server_time, precision)?;
        if let Some(spelling) = self.look_ups.find(self.look_ups.key(line.series.as_bytes()), self.pin) {
            let part = self.part(&spelling.table);
            part.accept(line, time)?;
            if let Some(layout) = part.layout_by_id(spelling.last_layout.get())
                && part.push_known(line, &spelling, layout, time)?
            {
                return Ok(());
            }
            return self.add_by_name(line, Some(spelling), time);
        }
        self.add_by_name(line, None, time)
    }

    fn add_by_name(
        &mut self,
        line: &Line<'_>,
        known: Option<Arc<Spelling>>,
        time: Time,
    ) -> line_protocol::Result<()> {
        let target = self.target;
        let mut fields: Vec<(&str, Cow<'_, str>, FieldValue<'_>)> = Vec::new();
        for field in line.fields() {
            let (raw, value) = field?;
            let name = raw.unescape();
            match fields.iter_mut().find(|(_, known, _)| *known == name) {
                Some(known) => known.2 = value,
                None => fields.push((raw.raw(), name, value)),
            }
        }
        let new_series = match &known {
            Some(spelling) => (Arc::clone(&spelling.table), None),
            None => {
                let parts = line.parse_series()?;
                if let Some(why) = (target.refusal)(&parts.measurement) {
                    return Err(line.refuse(line.series, why));
                }
                let table = target.registry.table_or_new(target.database, &parts.measurement);
                let tags = TagSet::from_sorted(parts.tags.iter().map(|(key, value)| (&**key, &**value)));
                (table, Some(tags))
            }
        };
        let (table, tags) = new_series;
        self.part(&table).accept(line, time)?;
        // The layout first: a clash of types must not leave a new series behind.
        let shape: Vec<(&str, &str, FieldType)> =
            fields.iter().map(|(raw, name, value)| (*raw, &**name, value.field_type())).collect();
        let layout = table
            .layout_or_new(&shape, target.limits)
            .map_err(|error| line.refuse(line.field_set, error.to_string()))?;
        let spelling = match (known, tags) {
            (Some(spelling), _) => spelling,
            (None, tags) => {
                let tags = tags.expect("a series that is not known was parsed above");
                let series = table
                    .series_or_new(&tags, target.limits.series_per_table_max, self.pin)
                    .map_err(|error| line.refuse(line.series, error.to_string()))?;
                let key = self.look_ups.key(line.series.as_bytes());
                self.look_ups.insert(key, Arc::clone(&table), series, self.pin)
            }
        };
        spelling.last_layout.set(layout.id);
        let part = self.part(&table);
        let place = part.layout_place(&layout);
        let values = part.points.values.len() as u32;
        for ((_, _, value), expected) in fields.iter().zip(&layout.types) {
            let bits = part.bits(value, *expected);
            part.points.values.push(bits);
        }
        part.points.rows.push(PointRow { time, series: spelling.series, layout: place, values });
        Ok(())
    }

    fn part(&mut self, table: &Arc<Table>) -> &mut Part {
        let is_it = |part: &Part| part.table.id == table.id;
        if !self.parts.get(self.last_part).is_some_and(is_it) {
            self.last_part = *self.places.entry(table.id).or_insert_with(|| {
                self.parts.push(Part {
                    accepted: (self.target.accepted)(table),
                    table: Arc::clone(table),
                    points: Points::default(),
                    layouts: Vec::new(),
                    by_id: Vec::new(),
                });
                self.parts.len() - 1
            });
        }
        &mut self.parts[self.last_part]
    }
}

impl Part {
    fn accept(&self, line: &Line<'_>, time: Time) -> line_protocol::Result<()> {
        if self.accepted.takes(time) {
            return Ok(());
        }
        let why = format!("its time {}", self.accepted.refuse(time, &self.table.name));
        Err(line.refuse(line.series, why))
    }

    /// The place of a remembered layout in this part, if the number still means one.
    fn layout_by_id(&mut self, id: u32) -> Option<u32> {
        match self.by_id.get(id as usize) {
            Some(place) if *place > 0 => Some(place - 1),
            _ => {
                let layout = self.table.layout(id)?;
                Some(self.layout_place(&layout))
            }
        }
    }

    fn layout_place(&mut self, layout: &Arc<Layout>) -> u32 {
        let id = layout.id as usize;
        if let Some(place) = self.by_id.get(id).filter(|place| id > 0 && **place > 0) {
            return place - 1;
        }
        let place = self.layouts.len() as u32;
        self.layouts.push(Arc::clone(layout));
        self.points.layouts.push(layout.columns.clone());
        if id > 0 {
            self.by_id.resize(self.by_id.len().max(id + 1), 0);
            self.by_id[id] = place + 1;
        }
        place
    }

    /// Pushes a line whose fields are exactly those of the layout. False, with nothing pushed, if they are not.
    fn push_known(
        &mut self,
        line: &Line<'_>,
        spelling: &Spelling,
        place: u32,
        time: Time,
    ) -> line_protocol::Result<bool> {
        let layout = Arc::clone(&self.layouts[place as usize]);
        let (values_before, text_before) = (self.points.values.len(), self.points.text.len());
        let outcome = self.push_values(line, &layout);
        if matches!(outcome, Ok(true)) {
            let row = PointRow { time, series: spelling.series, layout: place, values: values_before as u32 };
            self.points.rows.push(row);
        } else {
            self.points.values.truncate(values_before);
            self.points.text.truncate(text_before);
        }
        outcome
    }

    fn push_values(&mut self, line: &Line<'_>, layout: &Layout) -> line_protocol::Result<bool> {
        let mut fields = line.fields();
        for (column, (name, expected)) in layout.raw_names.iter().zip(&layout.types).enumerate() {
            let Some(value) = fields.next_named(name) else { return Ok(false) };
            let value = value?;
            if !is_accepted(*expected, value.field_type()) {
                let field = &self.table.columns()[layout.columns[column] as usize].name;
                let error = self.table.type_clash(field, *expected, value.field_type());
                return Err(line.refuse(line.field_set, error.to_string()));
            }
            let bits = self.bits(&value, *expected);
            self.points.values.push(bits);
        }
        Ok(fields.is_done())
    }

    fn bits(&mut self, value: &FieldValue<'_>, expected: FieldType) -> u64 {
        match value {
            FieldValue::Float(value) => value.to_bits(),
            FieldValue::Int(value) if expected == FieldType::Float => (*value as f64).to_bits(),
            FieldValue::Int(value) => *value as u64,
            FieldValue::UInt(value) => *value,
            FieldValue::Bool(value) => u64::from(*value),
            FieldValue::Str(value) => {
                let text = value.unescape();
                let at = self.points.text.len();
                self.points.text.extend_from_slice(text.as_bytes());
                StrRef::new(at, text.len()).0
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(registry: &Registry, body: &str) -> Parsed {
        let database = registry.database_or_new("db");
        let limits = crate::config::Config::default().limits;
        let refusal = |table: &str| (table == "taken").then(|| "\"taken\" is a rollup".to_string());
        let target = Target {
            registry,
            database: &database,
            limits: &limits,
            refusal: &refusal,
            accepted: &|_| Accepted::ALL,
        };
        parse_lines(body.as_bytes(), &target, Precision::Nanos, 99)
    }

    /// `table series@time column=bits ...` per row.
    fn show(parsed: &Parsed) -> Vec<String> {
        let mut out = Vec::new();
        for part in &parsed.batch.parts {
            for row in &part.points.rows {
                let (columns, values) = part.points.row(row);
                let cells: Vec<String> =
                    columns.iter().zip(values).map(|(column, bits)| format!("{column}={bits}")).collect();
                out.push(format!("{} {}@{} {}", part.table.name, row.series, row.time, cells.join(" ")));
            }
        }
        out
    }

    #[test]
    fn known_and_new_shapes_meet_the_same_columns() {
        let registry = Registry::default();
        let parsed = parse(
            &registry,
            "a,h=1 x=1i,y=2i 1\na,h=1 x=3i,y=4i 2\na,h=1 y=5i 3\na,h=2 y=6i,x=7i,y=8i\nb z=t 1",
        );
        assert_eq!(parsed.errors, []);
        assert_eq!(
            show(&parsed),
            ["a 0@1 0=1 1=2", "a 0@2 0=3 1=4", "a 0@3 1=5", "a 1@99 1=8 0=7", "b 0@1 0=1"]
        );
        let again = parse(&registry, "a,h=2 y=9i,x=1i 5\na,h=1 y=5i 4");
        assert_eq!(show(&again), ["a 1@5 1=9 0=1", "a 0@4 1=5"]);
    }

    #[test]
    fn one_bad_line_harms_no_other() {
        let registry = Registry::default();
        let parsed =
            parse(&registry, "a x=1 1\na x=\"s\" 2\nnonsense\na x=2i 3\ntaken x=1\na n=1i,x=t 4\na n=t 5");
        let errors: Vec<String> = parsed.errors.iter().map(ToString::to_string).collect();
        assert_eq!(errors.len(), 4, "{errors:#?}");
        assert!(
            errors[0].starts_with("line 2: field \"x\" of table a is float, but this line writes string")
        );
        assert!(errors[1].starts_with("line 3: "));
        assert_eq!(errors[2], "line 5: \"taken\" is a rollup");
        assert!(errors[3].starts_with("line 6: field \"x\" of table a is float"));
        // The refused line 6 reserved nothing: n is still free.
        assert_eq!(
            show(&parsed),
            [
                format!("a 0@1 0={}", 1f64.to_bits()),
                format!("a 0@3 0={}", 2f64.to_bits()),
                "a 0@5 1=1".to_string(),
            ]
        );
    }

    #[test]
    fn strings_are_kept_and_given_back_when_a_line_falls_through() {
        let registry = Registry::default();
        let parsed = parse(&registry, "a s=\"one\",x=1 1\na s=\"two\",y=1 2\na s=\"thr\\\"ee\",x=2 3");
        let points = &parsed.batch.parts[0].points;
        let text: Vec<&[u8]> =
            points.rows.iter().map(|row| StrRef(points.row(row).1[0]).in_text(&points.text)).collect();
        assert_eq!(text, [b"one".as_slice(), b"two", b"thr\"ee"]);
        assert_eq!(points.text.len(), 12, "nothing is left of the attempt that fell through");
    }
}
