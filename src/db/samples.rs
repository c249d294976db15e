//! Prometheus' samples: written like any points, with what senders say of their metrics beside them.
//!
//! Invariant: metadata are as durable as samples, since they are rows of a table and go through the same log.
//! Not here: the messages (`ingest`), PromQL.

use crate::db::Db;
use crate::db::pipeline::Change;
use crate::error::Result;
use crate::ingest::remote_write::{self, Version};
use crate::ingest::{Received, Refused, Target};

/// A message of remote write.
pub struct RemoteWrite<'a> {
    pub database: &'a str,
    pub message: &'a [u8],
    pub version: Version,
}

/// What became of the series of one request.
#[derive(Debug, Default)]
pub struct SamplesWritten {
    pub samples: u64,
    pub refused: Refused,
}

impl Db {
    /// Parses in the calling thread; `done` is called when the samples are durable and readable, or were refused.
    pub fn write_samples(
        &self,
        request: &RemoteWrite<'_>,
        done: impl FnOnce(Result<SamplesWritten>) + Send + 'static,
    ) {
        let core = &self.core;
        if let Err(refusal) = core.check_writable() {
            return done(Err(refusal));
        }
        let parse = |target: &Target<'_>| remote_write::parse(request.message, request.version, target);
        match core.with_target(request.database, parse) {
            Ok(received) => self.store_samples(request.database, received, done),
            Err(error) => done(Err(error)),
        }
    }

    fn store_samples(
        &self,
        database: &str,
        received: Received,
        done: impl FnOnce(Result<SamplesWritten>) + Send + 'static,
    ) {
        let Received { batch, samples, metadata, refused } = received;
        metrics::counter!(crate::metrics::SAMPLES_REFUSED).increment(refused.count);
        let written = SamplesWritten { samples, refused };
        if batch.is_empty() {
            return done(Ok(written));
        }
        let database = self.core.registry.database_or_new(database);
        self.submit(Change::Points(batch), move |outcome| {
            if outcome.is_ok() {
                database.metadata.remember(metadata);
            }
            done(outcome.map(|_| written));
        });
    }

    /// The blocking form.
    pub fn write_samples_now(&self, request: &RemoteWrite<'_>) -> Result<SamplesWritten> {
        let (send, receive) = crossbeam_channel::bounded(1);
        self.write_samples(request, move |outcome| drop(send.send(outcome)));
        receive.recv().unwrap_or_else(|_| Err(crate::db::closing()))
    }
}
