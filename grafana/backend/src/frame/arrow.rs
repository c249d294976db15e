//! A frame as a file of Arrow, in the form that Grafana's server reads: settings as texts of JSON among the metadata.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampNanosecondArray, UInt64Array,
};
use arrow::datatypes::{Field as ArrowField, Schema};
use arrow::error::ArrowError;
use arrow::ipc::writer::FileWriter;
use serde_json::Value;

use super::{Field, Frame, Values};

pub fn to_arrow(frame: &Frame) -> Result<Vec<u8>, ArrowError> {
    let (fields, columns): (Vec<ArrowField>, Vec<ArrayRef>) = frame.fields.iter().map(column).unzip();
    let mut metadata =
        HashMap::from([("name".to_string(), String::new()), ("refId".to_string(), frame.ref_id.clone())]);
    if !frame.meta.is_empty() {
        metadata.insert("meta".to_string(), Value::Object(frame.meta.clone()).to_string());
    }
    let schema = Arc::new(Schema::new_with_metadata(fields, metadata));
    let mut file = Vec::new();
    let mut writer = FileWriter::try_new(&mut file, &schema)?;
    if !columns.is_empty() {
        writer.write(&RecordBatch::try_new(schema, columns)?)?;
    }
    writer.finish()?;
    drop(writer);
    Ok(file)
}

fn column(field: &Field) -> (ArrowField, ArrayRef) {
    let column: ArrayRef = match &field.values {
        Values::Time(values) => Arc::new(TimestampNanosecondArray::from(values.clone())),
        Values::Float(values) => Arc::new(Float64Array::from(values.clone())),
        Values::Integer(values) => Arc::new(Int64Array::from(values.clone())),
        Values::Unsigned(values) => Arc::new(UInt64Array::from(values.clone())),
        Values::Boolean(values) => Arc::new(BooleanArray::from(values.clone())),
        Values::Text(values) => Arc::new(StringArray::from(values.clone())),
        // Bytes are JSON for Grafana.
        Values::Json(values) => {
            Arc::new(BinaryArray::from_iter_values(values.iter().map(|value| value.to_string().into_bytes())))
        }
    };
    let is_nullable = !matches!(field.values, Values::Json(_));
    let mut metadata = HashMap::from([("name".to_string(), field.name.clone())]);
    if let Some(labels) = &field.labels {
        let labels: serde_json::Map<String, Value> =
            labels.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect();
        metadata.insert("labels".to_string(), Value::Object(labels).to_string());
    }
    if !field.config.is_empty() {
        metadata.insert("config".to_string(), Value::Object(field.config.clone()).to_string());
    }
    (ArrowField::new(&field.name, column.data_type().clone(), is_nullable).with_metadata(metadata), column)
}
