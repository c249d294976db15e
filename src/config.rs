//! Every setting and limit, by name: flags > `WATERCLOCK_*` environment > TOML file > defaults.
//!
//! Invariant: a [`Config`] has been checked; nothing later in the program asks the environment. Each setting
//! is one line of the table below, which is also what `waterclock config` prints.
//! Not here: the flags themselves (`cli`), which arrive as pairs of name and text.

mod memory; // what the parts may have of it

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::error::{Error, Result};

/// Where a value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    Default,
    File,
    Environment,
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Origin::Default => "default",
            Origin::File => "file",
            Origin::Environment => "environment",
            Origin::Flag => "flag",
        })
    }
}

/// One line of `waterclock config`.
#[derive(Clone, Debug)]
pub struct Setting {
    pub name: &'static str,
    pub value: String,
    pub origin: Origin,
    pub about: &'static str,
}

/// A text of a setting that became a value. Not public: the table below uses it for its types only.
trait Parse: Sized {
    fn parse(text: &str) -> Result<Self, &'static str>;
    fn print(&self) -> String;
}

macro_rules! settings {
    ($( $field:ident $group:ident { $( $name:ident : $kind:ty = $default:literal, $about:literal; )* } )*) => {
        /// What the program runs with.
        #[derive(Clone, Debug)]
        pub struct Config { $( pub $field: $group, )* origins: Vec<(&'static str, Origin)> }
        $(
            #[derive(Clone, Debug)]
            pub struct $group { $( #[doc = $about] pub $name: $kind, )* }
        )*
        impl Default for Config {
            fn default() -> Config {
                Config {
                    $( $field: $group {
                        $( $name: <$kind as Parse>::parse($default).expect("bug: a default does not parse"), )*
                    }, )*
                    origins: Vec::new(),
                }
            }
        }
        impl Config {
            pub const NAMES: &'static [&'static str] = &[ $( $( stringify!($name), )* )* ];

            /// Every setting in force, with where it came from.
            pub fn settings(&self) -> Vec<Setting> {
                vec![ $( $( Setting {
                    name: stringify!($name),
                    value: self.$field.$name.print(),
                    origin: self.origin(stringify!($name)),
                    about: $about,
                }, )* )* ]
            }

            fn set(&mut self, name: &str, text: &str, origin: Origin) -> Result<()> {
                $( $( if name == stringify!($name) {
                    self.$field.$name = <$kind as Parse>::parse(text)
                        .map_err(|expected| bad_value(name, text, origin, expected))?;
                    self.origins.push((stringify!($name), origin));
                    return Ok(());
                } )* )*
                Err(unknown(name, origin))
            }
        }
    };
}

settings! {
    server Server {
        data_dir: Location = "waterclock-data", "where the blocks and the manifest are: a folder, file:///path or s3://bucket/prefix; a folder has the log, too";
        wal_dir: PathBuf = "waterclock-wal", "folder of the log when data_dir is an s3:// URL";
        read_only: Switch = "off", "on: answer from data_dir what another server writes there, and write nothing";
        follow_every: Duration = "5s", "how often the manifest is looked at: by a server that only reads, and in a bucket";
        remove_after: Duration = "10m", "how long a replaced block stays in a bucket for the queries and servers that still read it";
        listen: SocketAddr = "127.0.0.1:8086", "address of the HTTP door";
        flush_after: Duration = "10m", "a partition goes to blocks when its time has passed by this and it has stood this long in memory";
        flush_small_after: Duration = "1d", "a partition that takes less than 1 MiB waits this long instead, for others of its table to share a block with; late points wait so long, too";
        flush_on_stop: bool = "true", "everything in memory goes to blocks when the server is asked to stop, so that the next start reads no log; a second signal skips it";
        compact_after: Duration = "1h", "a day's blocks are merged when the day has passed by this";
        delete_after: Duration = "1h", "blocks are rewritten without deleted points when the delete has stood this long";
        retention_after: Duration = "1h", "expired blocks are removed when they have been expired this long, so that a clock that jumps for less removes nothing";
        refresh_every: Duration = "1s", "how often the background looks for buckets to compute";
        log: LogFormat = "text", "form of the log lines: text or json";
        log_level: String = "info", "what is logged: error, warn, info, debug, trace, or a filter such as info,waterclock=debug";
    }
    limits Limits {
        memory_limit: usize = "4GiB", "memory of the whole server; the limits of its parts, as far as they are not set, are shares of it. Half of the machine's if not set";
        body_bytes_max: usize = "64MiB", "largest request body, after decompression";
        ingest_waiting_bytes_max: usize = "256MiB", "request bodies being read and parsed and, apart from them, batches that wait for the disk; more are answered 503";
        line_errors_listed_max: usize = "100", "refused lines that one answer names; it says how many more there are";
        series_per_table_max: usize = "10000000", "series of one table in memory: those that have points not yet in blocks";
        fields_per_table_max: usize = "4096", "fields of one table";
        exemplars_max: usize = "100000", "exemplars of Prometheus kept in memory; a new one takes the place of the oldest";
        head_bytes_max: usize = "512MiB", "points in memory; above it the oldest partitions go to blocks early, above twice as much writes are answered 503";
        wal_segment_bytes_max: usize = "128MiB", "size at which a new log segment begins";
        wal_bytes_max: usize = "1GiB", "size of the log at which the partitions that hold its oldest segment go to blocks";
        block_bytes_max: usize = "256MiB", "size up to which days are merged to blocks of 30, 360 and 3,600 days";
        blocks_behind_max: usize = "1000", "blocks that wait to be merged; above it each flush first merges some, so that writers are slowed down";
        index_cache_bytes_max: usize = "256MiB", "indexes of blocks that stay open";
        page_cache_bytes_max: usize = "256MiB", "decoded pages of blocks, kept for the queries after";
        compaction_memory_bytes_max: usize = "128MiB", "memory of a flush, and of a compaction beside it";
        refresh_memory_bytes_max: usize = "256MiB", "memory of one step of a refresh";
        queries_memory_bytes_max: usize = "768MiB", "memory of all queries together; more are answered 503";
        query_memory_bytes_max: usize = "512MiB", "memory of one query";
        object_cache_bytes_max: usize = "256MiB", "pieces of blocks from a bucket that are kept in memory";
        query_rows_max: usize = "5000000", "rows that a query may need all at once; points that are sent as they are read are not counted";
        query_time_max: Duration = "60s", "time of one query";
        queries_running_max: usize = "32", "queries at the same time; more wait for queries_wait_max, then they are answered 503";
        queries_wait_max: Duration = "2s", "how long a query waits for others to end when queries_running_max of them run";
        live_statements_max: usize = "100", "continuous queries with different texts; more are answered 503";
        live_subscribers_max: usize = "10000", "clients of continuous queries; more are answered 503";
        live_buffer_bytes_max: usize = "16MiB", "events of one continuous query that are kept for slow clients and for those that come back";
        dirty_groups_max: usize = "100000", "single dirty groups of one rollup; above it their whole buckets are dirty";
        refresh_states_max: usize = "200000", "states (a group's bucket each) that one step of a refresh computes";
    }
}

impl Config {
    /// From pairs of name and text, weakest source first: the file's, the environment's (names in capitals with
    /// `WATERCLOCK_` before them), the flags'. Limits of memory that are not set come from what the machine has.
    pub fn load(
        machine_bytes: usize,
        file: Option<(&str, &str)>,
        environment: impl IntoIterator<Item = (String, String)>,
        flags: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Config> {
        let mut config = Config::default();
        if let Some((name, text)) = file {
            let table: toml::Table = text
                .parse()
                .map_err(|error| Error::invalid("config_file", format!("{name} is no TOML: {error}")))?;
            for (key, value) in &table {
                let text = match value {
                    toml::Value::String(text) => text.clone(),
                    other => other.to_string(),
                };
                config.set(key, &text, Origin::File)?;
            }
        }
        for (key, value) in environment {
            if let Some(name) = key.strip_prefix("WATERCLOCK_") {
                config.set(&name.to_lowercase(), &value, Origin::Environment)?;
            }
        }
        for (name, value) in flags {
            config.set(&name, &value, Origin::Flag)?;
        }
        config.share_memory(machine_bytes)?;
        Ok(config)
    }

    fn origin(&self, name: &str) -> Origin {
        self.origins
            .iter()
            .filter(|(set, _)| *set == name)
            .map(|(_, origin)| *origin)
            .max()
            .unwrap_or(Origin::Default)
    }
}

fn unknown(name: &str, origin: Origin) -> Error {
    let near = Config::NAMES
        .iter()
        .max_by(|a, b| strsim::jaro_winkler(name, a).total_cmp(&strsim::jaro_winkler(name, b)));
    Error::invalid(
        "unknown_setting",
        format!("there is no setting {name} ({origin}); did you mean {}?", near.unwrap_or(&"")),
    )
}

fn bad_value(name: &str, text: &str, origin: Origin, expected: &str) -> Error {
    Error::invalid("bad_setting", format!("{name} ({origin}) is {text:?}; give {expected}"))
}

/// Sizes and counts: `4096`, `64MiB`.
impl Parse for usize {
    fn parse(text: &str) -> Result<usize, &'static str> {
        let expected = "a whole number, or a size such as 64MiB";
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let unit: usize = match text[digits..].trim() {
            "" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return Err(expected),
        };
        let number: usize = text[..digits].parse().map_err(|_| expected)?;
        number.checked_mul(unit).filter(|value| *value > 0).ok_or("a number above zero that fits the machine")
    }

    fn print(&self) -> String {
        match *self {
            n if n % (1 << 30) == 0 => format!("{}GiB", n >> 30),
            n if n % (1 << 20) == 0 => format!("{}MiB", n >> 20),
            n if n >= 1 << 20 && n % (1 << 10) == 0 => format!("{}KiB", n >> 10),
            n => n.to_string(),
        }
    }
}

impl Parse for bool {
    fn parse(text: &str) -> Result<bool, &'static str> {
        text.parse().map_err(|_| "true or false")
    }

    fn print(&self) -> String {
        self.to_string()
    }
}

/// A duration as settings are written: `100ms`, `10s`, `10m`, `1h`, `2d`.
pub fn parse_duration(text: &str) -> Result<Duration, &'static str> {
    <Duration as Parse>::parse(text)
}

impl Parse for Duration {
    fn parse(text: &str) -> Result<Duration, &'static str> {
        let expected = "a duration such as 500ms, 10s, 10m or 1h";
        let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or(expected)?;
        let unit_ms: u64 = match &text[digits..] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(expected),
        };
        let number: u64 = text[..digits].parse().map_err(|_| expected)?;
        number.checked_mul(unit_ms).filter(|ms| *ms > 0).map(Duration::from_millis).ok_or(expected)
    }

    fn print(&self) -> String {
        match self.as_millis() {
            ms if ms % 3_600_000 == 0 => format!("{}h", ms / 3_600_000),
            ms if ms % 60_000 == 0 => format!("{}m", ms / 60_000),
            ms if ms % 1_000 == 0 => format!("{}s", ms / 1_000),
            ms => format!("{ms}ms"),
        }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

impl Parse for LogFormat {
    fn parse(text: &str) -> Result<LogFormat, &'static str> {
        match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err("text or json"),
        }
    }

    fn print(&self) -> String {
        match self {
            LogFormat::Text => "text".to_string(),
            LogFormat::Json => "json".to_string(),
        }
    }
}

