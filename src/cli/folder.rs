//! A data folder asked without a server on it: a backup, or what a stopped server has left.
//!
//! Invariant: the folder is only looked at. It is served from within this process, so that everything still goes through
//! the one door and means the same.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use crate::cli::client::Client;
use crate::cli::settings;
use crate::clock::SystemClock;
use crate::db::Db;
use crate::disk::LocalDisk;
use crate::error::{Error, Result};
use crate::jobs::Health;
use crate::server;

/// A server on the folder, for as long as this process lives.
pub fn open(folder: &Path) -> Result<Client> {
    let config = settings::load(None, vec![("data_dir".to_string(), folder.display().to_string())])?;
    let disk = Arc::new(LocalDisk::open_to_read(folder)?);
    let db = Db::open(disk, Arc::new(SystemClock::new()), config)?;
    serve(db, folder.display().to_string())
}

/// A server on a database, likewise.
pub fn serve(db: Db, name: String) -> Result<Client> {
    let db = Arc::new(db);
    let listener = server::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    let address = listener.local_addr().map_err(|source| Error::io("listen on", "the address", source))?;
    let recorder = server::record_metrics()?;
    let told = name.clone();
    let serve = move || {
        // Nobody waits for its end; what it could not answer, the client says.
        drop(server::run(listener, db, Arc::new(Health::default()), recorder, &name));
    };
    let thread = std::thread::Builder::new().name("folder".to_string()).spawn(serve);
    thread.map_err(|source| Error::io("start a thread for", told, source))?;
    Client::new(&address.to_string())
}
