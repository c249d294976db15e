//! What the editors and variables ask for, which is no query of a panel: rows of statements about names, and what is wrong with a text.
//!
//! A question comes as JSON and the server's answer goes back as it is, with times in milliseconds; a refusal is
//! `{"error": {"message", "hint", "line", "column"}}` with the server's status.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::json;
use tonic::Status;

use crate::answer::Refused;
use crate::protocol::{CallResourceRequest, CallResourceResponse, StringList};
use crate::question::Asked;
use crate::serve::Messages;
use crate::source::Sources;

const OK: i32 = 200;

pub async fn call_resource(
    sources: Arc<Sources>,
    request: CallResourceRequest,
) -> Result<Messages<CallResourceResponse>, Status> {
    let (code, body) = match answer(&sources, request).await {
        Ok(body) => (OK, body),
        // Grafana's proxy and browser take a 401 for the end of a person's own session.
        Err(refused) => {
            let status = if refused.status == 401 { 403 } else { refused.status };
            (i32::from(status), json!({ "error": refused }).to_string().into_bytes())
        }
    };
    let json = StringList { values: vec!["application/json".to_string()] };
    let headers = HashMap::from([("content-type".to_string(), json)]);
    Ok(Box::pin(tokio_stream::once(Ok(CallResourceResponse { code, headers, body }))))
}

async fn answer(sources: &Sources, request: CallResourceRequest) -> Result<Vec<u8>, Refused> {
    let path = match request.path.trim_matches('/') {
        "wql" => "/api/wql",
        "explain" => "/api/wql/explain",
        other => return Err(Refused::ours(404, format!("the plugin has no resource {other}"))),
    };
    if request.method != "POST" {
        return Err(Refused::ours(
            405,
            format!("the plugin's resources are asked by POST, and this is {}", request.method),
        ));
    }
    let source = sources.of(request.context)?;
    let asked = Asked::of_json(&request.body)?;
    let answered = async {
        let response = source.post(path, &asked.body(&source, "ms")).await?;
        source.body(response).await
    };
    answered.await.map_err(|refused| asked.at_written(refused))
}
