//! Ctrl-C while a query runs: the connection is closed, and the server stops what nobody waits for.
//!
//! Invariant: one listener for the life of the shell, so that the signal never ends the process; a signal is for the query
//! that runs when it comes, or for nobody.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};
use parking_lot::Mutex;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::client::Client;
use crate::error::{Error, Result};

pub(super) struct Cancel {
    running: Arc<Mutex<Option<Running>>>,
    pressed: Receiver<()>,
}

struct Running {
    client: Client,
    cancelled: bool,
}

/// A query from its start to its end.
pub(super) struct Query<'a> {
    cancel: &'a Cancel,
}

impl Cancel {
    pub fn listen() -> Result<Cancel> {
        let failed = |source| Error::io("listen for", "signals", source);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(failed)?;
        let mut signals = {
            let _inside = runtime.enter();
            signal(SignalKind::interrupt()).map_err(failed)?
        };
        let running: Arc<Mutex<Option<Running>>> = Arc::default();
        let (press, pressed) = bounded(1);
        let shared = Arc::clone(&running);
        let listen = move || {
            runtime.block_on(async {
                while signals.recv().await.is_some() {
                    if let Some(running) = shared.lock().as_mut() {
                        running.cancelled = true;
                        running.client.close();
                    }
                    let _ = press.try_send(());
                }
            });
        };
        std::thread::Builder::new().name("signals".to_string()).spawn(listen).map_err(failed)?;
        Ok(Cancel { running, pressed })
    }

    pub fn running(&self, client: &Client) -> Query<'_> {
        // One that came before is for nobody.
        let _ = self.pressed.try_recv();
        *self.running.lock() = Some(Running { client: client.clone(), cancelled: false });
        Query { cancel: self }
    }

    /// True if the signal came before the time was over.
    pub fn wait(&self, time: Duration) -> bool {
        self.pressed.recv_timeout(time).is_ok()
    }
}

impl Query<'_> {
    /// Whether it was cancelled.
    pub fn end(self) -> bool {
        self.cancel.running.lock().take().is_some_and(|running| running.cancelled)
    }
}
