//! Running WQL: parse, plan against the catalog, do it, answer.
//!
//! Invariant: a script's statements run in order, each against what the ones before left; the first error ends it. The
//! answer is the last statement's.
//! Not here: the language (`query_lang`), formats of answers (`server`).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use query_lang::ast::{Let, Range, StatementKind, TimeLiteral};
use query_lang::catalog::{Catalog, FieldInfo};
use query_lang::live::Unranged;
use query_lang::plan::{
    Aggregate, Alter, AlterTarget, Late, Plan, Read, Select, Shape, Show, Step, TagFilter,
};
use query_lang::scalar::ColumnRole;
use query_lang::{Context, Params, explain, parse, parse_with, plan};
use storage_format::point::{FieldType, TagSet, TimeRange, floor_time};
use storage_format::ranges::RangeSet;

use crate::db::catalog::{DatabaseCatalog, Remembered};
use crate::db::inventory::{cardinality, keep_asked};
use crate::db::pipeline::Change;
use crate::db::retention::Keeper;
use crate::db::tail::Tail;
use crate::db::{Db, Live, describe};
use crate::error::{Error, Kind, Result};
use crate::guard::Guard;
use crate::query::{
    Answer, Frame, Points, PointsAsked, Program, StatePlan, Stats, Stream, finish, join, row_steps,
    text_table,
};
use crate::rollup::Access;
use crate::scan::{Captured, Extent, Scan, Tombstone, Touched};
use crate::series::{CompiledFilter, METRICS_TABLE, Table};

/// How a request wants its statements run.
#[derive(Clone, Debug)]
pub struct QueryOptions {
    pub database: String,
    /// For statements without a range.
    pub range: Option<TimeRange>,
    /// Whether rollups may answer.
    pub rollups: bool,
    /// Whether statements may change anything.
    pub read_only: bool,
    /// Whether the last statement is explained in place of being run.
    pub explain: bool,
    /// Whether points are wanted as they are stored: stale markers are points, native histograms a field.
    pub as_stored: bool,
    /// Values for `$name`.
    pub params: Params,
}

impl QueryOptions {
    /// Rollups may answer and everything may be changed; nothing else is given.
    pub fn of(database: &str) -> QueryOptions {
        let database = database.to_string();
        QueryOptions {
            database,
            range: None,
            rollups: true,
            read_only: false,
            explain: false,
            as_stored: false,
            params: Params::new(),
        }
    }
}

impl Db {
    /// All of the answer, with plain texts.
    pub fn query(&self, text: &str, options: &QueryOptions, guard: &Guard) -> Result<Answer> {
        let mut answer = self.stream(text, options, guard)?.whole(guard)?;
        answer.stats.elapsed = guard.elapsed();
        Ok(answer)
    }

    /// The answer as it is read. Statements that change things have done it when this returns.
    pub fn stream(&self, text: &str, options: &QueryOptions, guard: &Guard) -> Result<Stream> {
        self.core.asked.fetch_add(1, Ordering::Relaxed);
        let script = parse_with(text, &options.params)?;
        let mut answer = None;
        let mut lets: Vec<Let> = Vec::new();
        for (at, statement) in script.statements.iter().enumerate() {
            guard.check()?;
            let explained = options.explain && at + 1 == script.statements.len();
            if options.explain && !explained && !matches!(statement.kind, StatementKind::Let(_)) {
                let message = "explain takes one statement at a time, with the `let`s before it";
                return Err(Error::invalid("bad_parameter", message));
            }
            let changes_data = statement.changes_data() && !explained;
            if options.read_only && changes_data {
                return Err(Error::invalid(
                    "read_only",
                    "this request may not change anything, being a GET or read_only=on; send the statement with POST and without it",
                ));
            }
            if changes_data {
                self.core.check_writable()?;
            }
            let mut catalog = self.catalog(&options.database);
            if options.as_stored {
                catalog = catalog.with_binary();
            }
            let now = self.core.clock.now();
            let context = Context { now, range: options.range, rollups: options.rollups, lets: &lets };
            let planned = plan(statement, &catalog, &context)?;
            if let StatementKind::Let(named) = &statement.kind {
                lets.push(named.clone());
            }
            let planned = match planned {
                Plan::Explain(inner) => Plan::Explain(inner),
                planned if explained => Plan::Explain(Box::new(planned)),
                planned => planned,
            };
            tracing::debug!(statement = describe(statement), "query");
            answer = Some(self.run(planned, &statement.kind, options, guard)?);
        }
        Ok(answer.unwrap_or_else(|| Stream::of_answer(text_table(&[], &[]))))
    }

