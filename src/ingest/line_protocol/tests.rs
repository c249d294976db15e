//! Small cases by hand, the text of every refusal, and random lines: printed and read back, and compared
//! with the crate influxdb-line-protocol.

use proptest::prelude::*;

use super::*;

/// A point in one line: `measurement key=value ... | name=type:value ... | time`.
fn show(line: &Line<'_>) -> Result<String> {
    let series = line.parse_series()?;
    let mut out = series.measurement.into_owned();
    for (key, value) in series.tags {
        out += &format!(" {key}={value}");
    }
    out += " |";
    for field in line.fields() {
        let (name, value) = field?;
        let value = match value {
            FieldValue::Float(value) => format!("{value:?}"),
            FieldValue::Int(value) => format!("{value}i"),
            FieldValue::UInt(value) => format!("{value}u"),
            FieldValue::Bool(value) => format!("{value}"),
            FieldValue::Str(value) => format!("{:?}", value.unescape()),
        };
        out += &format!(" {}={value}", name.unescape());
    }
    let time = line.time_or(0, Precision::Nanos)?;
    Ok(if line.time.is_some() { format!("{out} | {time}") } else { out })
}

/// Points and refusals, in the order of the lines.
fn read(body: &[u8]) -> Vec<std::result::Result<String, String>> {
    lines(body).map(|line| line.and_then(|line| show(&line)).map_err(|error| error.to_string())).collect()
}

