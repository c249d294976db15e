//! `waterclock demo`: a server, a collector of this machine's vital signs, and a rollup to watch.
//!
//! Invariant: collector and chart use the public HTTP door like anybody else, so what is seen here is what a client
//! sees. One signal ends all of it: the server's own; a key on the chart sends that signal.
//! Not here: sampling (`vitals`), writing (`collector`), drawing (`chart`, `screen`, `plain`).

mod chart; // the picture
mod collector; // a sample per second, and the rollups
mod plain; // lines for pipes and files
mod screen; // the terminal
mod vitals; // this machine

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use crossbeam_channel::{Sender, bounded};

use crate::cli::client::{Client, DEFAULT_URL};
use crate::cli::demo::collector::Collector;
use crate::cli::demo::screen::Ears;
use crate::cli::table::put;
use crate::cli::{serve, settings, terminal};
use crate::clock::SystemClock;
use crate::error::Result;

#[derive(clap::Args, Debug)]
pub struct Args {
    /// Folder of the demo's data; a second demo goes on where the first one ended
    #[arg(long, value_name = "DIR", default_value = "waterclock-demo-data")]
    data_dir: PathBuf,

    /// Address of the HTTP door [default: 127.0.0.1:8086]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
}

/// Notes that nobody has read yet. A chart reads ten times a second; beyond this they are the same trouble again.
const NOTES_WAITING_MAX: usize = 64;

pub fn run(args: Args) -> Result<()> {
    let data_dir = args.data_dir.display().to_string();
    let mut flags = vec![("data_dir".to_string(), data_dir.clone())];
    flags.extend(args.listen.map(|address| ("listen".to_string(), address.to_string())));
    let config = settings::load(None, flags)?;

    let (notes, told) = bounded(NOTES_WAITING_MAX);
    log_to(notes.clone());
    let opened = serve::open(config)?;
    let url = format!("http://{}", reachable(opened.address()?));

    let collector = Collector::new(Client::new(&url)?, Arc::new(SystemClock::new()))?;

    let (running, ended) = bounded::<()>(0);
    let server = spawn("server", move || {
        let _running: Sender<()> = running;
        serve::until_signal(opened)
    });
    let (stop, stopped) = bounded::<()>(0);
    let (tick, written) = bounded(1);
    let collector = spawn("collector", move || collector.run(&stopped, &tick, &notes));

    let header = header(&url, &data_dir);
    let client = Client::new(&url)?;
    let ears = Ears { written: &written, notes: &told, ended: &ended };
    let shown = match terminal::is_stdout() {
        true => screen::run(&header, &client, &ears, end_this_process),
        false => plain::run(&header, &client, &ears, &mut std::io::stdout().lock()),
    };
    if shown.is_err() {
        end_this_process();
    }
    drop(stop);
    let served = server.join().expect("bug: the server panicked");
    collector.join().expect("bug: the collector panicked");
    served?;
    shown?;
    put(&mut std::io::stdout().lock(), &format!("stopped; the data stay in {data_dir}\n"))
}

fn spawn<T: Send + 'static>(
    name: &str,
    run: impl FnOnce() -> T + Send + 'static,
) -> std::thread::JoinHandle<T> {
    std::thread::Builder::new().name(name.to_string()).spawn(run).expect("the system can start a thread")
}

/// The way a service manager would do it, so that there is one way to end.
fn end_this_process() {
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM);
}

/// An address that listens on every interface is no address to ask.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() {
            Ipv4Addr::LOCALHOST.into()
        } else {
            Ipv6Addr::LOCALHOST.into()
        });
    }
    address
}

/// What to do while it runs. The queries work as they are printed, in any shell.
fn header(url: &str, data_dir: &str) -> String {
    let program = program();
    let at = if url == DEFAULT_URL { String::new() } else { format!("--url {url} ") };
    let query = |statement: &str| format!("  {program} query {at}'{statement}'\n");
    [
        "Waterclock demo: this machine's vital signs, written every second\n".to_string(),
        format!("  server      {url} (see /health and /metrics)\n"),
        format!("  data        {data_dir}\n"),
        "  dashboards  grafana, in the folder of the sources\n".to_string(),
        "In another terminal, try\n".to_string(),
        query("cpu | last 5m | every 1m avg(usage), max(usage) by cpu"),
        query("mem_10s | last 1m | every 10s max(used_percent) by host"),
        query("show rollups"),
        "\n".to_string(),
    ]
    .concat()
}

/// This program as it was called, so that what is printed can be pasted.
fn program() -> String {
    let called = std::env::args().next().unwrap_or_default();
    // Found by PATH: its name is enough.
    if !called.contains('/') {
        return "waterclock".to_string();
    }
    let plain = |c: char| c.is_alphanumeric() || "/._-+".contains(c);
    if called.chars().all(plain) { called } else { format!("'{}'", called.replace('\'', r"'\''")) }
}

/// Warnings of the server become notes, because lines written past the chart would tear it; so do panics.
fn log_to(notes: Sender<String>) {
    let writer = move || Notes(notes.clone());
    let log = tracing_subscriber::fmt().with_max_level(tracing::Level::WARN).with_target(false);
    log.with_ansi(false).without_time().with_writer(writer).init();
    std::panic::set_hook(Box::new(|panic| tracing::error!("bug: {panic}")));
}

/// One log event, which the subscriber writes in one go.
struct Notes(Sender<String>);

impl std::io::Write for Notes {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let _ = self.0.try_send(String::from_utf8_lossy(bytes).trim().to_string());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