    /// Plans a statement that goes on as of now, over a range.
    pub fn plan_live(&self, live: &Unranged, range: TimeRange, options: &QueryOptions) -> Result<Select> {
        let catalog = self.catalog(&options.database);
        let now = self.core.clock.now();
        let context = Context { now, range: Some(range), rollups: options.rollups, lets: &live.lets };
        match plan(&live.statement, &catalog, &context)? {
            Plan::Select(select) => Ok(select),
            other => unreachable!("bug: a live statement is a query, and this is {other:?}"),
        }
    }

    pub fn guard(&self) -> Guard {
        Guard::query(&self.core.clock, &self.core.config.limits, &self.core.pool)
    }

    pub(super) fn catalog(&self, database: &str) -> DatabaseCatalog {
        let live = self.core.live.read();
        DatabaseCatalog::new(&self.core.registry, &live.rollups, &live.blocks, database)
    }

    fn run(&self, plan: Plan, kind: &StatementKind, options: &QueryOptions, guard: &Guard) -> Result<Stream> {
        let answer = match plan {
            Plan::Select(select) => {
                if options.as_stored {
                    check_stored(&select)?;
                }
                return self.stream_of(&select, options, guard);
            }
            Plan::Let { name } => Ok(text_table(&["let"], &[vec![name]])),
            Plan::Show(show) => self.show(&show, options, guard),
            Plan::Explain(inner) => Ok(self.explain(&inner, options)),
            Plan::CreateRollup(create) => self.create_rollup(create, &options.database),
            Plan::Alter(alter) => self.alter(&alter, &options.database),
            Plan::ChangeRollup(change) => self.change_rollup(change, &options.database, guard),
            Plan::DropRollup { name } => self.drop_rollup(&name, &options.database),
            Plan::Delete(delete) => {
                if let Some(table) = self.core.registry.table(&options.database, &delete.table)
                    && let Some(refusal) = self.core.live.read().delete_refusal(&table, delete.range)
                {
                    return Err(refusal);
                }
                let statement = delete_text(kind, &delete.table, delete.range);
                let tombstone = Tombstone {
                    seq: 0,
                    database: options.database.as_str().into(),
                    table: delete.table.as_str().into(),
                    filter: CompiledFilter::new(&delete.filter)?,
                    range: delete.range,
                    statement,
                };
                self.submit_now(Change::Delete(tombstone))?;
                Ok(text_table(&["deleted"], &[vec![format!("from {}", delete.table)]]))
            }
        };
        answer.map(Stream::of_answer)
    }

    fn table(&self, database: &str, name: &str) -> Result<Arc<Table>> {
        self.core.registry.table(database, name).ok_or_else(|| {
            Error::rejected(Kind::NotFound, "unknown_table", format!("there is no table {name}"))
        })
    }

    /// All of the answer to a planned query, with plain texts.
    pub fn select(&self, select: &Select, options: &QueryOptions, guard: &Guard) -> Result<Answer> {
        self.stream_of(select, options, guard)?.whole(guard)
    }

    fn stream_of(&self, select: &Select, options: &QueryOptions, guard: &Guard) -> Result<Stream> {
        if let Shape::Points { fields } = &select.read.shape
            && let Some(steps) = row_steps(&select.steps)?
        {
            let points = self.points(&select.read, fields, options, guard)?;
            return Stream::of_points(points, steps, guard);
        }
        let mut stats = Stats::default();
        let frame = self.frame(select, options, guard, &mut stats)?;
        if !stats.rollups.is_empty() {
            metrics::counter!(crate::metrics::QUERIES_FROM_ROLLUPS).increment(1);
        }
        Ok(Stream::of_answer(Answer { stats, ..Answer::of_frame(frame) }))
    }