#[test]
fn lines_are_read() {
    let cases: &[(&str, &str)] = &[
        ("m f=1", "m | f=1.0"),
        ("m,b=2,a=1 f=1i 5", "m a=1 b=2 | f=1i | 5"),
        (" \tm  f=1   -5  ", "m | f=1.0 | -5"),
        ("m f=1\r\n", "m | f=1.0"),
        ("m f=1 007\r", "m | f=1.0 | 7"),
        ("m f=1,f=2u", "m | f=1.0 f=2u"),
        ("m a=-0,b=-0i,c=1e3,d=.5,e=-.5,f=5.", "m | a=-0.0 b=0i c=1000.0 d=0.5 e=-0.5 f=5.0"),
        (
            "m f=123456789012345678i,g=9223372036854775807i",
            "m | f=123456789012345678i g=9223372036854775807i",
        ),
        ("m f=12345678901234567890", "m | f=1.2345678901234567e19"),
        ("m f=9007199254740993", "m | f=9007199254740992.0"),
        ("m f=1e-400", "m | f=0.0"),
        (r"a\,b\ c\=d\e,k\=\ =v\,w f\,\=\ g=1", r"a,b c\=d\e k= =v,w | f,= g=1.0"),
        (r"m,k=a\\,l=x=y f=1", r"m k=a\,l=x=y | f=1.0"),
        ("\"m\",\"k\"=\"v \"f\"=t", "\"m\" \"k\"=\"v | \"f\"=true"),
        (r#"m f="",g="a b,c=d\\\"\n",h=f 1"#, r#"m | f="" g="a b,c=d\\\"\\n" h=false | 1"#),
        ("m f=\"a\nb\",g=1", "m | f=\"a\\nb\" g=1.0"),
        ("m f=\"\0\"", "m | f=\"\\0\""),
        ("m\u{1},k\u{7f}=\u{2} f\t=1", "m\u{1} k\u{7f}=\u{2} | f\t=1.0"),
        ("#m f=1\n\n \t\r\n  # x", ""),
        ("é,ключ=値 ☺=1", "é ключ=値 | ☺=1.0"),
        (r"\#m f=1", r"\#m | f=1.0"),
    ];
    for (body, expected) in cases {
        let expected: Vec<_> = expected.lines().map(|line| Ok(line.to_string())).collect();
        assert_eq!(read(body.as_bytes()), expected, "{body:?}");
    }
}

#[test]
fn refusals_name_thing_place_and_cure() {
    let cases: &[(&[u8], usize, &str)] = &[
        (b"cpu", 1, "cpu has no fields; after a space, write name=value"),
        (b"cpu  \r\n", 1, "cpu has no fields; after a space, write name=value"),
        (b",a=1 f=1", 1, "there is no measurement before the first comma; begin with its name"),
        (b"m, f=1", 3, "a comma is followed by no tag; write key=value, or drop the comma"),
        (b"m,=1 f=1", 3, "the tag value 1 has no key before the =; write key=value"),
        (b" m,host= f=1", 4, "tag \"host\" has no value; write key=value, or leave the tag out"),
        (b"m,host f=1", 3, "tag \"host\" has no value; write key=value, or leave the tag out"),
        (b"m,a=1,b=2,a=1 f=1", 1, "tag \"a\" stands there twice; give it one value"),
        (b"m,time=1 f=1", 3, "a tag is named time, the name of the timestamp; name it otherwise"),
        (b"m,a\0b=1 f=1", 3, "the tag key a\\u{0}b has a NUL character; leave it out"),
        (
            b"m time=1",
            3,
            "a field is named time, the name of the timestamp; name it otherwise, or write the time after the fields",
        ),
        (b"m 1234", 3, "1234 stands where a field should be, but has no value; write name=value"),
        (b"m a,b=1", 3, "a stands where a field should be, but has no value; write name=value"),
        (b"m a=1,", 7, "a comma is followed by no field; write name=value, or drop the comma"),
        (b"m =1", 3, "a field has no name before the =; write name=value"),
        (b"m usage=", 9, "field \"usage\" has no value; write name=value, or leave the field out"),
        (
            b"m usage=abc",
            9,
            "field \"usage\" has the value abc, which is no number, boolean or \"string\"; strings need double quotes",
        ),
        (
            b"m usage=+1",
            9,
            "field \"usage\" has the value +1, which is no number, boolean or \"string\"; strings need double quotes",
        ),
        (
            b"m usage=0x1f",
            9,
            "field \"usage\" has the value 0x1f, which is no number, boolean or \"string\"; strings need double quotes",
        ),
        (
            b"m usage=1.5i",
            9,
            "field \"usage\" has the value 1.5i, which is no number, boolean or \"string\"; strings need double quotes",
        ),
        (
            b"m usage=1e",
            9,
            "field \"usage\" has the value 1e, which is no number, boolean or \"string\"; strings need double quotes",
        ),
        (
            b"m usage='abc'",
            9,
            "field \"usage\" has the value 'abc'; strings need double quotes, not single ones",
        ),
        (
            b"m usage=NaN",
            9,
            "field \"usage\" has the value NaN, which line protocol cannot store; leave the field out",
        ),
        (
            b"m usage=-inf",
            9,
            "field \"usage\" has the value -inf, which line protocol cannot store; leave the field out",
        ),
        (
            b"m usage=-1e999",
            9,
            "field \"usage\" has the value -1e999, which is too large for a float of 64 bits (1.8e308)",
        ),
        (
            b"m usage=-9223372036854775809i",
            9,
            "field \"usage\" has the value -9223372036854775809i, which does not fit 64 bits (-9223372036854775808 to 9223372036854775807); write it without i, as a float",
        ),
        (
            b"m usage=18446744073709551616u",
            9,
            "field \"usage\" has the value 18446744073709551616u, which does not fit 64 bits (0 to 18446744073709551615); write it without u, as a float",
        ),
        (
            b"m usage=-1u",
            9,
            "field \"usage\" has the value -1u, but unsigned numbers (u) are not negative; end it with i",
        ),
        (
            b"m s=\"a\"b\"",
            8,
            "after the string of field \"s\" comes b\", where a comma or a space should be; write a quote inside a string as \\\"",
        ),
        (b"m s=\"a", 3, "a string does not end; close it with \", and write a quote inside a string as \\\""),
        (
            b"m f=1 noon",
            7,
            "the timestamp noon is no whole number; count from 1970 UTC, in the unit of precision",
        ),
        (b"m f=1 -", 7, "the timestamp - is no whole number; count from 1970 UTC, in the unit of precision"),
        (
            b"m f=1 +1",
            7,
            "the timestamp +1 is no whole number; count from 1970 UTC, in the unit of precision",
        ),
        (
            b"m f=1 1  2",
            7,
            "after the fields comes 1  2, which is more than a timestamp; spaces in names need a backslash, and strings need double quotes",
        ),
        (
            b"m f=1 9223372036854775807",
            7,
            "the timestamp 9223372036854775807 in nanoseconds lies outside the years 1677 to 2262; if it is in another unit, say so with the parameter precision",
        ),
        ("é f=1,g".as_bytes(), 7, "g stands where a field should be, but has no value; write name=value"),
        (b"m f\xff=1", 4, "byte 4 is not UTF-8; send the text as UTF-8"),
    ];
    for (body, column, what) in cases {
        let error = lines(body).map(|line| line.and_then(|line| show(&line))).next().unwrap();
        let error = *error.expect_err(&String::from_utf8_lossy(body));
        assert_eq!(
            (error.column, error.what.as_str()),
            (*column, *what),
            "{:?}",
            String::from_utf8_lossy(body)
        );
        assert_eq!(error.to_string(), format!("line 1: {what}"));
    }
}

#[test]
fn bad_lines_harm_no_others() {
    let body =
        b"# comment\nm f=1\nm f=bad\n\nm s=\"two\nlines\"\nm s=\"never closed\nm f=2 7\nm f=\xff1\n\nm f=3";
    let numbers: Vec<usize> = lines(body)
        .map(|line| match line.and_then(|line| show(&line).map(|_| line.number)) {
            Ok(number) => number,
            Err(error) => 100 + error.number,
        })
        .collect();
    assert_eq!(numbers, [2, 103, 5, 107, 8, 109, 11]);
    let last = read(body).pop().unwrap();
    assert_eq!(last, Ok("m | f=3.0".to_string()));
}

#[test]
fn limits_have_edges() {
    let is_read = |body: String| read(body.as_bytes()).iter().all(|line| line.is_ok());
    let name = |len| "n".repeat(len);
    assert!(is_read(format!("{} f=1", name(NAME_BYTES_MAX))));
    assert!(!is_read(format!("{} f=1", name(NAME_BYTES_MAX + 1))));
    assert!(is_read(format!("m {}=1", name(NAME_BYTES_MAX))));
    assert!(!is_read(format!("m {}=1", name(NAME_BYTES_MAX + 1))));
    assert!(is_read(format!("m f=\"{}\"", name(LINE_BYTES_MAX - 6))));
    assert!(!is_read(format!("m f=\"{}\"", name(LINE_BYTES_MAX - 5))));
    let tags = |count| (0..count).map(|tag| format!(",t{tag}=x")).collect::<String>();
    assert!(is_read(format!("m{} f=1", tags(TAGS_PER_LINE_MAX))));
    assert!(!is_read(format!("m{} f=1", tags(TAGS_PER_LINE_MAX + 1))));
    let error = lines(&[b'x'; 9_999]).next().unwrap().expect_err("no fields");
    assert_eq!(error.text.len(), LINE_SHOWN_BYTES_MAX);
    assert!(error.to_string().len() < 200, "{error}");
}

#[test]
fn remembered_names_skip_the_search() {
    let line = lines(br"m a\==1i,b=2.5,c=t").next().unwrap().unwrap();
    let mut fields = line.fields();
    assert_eq!(fields.next_named("a"), None);
    assert_eq!(fields.next_named(r"a\="), Some(Ok(FieldValue::Int(1))));
    assert_eq!(fields.next_named("a"), None);
    let (name, value) = fields.next().unwrap().unwrap();
    assert_eq!((name.raw(), value), ("b", FieldValue::Float(2.5)));
    assert!(!fields.is_done());
    assert_eq!(fields.next_named("c"), Some(Ok(FieldValue::Bool(true))));
    assert!(fields.is_done() && fields.next_named("c").is_none() && fields.next().is_none());

    let line = lines(b"m a=1,b=x,c=1").next().unwrap().unwrap();
    let mut fields = line.fields();
    assert!(fields.next_named("a").unwrap().is_ok());
    assert!(fields.next_named("b").unwrap().is_err());
    assert!(fields.is_done() && fields.next().is_none(), "an error ends the line");
}

#[test]
fn precisions() {
    let all = ["n", "ns", "u", "us", "µ", "μ", "ms", "s", "m", "h", "auto", "second", "nanosecond", ""];
    let taken = |from: fn(&str) -> Option<Precision>| {
        all.map(|name| from(name).map_or(' ', letter)).into_iter().collect::<String>()
    };
    fn letter(precision: Precision) -> char {
        match precision {
            Precision::Auto => 'a',
            Precision::Nanos => 'n',
            Precision::Micros => 'u',
            Precision::Millis => 'i',
            Precision::Seconds => 's',
            Precision::Minutes => 'm',
            Precision::Hours => 'h',
        }
    }
    assert_eq!(taken(Precision::from_v1), "nnuuuuismh    ");
    assert_eq!(taken(Precision::from_v2), " n u  is      ");
    assert_eq!(taken(Precision::from_v3), "nnuu  is  asn ");

    assert_eq!(Precision::Hours.to_nanos(-1), Some(-3_600_000_000_000));
    assert_eq!(Precision::Seconds.to_nanos(i64::MAX / NANOS + 1), None);
    assert_eq!(Precision::Nanos.to_nanos(i64::MAX), None);
    assert_eq!(Precision::Nanos.to_nanos(i64::MIN + 1), None);
    const NANOS: i64 = 1_000_000_000;
    for (time, unit) in
        [(1_700_000_000, NANOS), (1_700_000_000_000, 1_000_000), (-1_700_000_000_000_000, 1_000)]
    {
        assert_eq!(Precision::Auto.to_nanos(time), Some(time * unit));
    }
    assert_eq!(Precision::Auto.to_nanos(4_999_999_999), Some(4_999_999_999 * NANOS));
    assert_eq!(Precision::Auto.to_nanos(5_000_000_000), Some(5_000_000_000_000_000));
    assert_eq!(Precision::Auto.to_nanos(5_000_000_000_000_000), Some(5_000_000_000_000_000));
    assert_eq!(Precision::Auto.to_nanos(i64::MIN), None);
}

#[derive(Clone, Debug)]
enum Sample {
    Float(f64),
    Int(i64),
    UInt(u64),
    Bool(bool),
    Str(String),
}

#[derive(Clone, Debug)]
struct Point {
    measurement: String,
    tags: std::collections::BTreeMap<String, String>,
    fields: Vec<(String, Sample)>,
    time: Option<i64>,
}

/// Names of any characters that can be written; a backslash at the end or before a delimiter cannot.
fn name() -> impl Strategy<Value = String> {
    proptest::string::string_regex("[a-zA-Z ,=\"é値#\\\\\t.-]{0,6}[a-z]").unwrap().prop_filter(
        "cannot be written",
        |name| {
            let delimiter_after_backslash =
                [r"\,", r"\=", r"\ ", r"\\"].iter().any(|pair| name.contains(pair));
            !name.starts_with(['#', '\t']) && !delimiter_after_backslash && name != "time"
        },
    )
}

fn point() -> impl Strategy<Value = Point> {
    let sample = prop_oneof![
        any::<f64>().prop_filter("finite", |value| value.is_finite()).prop_map(Sample::Float),
        any::<i64>().prop_map(Sample::Int),
        any::<u64>().prop_map(Sample::UInt),
        any::<bool>().prop_map(Sample::Bool),
        "[a-z \"\\\\\n,=é]{0,8}".prop_map(Sample::Str),
    ];
    let tags = prop::collection::btree_map(name(), name(), 0..4);
    let fields = prop::collection::vec((name(), sample), 1..4);
    let time = prop::option::of(-1_000_000_000_000_000_000..1_000_000_000_000_000_000i64);
    (name(), tags, fields, time).prop_map(|(measurement, tags, fields, time)| Point {
        measurement,
        tags,
        fields,
        time,
    })
}

fn escape(text: &str, delimiters: &str) -> String {
    text.chars().flat_map(|c| delimiters.contains(c).then_some('\\').into_iter().chain([c])).collect()
}

fn print(point: &Point) -> String {
    let mut out = escape(&point.measurement, ", ");
    for (key, value) in &point.tags {
        out += &format!(",{}={}", escape(key, ",= "), escape(value, ",= "));
    }
    for (index, (name, value)) in point.fields.iter().enumerate() {
        let value = match value {
            Sample::Float(value) if index % 2 == 0 => format!("{value}"),
            Sample::Float(value) => format!("{value:e}"),
            Sample::Int(value) => format!("{value}i"),
            Sample::UInt(value) => format!("{value}u"),
            Sample::Bool(value) => format!("{value}"),
            Sample::Str(value) => format!("\"{}\"", escape(value, "\"\\")),
        };
        out += &format!("{}{}={value}", if index == 0 { ' ' } else { ',' }, escape(name, ",= "));
    }
    point.time.map_or(out.clone(), |time| format!("{out} {time}"))
}

fn check_line(line: &Line<'_>, point: &Point) {
    let series = line.parse_series().unwrap();
    assert_eq!(series.measurement, point.measurement);
    let tags: Vec<_> = point.tags.iter().map(|(key, value)| (key.into(), value.into())).collect();
    assert_eq!(series.tags, tags);
    let mut fields = line.fields();
    for (name, value) in &point.fields {
        let (read_name, read_value) = fields.next().unwrap().unwrap();
        assert_eq!(read_name.unescape(), name.as_str());
        match (read_value, value) {
            (FieldValue::Float(a), Sample::Float(b)) => assert_eq!(a.to_bits(), b.to_bits()),
            (FieldValue::Int(a), Sample::Int(b)) => assert_eq!(a, *b),
            (FieldValue::UInt(a), Sample::UInt(b)) => assert_eq!(a, *b),
            (FieldValue::Bool(a), Sample::Bool(b)) => assert_eq!(a, *b),
            (FieldValue::Str(a), Sample::Str(b)) => assert_eq!(a.unescape(), b.as_str()),
            other => panic!("{other:?}"),
        }
    }
    assert!(fields.is_done());
    assert_eq!(line.time_or(42, Precision::Nanos), Ok(point.time.unwrap_or(42)));
}

proptest! {
    #[test]
    fn points_read_back(points in prop::collection::vec(point(), 1..5), crlf: bool) {
        let printed: Vec<String> = points.iter().map(print).collect();
        let body = printed.join(if crlf { "\r\n" } else { "\n" });
        let read: Vec<_> = lines(body.as_bytes()).map(|line| line.unwrap()).collect();
        prop_assert_eq!(read.len(), points.len());
        for (line, point) in read.iter().zip(&points) {
            check_line(line, point);
        }
    }

    #[test]
    fn the_other_crate_agrees(point in point()) {
        use influxdb_line_protocol::{FieldValue as Theirs, parse_lines};
        let text = print(&point).replace('\t', "-"); // where a tab ends a name
        let line = lines(text.as_bytes()).next().unwrap().unwrap();
        let series = line.parse_series().unwrap();
        let theirs = parse_lines(&text).next().unwrap().map_err(|error| TestCaseError::fail(format!("{error}")))?;
        prop_assert_eq!(theirs.series.measurement.as_str(), &*series.measurement);
        let mut tags: Vec<(String, String)> = theirs.series.tag_set.unwrap_or_default()
            .iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        tags.sort();
        let ours: Vec<(String, String)> = series.tags.iter()
            .map(|(key, value)| (key.to_string(), value.to_string())).collect();
        prop_assert_eq!(tags, ours);
        let ours: Vec<_> = line.fields().map(|field| field.unwrap()).collect();
        prop_assert_eq!(ours.len(), theirs.field_set.len());
        for ((name, value), (their_name, their_value)) in ours.iter().zip(&theirs.field_set) {
            prop_assert_eq!(&*name.unescape(), their_name.as_str());
            match (value, their_value) {
                (FieldValue::Float(a), Theirs::F64(b)) => prop_assert_eq!(a.to_bits(), b.to_bits()),
                (FieldValue::Int(a), Theirs::I64(b)) => prop_assert_eq!(a, b),
                (FieldValue::UInt(a), Theirs::U64(b)) => prop_assert_eq!(a, b),
                (FieldValue::Bool(a), Theirs::Boolean(b)) => prop_assert_eq!(a, b),
                (FieldValue::Str(a), Theirs::String(b)) => prop_assert_eq!(&*a.unescape(), b.as_str()),
                other => prop_assert!(false, "{:?}", other),
            }
        }
        prop_assert_eq!(theirs.timestamp, point.time);
    }

    #[test]
    fn any_bytes_are_survived(body: Vec<u8>) {
        read(&body);
    }

    /// Bytes that mean something, so that the odd places are reached.
    #[test]
    fn any_syntax_is_survived(body in "[a1=, \"\\\\\n\r\t#.eiu\\-\0é]{0,60}") {
        let newlines = body.matches('\n').count();
        for line in read(body.as_bytes()) {
            if let Err(error) = line {
                prop_assert!(error.starts_with("line "));
            }
        }
        // With a bad byte at the end each line is checked on its own; the other lines stay the same.
        let whole: Vec<_> = read(format!("{body}\n").as_bytes());
        let split: Vec<_> = read(&[body.as_bytes(), b"\n\xff"].concat());
        if whole.iter().all(|line| line.is_ok()) {
            prop_assert_eq!(&split[..whole.len()], &whole[..]);
        }
        prop_assert!(lines(body.as_bytes()).count() <= newlines + 1);
    }
}

proptest! {
    /// A body may be sent in parts that are cut where `whole_lines` says: no line is torn, whatever stands in it.
    #[test]
    fn parts_of_whole_lines_are_the_lines(body in "[a=, \"\\\\\n\r#1]{0,60}", cut in 0usize..60) {
        let texts = |body: &[u8]| -> Vec<String> {
            lines(body).map(|line| line.map_or_else(|error| error.text.clone(), |line| line.text.to_string())).collect()
        };
        let body = body.as_bytes();
        let whole = whole_lines(&body[..cut.min(body.len())]);
        let parts = [texts(&body[..whole]), texts(&body[whole..])].concat();
        prop_assert_eq!(parts, texts(body), "cut at {}", whole);
    }
}
