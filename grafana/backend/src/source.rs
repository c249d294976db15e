//! A data source as it is set up in Grafana, and how Waterclock is asked by it.
//!
//! Invariant: what is asked reads: the server refuses a statement of ours that would change anything. Dropping an answer that is
//! waited for ends the request, and with it the query.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Certificate, Client, ClientBuilder, Identity, Method, RequestBuilder, Response};
use serde::Deserialize;
use serde_json::Value;

use crate::answer::Refused;
use crate::protocol::{DataSourceSettings, PluginContext};

const DEFAULT_DATABASE: &str = "default";

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Of the answer to a refusal, and of what is no answer of Waterclock's.
const SAID_CHARACTERS_MAX: usize = 200;

/// The data sources that were asked, each with the settings it was made from.
#[derive(Default)]
pub struct Sources(Mutex<HashMap<String, (DataSourceSettings, Arc<Source>)>>);

impl Sources {
    /// That of a request. Made anew when its settings have changed.
    pub fn of(&self, context: Option<PluginContext>) -> Result<Arc<Source>, Refused> {
        let settings = context
            .and_then(|context| context.data_source)
            .ok_or_else(|| Refused::ours(400, "the request comes from no data source"))?;
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match known.get(&settings.uid) {
            Some((made_from, source)) if *made_from == settings => Ok(Arc::clone(source)),
            _ => {
                let source = Arc::new(Source::new(&settings)?);
                known.insert(settings.uid.clone(), (settings, Arc::clone(&source)));
                Ok(source)
            }
        }
    }
}

pub struct Source {
    url: String,
    pub database: String,
    client: Client,
    /// Name and password.
    basic: Option<(String, Option<String>)>,
    timeout: Option<Duration>,
}

/// Those of Grafana's settings for data sources over HTTP, and ours.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Options {
    database: String,
    /// In seconds.
    timeout: Option<Value>,
    tls_skip_verify: bool,
    tls_auth: bool,
    #[serde(rename = "tlsAuthWithCACert")]
    tls_auth_with_ca_cert: bool,
    server_name: String,
    /// `httpHeaderName1` and so on.
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

impl Source {
    fn new(settings: &DataSourceSettings) -> Result<Source, Refused> {
        let url = settings.url.trim().trim_end_matches('/').to_string();
        if url.is_empty() {
            return Err(setting("the data source has no URL").hint("set one such as http://127.0.0.1:8086"));
        }
        let options: Options = match settings.json_data.is_empty() {
            true => Options::default(),
            false => serde_json::from_slice(&settings.json_data).map_err(|error| {
                setting(format!("the settings of the data source cannot be read: {error}"))
            })?,
        };
        let secrets = &settings.secure_json_data;
        let password = secrets.get("basicAuthPassword").cloned();
        Ok(Source {
            url,
            database: Some(options.database.trim().to_string())
                .filter(|name| !name.is_empty())
                .unwrap_or(DEFAULT_DATABASE.to_string()),
            basic: settings.basic_auth_enabled.then(|| (settings.basic_auth_user.clone(), password)),
            timeout: seconds(options.timeout.as_ref())?,
            client: client(&options, secrets)?,
        })
    }

