//! The doors: one HTTP port for line protocol, Prometheus' samples, WQL, rollups and what the server says about itself.
//!
//! Invariant: HTTP, JSON and async are known only here. Async tasks move bytes; whatever may wait for a disk, a lock or a
//! processor runs on a blocking thread. A request whose client has gone away stops costing anything soon.
//! Authorization headers (Basic, Token, Bearer, and `u`, `p` of v1) are accepted and not looked at: whoever reaches the
//! port may do everything, which is why it listens on 127.0.0.1 unless told otherwise.
//! Not here: what requests mean to the data (`db`).

mod admin;
mod backup; // a backup that tells how far it is
pub mod body; // bytes in: limits and compression
mod cells; // Arrow columns, one value at a time
mod csv;
mod influx_query; // the few InfluxQL statements that v1 clients begin with
mod format; // which form an answer has
mod ipc; // Arrow's stream
mod json;
mod live; // statements that go on
mod observe; // each request: log line and metrics
mod otlp; // OpenTelemetry's metrics
mod page; // what people see in a browser
pub mod params;
mod parquet;
mod prometheus; // Prometheus' query API
mod queries; // what runs, and ending it
pub mod remote_read; // and back, as samples or chunks
mod remote_write; // Prometheus' samples, two versions
mod reply; // errors as answers
mod rollups;
mod send; // answers, piece by piece
mod store; // from a body to its acknowledgement
mod wql;
mod write; // line protocol, three versions

use std::future::IntoFuture;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{delete, get, post};
use axum::serve::ListenerExt;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use storage_format::point::Time;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;

use crate::db::Db;
use crate::error::{Error, Kind, Result};
use crate::jobs::Health;

use queries::Queries;
use reply::Failure;

/// What every door can reach.
struct Doors {
    db: Arc<Db>,
    health: Arc<Health>,
    recorder: PrometheusHandle,
    started: Time,
    queries: Queries,
    live: Arc<live::Channels>,
    body_budget: body::Budget,
}

/// Processors for each thread that reads requests and writes answers; the others parse, log, apply and compute. A second one
/// where there is little to read costs more in waking each other than it does.
const PROCESSORS_PER_READER: usize = 2;

/// How long requests may take to end after the signal to stop. Telegraf gives up on a write after 5 s.
const DRAIN_MAX: Duration = Duration::from_secs(10);

/// A client that takes nothing of its answer for this long is cut off.
const STALLED_MAX: Duration = Duration::from_secs(60);

/// Histograms keep every value until they are summed up, by a scrape or by this.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// From one fsync of a fast disk to the default `query_time_max`.
const SECONDS_BUCKETS: [f64; 13] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 15.0, 60.0];

/// Takes the port.
pub fn bind(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).map_err(|source| match source.kind() {
        std::io::ErrorKind::AddrInUse => Error::rejected(
            Kind::Conflict,
            "port_in_use",
            format!("another program listens on {address}; stop it or give --listen another address"),
        ),
        _ => Error::io("listen on", address.to_string(), source),
    })
}

/// Starts counting. Once per process.
pub fn record_metrics() -> Result<PrometheusHandle> {
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_string()), &SECONDS_BUCKETS)
        .and_then(PrometheusBuilder::install_recorder)
        .map_err(|error| {
            Error::invalid("metrics", format!("the server's own metrics cannot start: {error}"))
        })?;
    crate::metrics::describe();
    Ok(recorder)
}

/// Serves until SIGTERM or Ctrl-C.
pub fn run(
    listener: TcpListener,
    db: Arc<Db>,
    health: Arc<Health>,
    recorder: PrometheusHandle,
    data_dir: &str,
) -> Result<()> {
    let limits = &db.config().limits;
    let doors = Arc::new(Doors {
        health,
        recorder: recorder.clone(),
        started: db.clock().now(),
        queries: Queries::new(limits),
        live: Arc::new(live::Channels::new(limits)),
        body_budget: body::Budget::new(limits),
        db,
    });
    let system = |doing: &'static str| move |source| Error::io(doing, "", source);
    let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads((processors / PROCESSORS_PER_READER).max(1))
        .enable_all()
        .thread_name("http")
        .build()
        .map_err(system("start the threads of the server"))?;
    let outcome = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).map_err(system("wait for signals"))?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(system("wait for signals"))?;
        let address = listener.local_addr().map_err(system("listen"))?;
        listener.set_nonblocking(true).map_err(system("listen"))?;
        let listener = tokio::net::TcpListener::from_std(listener)
            .map_err(system("listen"))?
            .tap_io(|connection| set_options(connection));
        let stop = Arc::new(Notify::new());
        let stopped = Arc::clone(&stop);
        let live = Arc::clone(&doors.live);
        let serving =
            axum::serve(listener, router(doors).into_make_service_with_connect_info::<SocketAddr>())
                .with_graceful_shutdown(async move { stopped.notified().await });
        let serving = tokio::spawn(serving.into_future());
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(UPKEEP_EVERY);
            loop {
                ticks.tick().await;
                recorder.run_upkeep();
            }
        });
        tracing::info!(%address, data_dir, "listening");
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping: no new requests, those that run may end");
        stop.notify_one();
        // Their answers have no end of their own.
        let ended = tokio::task::spawn_blocking(move || live.stop());
        drop(ended.await);
        match tokio::time::timeout(DRAIN_MAX, serving).await {
            Ok(Ok(served)) => served.map_err(system("serve")),
            Ok(Err(error)) => Err(Error::io("serve", "", std::io::Error::other(error))),
            Err(_) => {
                tracing::warn!("some requests did not end in {DRAIN_MAX:?} and are cut off");
                Ok(())
            }
        }
    });
    // Cut-off queries see that nobody waits for them; what still runs after this ends with the process.
    runtime.shutdown_timeout(Duration::from_secs(2));
    outcome
}

