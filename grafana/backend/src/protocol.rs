//! What Grafana's server and its plugins say to each other: the part of Grafana's protocol `pluginv2` that this plugin answers, gRPC's own
//! check of health, and how HashiCorp's go-plugin asks a plugin to end.
//!
//! Invariant: numbers are those of the protocol and stay. What this plugin has no use for is left out, and who asks for it is told that it
//! is not implemented. tests/clients/grafana/pluginv2.proto says the same for the client of the tests, which so proves it.

use std::collections::HashMap;

use prost::{Enumeration, Message};

#[derive(Clone, PartialEq, Message)]
pub struct DataSourceSettings {
    #[prost(string, tag = "3")]
    pub url: String,
    #[prost(bool, tag = "6")]
    pub basic_auth_enabled: bool,
    #[prost(string, tag = "7")]
    pub basic_auth_user: String,
    #[prost(bytes = "vec", tag = "8")]
    pub json_data: Vec<u8>,
    /// The secrets, which no browser sees.
    #[prost(map = "string, string", tag = "9")]
    pub secure_json_data: HashMap<String, String>,
    #[prost(string, tag = "11")]
    pub uid: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct PluginContext {
    #[prost(message, tag = "5")]
    pub data_source: Option<DataSourceSettings>,
}

#[derive(Clone, PartialEq, Message)]
pub struct StringList {
    #[prost(string, repeated, tag = "1")]
    pub values: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub struct CallResourceRequest {
    #[prost(message, tag = "1")]
    pub context: Option<PluginContext>,
    #[prost(string, tag = "2")]
    pub path: String,
    #[prost(string, tag = "3")]
    pub method: String,
    #[prost(bytes = "vec", tag = "6")]
    pub body: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub struct CallResourceResponse {
    /// A status of HTTP.
    #[prost(int32, tag = "1")]
    pub code: i32,
    #[prost(map = "string, message", tag = "2")]
    pub headers: HashMap<String, StringList>,
    #[prost(bytes = "vec", tag = "3")]
    pub body: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub struct TimeRange {
    #[prost(int64, tag = "1")]
    pub from_ms: i64,
    #[prost(int64, tag = "2")]
    pub to_ms: i64,
}

#[derive(Clone, PartialEq, Message)]
pub struct DataQuery {
    #[prost(string, tag = "1")]
    pub ref_id: String,
    #[prost(int64, tag = "2")]
    pub max_data_points: i64,
    #[prost(int64, tag = "3")]
    pub interval_ms: i64,
    #[prost(message, tag = "4")]
    pub time_range: Option<TimeRange>,
    #[prost(bytes = "vec", tag = "5")]
    pub json: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub struct QueryDataRequest {
    #[prost(message, tag = "1")]
    pub context: Option<PluginContext>,
    #[prost(message, repeated, tag = "3")]
    pub queries: Vec<DataQuery>,
}

#[derive(Clone, PartialEq, Message)]
pub struct QueryDataResponse {
    /// By the queries' refIds.
    #[prost(map = "string, message", tag = "1")]
    pub responses: HashMap<String, DataResponse>,
}

#[derive(Clone, PartialEq, Message)]
pub struct DataResponse {
    /// Each a file of Arrow.
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub frames: Vec<Vec<u8>>,
    #[prost(string, tag = "2")]
    pub error: String,
    /// A status of HTTP.
    #[prost(int32, tag = "4")]
    pub status: i32,
    /// `downstream` for what the server asked says, `plugin` for what is wrong here: Grafana counts them apart.
    #[prost(string, tag = "5")]
    pub error_source: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct CheckHealthRequest {
    #[prost(message, tag = "1")]
    pub context: Option<PluginContext>,
}

#[derive(Clone, PartialEq, Message)]
pub struct CheckHealthResponse {
    #[prost(enumeration = "HealthStatus", tag = "1")]
    pub status: i32,
    #[prost(string, tag = "2")]
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Enumeration)]
#[repr(i32)]
pub enum HealthStatus {
    Unknown = 0,
    Ok = 1,
    Error = 2,
}

/// Of SubscribeStream and RunStream, and of PublishStream, whose data are what is published.
#[derive(Clone, PartialEq, Message)]
pub struct StreamRequest {
    #[prost(message, tag = "1")]
    pub context: Option<PluginContext>,
    #[prost(string, tag = "2")]
    pub path: String,
    /// What the front end sends with the channel's name.
    #[prost(bytes = "vec", tag = "3")]
    pub data: Vec<u8>,
}

/// Of SubscribeStream and PublishStream.
#[derive(Clone, PartialEq, Message)]
pub struct StreamResponse {
    #[prost(enumeration = "StreamStatus", tag = "1")]
    pub status: i32,
    /// JSON.
    #[prost(bytes = "vec", tag = "2")]
    pub data: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Enumeration)]
#[repr(i32)]
pub enum StreamStatus {
    Ok = 0,
    NotFound = 1,
    PermissionDenied = 2,
}

#[derive(Clone, PartialEq, Message)]
pub struct StreamPacket {
    /// JSON.
    #[prost(bytes = "vec", tag = "1")]
    pub data: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub struct HealthCheckResponse {
    /// 1 is "serving".
    #[prost(int32, tag = "1")]
    pub status: i32,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub struct Empty {}
