//! Buckets: their length, zone and overlap.

use crate::ast::{self, Span, Step as WindowStep};
use crate::calendar::{Calendar, Unit, Zone};
use crate::error::ErrorKind;
use crate::error::Problem;
use crate::plan::{Hop, Window};
use crate::time::{DAY, format_duration, origin_of};

pub(super) fn named_zone(name: &ast::ZoneName) -> Result<Zone, Problem> {
    Zone::named(&name.text).ok_or_else(|| {
        let message = format!("there is no time zone \"{}\"", name.text);
        Problem::new(ErrorKind::Range, name.span, message)
            .hint("zones are named as in \"Europe/Berlin\" or \"UTC\"")
    })
}

/// The buckets of an aggregate, and how they overlap. `zone` is the statement's.
pub(super) fn window(
    asked: &ast::Aggregate,
    zone: &Zone,
    span: Span,
) -> Result<(Window, Option<Hop>), Problem> {
    let zone = asked.zone.as_ref().map_or_else(|| Ok(zone.clone()), named_zone)?;
    let (step, over, offset) = match asked.window {
        ast::Window::Whole => return Ok((Window::WholeRange, None)),
        ast::Window::Session { gap } => return Ok((Window::Session { gap }, None)),
        ast::Window::Every { step, over, offset } => (step, over, offset.unwrap_or(0)),
    };
    let calendar = |unit, count| Calendar { unit, count, zone: zone.clone(), offset };
    let window = match step {
        WindowStep::Months(months) => Window::Calendar(calendar(Unit::Month, months)),
        // Without a zone all days have 24 hours.
        WindowStep::Length(length) if length % DAY == 0 && zone != Zone::utc() => {
            Window::Calendar(calendar(Unit::Day, u32::try_from(length / DAY).unwrap_or(u32::MAX)))
        }
        WindowStep::Length(step) => {
            let origin = origin_of(step) + offset % step;
            let Some(over) = over.filter(|over| *over != step) else {
                return Ok((Window::Every { step, origin }, None));
            };
            let part = common_divisor(step, over);
            let parts = over / part;
            if parts > PARTS_MAX {
                let (over, step) = (format_duration(over), format_duration(step));
                let message =
                    format!("a window over {over} every {step} has {parts} parts; it may have {PARTS_MAX}");
                return Err(Problem::new(ErrorKind::Range, span, message)
                    .hint("take a longer step, or a multiple of it"));
            }
            return Ok((Window::Every { step: part, origin }, Some(Hop { step, origin, over })));
        }
    };
    match over {
        None => Ok((window, None)),
        Some(_) => {
            let message =
                "`over` takes steps of a fixed length, and days, months and years of a zone have none";
            Err(Problem::new(ErrorKind::Unsupported, span, message).hint("leave `over` out, or `in`"))
        }
    }
}

/// Parts that one overlapping bucket may be made of.
const PARTS_MAX: i64 = 100_000;

fn common_divisor(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { common_divisor(b, a % b) }
}