/// Where blocks and manifest are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    Folder(PathBuf),
    S3(S3Location),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Location {
    pub bucket: String,
    /// Without slashes at its ends; may be empty.
    pub prefix: String,
}

impl fmt::Display for S3Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.prefix.as_str() {
            "" => write!(f, "s3://{}", self.bucket),
            prefix => write!(f, "s3://{}/{prefix}", self.bucket),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::Folder(folder) => write!(f, "{}", folder.display()),
            Location::S3(location) => location.fmt(f),
        }
    }
}

impl Parse for Location {
    fn parse(text: &str) -> Result<Location, &'static str> {
        let expected = "a folder, file:///path or s3://bucket/prefix";
        match text.split_once("://") {
            None if text.is_empty() => Err(expected),
            None => Ok(Location::Folder(text.into())),
            Some(("file", path)) if path.starts_with('/') => Ok(Location::Folder(path.into())),
            Some(("s3", rest)) => {
                let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
                let prefix = prefix.trim_matches('/').to_string();
                let sound = !bucket.is_empty() && !prefix.contains("//");
                sound.then(|| Location::S3(S3Location { bucket: bucket.to_string(), prefix })).ok_or(expected)
            }
            Some(_) => Err(expected),
        }
    }

    fn print(&self) -> String {
        self.to_string()
    }
}

