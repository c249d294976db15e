//! The part of Waterclock's Grafana plugin that runs beside Grafana's server: queries of panels and alerts, the check of the settings,
//! names for completion, live streams. The other part, in the browser, asks through it and makes no frames of its own.
//!
//! Grafana starts this program and speaks gRPC with it. Invariant: it asks Waterclock to read and never to change anything; a credential
//! comes with each request from Grafana's server and leaves only for Waterclock.

mod answer; // what Waterclock says
mod data; // queries
mod frame; // one data frame, and its forms on the wire
mod frames; // answers as frames
mod health; // "Save & test"
mod live; // streams
mod log; // lines for Grafana's log
mod macros; // $__interval and its like
mod protocol; // messages
mod question; // what is asked, and of which range
mod resource; // what the editors ask for
mod serve; // the handshake, and who answers what
mod source; // a data source's settings, and asking by them
mod text; // what of a statement can be known here

use std::process::ExitCode;

fn main() -> ExitCode {
    let runtime = tokio::runtime::Runtime::new();
    let served =
        runtime.map_err(|error| error.to_string()).and_then(|runtime| runtime.block_on(serve::serve()));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error(&error);
            ExitCode::FAILURE
        }
    }
}
