//! OpenTelemetry's metrics over HTTP: protobuf or JSON.
//!
//! Invariant: 200 only after every data point is durable and readable; the answer has the form of the request, and says how many
//! data points were refused and why, so that an exporter does not send them again. What may pass later is 503.
//! Not here: what becomes of the metrics (`ingest`).

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use prost::Message;
use serde_json::json;

use crate::db::SamplesWritten;
use crate::server::body::Decoded;
use crate::server::params::Params;
use crate::server::reply::{Failure, json_answer};
use crate::server::{Doors, body, store};

#[derive(Clone, Copy, PartialEq)]
enum Form {
    Protobuf,
    Json,
}

pub async fn metrics(State(doors): State<Arc<Doors>>, request: Request) -> Response {
    let form = match form_of(&request) {
        Ok(form) => form,
        Err(failure) => return failure.into_response(),
    };
    match written(&doors, request, form).await {
        Ok(written) => answer(form, &written),
        Err(failure) => failure.into_response(),
    }
}

fn form_of(request: &Request) -> Result<Form, Failure> {
    let kind =
        request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        "application/x-protobuf" => Ok(Form::Protobuf),
        "application/json" => Ok(Form::Json),
        other => {
            let shown: String = other.chars().take(64).collect();
            let message =
                format!("the Content-Type is {shown:?}; send application/x-protobuf or application/json");
            Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "bad_content", message))
        }
    }
}

async fn written(doors: &Arc<Doors>, request: Request, form: Form) -> Result<SamplesWritten, Failure> {
    let database = Params::of_query(request.uri().query()).database(&["db"])?;
    let body = body::read(request, doors).await?;
    store::store(doors, body, move |db, body, answer| match decode(form, body) {
        Ok(request) => db.write_otlp(&database, &request, |outcome| answer.give(outcome)),
        Err(failure) => answer.refuse(failure),
    })
    .await
}

fn decode(form: Form, body: &Decoded) -> Result<ExportMetricsServiceRequest, Failure> {
    let wrong = |what: String| Failure::new(StatusCode::BAD_REQUEST, "bad_otlp", what);
    match form {
        Form::Protobuf => ExportMetricsServiceRequest::decode(body.bytes.clone())
            .map_err(|error| wrong(format!("the body is no ExportMetricsServiceRequest: {error}"))),
        Form::Json => serde_json::from_slice(&body.bytes)
            .map_err(|error| wrong(format!("the body is no ExportMetricsServiceRequest in JSON: {error}"))),
    }
}

fn answer(form: Form, written: &SamplesWritten) -> Response {
    let refused = &written.refused;
    let sentence = refused.reasons.join("; ");
    if form == Form::Json {
        let partial = json!({ "rejectedDataPoints": refused.count.to_string(), "errorMessage": sentence });
        let body = if refused.count > 0 { json!({ "partialSuccess": partial }) } else { json!({}) };
        return json_answer(StatusCode::OK, &body);
    }
    let partial_success = (refused.count > 0).then(|| ExportMetricsPartialSuccess {
        rejected_data_points: i64::try_from(refused.count).unwrap_or(i64::MAX),
        error_message: sentence,
    });
    let body = ExportMetricsServiceResponse { partial_success }.encode_to_vec();
    (StatusCode::OK, [(header::CONTENT_TYPE, "application/x-protobuf")], body).into_response()
}