impl FromStr for Location {
    type Err = String;

    fn from_str(text: &str) -> Result<Location, String> {
        Location::parse(text).map_err(|expected| format!("give {expected}"))
    }
}

/// `on` or `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    Off,
    On,
}

impl Parse for Switch {
    fn parse(text: &str) -> Result<Switch, &'static str> {
        match text {
            "on" => Ok(Switch::On),
            "off" => Ok(Switch::Off),
            _ => Err("on or off"),
        }
    }

    fn print(&self) -> String {
        match self {
            Switch::On => "on".to_string(),
            Switch::Off => "off".to_string(),
        }
    }
}

impl Parse for String {
    fn parse(text: &str) -> Result<String, &'static str> {
        Ok(text.to_string())
    }

    fn print(&self) -> String {
        self.clone()
    }
}

impl Parse for PathBuf {
    fn parse(text: &str) -> Result<PathBuf, &'static str> {
        if text.is_empty() { Err("a folder") } else { Ok(text.into()) }
    }

    fn print(&self) -> String {
        self.display().to_string()
    }
}

impl Parse for SocketAddr {
    fn parse(text: &str) -> Result<SocketAddr, &'static str> {
        text.parse().map_err(|_| "an address such as 127.0.0.1:8086")
    }

    fn print(&self) -> String {
        self.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_string(), value.to_string())
    }

    #[test]
    fn stronger_sources_win_and_are_named() {
        let file = "body_bytes_max = \"1MiB\"\nflush_after = \"5s\"\nquery_rows_max = 7\n";
        let config = Config::load(
            8 << 30,
            Some(("w.toml", file)),
            [pair("WATERCLOCK_FLUSH_AFTER", "6s"), pair("PATH", "/bin")],
            [pair("listen", "127.0.0.1:1")],
        )
        .unwrap();
        assert_eq!(config.limits.body_bytes_max, 1 << 20);
        assert_eq!(config.limits.query_rows_max, 7);
        assert_eq!(config.server.flush_after, Duration::from_secs(6));
        let origin =
            |name| config.settings().into_iter().find(|setting| setting.name == name).unwrap().origin;
        assert_eq!(origin("query_rows_max"), Origin::File);
        assert_eq!(origin("flush_after"), Origin::Environment);
        assert_eq!(origin("listen"), Origin::Flag);
        assert_eq!(origin("data_dir"), Origin::Default);
    }

    #[test]
    fn data_are_in_a_folder_or_in_a_bucket() {
        let place =
            |text: &str| Config::load(8 << 30, None, [], [pair("data_dir", text)]).unwrap().server.data_dir;
        assert_eq!(place("a/b"), Location::Folder("a/b".into()));
        assert_eq!(place("file:///a/b"), Location::Folder("/a/b".into()));
        let s3 = |bucket: &str, prefix: &str| {
            Location::S3(S3Location { bucket: bucket.to_string(), prefix: prefix.to_string() })
        };
        assert_eq!(place("s3://b"), s3("b", ""));
        assert_eq!(place("s3://b/x/y/"), s3("b", "x/y"));
        assert_eq!(place("s3://b/x/y/").to_string(), "s3://b/x/y");
    }

    #[test]
    fn wrong_settings_name_the_cure() {
        let error = |name: &str, value: &str| {
            Config::load(8 << 30, None, [], [pair(name, value)]).unwrap_err().to_string()
        };
        assert_eq!(error("lisen", "x"), "there is no setting lisen (flag); did you mean listen?");
        assert_eq!(
            error("body_bytes_max", "ten"),
            "body_bytes_max (flag) is \"ten\"; give a whole number, or a size such as 64MiB"
        );
        assert_eq!(
            error("data_dir", "gs://bucket"),
            "data_dir (flag) is \"gs://bucket\"; give a folder, file:///path or s3://bucket/prefix"
        );
        assert_eq!(
            error("flush_after", "10"),
            "flush_after (flag) is \"10\"; give a duration such as 500ms, 10s, 10m or 1h"
        );
    }
}
