//! Canonical text, and parse(print(x)) = x.

use proptest::prelude::*;

use crate::ast::*;
use crate::parse;
use crate::plan::{Function, Keep, Late, TagTest};

#[test]
fn text_is_canonical() {
    for (text, canonical) in [
        ("cpu|last 90m", "cpu | last 1h30m"),
        ("cpu{ a = 'b' , c not in ('d') , }", "cpu{a=\"b\", c not in (\"d\")}"),
        ("`show`|limit 1", "`show` | limit 1"),
        ("`cpu` | since 2026-01-01T02:00:00+02:00", "cpu | since 2026-01-01T00:00:00Z"),
        ("cpu | since 2026-01-01T00:00", "cpu | since 2026-01-01"),
        ("cpu | since now-1500ms", "cpu | since now - 1s500ms"),
        (
            "cpu | where ((a=\"1\") and (b=\"2\" or not c=\"3\"))",
            "cpu | where a = \"1\" and (b = \"2\" or not c = \"3\")",
        ),
        ("cpu | every 7d count() by (a,b)", "cpu | every 1w count by a, b"),
        (
            "cpu | where a+b*-c>=(d-(e-f))/2 and not (g or h)",
            "cpu | where a + b * -c >= (d - (e - f)) / 2 and not (g or h)",
        ),
        ("cpu | where (a = 1) = true or x in (-1, 2.50)", "cpu | where (a = 1) = true or x in (-1, 2.5)"),
        ("cpu | every 24mo over 5m offset 60s sum(x)", "cpu | every 2y over 5m offset 1m sum(x)"),
        (
            "cpu | sort a asc, b desc | top 3 by a per b,c | limit 3 offset 0",
            "cpu | sort a, b desc | top 3 by a per b, c | limit 3",
        ),
        ("cpu | last(field(x)) as `a b`", "cpu | last(x) as `a b`"),
        ("cpu | last()", "cpu | last()"),
        ("cpu{a=\"tab\\t \\\\d 'x' \\\"\\u{1}\"}", "cpu{a=\"tab\\t \\\\d 'x' \\\"\\u{1}\"}"),
        ("alter table cpu keep 720h", "alter table cpu keep 30d"),
        ("alter table late late  merge", "alter table late late merge"),
        ("alter table cpu keep 2w late refuse", "alter table cpu keep 14d late refuse"),
        ("alter rollup r  add max(x)as m,count", "alter rollup r add max(x) as m, count"),
        ("refresh rollup r since 2026-01-01", "refresh rollup r since 2026-01-01"),
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

fn script() -> BoxedStrategy<Script> {
    let statement = statement().prop_map(|kind| Statement { kind, text: SourceText::default() });
    proptest::collection::vec(statement, 1..4).prop_map(|statements| Script { statements }).boxed()
}

fn statement() -> BoxedStrategy<StatementKind> {
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
        1 => (name(), query()).prop_map(|(name, query)| StatementKind::Let(Let { name, query })),
        2 => show().prop_map(StatementKind::Show),
        1 => create.prop_map(StatementKind::CreateRollup),
        1 => name().prop_map(StatementKind::DropRollup),
        1 => alter().prop_map(StatementKind::Alter),
        1 => change_rollup().prop_map(StatementKind::ChangeRollup),
        1 => delete.prop_map(StatementKind::Delete),
    ];
    (plain, any::<bool>())
        .prop_map(|(plain, explained)| match explained {
            true => StatementKind::Explain(Box::new(plain)),
            false => plain,
        })
        .boxed()
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
    let late = prop_oneof![Just(Late::Merge), Just(Late::Refuse)];
    (target, option(keep()), option(late)).prop_filter_map("not all can be said", |(target, keep, late)| {
        let sound = match target {
            AlterTarget::Table(_) => keep.is_some() || late.is_some(),
            AlterTarget::Rollup(_) => keep.is_some() && late.is_none(),
            AlterTarget::Database(_) => keep.is_some_and(|keep| keep != Keep::Default) && late.is_none(),
        };
        sound.then_some(Alter { target, keep, late })
    })
}

fn change_rollup() -> impl Strategy<Value = ChangeRollup> {
    let change = prop_oneof![
        proptest::collection::vec(item(), 1..3).prop_map(RollupChange::Add),
        proptest::collection::vec(item(), 1..3).prop_map(RollupChange::Drop),
        Just(RollupChange::Pause),
        Just(RollupChange::Resume),
        option(range()).prop_map(|range| RollupChange::Refresh(range, Span::default())),
    ];
    (name(), change).prop_map(|(name, change)| ChangeRollup { name, change })
}

fn query() -> BoxedStrategy<Query> {
    (source(), proptest::collection::vec(stage(), 0..4))
        .prop_map(|(source, stages)| Query { source, stages })
        .boxed()
}

fn source() -> BoxedStrategy<Source> {
    let matcher = (name(), tag_test()).prop_map(|(tag, test)| Matcher { tag, test });
    (name(), proptest::collection::vec(matcher, 0..3))
        .prop_map(|(name, matchers)| Source { name, matchers })
        .boxed()
}

fn show() -> BoxedStrategy<Show> {
    prop_oneof![
        Just(Show::Tables),
        Just(Show::Rollups),
        Just(Show::Metrics),
        Just(Show::Storage),
        name().prop_map(|table| Show::Tags { table }),
        name().prop_map(|table| Show::Fields { table }),
        (name(), source()).prop_map(|(tag, source)| Show::Values { tag, source }),
        source().prop_map(|source| Show::Series { source }),
        source().prop_map(|source| Show::Cardinality { source }),
    ]
    .boxed()
}

fn stage() -> BoxedStrategy<Stage> {
    let assignment = (name(), expr()).prop_map(|(name, value)| Assignment { name, value });
    let key = (name(), any::<bool>()).prop_map(|(column, descending)| SortKey { column, descending });
    let per = proptest::collection::vec(name(), 0..3);
    let rank = (any::<bool>(), any::<u64>(), name(), per);
    let rank = rank.prop_map(|(largest, count, column, per)| Rank { largest, count, column, per });
    let limit = (any::<u64>(), prop_oneof![Just(0), any::<u64>()]);
    let limit = limit.prop_map(|(count, offset)| Limit { count, offset });
    prop_oneof![
        range().prop_map(StageKind::Range),
        expr().prop_map(StageKind::Where),
        aggregate().prop_map(StageKind::Aggregate),
        proptest::collection::vec(assignment, 1..3).prop_map(StageKind::Extend),
        fill().prop_map(StageKind::Fill),
        proptest::collection::vec(key, 1..3).prop_map(StageKind::Sort),
        rank.prop_map(StageKind::Rank),
        limit.prop_map(StageKind::Limit),
        join().prop_map(StageKind::Join),
    ]
    .prop_map(|kind| Stage { kind, span: Span::default() })
    .boxed()
}

fn fill() -> BoxedStrategy<Fill> {
    let number = prop_oneof![any::<u64>().prop_map(Literal::Int), float().prop_map(Literal::Float)];
    let value = (number, any::<bool>()).prop_map(|(number, negative)| {
        let number = made(ExprKind::Literal(number));
        FillHow::Value(if negative { made(ExprKind::Negate(Box::new(number))) } else { number })
    });
    let how = prop_oneof![Just(FillHow::Null), Just(FillHow::Previous), Just(FillHow::Linear), value];
    (how, option(length())).prop_map(|(how, max)| Fill { how, max }).boxed()
}

fn join() -> BoxedStrategy<Join> {
    let kind = prop_oneof![
        Just(JoinKind::Inner),
        Just(JoinKind::Left),
        option(length()).prop_map(|within| JoinKind::Asof { within }),
    ];
    let on = proptest::collection::vec(name(), 1..3);
    (kind, source(), on).prop_map(|(kind, right, on)| Join { kind, right, on }).boxed()
}

fn range() -> BoxedStrategy<Range> {
    prop_oneof![
        length().prop_map(Range::Last),
        time().prop_map(Range::Since),
        (time(), time()).prop_map(|(start, end)| Range::Between(start, end)),
    ]
    .boxed()
}

fn time() -> impl Strategy<Value = TimeLiteral> {
    let now = any::<i64>().prop_map(|offset| TimeLiteral::Now(offset.max(-i64::MAX)));
    prop_oneof![fixed_time(), now, Just(TimeLiteral::Now(0))]
}

fn fixed_time() -> impl Strategy<Value = TimeLiteral> {
    let days = (-10_000i64..10_000).prop_map(|days| TimeLiteral::Civil(days * crate::time::DAY));
    prop_oneof![any::<i64>().prop_map(TimeLiteral::At), any::<i64>().prop_map(TimeLiteral::Civil), days]
}

fn float() -> impl Strategy<Value = f64> {
    any::<f64>()
        .prop_filter_map("numbers have no sign and an end", |value| value.is_finite().then_some(value.abs()))
}

fn length() -> impl Strategy<Value = i64> {
    prop_oneof![1..=i64::MAX, (1i64..1000).prop_map(|minutes| minutes * crate::time::MINUTE)]
}

fn made(kind: ExprKind) -> Expr {
    Expr { kind, span: Span::default() }
}

fn literal() -> BoxedStrategy<Expr> {
    let literal = prop_oneof![
        Just(Literal::Null),
        any::<bool>().prop_map(Literal::Bool),
        any::<u64>().prop_map(Literal::Int),
        float().prop_map(Literal::Float),
        text().prop_map(Literal::Text),
        length().prop_map(Literal::Duration),
        fixed_time().prop_map(Literal::Time),
        Just(Literal::Time(TimeLiteral::Now(0))),
    ];
    literal.prop_map(|literal| made(ExprKind::Literal(literal))).boxed()
}

fn expr() -> BoxedStrategy<Expr> {
    let kind = prop_oneof![Just(ColumnKind::Either), Just(ColumnKind::Tag), Just(ColumnKind::Field)];
    let column = (kind, name()).prop_map(|(kind, name)| made(ExprKind::Column(Column { kind, name })));
    let pattern =
        || prop_oneof![Just("web-.*"), Just("a|b"), Just("\\d+\\."), Just("")].prop_map(str::to_owned);
    prop_oneof![column, literal()]
        .prop_recursive(4, 24, 3, move |inner| {
            let boxed = inner.clone().prop_map(Box::new).boxed();
            let operator = proptest::sample::select(Operator::ALL.to_vec());
            let binary = (operator, boxed.clone(), boxed.clone())
                .prop_map(|(operator, left, right)| ExprKind::Binary { operator, left, right });
            let matched = (boxed.clone(), pattern(), any::<bool>())
                .prop_map(|(value, pattern, negated)| ExprKind::Match { value, pattern, negated });
            let listed = (boxed.clone(), proptest::collection::vec(literal(), 0..3), any::<bool>())
                .prop_map(|(value, list, negated)| ExprKind::In { value, list, negated });
            let function =
                proptest::sample::select(vec!["abs", "if", "shift", "average"]).prop_map(Name::new);
            let called = (function, proptest::collection::vec(inner.clone(), 0..3))
                .prop_map(|(function, arguments)| ExprKind::Call { function, arguments });
            prop_oneof![
                proptest::collection::vec(inner.clone(), 2..4).prop_map(ExprKind::And),
                proptest::collection::vec(inner, 2..4).prop_map(ExprKind::Or),
                boxed.clone().prop_map(ExprKind::Not),
                boxed.prop_map(ExprKind::Negate),
                binary,
                matched,
                listed,
                called,
            ]
            .prop_map(made)
        })
        .boxed()
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

fn item() -> impl Strategy<Value = Item> {
    let fraction = (0u32..=1_000_000_000).prop_map(|billionths| f64::from(billionths) / 1e9);
    let fraction = prop_oneof![fraction, Just(0.0), Just(1.0), Just(0.95)];
    let function =
        (proptest::sample::select(Function::NAMES.to_vec()), fraction).prop_map(|(name, fraction)| {
            Function::named(name, name.ends_with("quantile").then_some(fraction))
                .expect("a function by its name")
        });
    (function, option(name()), option(name()), any::<bool>()).prop_map(|(function, field, alias, every)| {
        Item { function, every_field: every && field.is_none(), field, alias, span: Span::default() }
    })
}

fn aggregate() -> BoxedStrategy<Aggregate> {
    let by = option(proptest::collection::vec(name(), 0..3));
    let zone = option(text().prop_map(|text| ZoneName { text, span: Span::default() }));
    let step = prop_oneof![length().prop_map(Step::Length), (1u32..120).prop_map(Step::Months)];
    let window = prop_oneof![
        Just(Window::Whole),
        (step, option(length()), option(length())).prop_map(|(step, over, offset)| Window::Every {
            step,
            over,
            offset
        }),
        length().prop_map(|gap| Window::Session { gap }),
    ];
    (window, proptest::collection::vec(item(), 1..4), by, zone)
        .prop_map(|(window, items, by, zone)| Aggregate { window, items, by, zone })
        .boxed()
}

/// Plain names, words of the language, and anything at all.
fn name() -> BoxedStrategy<Name> {
    let words = [
        "show", "last", "by", "as", "not", "in", "tag", "field", "now", "every", "count", "and", "or",
        "from", "where", "limit", "let", "of", "explain", "since", "rollup", "tables", "alter", "keep",
        "forever", "default", "database", "true", "null", "desc", "per", "on", "within", "max", "offset",
        "over", "join", "late", "merge",
    ];
    let word = proptest::sample::select(words.to_vec()).prop_map(str::to_owned);
    prop_oneof![4 => "[a-z_][a-z0-9_:]{0,6}", 2 => word, 1 => text()]
        .prop_filter_map("a name is not empty", |text| (!text.is_empty()).then(|| Name::new(text)))
        .boxed()
}

fn text() -> BoxedStrategy<String> {
    prop_oneof![".{0,6}".prop_map(String::from), any::<String>(), Just("\\\"'`\n\t\u{0}".to_owned())].boxed()
}

fn option<T: std::fmt::Debug>(strategy: impl Strategy<Value = T>) -> impl Strategy<Value = Option<T>> {
    proptest::option::of(strategy)
}
