//! Errors as answers: a status, a word for programs, a sentence for people.
//!
//! Invariant: every answer of 4xx or 5xx is JSON in the shape of its door (ours here; InfluxDB's in `write` and
//! `influx_query`); 503 always says when to come back.

use axum::extract::Request;
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;

use crate::error::{Error, Kind};

/// Why a request has no answer.
#[derive(Debug)]
pub struct Failure {
    pub status: StatusCode,
    pub code: &'static str,
    /// Without the hint.
    pub message: String,
    pub hint: Option<String>,
    /// Line and column in what was sent.
    pub at: Option<(usize, usize)>,
    pub rendered: Option<String>,
}

/// A client that comes back sooner meets the same queue.
const RETRY_AFTER_SECONDS: &str = "2";

/// What the 404 answers name.
pub const DOORS: &str = "POST /write, /api/v2/write and /api/v3/write_lp take line protocol, POST /api/v1/write and /api/v1/read speak Prometheus' remote write and read, POST /v1/metrics takes OpenTelemetry's metrics; GET or POST /api/wql asks, and /api/v1/query and /api/v1/query_range as in Prometheus; \
    GET /api/live goes on; GET /api/wql/explain, /api/queries, /api/rollups, /health, /ready, /ping and /metrics tell, and / shows a page in a browser; POST /api/flush, /api/compact and /api/backup work";

impl Failure {
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Failure {
        Failure { status, code, message: message.into(), hint: None, at: None, rendered: None }
    }

    /// A parameter or header that cannot be read.
    pub fn parameter(message: impl Into<String>) -> Failure {
        Failure::new(StatusCode::BAD_REQUEST, "bad_parameter", message)
    }

    pub fn bug() -> Failure {
        let message =
            "this request has run into a bug of waterclock; the server's log says where, please report it";
        Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "bug", message)
    }

    /// Message and hint as one sentence, for doors that have one field for both.
    pub fn sentence(&self) -> String {
        match &self.hint {
            Some(hint) => format!("{}; {hint}", self.message),
            None => self.message.clone(),
        }
    }

    /// The statement was sent inside a longer one whose first line is ours: a place in it means nothing to the caller.
    pub fn below_first_line(self) -> Failure {
        match self.at {
            Some((line, column)) if line > 1 => Failure { at: Some((line - 1, column)), ..self },
            _ => self.unplaced(),
        }
    }

    pub fn unplaced(self) -> Failure {
        Failure { at: None, rendered: None, ..self }
    }

    /// What stands after `"error":`.
    pub fn described(&self) -> ErrorJson<'_> {
        let (line, column) = self.at.unzip();
        ErrorJson {
            code: self.code,
            message: &self.message,
            line,
            column,
            hint: self.hint.as_deref(),
            rendered: self.rendered.as_deref(),
        }
    }

    /// An answer in the shape of the door, with the headers that go with the status.
    pub fn answer(&self, body: &impl Serialize) -> Response {
        let mut response = json_answer(self.status, body);
        self.add_retry_after(&mut response);
        response
    }

    /// Says when to come back, if it may pass then.
    pub fn add_retry_after(&self, response: &mut Response) {
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECONDS));
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let status = match &error {
            Error::Rejected(rejection) => match rejection.kind {
                Kind::Invalid => StatusCode::BAD_REQUEST,
                Kind::NotFound => StatusCode::NOT_FOUND,
                Kind::Forbidden => StatusCode::FORBIDDEN,
                Kind::Conflict => StatusCode::CONFLICT,
                Kind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
                Kind::OverLimit => StatusCode::UNPROCESSABLE_ENTITY,
                Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            },
            // It may pass once somebody has made room; a client that keeps its points loses none.
            error if error.is_disk_full() => StatusCode::SERVICE_UNAVAILABLE,
            Error::Corrupt { .. } | Error::Io { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        };
        match error {
            Error::Rejected(rejection) => Failure {
                status,
                code: rejection.code,
                message: rejection.why,
                hint: rejection.hint,
                at: rejection.at,
                rendered: rejection.rendered,
            },
            error => {
                let code = match &error {
                    Error::Corrupt { .. } => "corrupt",
                    error if error.is_disk_full() => "disk_full",
                    _ => "io",
                };
                Failure::new(status, code, error.to_string())
            }
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        if self.status.is_server_error() {
            tracing::warn!(code = self.code, error = self.message, "a request failed");
        }
        self.answer(&json!({ "error": self.described() }))
    }
}

/// An error as an object.
#[derive(Serialize)]
pub struct ErrorJson<'a> {
    code: &'a str,
    message: &'a str,
    line: Option<usize>,
    column: Option<usize>,
    hint: Option<&'a str>,
    /// The line of the statement with a caret under the place.
    rendered: Option<&'a str>,
}

pub fn json_answer(status: StatusCode, body: &impl Serialize) -> Response {
    let text = serde_json::to_string(body).expect("answers have text keys and no cycles");
    (status, [(header::CONTENT_TYPE, "application/json")], text).into_response()
}

pub async fn no_such_door(uri: Uri) -> Response {
    let path = uri.path();
    if path.starts_with("/api/v2/") {
        let message =
            format!("there is no {path} here: of the v2 API, waterclock has POST /api/v2/write; {DOORS}");
        return json_answer(StatusCode::NOT_FOUND, &json!({ "code": "not found", "message": message }));
    }
    let message = if path.starts_with("/api/v1/") {
        format!("of Prometheus' API there is no {path} here; {DOORS}")
    } else {
        format!("there is no {path} here; {DOORS}")
    };
    Failure::new(StatusCode::NOT_FOUND, "unknown_path", message).into_response()
}

pub async fn wrong_method(method: Method, request: Request) -> Response {
    let message =
        format!("{} does not take {method}; the header Allow says what it takes", request.uri().path());
    Failure::new(StatusCode::METHOD_NOT_ALLOWED, "wrong_method", message).into_response()
}
