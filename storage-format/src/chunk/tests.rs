//! Chunks against a model: rows as plain vectors.

use proptest::prelude::*;

use super::integers::IntCodec;
use super::*;
use crate::bits::BitWriter;
use crate::corrupt;
use crate::gorilla::{WIDTH_START, put_residual};
use crate::point::{TIME_MAX, TIME_MIN, Value};

type Row = (Time, Vec<(u32, Value)>);

fn times_of(bytes: &[u8]) -> corrupt::Result<Vec<Time>> {
    let mut times = Vec::new();
    sealed::decode_times(bytes, &mut times).map(|()| times)
}

fn column_of(bytes: &[u8]) -> corrupt::Result<Option<ColumnValues>> {
    let mut joined = Joined::new(CHUNK_ROWS_MAX);
    sealed::decode_column(bytes, &mut joined)?;
    Ok(joined.finish())
}

fn cell(value: &Value) -> Cell<'_> {
    match value {
        Value::Float(value) => Cell::Float(*value),
        Value::Int(value) => Cell::Int(*value),
        Value::UInt(value) => Cell::UInt(*value),
        Value::Bool(value) => Cell::Bool(*value),
        Value::Str(value) => Cell::Str(value),
        Value::Binary(value) => Cell::Binary(value),
    }
}

/// Column ids are a field's place here.
fn value_of(column: u32) -> BoxedStrategy<Value> {
    match column {
        0 => prop_oneof![
            (-2000i32..2000).prop_map(|cents| Value::Float(f64::from(cents) / 100.0)),
            any::<u64>().prop_map(|bits| Value::Float(f64::from_bits(bits))),
        ]
        .boxed(),
        1 => prop_oneof![any::<i64>(), -5i64..5].prop_map(Value::Int).boxed(),
        2 => prop_oneof![any::<u64>(), 0u64..100].prop_map(Value::UInt).boxed(),
        3 => any::<bool>().prop_map(Value::Bool).boxed(),
        4 => "[ab]{0,2}|ü".prop_map(Value::Str).boxed(),
        5 => prop::collection::vec(any::<u8>(), 0..3).prop_map(Value::Binary).boxed(),
        _ => (-9i32..9).prop_map(|whole| Value::Float(f64::from(whole))).boxed(),
    }
}

const COLUMNS: u32 = 7;

/// Rows where each field is mostly there, mostly missing, or of a late start, in changing order.
fn rows() -> impl Strategy<Value = Vec<Row>> {
    let steps = prop_oneof![
        Just(vec![10_000_000_000i64; 100]),
        prop::collection::vec(9_990_000_000i64..10_010_000_000, 100),
        prop::collection::vec((1i64..2_000).prop_map(|millis| millis * 1_000_000), 100),
        prop::collection::vec(1i64..1 << 55, 100),
    ];
    let values: Vec<_> = (0..COLUMNS).map(value_of).collect();
    let row = (values, prop::collection::vec(0u8..100, COLUMNS as usize), 0..COLUMNS as usize);
    let rate = prop_oneof![Just(100u8), Just(90), Just(10), Just(0)];
    (
        TIME_MIN..0,
        steps,
        prop::collection::vec(rate, COLUMNS as usize),
        prop::collection::vec(row, 1..100),
        any::<bool>(),
    )
        .prop_map(|(first, steps, rates, rows, rotate)| {
            let mut time = first;
            let times = steps.into_iter().map(move |step| {
                time += step;
                time
            });
            let row = |(values, luck, turn): (Vec<Value>, Vec<u8>, usize)| {
                let mut cells: Vec<(u32, Value)> = values
                    .into_iter()
                    .enumerate()
                    .filter(|(id, _)| luck[*id] < rates[*id])
                    .map(|(id, value)| (id as u32, value))
                    .collect();
                if rotate && !cells.is_empty() {
                    let turn = turn % cells.len();
                    cells.rotate_left(turn);
                }
                cells
            };
            times.zip(rows.into_iter().map(row)).collect()
        })
}

fn open_chunk(rows: &[Row]) -> OpenChunk {
    let mut chunk = OpenChunk::new();
    for (time, cells) in rows {
        chunk.push(*time, cells.iter().map(|(id, value)| (*id, cell(value))));
    }
    chunk
}

/// `Cell` equality, but bit for bit.
fn same(a: Option<Cell<'_>>, b: Option<Cell<'_>>) -> bool {
    match (a, b) {
        (Some(Cell::Float(a)), Some(Cell::Float(b))) => a.to_bits() == b.to_bits(),
        (a, b) => a == b,
    }
}