    /// A body of JSON to a path; the answer is one that was granted.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Response, Refused> {
        let request = self
            .request(Method::POST, path)
            .header("content-type", "application/json")
            .body(body.to_string());
        let request = match self.timeout {
            Some(timeout) => request.timeout(timeout),
            None => request,
        };
        self.sent(request).await
    }

    /// The answer may be one that never ends.
    pub async fn get(&self, path: &str, parameters: &[(&str, String)]) -> Result<Response, Refused> {
        self.sent(self.request(Method::GET, path).query(parameters)).await
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.url));
        match &self.basic {
            Some((user, password)) => request.basic_auth(user, password.as_ref()),
            None => request,
        }
    }

    async fn sent(&self, request: RequestBuilder) -> Result<Response, Refused> {
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.bytes().await.unwrap_or_default();
        Err(self.refusal(status.as_u16(), status.canonical_reason().unwrap_or("no answer"), &body))
    }

    /// The whole body.
    pub async fn body(&self, response: Response) -> Result<Vec<u8>, Refused> {
        let body = response.bytes().await.map_err(|error| self.unreachable(&error))?;
        Ok(body.to_vec())
    }

    pub fn unreachable(&self, error: &reqwest::Error) -> Refused {
        let status = if error.is_timeout() { 504 } else { 502 };
        Refused::new(status, format!("Waterclock cannot be reached at {}: {}", self.url, reason(error)))
            .hint("it must run, and be reachable from the machine of Grafana’s server under the URL of this data source")
    }

    fn refusal(&self, status: u16, reason: &str, body: &[u8]) -> Refused {
        #[derive(Deserialize)]
        struct Body {
            error: Refused,
        }
        if let Ok(Body { error }) = serde_json::from_slice(body) {
            return Refused { status, ..error };
        }
        let text = String::from_utf8_lossy(body);
        let said: String = text.trim().chars().take(SAID_CHARACTERS_MAX).collect();
        let said = if said.is_empty() { reason.to_string() } else { format!("{reason}: {said}") };
        match status {
            401 | 403 => Refused::new(status, format!("access is refused at {}: {said}", self.url))
                .hint("look at the token, the user and the headers of this data source"),
            _ => Refused::new(status, format!("{} says {status} {said}", self.url))
                .hint("is there a Waterclock at the URL of this data source?"),
        }
    }
}

fn setting(message: impl Into<String>) -> Refused {
    Refused::ours(400, message)
}

/// The innermost cause says most: "Connection refused".
fn reason(error: &reqwest::Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

fn seconds(timeout: Option<&Value>) -> Result<Option<Duration>, Refused> {
    let number = match timeout {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) if text.trim().is_empty() => return Ok(None),
        Some(Value::String(text)) => text.trim().parse().ok(),
        Some(other) => other.as_f64(),
    };
    let length = number.and_then(|seconds: f64| Duration::try_from_secs_f64(seconds).ok());
    length.map(Some).ok_or_else(|| setting("the timeout of the data source is no number of seconds"))
}

fn client(options: &Options, secrets: &HashMap<String, String>) -> Result<Client, Refused> {
    let mut builder = Client::builder()
        .use_rustls_tls()
        .connect_timeout(CONNECT_TIMEOUT)
        .user_agent(concat!("waterclock-grafana/", env!("CARGO_PKG_VERSION")))
        .default_headers(headers(options, secrets)?)
        .danger_accept_invalid_certs(options.tls_skip_verify);
    if options.tls_auth_with_ca_cert {
        let pem = secret(secrets, "tlsCACert", "CA certificate")?;
        let certificates = Certificate::from_pem_bundle(pem.as_bytes()).unwrap_or_default();
        if certificates.is_empty() {
            return Err(unfit("CA certificate"));
        }
        builder = certificates.into_iter().fold(builder, ClientBuilder::add_root_certificate);
    }
    if options.tls_auth {
        if !options.server_name.trim().is_empty() {
            return Err(setting("the data source sets a server name for TLS, which this plugin cannot use")
                .hint("leave it empty, and give the URL the name that the server's certificate has"));
        }
        let certificate = secret(secrets, "tlsClientCert", "client certificate")?;
        let key = secret(secrets, "tlsClientKey", "client key")?;
        let identity = Identity::from_pem(format!("{certificate}\n{key}").as_bytes());
        builder = builder.identity(identity.map_err(|_| unfit("client certificate or its key"))?);
    }
    builder.build().map_err(|error| {
        setting(format!("the settings of the data source for TLS do not work: {}", reason(&error)))
    })
}