    fn frame(
        &self,
        select: &Select,
        options: &QueryOptions,
        guard: &Guard,
        stats: &mut Stats,
    ) -> Result<Frame> {
        let mut frame = self.read_enough(select, options, guard, stats)?;
        for step in &select.steps {
            frame = match step {
                Step::Join(asked) => {
                    let right = self.frame(&asked.right, options, guard, stats)?;
                    join(frame, right, asked, guard)?
                }
                step => frame.step(step, guard)?,
            };
        }
        Ok(frame)
    }

    fn points(
        &self,
        read: &Read,
        fields: &[FieldInfo],
        options: &QueryOptions,
        guard: &Guard,
    ) -> Result<Points> {
        let table = self.table(&options.database, &read.table)?;
        let filter = CompiledFilter::new(&read.filter)?;
        let names: Vec<String> = fields.iter().map(|field| field.name.clone()).collect();
        let columns = crate::rollup::columns_of(&table, &names);
        let condition = read.condition.as_ref().map(Program::new).transpose()?;
        let captured = {
            let live = self.core.live.read();
            let range = self.visible_part(&live, &table, read.range);
            let view = live.view_for(guard);
            match options.as_stored {
                true => Captured::samples(&view, &table, &filter, range, &columns)?,
                false => Captured::points(&view, &table, &filter, range, &columns, Extent::All)?,
            }
        };
        let scan = captured.open_within(guard)?;
        // All metrics together have many more labels than one of them.
        let tags = match *table.name == *METRICS_TABLE {
            true => scan.tag_names(),
            false => table.tags(),
        };
        let asked = PointsAsked {
            fields: fields.to_vec(),
            tags,
            condition,
            newest_first: read.newest_first,
            limit: read.limit,
        };
        Ok(Points::new(scan, asked, guard))
    }

    /// What the steps need of the read.
    fn read_enough(
        &self,
        select: &Select,
        options: &QueryOptions,
        guard: &Guard,
        stats: &mut Stats,
    ) -> Result<Frame> {
        let Select { read, steps } = select;
        let table = self.table(&options.database, &read.table)?;
        let tail = Tail::of(read, steps, &self.core.live.read(), &table);
        let Some(tail) = tail else { return self.read(read, options, guard, stats) };
        let (rows, before) = (tail.rows, guard.memory());
        for range in tail.take_while(|range| *range != read.range) {
            let newer = Read { range, ..read.clone() };
            let frame = self.read(&newer, options, guard, stats)?;
            if frame.rows >= rows {
                return Ok(frame);
            }
            drop(frame);
            guard.release(guard.memory().saturating_sub(before));
        }
        self.read(read, options, guard, stats)
    }

    fn read(&self, read: &Read, options: &QueryOptions, guard: &Guard, stats: &mut Stats) -> Result<Frame> {
        let table = self.table(&options.database, &read.table)?;
        let touched = Touched::default();
        let frame = match &read.shape {
            Shape::Points { fields } => {
                let mut points = self.points(read, fields, options, guard)?;
                let frame = points.all(guard)?;
                points.count(stats);
                frame
            }
            Shape::Aggregate(aggregate) => {
                let range = read_range(read.range, aggregate);
                let mut states = StatePlan::of_read(read, aggregate, range.start)?;
                let range = states.look_back(range, aggregate);
                let access = {
                    let live = self.core.live.read();
                    let visible = live.visible(&self.core, &table);
                    Access::capture(
                        &live.view_for(guard),
                        &live.rollups,
                        &table,
                        range.into(),
                        &read.filter,
                        aggregate,
                        states,
                        None,
                        visible,
                    )?
                };
                let (groups, uses) = access.answer(guard, &touched)?;
                stats.rollups.extend(uses);
                stats.rejected.extend(aggregate.rejected.iter().cloned());
                let now = self.core.clock.now();
                let covered = TimeRange::new(read.range.start, read.range.end.min(now.max(read.range.start)));
                finish(groups.windowed(aggregate, read.range, guard)?, aggregate, covered, read.limit, guard)?
            }
        };
        stats.count_scan(&touched);
        Ok(frame)
    }