fn check_column(rows: &[Row], id: u32, column: Option<&ColumnValues>) {
    let expected =
        rows.iter().map(|(_, cells)| cells.iter().find(|(known, _)| *known == id).map(|(_, v)| cell(v)));
    let gaps = expected.clone().filter(Option::is_none).count();
    let Some(column) = column else {
        assert_eq!(gaps, rows.len(), "column {id} is lost");
        return;
    };
    assert_eq!(column.len(), rows.len());
    assert_eq!(column.present.as_ref().map_or(0, |present| present.null_count()), gaps);
    assert_eq!(column.present.is_none(), gaps == 0);
    for (row, expected) in expected.enumerate() {
        assert!(same(column.get(row), expected), "row {row}: {:?} is not {expected:?}", column.get(row));
    }
}

fn check_open(rows: &[Row], chunk: &OpenChunk) {
    let mut times = Vec::new();
    chunk.decode_times(&mut times);
    assert!(times.iter().eq(rows.iter().map(|(time, _)| time)));
    (0..COLUMNS).for_each(|id| check_column(rows, id, chunk.decode_column(id).as_ref()));
}

fn check_sealed(rows: &[Row], chunk: &SealedChunk) {
    let mut times = Vec::new();
    chunk.decode_times(&mut times).unwrap();
    assert!(times.iter().eq(rows.iter().map(|(time, _)| time)));
    assert_eq!(
        (chunk.rows(), chunk.first_time(), chunk.last_time()),
        (rows.len(), times[0], times[times.len() - 1])
    );
    (0..COLUMNS).for_each(|id| check_column(rows, id, chunk.decode_column(id).unwrap().as_ref()));
}

