//! Canonical text, and parse(print(x)) = x.

use proptest::prelude::*;

use crate::ast::*;
use crate::parse;
use crate::plan::{Function, Keep, TagTest};

#[test]
fn text_is_canonical() {
    for (text, canonical) in [
        ("cpu|last 90m", "cpu | last 1h30m"),
        ("cpu{ a = 'b' , c not in ('d') , }", "cpu{a=\"b\", c not in (\"d\")}"),
        ("`show`|limit 1", "`show` | limit 1"),
        ("`cpu` | since 2026-01-01T02:00:00+02:00", "cpu | since 2026-01-01"),
        ("cpu | since now-1500ms", "cpu | since now - 1s500ms"),
        (
            "cpu | where ((a=\"1\") and (b=\"2\" or not c=\"3\"))",
            "cpu | where a = \"1\" and (b = \"2\" or not c = \"3\")",
        ),
        ("cpu | every 7d count() by (a,b)", "cpu | every 1w count by a, b"),
        ("cpu | last(field(x)) as `a b`", "cpu | last(x) as `a b`"),
        ("cpu | last()", "cpu | last()"),
        ("cpu{a=\"tab\\t \\\\d 'x' \\\"\\u{1}\"}", "cpu{a=\"tab\\t \\\\d 'x' \\\"\\u{1}\"}"),
        ("alter table cpu keep 720h", "alter table cpu keep 30d"),
        ("alter database `keep` keep forever", "alter database `keep` keep forever"),
        ("create rollup a as b|every 1m count keep default", "create rollup a as b | every 1m count"),
        ("show tables;;show rollups;", "show tables;\nshow rollups"),
        ("delete from a where b=\"c\" since 1s", "delete from a where b = \"c\" since 1970-01-01T00:00:01Z"),
    ] {
        assert_eq!(
            parse(text).map(|script| script.to_string()).map_err(|e| e.render()),
            Ok(canonical.to_owned())
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn what_is_printed_parses_to_the_same(script in script()) {
        let text = script.to_string();
        let parsed = parse(&text).map_err(|error| TestCaseError::fail(error.render()))?;
        prop_assert_eq!(&parsed, &script, "{}", text);
        prop_assert_eq!(parsed.to_string(), text);
    }
}

fn script() -> impl Strategy<Value = Script> {
    let statement = statement().prop_map(|kind| Statement { kind, text: SourceText::default() });
    proptest::collection::vec(statement, 1..4).prop_map(|statements| Script { statements })
}

fn statement() -> impl Strategy<Value = StatementKind> {
    let create = (name(), query(), keep()).prop_map(|(name, query, keep)| CreateRollup { name, query, keep });
    let delete = (source(), option(expr()), option(range()));
    let delete = delete.prop_map(|(source, condition, range)| Delete {
        source,
        condition,
        range,
        range_span: Span::default(),
    });
    let plain = prop_oneof![
        4 => query().prop_map(StatementKind::Query),
        2 => show().prop_map(StatementKind::Show),
        1 => create.prop_map(StatementKind::CreateRollup),
        1 => name().prop_map(StatementKind::DropRollup),
        1 => alter().prop_map(StatementKind::Alter),
        1 => delete.prop_map(StatementKind::Delete),
    ];
    (plain, any::<bool>()).prop_map(|(plain, explained)| match explained {
        true => StatementKind::Explain(Box::new(plain)),
        false => plain,
    })
}

fn keep() -> impl Strategy<Value = Keep> {
    prop_oneof![length().prop_map(Keep::For), Just(Keep::Forever), Just(Keep::Default)]
}

fn alter() -> impl Strategy<Value = Alter> {
    let target = prop_oneof![
        name().prop_map(AlterTarget::Table),
        name().prop_map(AlterTarget::Rollup),
        option(name()).prop_map(AlterTarget::Database),
    ];
    (target, keep()).prop_filter_map("a database has no default", |(target, keep)| {
        let sound = keep != Keep::Default || !matches!(target, AlterTarget::Database(_));
        sound.then_some(Alter { target, keep })
    })
}

fn query() -> impl Strategy<Value = Query> {
    (source(), proptest::collection::vec(stage(), 0..4)).prop_map(|(source, stages)| Query { source, stages })
}

fn source() -> impl Strategy<Value = Source> {
    let matcher = (name(), tag_test()).prop_map(|(tag, test)| Matcher { tag, test });
    (name(), proptest::collection::vec(matcher, 0..3)).prop_map(|(name, matchers)| Source { name, matchers })
}

fn show() -> impl Strategy<Value = Show> {
    prop_oneof![
        Just(Show::Tables),
        Just(Show::Rollups),
        Just(Show::Storage),
        name().prop_map(|table| Show::Tags { table }),
        name().prop_map(|table| Show::Fields { table }),
        (name(), name()).prop_map(|(tag, table)| Show::Values { tag, table }),
        source().prop_map(|source| Show::Series { source }),
        source().prop_map(|source| Show::Cardinality { source }),
    ]
}

fn stage() -> impl Strategy<Value = Stage> {
    prop_oneof![
        range().prop_map(StageKind::Range),
        expr().prop_map(StageKind::Where),
        aggregate().prop_map(StageKind::Aggregate),
        any::<u64>().prop_map(StageKind::Limit),
    ]
    .prop_map(|kind| Stage { kind, span: Span::default() })
}

fn range() -> impl Strategy<Value = Range> {
    prop_oneof![
        length().prop_map(Range::Last),
        time().prop_map(Range::Since),
        (time(), time()).prop_map(|(start, end)| Range::Between(start, end)),
    ]
}

fn time() -> impl Strategy<Value = TimeLiteral> {
    let days = (-10_000i64..10_000).prop_map(|days| TimeLiteral::At(days * crate::time::DAY));
    let now = any::<i64>().prop_map(|offset| TimeLiteral::Now(offset.max(-i64::MAX)));
    prop_oneof![any::<i64>().prop_map(TimeLiteral::At), days, now, Just(TimeLiteral::Now(0))]
}

fn length() -> impl Strategy<Value = i64> {
    prop_oneof![1..=i64::MAX, (1i64..1000).prop_map(|minutes| minutes * crate::time::MINUTE)]
}

fn expr() -> impl Strategy<Value = Expr> {
    let kind = prop_oneof![Just(ColumnKind::Either), Just(ColumnKind::Tag), Just(ColumnKind::Field)];
    let test = (kind, name(), tag_test())
        .prop_map(|(kind, name, test)| Expr::Test { column: Column { kind, name }, test });
    test.prop_recursive(4, 16, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 2..4).prop_map(Expr::And),
            proptest::collection::vec(inner.clone(), 2..4).prop_map(Expr::Or),
            inner.prop_map(|inner| Expr::Not(Box::new(inner))),
        ]
    })
}

