//! `GET /`: a page to ask in, for people; what there is in plain text, for those who do not ask for HTML.
//!
//! Invariant: the page is whole in this program. The policy sent with it lets a browser load nothing from elsewhere.
//! Not here: what the page asks, which are the doors that everybody has (`wql`, `rollups`).

use std::hash::{DefaultHasher, Hash, Hasher};

use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};

use crate::server::admin;
use crate::server::reply::no_such_door;

struct File {
    path: &'static str,
    content_type: &'static str,
    bytes: &'static [u8],
}

macro_rules! file {
    ($path:literal, $content_type:expr) => {
        File { path: $path, content_type: $content_type, bytes: include_bytes!(concat!("page/", $path)) }
    };
}

const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

const PAGE: File = file!("index.html", "text/html; charset=utf-8");

/// Below `/page/`.
const FILES: [File; 13] = [
    file!("style.css", STYLE),
    file!("icon.svg", "image/svg+xml"),
    file!("theme.js", SCRIPT),
    file!("main.js", SCRIPT),
    file!("language.js", SCRIPT),
    file!("complete.js", SCRIPT),
    file!("editor.js", SCRIPT),
    file!("server.js", SCRIPT),
    file!("side.js", SCRIPT),
    file!("chart.js", SCRIPT),
    file!("table.js", SCRIPT),
    file!("vendor/uPlot.iife.min.js", SCRIPT),
    file!("vendor/uPlot.min.css", STYLE),
];

/// Its own files and doors, and nothing else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub async fn page(headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut response = match accept.contains("text/html") {
        true => PAGE.answer(&headers),
        false => admin::overview().into_response(),
    };
    response.headers_mut().insert(header::VARY, header::HeaderValue::from_static("accept"));
    response
}

pub async fn file(Path(path): Path<String>, headers: HeaderMap, uri: Uri) -> Response {
    match FILES.iter().find(|file| file.path == path) {
        Some(file) => file.answer(&headers),
        None => no_such_door(uri).await,
    }
}

impl File {
    /// A browser keeps it, and asks each time whether it is still the one: another version of the server may stand here.
    fn answer(&self, headers: &HeaderMap) -> Response {
        let tag = self.tag();
        let seen = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
        let known = seen.is_some_and(|seen| seen.split(',').any(|one| one.trim() == tag));
        let always = [
            (header::ETAG, tag.as_str()),
            (header::CACHE_CONTROL, "no-cache"),
            (header::CONTENT_SECURITY_POLICY, POLICY),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        ];
        match known {
            true => (StatusCode::NOT_MODIFIED, always).into_response(),
            false => (always, [(header::CONTENT_TYPE, self.content_type)], self.bytes).into_response(),
        }
    }

    /// Weak, because it stays the same when the answer is packed.
    fn tag(&self) -> String {
        let mut hasher = DefaultHasher::new();
        self.bytes.hash(&mut hasher);
        format!("W/\"{:016x}\"", hasher.finish())
    }
}
