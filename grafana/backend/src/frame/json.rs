//! A frame as JSON, in the form that Grafana's browser side reads: a schema, and values by column. Times are milliseconds there, what they
//! have beyond that is beside them.

use serde_json::{Map, Value, json};

use super::{Field, Frame, Values};

const NANOSECONDS_PER_MS: i64 = 1_000_000;

pub fn to_json(frame: &Frame) -> Value {
    let nanos: Vec<Value> = frame.fields.iter().map(nanos).collect();
    let mut data = json!({ "values": frame.fields.iter().map(values).collect::<Vec<_>>() });
    if nanos.iter().any(|nanos| !nanos.is_null()) {
        data["nanos"] = Value::Array(nanos);
    }
    json!({
        "schema": {
            "refId": frame.ref_id,
            "meta": frame.meta,
            "fields": frame.fields.iter().map(schema).collect::<Vec<_>>(),
        },
        "data": data,
    })
}

fn schema(field: &Field) -> Value {
    let (kind, frame) = match field.values {
        Values::Time(_) => ("time", "time.Time"),
        Values::Float(_) => ("number", "float64"),
        Values::Integer(_) => ("number", "int64"),
        Values::Unsigned(_) => ("number", "uint64"),
        Values::Boolean(_) => ("boolean", "bool"),
        Values::Text(_) => ("string", "string"),
        Values::Json(_) => ("other", "json.RawMessage"),
    };
    let is_nullable = !matches!(field.values, Values::Json(_));
    let mut schema = Map::from_iter([
        ("name".to_string(), json!(field.name)),
        ("type".to_string(), json!(kind)),
        ("typeInfo".to_string(), json!({ "frame": frame, "nullable": is_nullable })),
    ]);
    if let Some(labels) = &field.labels {
        schema.insert("labels".to_string(), json!(labels));
    }
    if !field.config.is_empty() {
        schema.insert("config".to_string(), Value::Object(field.config.clone()));
    }
    Value::Object(schema)
}

fn values(field: &Field) -> Value {
    match &field.values {
        Values::Time(values) => {
            values.iter().map(|time| time.map(|time| time.div_euclid(NANOSECONDS_PER_MS))).collect()
        }
        Values::Float(values) => values.iter().copied().collect(),
        Values::Integer(values) => values.iter().copied().collect(),
        Values::Unsigned(values) => values.iter().copied().collect(),
        Values::Boolean(values) => values.iter().copied().collect(),
        Values::Text(values) => values.iter().cloned().collect(),
        Values::Json(values) => Value::Array(values.clone()),
    }
}

/// What a time has beyond its milliseconds, if one of them has.
fn nanos(field: &Field) -> Value {
    let Values::Time(times) = &field.values else { return Value::Null };
    let beyond = times.iter().map(|time| time.map_or(0, |time| time.rem_euclid(NANOSECONDS_PER_MS)));
    match beyond.clone().any(|beyond| beyond != 0) {
        true => beyond.collect(),
        false => Value::Null,
    }
}
