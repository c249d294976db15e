//! An answer taller than the terminal goes through the pager.
//!
//! Invariant: what fits on the screen is printed as it is; the rest is passed on as it comes, never held whole.

use std::io::{Result, Write};
use std::process::{Child, Command, Stdio};

pub(super) struct Pager {
    /// Rows of the terminal; None prints everything.
    rows: Option<usize>,
    /// Until it is known whether it fits.
    held: Vec<u8>,
    lines: usize,
    child: Option<Child>,
}

/// Rows that the prompt and the line about the answer need.
const ROWS_BESIDE: usize = 3;

impl Pager {
    pub fn new(rows: Option<u16>) -> Pager {
        Pager { rows: rows.map(usize::from), held: Vec::new(), lines: 0, child: None }
    }

    /// Shows what is left and waits until the person has read it.
    pub fn finish(mut self) {
        let _ = self.flush();
        if self.child.is_none() {
            let mut out = std::io::stdout().lock();
            let _ = out.write_all(&self.held).and_then(|()| out.flush());
        }
        if let Some(mut child) = self.child.take() {
            drop(child.stdin.take());
            let _ = child.wait();
        }
    }

    fn start(&mut self) {
        let program = std::env::var("PAGER").ok().filter(|program| !program.trim().is_empty());
        let mut command = Command::new("sh");
        command.args(["-c", program.as_deref().unwrap_or("less")]).stdin(Stdio::piped());
        if std::env::var_os("LESS").is_none() {
            // Colours as they are, long lines cut, the answer left on the screen.
            command.env("LESS", "RSX");
        }
        match command.spawn() {
            Ok(child) => self.child = Some(child),
            // No `sh`: everything on the screen is better than nothing.
            Err(_) => self.rows = None,
        }
    }
}

impl Write for Pager {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        if self.rows.is_some_and(|_| self.child.is_none()) {
            self.lines += memchr::memchr_iter(b'\n', bytes).count();
            if self.rows.is_some_and(|rows| self.lines + ROWS_BESIDE > rows) {
                self.start();
                if let Some(to) = self.child.as_mut().and_then(|child| child.stdin.as_mut()) {
                    to.write_all(&std::mem::take(&mut self.held))?;
                }
            }
        }
        match self.child.as_mut().and_then(|child| child.stdin.as_mut()) {
            Some(to) => to.write_all(bytes)?,
            None if self.rows.is_some() => self.held.extend_from_slice(bytes),
            None => {
                let mut out = std::io::stdout().lock();
                out.write_all(&std::mem::take(&mut self.held))?;
                out.write_all(bytes)?;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<()> {
        match self.child.as_mut().and_then(|child| child.stdin.as_mut()) {
            Some(to) => to.flush(),
            None => std::io::stdout().lock().flush(),
        }
    }
}
