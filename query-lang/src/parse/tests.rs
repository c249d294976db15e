//! GRAMMAR.md's examples, wrong statements with what is said about them, and arbitrary input.

use proptest::prelude::*;

use crate::testing;
use crate::testing::NOON;
use crate::{parse, parse_time, parse_with};

/// The fenced blocks of a kind.
fn examples(kind: &str) -> Vec<&'static str> {
    let page = include_str!("../../GRAMMAR.md");
    let fence = format!("```{kind}\n");
    page.split(fence.as_str()).skip(1).map(|rest| rest.split("```").next().unwrap().trim_end()).collect()
}

#[test]
fn the_examples_of_the_grammar_page_parse() {
    let examples = examples("wql");
    assert!(examples.len() > 20, "the page has examples");
    for text in examples {
        let script =
            parse_with(text, &testing::params()).unwrap_or_else(|error| panic!("{}", error.render()));
        assert_eq!(parse(&script.to_string()).unwrap(), script, "{text}");
    }
}

#[test]
fn the_wrong_examples_of_the_grammar_page_fail_as_it_says() {
    let examples = examples("wql-error");
    assert!(examples.len() >= 6, "the page has wrong examples");
    for text in examples {
        let (statement, message) = text.split_once("\n=> ").expect("a statement and its message");
        let error = parse(statement).expect_err(statement);
        assert!(error.message().starts_with(message), "{}", error.render());
    }
}

#[test]
fn errors_are_sentences_with_a_place_and_a_cure() {
    let page = include_str!("errors.txt");
    let cases: Vec<&str> = page.split("\n\n").map(str::trim_end).collect();
    assert!(cases.len() > 50, "the table has cases");
    let mut wrong = String::new();
    for case in cases {
        let statement = case.lines().next().unwrap();
        let rendered = match testing::plan(statement) {
            Ok(_) => format!("{statement}\n(no error)"),
            Err(error) => error.render(),
        };
        if rendered != case {
            wrong.push_str(&format!("{rendered}\n\n"));
        }
    }
    assert!(wrong.is_empty(), "if these are right, put them into errors.txt:\n\n{wrong}");
}

#[test]
fn errors_say_what_was_read_and_what_was_expected() {
    let error = parse("show tables;\ncpu | lst 5m").unwrap_err();
    assert_eq!((error.line(), error.column(), error.code()), (2, 7, "syntax"));
    assert_eq!(error.read(), Some("lst"));
    assert!(error.expected().unwrap().starts_with("a stage"));
    assert_eq!(error.hint(), Some("did you mean `last`?"));
}

#[test]
fn verbs_name_tables_where_no_verb_can_stand() {
    assert_eq!(parse("show | last 1h").unwrap().to_string(), "`show` | last 1h");
    assert_eq!(parse("delete{a=\"b\"}").unwrap().to_string(), "`delete`{a=\"b\"}");
}

#[test]
fn lone_times() {
    assert_eq!(parse_time("now", NOON).unwrap(), NOON);
    assert_eq!(parse_time("-1h", NOON).unwrap(), NOON - crate::time::HOUR);
    assert_eq!(parse_time("now-1h", NOON).unwrap(), NOON - crate::time::HOUR);
    assert_eq!(parse_time("2026-01-01T12:00:00Z", 0).unwrap(), NOON);
    assert_eq!(parse_time("1767268800000ms", 0).unwrap(), NOON);
    assert_eq!(parse_time("1767268800000000000", 0).unwrap(), NOON);
    for bad in ["", "yesterday", "1h", "now - 1h x", "+", "now + 15000w", "99999999999999999999"] {
        assert!(parse_time(bad, NOON).is_err(), "{bad}");
    }
}

#[test]
fn deep_nesting_is_refused_and_not_fatal() {
    let deep = format!("cpu | where {}a = \"b\"{}", "(".repeat(100_000), ")".repeat(100_000));
    assert!(parse(&deep).unwrap_err().message().contains("nested"));
    assert!(parse(&format!("cpu | where {} a = \"b\"", "not ".repeat(100_000))).is_err());
    assert!(parse(&"explain ".repeat(100_000)).is_err());
}

/// Statements that touch every rule, to be damaged.
fn seeds() -> Vec<String> {
    examples("wql").into_iter().map(str::to_owned).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn no_text_makes_it_panic(text: String, now: i64) {
        let _ = parse(&text).map_err(|error| error.render());
        let _ = parse_time(&text, now);
    }

    #[test]
    fn no_mix_of_its_own_words_makes_it_panic(
        words in proptest::collection::vec(proptest::sample::select(vec![
            "cpu", "|", "last", "5m", "every", "avg", "(", ")", "usage_user", "by", ",", "host", "where", "not", "=",
            "=~", "\"a\"", "{", "}", ";", "in", "and", "now", "-", "2026-01-01", "explain", "show", "create",
            "rollup", "as", "delete", "from", "since", "between", "limit", "alter", "table", "keep", "forever", "3",
            "late", "merge", "add", "drop", "pause", "resume", "refresh", "cpu_1m",
            "extend", "fill", "linear", "max", "sort", "desc", "top", "per", "session", "over", "offset", "join", "on", "asof",
            "within", "let", "$host", "$regions", "+", "*", "<", "1.5", "null", "if", "shift", "diff", "x", "sum_x", "µ", "`", "'", "\\", "#", "\n",
        ]), 0..20),
    ) {
        let _ = testing::plan(&words.join(" ")).map_err(|error| error.render());
    }

    #[test]
    fn no_damaged_statement_makes_it_panic(
        seed in proptest::sample::select(seeds()),
        cuts in proptest::collection::vec((any::<prop::sample::Index>(), any::<char>(), 0..3), 1..6),
    ) {
        let mut chars: Vec<char> = seed.chars().collect();
        for (place, new, action) in cuts {
            let at = place.index(chars.len().max(1)).min(chars.len().saturating_sub(1));
            match action {
                _ if chars.is_empty() => chars.push(new),
                0 => { chars.remove(at); }
                1 => chars.insert(at, new),
                _ => chars[at] = new,
            }
        }
        let text: String = chars.into_iter().collect();
        let _ = testing::plan(&text).map_err(|error| error.render());
        if let Ok(script) = parse_with(&text, &testing::params()) {
            prop_assert_eq!(parse(&script.to_string()).map_err(|e| e.render()), Ok(script));
        }
    }
}
