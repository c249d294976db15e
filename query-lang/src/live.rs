//! Statements that go on: where their windows close, and which windows a change of a point touches.
//!
//! A live statement is an aggregate statement that is asked again and again for the windows that have closed since. It has
//! no range of its own: how far back it looks is its history.
//! Invariant: a [`Going`] has windows that lie on the time axis, so that each row belongs to one of them for good.
//! Not here: asking it, and who listens (the engine's `live`, the server).

use storage_format::point::{Time, TimeRange};

use crate::ast::{self, Let, Query, Span, Stage, StageKind, Statement, StatementKind};
use crate::error::{ErrorKind, Problem, QueryError};
use crate::plan::{Aggregate, Function, Read, Select, Shape, Step, Window};
use crate::time::format_time;

/// What a script asks to be kept running, without its ranges.
#[derive(Clone, Debug, PartialEq)]
pub struct Unranged {
    pub statement: Statement,
    pub lets: Vec<Let>,
    /// How far before now the longest of its ranges began.
    pub history: Option<i64>,
}

/// How a planned statement goes on.
#[derive(Clone, Debug, PartialEq)]
pub struct Going {
    /// Of its rows.
    pub window: Window,
    /// How much longer than its window a row looks at points: hopping windows.
    pub reaches: i64,
    /// Whether it asks what happens between samples, so that a change also touches the next sample's window.
    pub has_steps: bool,
    /// Whether each window can be asked for by itself.
    pub each_alone: bool,
    /// The tables it reads, each once.
    pub tables: Vec<String>,
}

/// Takes the ranges away from a script of `let`s and one query, its last statement.
pub fn unranged(statements: &[Statement], now: Time) -> Result<Unranged, QueryError> {
    let (last, before) = statements.split_last().expect("a script has a statement");
    let mut live = Unranged { statement: last.clone(), lets: Vec::new(), history: None };
    let refuse = |statement: &Statement, problem: Problem| problem.within(&statement.text.0);
    for statement in before {
        let StatementKind::Let(named) = &statement.kind else {
            let message = "a live script is one query, with the `let`s before it";
            return Err(refuse(statement, unsupported(Span::default(), message)));
        };
        let mut named = named.clone();
        live.take_range(&mut named.query, now).map_err(|problem| refuse(statement, problem))?;
        live.lets.push(named);
    }
    let StatementKind::Query(mut query) = live.statement.kind.clone() else {
        let message = "only a query can be live";
        return Err(refuse(last, unsupported(Span::default(), message)));
    };
    live.take_range(&mut query, now).map_err(|problem| refuse(last, problem))?;
    live.statement.kind = StatementKind::Query(query);
    Ok(live)
}

impl Unranged {
    fn take_range(&mut self, query: &mut Query, now: Time) -> Result<(), Problem> {
        let mut stages = Vec::with_capacity(query.stages.len());
        for stage in query.stages.drain(..) {
            let StageKind::Range(range) = &stage.kind else {
                stages.push(stage);
                continue;
            };
            self.history = self.history.max(Some(history_of(*range, &stage, now)?));
        }
        query.stages = stages;
        Ok(())
    }

    /// How the planned statement goes on. The error says what stands in the way.
    pub fn going(&self, select: &Select) -> Result<Going, QueryError> {
        let going = going(select).and_then(|going| match going.each_alone || self.history.is_some() {
            true => Ok(going),
            false => Err(unsupported(Span::default(), "this statement looks at rows of other windows")
                .hint("say how far back it looks with a range, for example `last 1h`")),
        });
        going.map_err(|problem| problem.within(&self.statement.text.0))
    }
}

fn history_of(range: ast::Range, stage: &Stage, now: Time) -> Result<i64, Problem> {
    let start = match range {
        ast::Range::Last(length) => return Ok(length),
        ast::Range::Since(ast::TimeLiteral::Now(back)) => now.saturating_add(back),
        ast::Range::Since(ast::TimeLiteral::At(time) | ast::TimeLiteral::Civil(time)) => time,
        ast::Range::Between(..) => {
            let message = "a live statement goes on, and `between` ends";
            return Err(unsupported(stage.span, message).hint("use `last 1h`, or leave the range out"));
        }
    };
    match now.checked_sub(start) {
        Some(history) if history > 0 => Ok(history),
        _ => {
            let message = format!("this range begins in the future, at {}", format_time(start));
            Err(Problem::new(ErrorKind::Range, stage.span, message))
        }
    }
}

fn unsupported(span: Span, message: &str) -> Problem {
    Problem::new(ErrorKind::Unsupported, span, message)
}

fn going(select: &Select) -> Result<Going, Problem> {
    let no_windows = || {
        unsupported(Span::default(), "a live statement says a row when its window closes, and this has none")
            .hint("add an aggregate with a window, for example `every 1m avg(x)`")
    };
    let Shape::Aggregate(aggregate) = &select.read.shape else { return Err(no_windows()) };
    if select.read.limit.is_some() {
        return Err(limited());
    }
    let mut going = Going {
        window: rows_of(aggregate)?.ok_or_else(no_windows)?,
        reaches: aggregate.hop.map_or(0, |hop| (hop.over - hop.step).max(0)),
        has_steps: has_steps(aggregate),
        each_alone: true,
        tables: Vec::new(),
    };
    for step in &select.steps {
        match step {
            Step::Where(_) | Step::Sort(_) => {}
            Step::Extend(computed) => {
                going.each_alone &= !computed.iter().any(|column| column.value.looks_around());
            }
            // Across the groups of each time.
            Step::Aggregate(Aggregate { window: Window::Every { step: 1, .. }, hop: None, .. }) => {}
            Step::Aggregate(again) => {
                going.window = rows_of(again)?.ok_or_else(no_windows)?;
                going.each_alone = false;
            }
            Step::Rank(rank) if rank.per.iter().any(|column| column == "time") => {}
            Step::Rank(_) => {
                let message = "`top` and `bottom` of all windows change with each of them";
                return Err(
                    unsupported(Span::default(), message).hint("rank within each window: add `per time`")
                );
            }
            Step::Limit { .. } => return Err(limited()),
            Step::Fill(_) | Step::Join(_) => going.each_alone = false,
        }
    }
    tables_of(select, &mut going.tables);
    Ok(going)
}

