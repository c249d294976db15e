//! Segments, records and bodies: round trips, damage, and the examples of the format page.

use proptest::prelude::*;

use super::*;

fn example() -> Vec<u8> {
    let mut segment = Vec::new();
    encode_segment_header(&mut segment, 1);
    let mut body = Vec::new();
    encode_table(&mut body, 0, "db", "cpu");
    encode_column(&mut body, 0, 0, FieldType::Int, "u");
    encode_series(&mut body, 0, 0, &TagSet::new([("h", "a")]));
    encode_record(&mut segment, Kind::Definitions, &body);
    let points = Points {
        layouts: vec![vec![0]],
        rows: vec![PointRow { time: 1_000, series: 0, layout: 0, values: 0 }],
        values: vec![5],
        text: Vec::new(),
    };
    let mut body = 1u64.to_le_bytes().to_vec();
    points.encode(&mut body, 0, &[FieldType::Int]);
    encode_record(&mut segment, Kind::Points, &body);
    segment
}

#[test]
fn the_format_page_shows_these_bytes() {
    let page = include_str!("../../FORMAT.md");
    let log = page.split("## Log").nth(1).unwrap();
    let hex = log.split("```hex").nth(1).unwrap().split("```").next().unwrap();
    let bytes: Vec<u8> = hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    let ours: String = example().iter().map(|byte| format!("{byte:02x} ")).collect();
    assert_eq!(bytes, example(), "the code writes {ours}");
}

#[test]
fn a_segment_reads_back() {
    let segment = example();
    assert_eq!(decode_segment_header(&segment), Ok(1));
    let steps: Vec<Step<'_>> = Records::new(&segment).collect();
    let [Step::Record(definitions), Step::Record(points)] = steps.as_slice() else { panic!("{steps:?}") };
    let mut rest = definitions.body;
    assert_eq!(decode_definition(&mut rest), Ok(Definition::Table { table: 0, database: "db", name: "cpu" }));
    decode_definition(&mut rest).unwrap();
    decode_definition(&mut rest).unwrap();
    assert!(rest.is_empty());
    let (table, points) = Points::decode(&mut &points.body[8..], |_, _| Some(FieldType::Int)).unwrap();
    assert_eq!((table, points.rows[0].time, points.values[0]), (0, 1_000, 5));
}

#[test]
fn a_newer_version_is_refused_by_name() {
    let mut segment = example();
    segment[5] = 2;
    let crc = crc32c::crc32c(&segment[..14]);
    segment[14..18].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(decode_segment_header(&segment).unwrap_err().what, "the log segment is of a newer version");
}

/// What we break, and which steps a reader must take: r record, d damage, t torn, o room.
#[test]
fn damage_table() {
    let one = |text: &str| {
        let mut out = Vec::new();
        encode_record(&mut out, Kind::Delete, text.as_bytes());
        out
    };
    let len = one("first").len();
    let cases: [(&str, Box<dyn Fn(&mut Vec<u8>)>, &str); 11] = [
        ("nothing", Box::new(|_| ()), "rrr"),
        ("body of the first", Box::new(|s| s[SEGMENT_HEADER_BYTES + 10] ^= 1), "drr"),
        ("length of the first", Box::new(|s| s[SEGMENT_HEADER_BYTES + 1] ^= 0x40), "drr"),
        ("kind of the middle", Box::new(move |s| s[SEGMENT_HEADER_BYTES + len + 8] = 9), "rdr"),
        ("body of the last", Box::new(|s| *s.last_mut().unwrap() ^= 1), "rrt"),
        ("last byte missing", Box::new(|s| s.truncate(s.len() - 1)), "rrt"),
        ("last record cut in its header", Box::new(move |s| s.truncate(s.len() - len + 3)), "rrt"),
        ("room at the end", Box::new(|s| s.extend([0; 40])), "rrro"),
        ("fewer zeros than a record's header", Box::new(|s| s.extend([0; 3])), "rrro"),
        (
            "last byte missing, before room",
            Box::new(|s| {
                s.pop();
                s.extend([0; 40])
            }),
            "rrt",
        ),
        ("something in the room", Box::new(|s| s.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0])), "rrrt"),
    ];
    for (what, break_it, expected) in cases {
        let mut segment = Vec::new();
        encode_segment_header(&mut segment, 7);
        ["first", "secnd", "third"].iter().for_each(|text| segment.extend(one(text)));
        break_it(&mut segment);
        let steps: String = Records::new(&segment)
            .map(|step| match step {
                Step::Record(_) => 'r',
                Step::Damage { .. } => 'd',
                Step::Torn { .. } => 't',
                Step::Room { .. } => 'o',
            })
            .collect();
        assert_eq!(steps, expected, "{what}");
    }
}

fn any_points() -> impl Strategy<Value = (Vec<FieldType>, Points)> {
    let types = prop::collection::vec(prop::sample::select(FieldType::ALL.to_vec()), 1..6);
    types
        .prop_flat_map(|types| {
            let columns = types.len() as u32;
            let layouts = prop::collection::vec(prop::collection::vec(0..columns, 1..5), 1..4);
            let rows =
                prop::collection::vec((any::<i64>(), any::<u32>(), any::<prop::sample::Index>()), 0..20);
            (Just(types), layouts, rows, any::<u64>(), ".{0,12}")
        })
        .prop_map(|(types, layouts, rows, seed, text)| {
            let mut points = Points { layouts, text: text.into_bytes(), ..Points::default() };
            // Strings come back in the order of the rows, so build them that way.
            let word = std::mem::take(&mut points.text);
            for (time, series, layout) in rows {
                let layout = layout.index(points.layouts.len());
                let row =
                    PointRow { time, series, layout: layout as u32, values: points.values.len() as u32 };
                points.rows.push(row);
                for column in &points.layouts[layout] {
                    let bits = seed.wrapping_mul(points.values.len() as u64 + 1);
                    points.values.push(match types[*column as usize] {
                        FieldType::Bool => bits & 1,
                        FieldType::Str | FieldType::Binary => {
                            let at = points.text.len();
                            points.text.extend_from_slice(&word);
                            StrRef::new(at, word.len()).0
                        }
                        _ => bits,
                    });
                }
            }
            (types, points)
        })
}

proptest! {
    #[test]
    fn points_round_trip((types, points) in any_points()) {
        let mut bytes = Vec::new();
        points.encode(&mut bytes, 3, &types);
        let mut rest = bytes.as_slice();
        let decoded = Points::decode(&mut rest, |_, column| types.get(column as usize).copied()).unwrap();
        prop_assert!(rest.is_empty());
        prop_assert_eq!(decoded, (3, points));
    }

    #[test]
    fn any_bytes_are_survived(bytes: Vec<u8>) {
        Records::new(&bytes).for_each(drop);
        let _ = decode_segment_header(&bytes);
        let _ = Delete::decode(&bytes);
        let mut rest = bytes.as_slice();
        while decode_definition(&mut rest).is_ok() {}
        for field_type in FieldType::ALL {
            let _ = Points::decode(&mut bytes.as_slice(), |_, _| Some(field_type));
        }
    }
}