fn tag_test() -> impl Strategy<Value = TagTest> {
    let pattern = prop_oneof![Just("web-.*"), Just("a|b"), Just("\\d+\\."), Just("")].prop_map(str::to_owned);
    let values = || proptest::collection::vec(text(), 1..3);
    prop_oneof![
        text().prop_map(TagTest::Equal),
        text().prop_map(TagTest::NotEqual),
        pattern.clone().prop_map(TagTest::Matches),
        pattern.prop_map(TagTest::NotMatches),
        values().prop_map(TagTest::In),
        values().prop_map(TagTest::NotIn),
    ]
}

fn aggregate() -> impl Strategy<Value = Aggregate> {
    let function = proptest::sample::select(Function::ALL.to_vec());
    let item = (function, option(name()), option(name())).prop_map(|(function, field, alias)| Item {
        function,
        field,
        alias,
        span: Span::default(),
    });
    let by = option(proptest::collection::vec(name(), 0..3));
    (option(length()), proptest::collection::vec(item, 1..4), by).prop_map(|(every, items, by)| Aggregate {
        every,
        items,
        by,
    })
}

/// Plain names, words of the language, and anything at all.
fn name() -> impl Strategy<Value = Name> {
    let words = [
        "show", "last", "by", "as", "not", "in", "tag", "field", "now", "every", "count", "and", "or",
        "from", "where", "limit", "let", "of", "explain", "since", "rollup", "tables", "alter", "keep",
        "forever", "default", "database",
    ];
    let word = proptest::sample::select(words.to_vec()).prop_map(str::to_owned);
    prop_oneof![4 => "[a-z_][a-z0-9_:]{0,6}", 2 => word, 1 => text()]
        .prop_filter_map("a name is not empty", |text| (!text.is_empty()).then(|| Name::new(text)))
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![".{0,6}".prop_map(String::from), any::<String>(), Just("\\\"'`\n\t\u{0}".to_owned())]
}

fn option<T: std::fmt::Debug>(strategy: impl Strategy<Value = T>) -> impl Strategy<Value = Option<T>> {
    proptest::option::of(strategy)
}
