//! Batches to the server, until it has taken them.
//!
//! Invariant: a batch is over when the server has answered for each of its lines; a server that is busy or away is waited
//! for, up to a limit.

use std::time::Duration;

use serde::Deserialize;

use crate::cli::client::{Client, WriteReply};
use crate::cli::import::batch::Batch;
use crate::cli::import::source::Form;
use crate::cli::import::{Args, Precision};
use crate::error::{Error, Kind, Result};

/// What became of all lines so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub lines: u64,
    pub refused: u64,
    pub empty: u64,
    pub not_finite: u64,
}

pub(super) struct Sender<'a> {
    client: &'a Client,
    args: &'a Args,
    pub counts: Counts,
    /// The first refused lines, a sentence each.
    pub shown: Vec<String>,
}

const WAIT_MIN: Duration = Duration::from_millis(200);
const WAIT_MAX: Duration = Duration::from_secs(15);

/// A server that does not come back in this time is down.
const PATIENCE: Duration = Duration::from_secs(600);

#[derive(Deserialize)]
struct Refused {
    #[serde(default)]
    error: String,
    #[serde(default)]
    data: Vec<RefusedLine>,
}

#[derive(Deserialize)]
struct RefusedLine {
    error_message: String,
    line_number: u64,
}

impl<'a> Sender<'a> {
    pub fn new(client: &'a Client, args: &'a Args) -> Sender<'a> {
        Sender { client, args, counts: Counts::default(), shown: Vec::new() }
    }

    pub fn send(&mut self, file: &str, batch: &mut Batch, form: Form) -> Result<()> {
        let refused_here = std::mem::take(&mut batch.refused);
        self.counts.lines += line_count(&batch.lines.text) + batch.samples.rows + refused_here.len() as u64;
        self.counts.empty += batch.empty;
        self.counts.not_finite += batch.not_finite;
        for (number, why) in refused_here {
            self.refuse(file, number, &why);
        }
        if batch.is_empty() {
            return Ok(());
        }
        if self.args.dry_run {
            return self.dry_run(file, batch);
        }
        if !batch.samples.is_empty() {
            return self.send_samples(file, batch);
        }
        // Times of other forms are written in nanoseconds already.
        let precision = if form == Form::Lines { self.args.mapping.precision } else { Precision::Ns };
        let params = vec![
            ("db", self.args.database.db.as_str()),
            ("precision", precision.long_name()),
            ("accept_partial", "true"),
        ];
        match patiently(|| self.client.write_lines(&batch.lines.text, &params))? {
            None => Ok(()),
            Some(body) => self.refused(file, batch, &body),
        }
    }

    fn send_samples(&mut self, file: &str, batch: &Batch) -> Result<()> {
        let packed = snap::raw::Encoder::new().compress_vec(&batch.samples.message());
        let packed =
            packed.map_err(|error| Error::io("compress", "samples", std::io::Error::other(error)))?;
        let params = vec![("db", self.args.database.db.as_str())];
        let Some(body) = patiently(|| self.client.write_samples(&packed, &params))? else { return Ok(()) };
        let text = String::from_utf8_lossy(&body);
        // "N samples stored, M series or samples refused: ...", or a word on the message as a whole.
        let words: Vec<&str> = text.split_whitespace().collect();
        let refused = match words.as_slice() {
            [_, "samples", "stored,", refused, ..] => refused.parse::<u64>().ok(),
            _ => None,
        };
        let Some(refused) = refused else { return Err(Error::invalid("refused", text.trim().to_string())) };
        self.refuse(file, batch.position, text.trim());
        self.counts.refused += refused.saturating_sub(1);
        Ok(())
    }

    fn refused(&mut self, file: &str, batch: &Batch, body: &[u8]) -> Result<()> {
        let Ok(refused) = serde_json::from_slice::<Refused>(body) else {
            let why = format!("{} answered something that is no Waterclock answer", self.client.url());
            return Err(Error::rejected(Kind::Unavailable, "bad_answer", why));
        };
        if refused.data.is_empty() {
            return Err(Error::invalid("refused", refused.error));
        }
        let listed = refused.data.iter().filter(|line| line.line_number > 0).count() as u64;
        for RefusedLine { error_message, line_number } in &refused.data {
            match line_number.checked_sub(1) {
                Some(line) => {
                    let number = batch.numbers.get(line as usize).copied().unwrap_or_default();
                    self.refuse(file, number, error_message);
                }
                // "and N more lines": the answer does not list them.
                None => {
                    let more = error_message.split(' ').find_map(|word| word.parse::<u64>().ok());
                    self.counts.refused += more.unwrap_or(listed);
                }
            }
        }
        Ok(())
    }

    /// The same parser as the server's; what the table makes of the lines is not known.
    fn dry_run(&mut self, file: &str, batch: &Batch) -> Result<()> {
        for line in crate::ingest::line_protocol::lines(&batch.lines.text) {
            let checked = line.and_then(|line| {
                line.parse_series()?;
                line.fields().try_for_each(|field| field.map(drop))
            });
            if let Err(error) = checked {
                let number = batch.numbers.get(error.number.saturating_sub(1)).copied().unwrap_or_default();
                self.refuse(file, number, &error.what);
            }
        }
        Ok(())
    }

    fn refuse(&mut self, file: &str, number: u64, why: &str) {
        self.counts.refused += 1;
        if (self.shown.len() as u64) < self.args.errors {
            self.shown.push(format!("{file}:{number}: {why}"));
        }
    }
}

/// Asks until the server has taken it. What it says if it refused some.
fn patiently(ask: impl Fn() -> Result<WriteReply>) -> Result<Option<Vec<u8>>> {
    let (mut wait, mut waited) = (WAIT_MIN, Duration::ZERO);
    loop {
        match ask()? {
            WriteReply::Taken => return Ok(None),
            WriteReply::Refused(body) => return Ok(Some(body)),
            WriteReply::Later { after, why } => {
                let pause = after.unwrap_or(wait).clamp(WAIT_MIN, WAIT_MAX);
                if waited + pause > PATIENCE {
                    return Err(Error::rejected(Kind::Unavailable, "busy", why));
                }
                // A server has nothing to say meanwhile.
                let never = crossbeam_channel::never::<()>();
                let _ = never.recv_timeout(pause);
                waited += pause;
                wait = (wait * 2).min(WAIT_MAX);
            }
        }
    }
}

/// Lines with content, as the server counts them.
fn line_count(text: &[u8]) -> u64 {
    crate::ingest::line_protocol::lines(text).count() as u64
}
