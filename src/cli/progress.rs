//! How far a long work is: a bar on standard error, and only if that is a terminal.
//!
//! Invariant: what is drawn is gone when this is dropped, so that results stand alone.

use std::fmt::Write;
use std::io::IsTerminal;

use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

pub struct Progress {
    /// None where nobody looks.
    bar: Option<ProgressBar>,
    stage: String,
}

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Bytes,
    Rows,
    Buckets,
    /// Only shares of the whole mean anything.
    Shares,
}

/// Often enough to see it move, seldom enough to cost nothing.
const FRAMES_PER_SECOND: u8 = 5;

impl Progress {
    pub fn new(unit: Unit) -> Progress {
        let bar = std::io::stderr().is_terminal().then(|| {
            let template = match unit {
                Unit::Bytes => "{msg:20!} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
                Unit::Rows => "{msg:20!} {wide_bar} {human_pos}/{human_len} rows {rate} {eta}",
                Unit::Buckets => "{msg:20!} {wide_bar} {human_pos}/{human_len} buckets {rate} {eta}",
                Unit::Shares => "{msg:20!} {wide_bar} {percent}% {eta}",
            };
            let style = ProgressStyle::with_template(template).expect("bug: a template that does not parse");
            let rate = |state: &ProgressState, out: &mut dyn Write| {
                // A bar that cannot be drawn is not drawn.
                let _ = write!(out, "{}/s", HumanCount(state.per_sec() as u64));
            };
            let style = style.with_key("rate", rate);
            let target = ProgressDrawTarget::stderr_with_hz(FRAMES_PER_SECOND);
            ProgressBar::with_draw_target(None, target).with_style(style)
        });
        Progress { bar, stage: String::new() }
    }

    pub fn show(&mut self, stage: &str, done: u64, all: u64) {
        let Some(bar) = &self.bar else { return };
        if self.stage != stage {
            self.stage = stage.to_string();
            bar.set_message(self.stage.clone());
            bar.reset();
        }
        bar.set_length(all);
        bar.set_position(done);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