    /// The plan's text, and below it how much of each rollup is clean right now.
    fn explain(&self, plan: &Plan, options: &QueryOptions) -> Answer {
        let mut lines: Vec<String> = explain(plan).lines().map(str::to_string).collect();
        if let Plan::Select(Select { read: Read { shape: Shape::Aggregate(aggregate), range, .. }, .. }) =
            plan
        {
            let live = self.core.live.read();
            for choice in &aggregate.rollups {
                if let Some(rollup) = live.rollups.get(&options.database, &choice.name) {
                    let (computed, dirty) = rollup.coverage(*range);
                    lines.push(format!(
                        "{}: {computed} buckets computed in the range, {dirty} of them dirty",
                        choice.name
                    ));
                }
            }
        }
        let rows: Vec<Vec<String>> = lines.into_iter().map(|line| vec![line]).collect();
        text_table(&["plan"], &rows)
    }

    fn show(&self, show: &Show, options: &QueryOptions, guard: &Guard) -> Result<Answer> {
        let database = options.database.as_str();
        let one = |name: &str, values: Vec<String>| {
            text_table(&[name], &values.into_iter().map(|value| vec![value]).collect::<Vec<_>>())
        };
        Ok(match show {
            Show::Tables => self.core.show_tables(database, |table| {
                let scan = self.scan_of_series(table, &CompiledFilter::All, options, guard)?;
                Ok(scan.series_tags().count())
            })?,
            Show::Metrics => one("metric", self.catalog(database).metrics()),
            Show::Tags { table, filter: TagFilter::All } => one("tag", self.table(database, table)?.tags()),
            Show::Tags { table, filter } => {
                let filter = CompiledFilter::new(filter)?;
                let scan = self.scan_of_series(&self.table(database, table)?, &filter, options, guard)?;
                one("tag", scan.tag_names())
            }
            Show::Fields { table } => {
                let columns = self.table(database, table)?.columns();
                let mut rows: Vec<Vec<String>> = columns
                    .iter()
                    .map(|column| vec![column.name.to_string(), column.field_type.to_string()])
                    .collect();
                rows.sort();
                text_table(&["field", "type"], &rows)
            }
            Show::Values { tag, table, filter } => {
                let filter = CompiledFilter::new(filter)?;
                let series = self.series(&self.table(database, table)?, &filter, options, guard)?;
                let mut values: Vec<String> =
                    series.iter().filter_map(|tags| tags.get(tag).map(str::to_string)).collect();
                values.sort();
                values.dedup();
                one("value", values)
            }
            Show::Series { table, filter } => {
                let table = self.table(database, table)?;
                let filter = CompiledFilter::new(filter)?;
                let series = self.series(&table, &filter, options, guard)?;
                one("series", series.iter().map(ToString::to_string).collect())
            }
            Show::Cardinality { table, filter } => {
                let table = self.table(database, table)?;
                let scan = self.scan_of_series(&table, &CompiledFilter::new(filter)?, options, guard)?;
                cardinality(scan.series_tags(), guard)?
            }
            Show::Storage => self.core.show_storage(database),
            Show::Rollups => self.show_rollups(database),
        })
    }

    /// The tag sets of a table's series, in order: those in memory and those that only blocks know.
    fn series(
        &self,
        table: &Arc<Table>,
        filter: &CompiledFilter,
        options: &QueryOptions,
        guard: &Guard,
    ) -> Result<Vec<TagSet>> {
        let scan = self.scan_of_series(table, filter, options, guard)?;
        let series: Vec<_> = scan.series_tags().cloned().collect();
        guard.check_rows(series.len())?;
        Ok(series)
    }

    /// A scan that knows which series there are and reads none of their fields.
    fn scan_of_series(
        &self,
        table: &Arc<Table>,
        filter: &CompiledFilter,
        options: &QueryOptions,
        guard: &Guard,
    ) -> Result<Scan> {
        let range = options.range.unwrap_or(TimeRange::ALL);
        let captured = {
            let live = self.core.live.read();
            Captured::points(
                &live.view_for(guard),
                table,
                filter,
                self.visible_part(&live, table, range),
                &[],
                Extent::All,
            )?
        };
        let scan = captured.open_within(guard)?;
        guard.check()?;
        Ok(scan)
    }