fn limited() -> Problem {
    let message = "a live statement has no last row, and so `limit` means nothing here";
    unsupported(Span::default(), message).hint("use `top 5 by x per time`")
}

/// The windows of an aggregate's rows. None if they have no time.
fn rows_of(aggregate: &Aggregate) -> Result<Option<Window>, Problem> {
    Ok(match (&aggregate.window, aggregate.hop) {
        (_, Some(hop)) => Some(Window::Every { step: hop.step, origin: hop.origin }),
        (window @ (Window::Every { .. } | Window::Calendar(_) | Window::Edges(_)), None) => {
            Some(window.clone())
        }
        (Window::WholeRange, None) => None,
        (Window::Session { .. }, None) => {
            let message = "a session may grow as long as points come, so that none of its rows is ever final";
            return Err(unsupported(Span::default(), message).hint("use `every`, for example `every 1m`"));
        }
    })
}

fn has_steps(aggregate: &Aggregate) -> bool {
    use Function::{Delta, Increase, Integral, Rate, Resets, Twa};
    let of_steps = |function| matches!(function, Rate | Increase | Delta | Resets | Integral | Twa);
    aggregate.columns.iter().any(|column| of_steps(column.function))
}

fn tables_of(select: &Select, tables: &mut Vec<String>) {
    let Read { table, .. } = &select.read;
    if !tables.contains(table) {
        tables.push(table.clone());
    }
    for step in &select.steps {
        if let Step::Join(join) = step {
            tables_of(&join.right, tables);
        }
    }
}

impl Going {
    /// The windows whose rows a change of points in `changed` may touch, as a range of whole windows; `looks` is how far
    /// after a sample the next one may be.
    pub fn touched(&self, changed: TimeRange, looks: i64) -> TimeRange {
        let after = self.reaches.saturating_add(if self.has_steps { looks } else { 0 });
        let last = changed.end.saturating_sub(1).saturating_add(after);
        TimeRange::new(self.window.start_of(changed.start), self.window.end_of(last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::catalog;
    use crate::{Context, plan};

    const NOW: Time = 1_767_225_600_000_000_000;
    const MINUTE: i64 = 60_000_000_000;

    fn live(text: &str) -> Result<(Unranged, Going), QueryError> {
        let script = crate::parse(text)?;
        let unranged = unranged(&script.statements, NOW)?;
        let context =
            Context { now: NOW, range: Some(TimeRange::new(0, NOW)), rollups: true, lets: &unranged.lets };
        let crate::plan::Plan::Select(select) = plan(&unranged.statement, &catalog(), &context)? else {
            panic!("{text} is a query")
        };
        let going = unranged.going(&select)?;
        Ok((unranged, going))
    }

    fn refused(text: &str) -> String {
        live(text).unwrap_err().message().to_string()
    }

    #[test]
    fn windows_of_plain_statements_stand_alone() {
        let (unranged, going) =
            live("cpu | last 1h | every 1m avg(usage_user) by region | sort region").unwrap();
        assert_eq!(unranged.history, Some(60 * MINUTE));
        assert!(going.each_alone && !going.has_steps);
        assert_eq!(going.window, Window::Every { step: MINUTE, origin: 0 });
        assert_eq!(going.tables, ["cpu"]);
        let touched = going.touched(TimeRange::new(NOW + 5, NOW + 6), 5 * MINUTE);
        assert_eq!(touched, TimeRange::new(NOW, NOW + MINUTE));
    }

    #[test]
    fn a_change_reaches_as_far_as_windows_look_back() {
        let (_, going) = live("cpu | every 1m over 3m max(usage_user)").unwrap();
        let touched = going.touched(TimeRange::new(NOW, NOW + 1), 0);
        assert_eq!(touched, TimeRange::new(NOW, NOW + 3 * MINUTE));
        let (_, going) = live("cpu | every 1m rate(usage_user)").unwrap();
        let touched = going.touched(TimeRange::new(NOW, NOW + 1), 5 * MINUTE);
        assert_eq!(touched, TimeRange::new(NOW, NOW + 6 * MINUTE));
    }

    #[test]
    fn what_looks_at_other_windows_needs_a_history() {
        let text = "every 1m avg(usage_user) as u | extend m = moving_avg(u, 5)";
        assert!(!live(&format!("cpu | last 10m | {text}")).unwrap().1.each_alone);
        assert_eq!(refused(&format!("cpu | {text}")), "this statement looks at rows of other windows");
    }

    #[test]
    fn what_cannot_go_on_says_why() {
        assert!(refused("cpu | last 5m").contains("and this has none"));
        assert!(refused("cpu | last 5m | avg(usage_user)").contains("and this has none"));
        assert!(refused("cpu | session 5m count").contains("a session may grow"));
        assert!(refused("cpu | every 1m count | limit 5").contains("no last row"));
        assert!(refused("cpu | every 1m count | top 5 by count").contains("change with each"));
        assert!(
            refused("cpu | between 2026-01-01 and 2026-01-02 | every 1m count").contains("`between` ends")
        );
        assert!(refused("show tables").contains("only a query"));
        assert!(refused("show tables; cpu | every 1m count").contains("one query, with the `let`s"));
    }
}