proptest! {
    #[test]
    fn open_and_sealed_give_back_every_row(rows in rows()) {
        let open = open_chunk(&rows);
        check_open(&rows, &open);
        let sealed = open.seal();
        check_sealed(&rows, &sealed);

        let mut times = Vec::new();
        open.decode_times(&mut times);
        let columns: Vec<(u32, ColumnValues)> =
            open.columns().map(|id| (id, open.decode_column(id).unwrap())).collect();
        let borrowed: Vec<(u32, &ColumnValues)> = columns.iter().map(|(id, column)| (*id, column)).collect();
        check_sealed(&rows, &SealedChunk::from_columns(&times, &borrowed));
    }

    /// A sealed chunk, one in which some columns are missing, and an open one.
    #[test]
    fn chunks_that_follow_each_other_are_joined(rows in rows(), cuts in (0usize..100, 0usize..100)) {
        let (a, b) = (cuts.0 % rows.len(), cuts.1 % rows.len());
        let (first, second, third) = (&rows[..a.min(b)], &rows[a.min(b)..a.max(b)], &rows[a.max(b)..]);
        let sealed: Vec<SealedChunk> = [first, second]
            .into_iter()
            .filter(|rows| !rows.is_empty())
            .map(|rows| open_chunk(rows).seal())
            .collect();
        let open = open_chunk(third);
        for id in 0..COLUMNS {
            let mut joined = Joined::new(rows.len());
            sealed.iter().for_each(|chunk| chunk.join_column(id, &mut joined).unwrap());
            open.join_column(id, &mut joined);
            check_column(&rows, id, joined.finish().as_ref());
        }
    }

    #[test]
    fn the_last_row_is_known_if_it_is_whole(rows in rows()) {
        let open = open_chunk(&rows);
        let (_, last) = rows.last().unwrap();
        let known = |id: &u32| {
            let value = last.iter().find(|(known, _)| known == id).map(|(_, value)| cell(value))?;
            (!matches!(value, Cell::Str(_) | Cell::Binary(_))).then_some(value)
        };
        for ids in [&[0][..], &[1, 2, 3], &[6, 0, 3, 1], &[4], &[5], &[77]] {
            let expected: Option<Vec<Cell<'_>>> = ids.iter().map(known).collect();
            match (open.last_row(ids), expected) {
                (Some(found), Some(expected)) => {
                    prop_assert!(found.iter().zip(expected).all(|(a, b)| same(Some(*a), Some(b))));
                }
                (found, expected) => prop_assert_eq!(found.is_some(), expected.is_some()),
            }
        }
    }

    #[test]
    fn a_snapshot_stays_while_the_chunk_grows(rows in rows(), cut in 0usize..100) {
        let cut = cut % rows.len();
        let mut chunk = open_chunk(&rows[..cut]);
        let (all, some) = (chunk.snapshot(None), chunk.snapshot(Some(&[4, 0, 77])));
        for (time, cells) in &rows[cut..] {
            chunk.push(*time, cells.iter().map(|(id, value)| (*id, cell(value))));
        }
        check_open(&rows[..cut], &all);
        prop_assert!(some.columns().all(|id| id == 0 || id == 4));
        prop_assert_eq!(some.rows(), cut);
        for id in [0, 4] {
            check_column(&rows[..cut], id, some.decode_column(id).as_ref());
        }
        check_open(&rows, &chunk);
    }

    #[test]
    fn damage_is_noticed(rows in rows(), flip in any::<prop::sample::Index>(), bit in 0u8..8, column in 0..COLUMNS) {
        let sealed = open_chunk(&rows).seal();
        if let Some(bytes) = sealed.column_bytes(column) {
            let mut damaged = bytes.to_vec();
            damaged[flip.index(bytes.len())] ^= 1 << bit;
            prop_assert!(column_of(&damaged).is_err());
            let cut = flip.index(bytes.len());
            prop_assert!(column_of(&bytes[..cut]).is_err());
            prop_assert!(times_of(bytes).is_err(), "values are not times");
        }
    }

    /// A checksum may be right by chance or malice.
    #[test]
    fn damage_with_a_right_checksum_is_survived(
        rows in rows(), flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)
    ) {
        let sealed = open_chunk(&rows).seal();
        let mut times = Vec::new();
        sealed::encode_times(&rows.iter().map(|(time, _)| *time).collect::<Vec<_>>(), &mut times);
        let columns = (0..COLUMNS).filter_map(|id| sealed.column_bytes(id)).chain([times.as_slice()]);
        for bytes in columns {
            let mut damaged = bytes[..bytes.len() - 4].to_vec();
            for (at, byte) in &flips {
                let at = at.index(damaged.len());
                damaged[at] = *byte;
            }
            damaged.extend(crc32c::crc32c(&damaged).to_le_bytes());
            if let Ok(Some(column)) = column_of(&damaged) {
                prop_assert!(column.len() <= CHUNK_ROWS_MAX);
            }
            let _ = times_of(&damaged);
        }
    }

    #[test]
    fn any_bytes_are_survived(kind in 0u8..7, rows in 0u8..=255, bytes: Vec<u8>) {
        let _ = column_of(&bytes);
        let mut framed = [vec![kind, rows, 0], bytes].concat();
        framed.extend(crc32c::crc32c(&framed).to_le_bytes());
        let _ = column_of(&framed);
        let _ = times_of(&framed);
    }
}

#[test]
fn the_ends_of_time_and_numbers() {
    let mut chunk = OpenChunk::new();
    let rows = [(TIME_MIN, i64::MIN, u64::MAX), (0, i64::MAX, 0), (TIME_MAX, i64::MIN, u64::MAX)];
    for (time, int, uint) in rows {
        chunk.push(time, [(7, Cell::Int(int)), (9, Cell::UInt(uint))]);
    }
    let sealed = chunk.seal();
    assert_eq!(sealed.columns().collect::<Vec<_>>(), [7, 9]);
    for (id, expected) in
        [(7, Values::Int(rows.map(|row| row.1).to_vec())), (9, Values::UInt(rows.map(|row| row.2).to_vec()))]
    {
        assert_eq!(sealed.decode_column(id).unwrap().unwrap().values, expected);
        assert_eq!(chunk.decode_column(id).unwrap().values, expected);
    }
    let mut times = Vec::new();
    sealed.decode_times(&mut times).unwrap();
    assert_eq!(times, rows.map(|row| row.0));
}

#[test]
fn a_chunk_is_full_by_rows_or_by_text() {
    let mut chunk = OpenChunk::new();
    for row in 0..CHUNK_ROWS_MAX as i64 {
        assert!(!chunk.is_full());
        chunk.push(row, [(0, Cell::Bool(true))]);
    }
    assert!(chunk.is_full());
    assert!(chunk.seal().heap_bytes() < 60, "constants take next to nothing");

    let mut chunk = OpenChunk::new();
    let long = "x".repeat(CHUNK_TEXT_BYTES_MAX / 2);
    chunk.push(0, [(0, Cell::Str(&long))]);
    assert!(!chunk.is_full());
    chunk.push(1, [(0, Cell::Str(&long))]);
    assert!(chunk.is_full());
    assert!(chunk.heap_bytes() < CHUNK_TEXT_BYTES_MAX, "a repeated string is held once");
}