fn secret<'a>(secrets: &'a HashMap<String, String>, name: &str, called: &str) -> Result<&'a str, Refused> {
    let found = secrets.get(name).map(String::as_str).filter(|text| !text.trim().is_empty());
    found.ok_or_else(|| {
        setting(format!("the {called} is asked for in the settings of the data source and not given"))
    })
}

fn unfit(called: &str) -> Refused {
    setting(format!("the {called} of the data source cannot be read"))
        .hint("give it in PEM, from BEGIN to END")
}

/// Names stand in the settings, values among the secrets.
fn headers(options: &Options, secrets: &HashMap<String, String>) -> Result<HeaderMap, Refused> {
    let mut headers = HeaderMap::new();
    for (key, name) in &options.others {
        let (Some(place), Some(name)) = (key.strip_prefix("httpHeaderName"), name.as_str()) else { continue };
        let Some(value) = secrets.get(&format!("httpHeaderValue{place}")).filter(|value| !value.is_empty())
        else {
            continue;
        };
        let fits = (HeaderName::from_bytes(name.trim().as_bytes()), HeaderValue::from_str(value));
        let (Ok(name), Ok(mut value)) = fits else {
            return Err(setting(format!(
                "the header {name} of the data source has a name or a value that HTTP cannot carry"
            )));
        };
        value.set_sensitive(true);
        headers.append(name, value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(json: Value, secrets: &[(&str, &str)]) -> DataSourceSettings {
        DataSourceSettings {
            url: "http://127.0.0.1:9/".to_string(),
            json_data: json.to_string().into_bytes(),
            secure_json_data: secrets
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_string()))
                .collect(),
            uid: "u".to_string(),
            ..DataSourceSettings::default()
        }
    }

    fn refused(settings: &DataSourceSettings) -> String {
        Source::new(settings).err().unwrap().sentence()
    }

    #[test]
    fn settings_that_do_not_work_are_named() {
        let source =
            Source::new(&settings(serde_json::json!({"database": " ", "timeout": "2.5"}), &[])).unwrap();
        assert_eq!((source.url.as_str(), source.database.as_str()), ("http://127.0.0.1:9", "default"));
        assert_eq!(source.timeout, Some(Duration::from_millis(2500)));
        for (json, secrets, said) in [
            (serde_json::json!({"timeout": "soon"}), vec![], "no number of seconds"),
            (serde_json::json!({"tlsAuthWithCACert": true}), vec![], "CA certificate is asked for"),
            (serde_json::json!({"tlsAuth": true, "serverName": "x"}), vec![], "server name"),
            (serde_json::json!({"tlsAuth": true}), vec![("tlsClientCert", "x")], "client key is asked for"),
            (
                serde_json::json!({"tlsAuthWithCACert": true}),
                vec![("tlsCACert", "-----BEGIN CERTIFICATE-----\nx")],
                "the CA certificate of the data source cannot be read",
            ),
            (
                serde_json::json!({"httpHeaderName1": "a b"}),
                vec![("httpHeaderValue1", "v")],
                "the header a b",
            ),
        ] {
            let sentence = refused(&settings(json.clone(), &secrets));
            assert!(sentence.contains(said), "{json}: {sentence}");
        }
        assert!(refused(&DataSourceSettings::default()).contains("no URL"));
    }

    #[test]
    fn a_source_is_made_anew_when_its_settings_change() {
        let sources = Sources::default();
        let of = |settings: DataSourceSettings| {
            sources.of(Some(PluginContext { data_source: Some(settings) })).unwrap()
        };
        let first = of(settings(serde_json::json!({}), &[]));
        assert!(Arc::ptr_eq(&first, &of(settings(serde_json::json!({}), &[]))));
        assert!(!Arc::ptr_eq(&first, &of(settings(serde_json::json!({"database": "plant"}), &[]))));
        assert!(sources.of(None).is_err());
    }
}