    fn alter(&self, alter: &Alter, database: &str) -> Result<Answer> {
        let keep = alter.keep.map(keep_asked);
        let (keeper, name) = match &alter.target {
            AlterTarget::Table(name) => (Keeper::Table(self.table(database, name)?), name.as_str()),
            AlterTarget::Rollup(name) => (Keeper::Rollup { database, name }, name.as_str()),
            AlterTarget::Database(name) => {
                let name = name.as_deref().unwrap_or(database);
                (Keeper::Database(name), name)
            }
        };
        let late = alter.late.map(|late| late == Late::Merge);
        self.core.set_retention(&keeper, keep, late)?;
        Ok(text_table(&["altered"], &[vec![name.to_string()]]))
    }

    /// The part of a range for which retention has not ended.
    pub(super) fn visible_part(&self, live: &Live, table: &Table, range: TimeRange) -> RangeSet {
        let from = live.visible_from(&self.core.registry, table, self.core.clock.now());
        range.intersect(TimeRange::new(from, i64::MAX)).into()
    }
}

/// What has to be read so that the buckets of a range are whole: those that reach back begin before it.
fn read_range(range: TimeRange, aggregate: &Aggregate) -> TimeRange {
    match aggregate.hop {
        Some(hop) if range.start > TimeRange::ALL.start => {
            let first = floor_time(range.start, hop.step, hop.origin);
            let reach = first.saturating_add(hop.step).saturating_sub(hop.over);
            TimeRange::new(reach.min(range.start), range.end)
        }
        _ => range,
    }
}

/// A delete with its times made absolute, and a metric as series of its table: what the log and the manifest keep.
fn delete_text(kind: &StatementKind, table: &str, range: TimeRange) -> String {
    let StatementKind::Delete(delete) = kind else { unreachable!("bug: a delete is planned from a delete") };
    let mut absolute = delete.clone();
    if absolute.source.name.text != table {
        absolute.source = absolute.source.as_series();
    }
    absolute.range = match range {
        TimeRange::ALL => None,
        TimeRange { start, end: i64::MAX } => Some(Range::Since(TimeLiteral::At(start))),
        TimeRange { start, end } => Some(Range::Between(TimeLiteral::At(start), TimeLiteral::At(end))),
    };
    absolute.to_string()
}

/// The opposite of [`delete_text`].
pub fn parse_delete(database: &str, statement: &str, seq: u64) -> Result<Tombstone> {
    match plan_stored(statement, None)? {
        Plan::Delete(delete) => Ok(Tombstone {
            seq,
            database: database.into(),
            table: delete.table.as_str().into(),
            filter: CompiledFilter::new(&delete.filter)?,
            range: delete.range,
            statement: statement.to_string(),
        }),
        _ => Err(Error::invalid("delete", format!("{statement} is no delete"))),
    }
}

/// Plans one statement of the log or the manifest, which was checked when it was taken, as it was meant then.
pub(super) fn plan_stored(text: &str, catalog: Option<&DatabaseCatalog>) -> Result<Plan> {
    let script = parse(text)?;
    let [statement] = script.statements.as_slice() else {
        return Err(Error::invalid("statement", format!("{text} is not one statement")));
    };
    let catalog = Remembered::new(&statement.kind, catalog);
    Ok(plan(statement, &catalog, &Context { now: 0, range: None, rollups: false, lets: &[] })?)
}

/// Points as they are stored are given out and not computed with: what a marker or a histogram would mean there, nobody says.
fn check_stored(select: &Select) -> Result<()> {
    let Shape::Points { fields } = &select.read.shape else { return Err(not_stored()) };
    let is_binary =
        |name: &str| fields.iter().any(|field| field.name == name && field.field_type == FieldType::Binary);
    let looks_inside = match &select.read.condition {
        Some(condition) => Program::new(condition)?
            .columns()
            .iter()
            .any(|column| column.role == ColumnRole::Value && is_binary(&column.name)),
        None => false,
    };
    if looks_inside || !select.steps.is_empty() { Err(not_stored()) } else { Ok(()) }
}

fn not_stored() -> Error {
    let message = "raw=on gives out the points of a table, with conditions on tags and a range: `metrics | last 1h`; leave it out to \
                   compute with them";
    Error::invalid("bad_parameter", message)
}
