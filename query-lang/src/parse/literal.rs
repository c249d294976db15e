//! Durations, times and numbers.
//!
//! Invariant: whatever is read here fits `i64` nanoseconds.
//! Not here: what the texts mean (see `crate::time`).

use nom::Parser;
use nom::branch::alt;
use nom::combinator::opt;
use storage_format::point::Time;

use crate::ast::{Literal, Span, Step, TimeLiteral};
use crate::calendar::Zone;
use crate::error::ErrorKind;
use crate::error::Problem;
use crate::time;

use super::read::{Parsed, Tokens, fail, keyword, next, required, symbol, token, unexpected};
use super::token::{Kind, Token};

// duration = digits unit { digits unit } ;
/// `what` is what the duration is of and `unit` its usual unit, for "a window needs a unit, for example 5m".
pub(super) fn duration<'t>(what: &'static str, unit: &'static str) -> impl Fn(Tokens<'t>) -> Parsed<'t, i64> {
    move |input| {
        let (rest, found) = required("a duration such as 5m", literal)(input)?;
        if found.text.bytes().all(|byte| byte.is_ascii_digit()) {
            let message = format!("a {what} needs a unit, for example {}{unit}", found.text);
            return fail(Problem::new(ErrorKind::Syntax, found.span, message));
        }
        checked(rest, found.span, time::duration(found.text))
    }
}

/// The length of a window: a duration, or months and years.
pub(super) fn step(input: Tokens<'_>) -> Parsed<'_, Step> {
    let (rest, found) = required("a duration such as 5m", literal)(input)?;
    match time::months(found.text) {
        Some(months) => checked(rest, found.span, months.map(Step::Months)),
        None => {
            let (rest, length) = duration("window", "m")(input)?;
            Ok((rest, Step::Length(length)))
        }
    }
}

/// A finite number without a sign.
pub(super) fn number(input: Tokens<'_>) -> Parsed<'_, f64> {
    let (rest, found) = token(input, |token| token.kind == Kind::Literal)?;
    match found.text.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok((rest, number)),
        _ => fail(unexpected(input, "a number")),
    }
}

/// A number, a duration or a time, as it stands in an expression.
pub(super) fn value(input: Tokens<'_>) -> Parsed<'_, Literal> {
    let (rest, found) = token(input, |token| token.kind == Kind::Literal)?;
    let text = found.text;
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return match text.parse() {
            Ok(number) => Ok((rest, Literal::Int(number))),
            Err(_) => fail(Problem::new(
                ErrorKind::Syntax,
                found.span,
                format!("{text} is larger than a whole number can be, which is {}", u64::MAX),
            )),
        };
    }
    let is_number = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'));
    if let Some(number) = text.parse::<f64>().ok().filter(|number| is_number && number.is_finite()) {
        return Ok((rest, Literal::Float(number)));
    }
    if let Ok(length) = time::duration(text) {
        return Ok((rest, Literal::Duration(length)));
    }
    match time::instant(text) {
        Ok(time) => Ok((rest, Literal::Time(time))),
        Err(_) => {
            let message = format!("`{text}` is not a number, a duration or a time");
            fail(Problem::new(ErrorKind::Syntax, found.span, message))
        }
    }
}

// time = "now" [ ( "+" | "-" ) duration ] | date [ ( "T" | " " ) clock [ zone ] ] | digits unit ;
pub(super) fn time(input: Tokens<'_>) -> Parsed<'_, TimeLiteral> {
    required("a time such as 2026-01-31, 2026-01-31T10:30:00Z or `now - 1h`", alt_time)(input)
}

// limit = "limit" digits ;
pub(super) fn count(input: Tokens<'_>) -> Parsed<'_, u64> {
    let (rest, found) = required("a whole number", literal)(input)?;
    match found.text.parse() {
        Ok(count) => Ok((rest, count)),
        Err(_) => fail(unexpected(input, "a whole number")),
    }
}

/// All of the text is one time. `-1h` is short for `now - 1h`, bare digits are nanoseconds.
pub(super) fn lone_time(input: Tokens<'_>, now: Time) -> Parsed<'_, Time> {
    let (rest, literal) = match (alt((symbol("-"), symbol("+"))).parse(input), integer(input)) {
        (Ok(_), _) => shift(input)?,
        (_, Some(nanos)) => (&input[1..], TimeLiteral::At(nanos)),
        _ => time(input)?,
    };
    if next(rest).kind != Kind::End {
        return fail(unexpected(rest, "the end"));
    }
    match time::resolve(literal, now, &Zone::utc()) {
        Some(time) => Ok((rest, time)),
        None => fail(Problem::new(ErrorKind::Range, next(input).span, time::OUT_OF_RANGE)),
    }
}

/// A literal as written, also where a parameter brings it as a text.
struct Written<'t> {
    text: &'t str,
    span: Span,
}

pub(super) fn is_next(input: Tokens<'_>) -> bool {
    literal(input).is_ok()
}

fn literal<'t>(input: Tokens<'t>) -> Parsed<'t, Written<'t>> {
    let is_bound = |token: &Token<'_>| token.text.starts_with('$') && matches!(token.kind, Kind::Text(_));
    let (rest, found) = token(input, |token| token.kind == Kind::Literal || is_bound(token))?;
    let text = match &found.kind {
        Kind::Text(text) => text.as_str(),
        _ => found.text,
    };
    Ok((rest, Written { text, span: found.span }))
}

fn alt_time(input: Tokens<'_>) -> Parsed<'_, TimeLiteral> {
    if let Ok((rest, _)) = keyword("now")(input) {
        let (rest, shifted) = opt(shift).parse(rest)?;
        return Ok((rest, shifted.unwrap_or(TimeLiteral::Now(0))));
    }
    let (rest, found) = literal(input)?;
    checked(rest, found.span, time::instant(found.text))
}

// ( "+" | "-" ) duration
fn shift(input: Tokens<'_>) -> Parsed<'_, TimeLiteral> {
    let (rest, _) = alt((symbol("+"), symbol("-"))).parse(input)?;
    let negative = next(input).text == "-";
    let (rest, length) = duration("duration", "m")(rest)?;
    Ok((rest, TimeLiteral::Now(if negative { -length } else { length })))
}

fn integer(input: Tokens<'_>) -> Option<i64> {
    let token = next(input);
    if token.kind == Kind::Literal { token.text.parse().ok() } else { None }
}

fn checked<T>(rest: Tokens<'_>, span: Span, result: Result<T, String>) -> Parsed<'_, T> {
    match result {
        Ok(value) => Ok((rest, value)),
        Err(message) => fail(Problem::new(ErrorKind::Syntax, span, message)),
    }
}