#[test]
fn a_row_without_cells_only_has_a_time() {
    let mut chunk = OpenChunk::new();
    chunk.push(1, []);
    chunk.push(2, [(0, Cell::Int(5))]);
    let column = chunk.seal().decode_column(0).unwrap().unwrap();
    assert_eq!((column.get(0), column.get(1), column.get(2)), (None, Some(Cell::Int(5)), None));
}

#[test]
#[should_panic(expected = "bug: a boolean in a column of another type")]
fn a_field_keeps_its_type() {
    let mut chunk = OpenChunk::new();
    chunk.push(1, [(0, Cell::Int(1))]);
    chunk.push(2, [(0, Cell::Bool(true))]);
}

/// Every line of an `example` block of FORMAT.md: what, values, `=`, bytes.
#[test]
fn the_examples_of_the_format_page_hold() {
    let page = include_str!("../../FORMAT.md");
    let blocks =
        page.split("```example\n").skip(1).filter_map(|rest| rest.split_once("```")).map(|(block, _)| block);
    let mut wrong = String::new();
    let mut count = 0;
    for line in blocks.flat_map(str::lines) {
        let (input, expected) = line.split_once(" = ").unwrap_or((line, ""));
        let hex: Vec<String> = example(input.trim()).iter().map(|byte| format!("{byte:02x}")).collect();
        count += 1;
        if hex.concat() != expected.replace(' ', "") {
            wrong += &format!("{} = {}\n", input.trim(), hex.join(" "));
        }
    }
    assert!(wrong.is_empty(), "FORMAT.md should say:\n{wrong}");
    assert!(count > 15, "the examples were not found");
}

fn example(input: &str) -> Vec<u8> {
    let mut words = input.split(' ');
    let what = words.next().unwrap();
    let words: Vec<&str> = words.collect();
    let present = Bitmap::of(words.iter().map(|word| *word != "-"));
    let words: Vec<&str> = words.into_iter().filter(|word| *word != "-").collect();
    let integers: Vec<i64> = words.iter().filter_map(|word| word.parse().ok()).collect();
    let floats: Vec<f64> = words.iter().filter_map(|word| word.parse().ok()).collect();
    let mut out = Vec::new();
    let dense = match what {
        "float" => Values::Float(floats),
        "int" => Values::Int(integers),
        "uint" => Values::UInt(words.iter().map(|word| word.parse().unwrap()).collect()),
        "bool" => Values::Bool(words.iter().map(|word| *word == "true").collect()),
        "str" => Values::Str(words.into_iter().collect()),
        _ => {
            encode_part(what, &integers, &floats, &mut out);
            return out;
        }
    };
    let gaps = (dense.len() < present.len()).then_some(&present);
    sealed::encode_column(present.len(), &dense, gaps, &mut out);
    let decoded = column_of(&out).unwrap().unwrap();
    assert_eq!((decoded.len(), decoded.field_type()), (present.len(), dense.field_type()));
    out
}

fn encode_part(what: &str, integers: &[i64], floats: &[f64], out: &mut Vec<u8>) {
    let name = what.replace('-', " ");
    if let Some(codec) = IntCodec::ALL.into_iter().find(|codec| codec.name() == name) {
        let deltas: Vec<i64> = integers::differences(integers).collect();
        integers::write_as(codec, integers, &deltas, out);
        assert_eq!(integers::decode(out, integers.len()).unwrap(), integers);
        return;
    }
    match what {
        "times" => sealed::encode_times(integers, out),
        "bitmap" => Bitmap::of(integers.iter().map(|bit| *bit == 1)).encode(out),
        "pack" => packed::encode(integers, out),
        "xor" => {
            let mut stream = FloatStream::default();
            floats.iter().for_each(|value| stream.push(*value));
            stream.write_to(out);
        }
        "residuals" => {
            let (mut writer, mut width) = (BitWriter::default(), WIDTH_START);
            integers.iter().for_each(|residual| put_residual(&mut writer, &mut width, *residual));
            writer.write_to(out);
        }
        _ => panic!("FORMAT.md has an example of an unknown kind: {what}"),
    }
}
