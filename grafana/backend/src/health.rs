//! "Save & test": along the way that queries go, with a message that helps.

use std::sync::Arc;

use serde::Deserialize;
use tonic::Status;

use crate::answer::Refused;
use crate::protocol::{CheckHealthRequest, CheckHealthResponse, HealthStatus};
use crate::question::Asked;
use crate::source::{Source, Sources};

pub async fn check_health(
    sources: Arc<Sources>,
    request: CheckHealthRequest,
) -> Result<CheckHealthResponse, Status> {
    let checked = match sources.of(request.context) {
        Ok(source) => check(&source).await,
        Err(refused) => Err(refused),
    };
    Ok(match checked {
        Ok(message) => CheckHealthResponse { status: HealthStatus::Ok.into(), message },
        Err(refused) => {
            CheckHealthResponse { status: HealthStatus::Error.into(), message: refused.sentence() }
        }
    })
}

async fn check(source: &Source) -> Result<String, Refused> {
    let database = &source.database;
    let tables = Asked::of_json(br#"{"query": "show tables"}"#)?.answer(source).await?.rows.len();
    if tables > 0 {
        let counted = if tables == 1 { "1 table".to_string() } else { format!("{tables} tables") };
        return Ok(format!("Waterclock answers. The database {database} has {counted}."));
    }
    let databases = databases(source).await?;
    let others: Vec<&str> = databases.iter().filter(|name| *name != database).map(String::as_str).collect();
    let elsewhere = match others.is_empty() {
        true => String::new(),
        false => format!(" There are data in: {}.", others.join(", ")),
    };
    let empty = match databases.contains(database) {
        true => format!("The database {database} has no tables yet."),
        false => format!("There is no database {database} yet; it is made on first write."),
    };
    Ok(format!("Waterclock answers. {empty}{elsewhere}"))
}

/// In InfluxDB's form, which is the one that lists them.
async fn databases(source: &Source) -> Result<Vec<String>, Refused> {
    #[derive(Deserialize)]
    struct Shown {
        results: Vec<ShownResult>,
    }
    #[derive(Deserialize)]
    struct ShownResult {
        #[serde(default)]
        series: Vec<Series>,
    }
    #[derive(Deserialize)]
    struct Series {
        #[serde(default)]
        values: Vec<Vec<String>>,
    }
    let body = source.body(source.get("/query", &[("q", "SHOW DATABASES".to_string())]).await?).await?;
    let shown: Shown = serde_json::from_slice(&body)
        .map_err(|error| Refused::new(502, format!("the list of databases cannot be read: {error}")))?;
    let series = shown.results.into_iter().flat_map(|result| result.series);
    Ok(series.flat_map(|series| series.values).flatten().collect())
}