/// Runs `work` on a thread of its own. None if SIGTERM or Ctrl-C came first; what runs then ends with the process.
pub fn unless_signal<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<Option<T>> {
    let system = |source| Error::io("wait for signals", "", source);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(system)?;
    let outcome = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).map_err(system)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(system)?;
        tokio::select! {
            done = tokio::task::spawn_blocking(work) => Ok(done.ok()),
            _ = terminate.recv() => Ok(None),
            _ = interrupt.recv() => Ok(None),
        }
    });
    runtime.shutdown_background();
    outcome
}

fn set_options(connection: &tokio::net::TcpStream) {
    use rustix::net::sockopt;
    let set = || -> std::io::Result<()> {
        // An acknowledgement is one small packet that somebody waits for.
        connection.set_nodelay(true)?;
        // A client that stops taking its answer would hold the answer's memory and its place among the queries for ever.
        sockopt::set_tcp_user_timeout(connection, STALLED_MAX.as_millis() as u32)?;
        Ok(sockopt::set_socket_keepalive(connection, true)?)
    };
    // A connection works without them.
    if let Err(error) = set() {
        tracing::debug!(%error, "the options of a connection could not be set");
    }
}

fn router(doors: Arc<Doors>) -> Router {
    let observed = Arc::clone(&doors);
    Router::new()
        .route("/write", post(write::v1))
        .route("/api/v2/write", post(write::v2))
        .route("/api/v3/write_lp", post(write::v3))
        .route("/v1/metrics", post(otlp::metrics))
        .route("/api/v1/write", post(remote_write::write))
        .route("/api/v1/read", post(remote_read::read))
        .route("/query", get(influx_query::get).post(influx_query::post))
        .route("/ping", get(admin::ping))
        .route("/settings", get(admin::questdb_settings))
        .route("/health", get(admin::health))
        .route("/ready", get(admin::ready))
        .route("/api/wql", get(wql::get).post(wql::post))
        .route("/api/wql/explain", get(wql::explain_get).post(wql::explain_post))
        .route("/api/live", get(live::get))
        .route("/api/queries", get(queries::list))
        .route("/api/queries/{id}", delete(queries::kill))
        .route("/api/rollups", get(rollups::list))
        .route("/api/rollups/{name}", get(rollups::one).post(rollups::create).delete(rollups::remove))
        .route("/api/rollups/{name}/progress", get(rollups::progress))
        .route("/api/rollups/{name}/refresh", post(rollups::refresh))
        .route("/api/flush", post(admin::flush))
        .route("/api/compact", post(admin::compact))
        .route("/api/backup", post(backup::start))
        .route("/metrics", get(admin::metrics))
        .route("/", get(page::page))
        .route("/page/{*path}", get(page::file))
        .merge(prometheus::routes())
        .fallback(reply::no_such_door)
        .method_not_allowed_fallback(reply::wrong_method)
        .layer(CompressionLayer::new().quality(CompressionLevel::Fastest))
        .layer(axum::middleware::from_fn_with_state(observed, observe::observe))
        .with_state(doors)
}

impl Doors {
    /// Runs what may wait on a thread that may. A panic there is our bug: it is answered, logged and stays on `/health`.
    async fn blocking<T: Send + 'static>(
        &self,
        run: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        self.ended(tokio::task::spawn_blocking(run).await)?
    }

    /// Of a panic that was caught.
    fn ran_into_a_bug(&self) -> Failure {
        self.health.report("a request ran into a bug; the log says where".to_string());
        Failure::bug()
    }

    /// How a task of [`Doors::blocking`]'s kind ended.
    fn ended<T>(&self, task: Result<T, tokio::task::JoinError>) -> Result<T, Failure> {
        task.map_err(|ended| match ended.is_panic() {
            true => self.ran_into_a_bug(),
            false => Failure::from(Error::rejected(Kind::Unavailable, "closing", "the server is stopping")),
        })
    }
}
