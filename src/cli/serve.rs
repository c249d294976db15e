//! `waterclock serve`: settings, log, data folder, background work, doors; and the way back out.
//!
//! Invariant: whatever stops the start is one sentence and exit code 1; SIGTERM and Ctrl-C end in exit code 0, with
//! requests answered, threads joined and the folder unlocked.
//! Not here: HTTP (`server`).

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;
use tracing_subscriber::EnvFilter;

use crate::allocator;
use crate::cli::settings;
use crate::clock::SystemClock;
use crate::config::{Config, LogFormat, Switch};
use crate::db::Db;
use crate::disk;
use crate::error::{Error, Result};
use crate::jobs::Jobs;
use crate::server;

#[derive(clap::Args)]
pub struct Args {
    /// Where the data are: a folder, file:///path or s3://bucket/prefix
    #[arg(long, value_name = "DIR|URL")]
    data_dir: Option<String>,
    /// Folder of the log when the data are in a bucket
    #[arg(long, value_name = "DIR")]
    wal_dir: Option<PathBuf>,
    /// Answer from what another server writes there, and write nothing
    #[arg(long)]
    read_only: bool,
    /// Address of the HTTP door [default: 127.0.0.1:8086]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Settings in TOML, one `name = value` per line
    #[arg(long, env = "WATERCLOCK_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Any setting by its name, as often as needed
    #[arg(long, value_name = "NAME=VALUE", value_parser = name_and_value)]
    set: Vec<(String, String)>,
    /// Form of the log lines: text or json
    #[arg(long, value_name = "FORM")]
    log: Option<String>,
    /// error, warn, info, debug, trace, or a filter such as info,waterclock=debug
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
}

/// How long a step of background work may hold up the end.
const JOBS_STOP_MAX: Duration = Duration::from_secs(10);

pub fn run(args: Args) -> Result<()> {
    let config = settings(args)?;
    start_log(&config)?;
    let limits = &config.limits;
    allocator::keep_within(limits.memory_limit);
    tracing::info!(
        memory_limit = limits.memory_limit,
        head_bytes_max = limits.head_bytes_max,
        ingest_waiting_bytes_max = limits.ingest_waiting_bytes_max,
        index_cache_bytes_max = limits.index_cache_bytes_max,
        queries_memory_bytes_max = limits.queries_memory_bytes_max,
        "memory"
    );
    let served = until_signal(open(config)?);
    tracing::info!("stopped");
    served
}

/// A server that could start: the port is taken, the folder locked, the log read.
pub struct Opened {
    listener: TcpListener,
    recorder: PrometheusHandle,
    db: Arc<Db>,
}

pub fn open(config: Config) -> Result<Opened> {
    // First of all, so that a port in use is known before the log is read.
    let listener = server::bind(config.server.listen)?;
    let recorder = server::record_metrics()?;
    let clock = Arc::new(SystemClock::new());
    let db = match config.server.read_only {
        Switch::Off => Db::open(disk::data_to_write(&config)?, clock, config)?,
        Switch::On => Db::follow(disk::data_to_follow(&config)?, clock, config)?,
    };
    let db = Arc::new(db);
    Ok(Opened { listener, recorder, db })
}

impl Opened {
    pub fn address(&self) -> Result<SocketAddr> {
        self.listener.local_addr().map_err(|source| Error::io("listen on", "the address", source))
    }
}

/// Serves until SIGTERM or Ctrl-C; everything is closed when this returns.
pub fn until_signal(opened: Opened) -> Result<()> {
    let Opened { listener, recorder, db } = opened;
    let data_dir = db.config().server.data_dir.to_string();
    let jobs = Jobs::start(&db);
    let served = server::run(listener, Arc::clone(&db), jobs.health(), recorder, &data_dir);
    jobs.stop(JOBS_STOP_MAX);
    if db.config().server.flush_on_stop {
        flush(db)?;
    }
    served
}

/// What fails here is in the log, as after a crash: the next start reads it back.
fn flush(db: Arc<Db>) -> Result<()> {
    tracing::info!("writing what is in memory to blocks; a second signal skips it");
    match server::unless_signal(move || db.flush_for_stop())? {
        Some(Ok(())) => {}
        Some(Err(error)) => tracing::warn!(%error, "the next start reads the log instead"),
        None => tracing::warn!("skipped; the next start reads the log instead"),
    }
    Ok(())
}

fn settings(args: Args) -> Result<Config> {
    let named = [
        ("data_dir", args.data_dir),
        ("wal_dir", args.wal_dir.map(|path| path.display().to_string())),
        ("read_only", args.read_only.then(|| "on".to_string())),
        ("listen", args.listen.map(|address| address.to_string())),
        ("log", args.log),
        ("log_level", args.log_level),
    ];
    let named = named.into_iter().filter_map(|(name, value)| Some((name.to_string(), value?)));
    settings::load(args.config.as_deref(), args.set.into_iter().chain(named).collect())
}

fn start_log(config: &Config) -> Result<()> {
    let level = &config.server.log_level;
    let filter = EnvFilter::try_new(level).map_err(|error| {
        Error::invalid(
            "bad_setting",
            format!(
                "log_level is {level:?}, which is no filter ({error}); give error, warn, info, debug or trace"
            ),
        )
    })?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match config.server.log {
        LogFormat::Text => log.with_ansi(std::io::stderr().is_terminal()).with_target(false).init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
    std::panic::set_hook(Box::new(|panic| {
        let backtrace = std::backtrace::Backtrace::force_capture();
        tracing::error!(%backtrace, "bug: {panic}");
    }));
    Ok(())
}

fn name_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) => Ok((name.trim().to_string(), value.trim().to_string())),
        None => Err("write name=value".to_string()),
    }
}
