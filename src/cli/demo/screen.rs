//! The demo on a terminal: a header that scrolls away as it likes, and below it a picture redrawn in place.
//!
//! Invariant: whatever ends this, also a panic, leaves the terminal as it was: the guard's `Drop` does it.
//! Not here: what the picture shows (`chart`), the plain form for pipes and files (`plain`).

use std::io::{Stdout, Write, stdout};
use std::time::Duration;

use crossbeam_channel::{Receiver, TryRecvError};
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{MoveTo, Show};
use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers, poll, read};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{Clear, ClearType, disable_raw_mode, enable_raw_mode, size};
use ratatui::text::Line;
use ratatui::widgets::{Paragraph, Widget, Wrap};
use ratatui::{Terminal, TerminalOptions, Viewport};

use crate::cli::client::Client;
use crate::cli::demo::chart::{Picture, STATEMENT};
use crate::error::{Error, Result};

/// What the screen listens to.
pub struct Ears<'a> {
    /// Seconds that the collector wrote.
    pub written: &'a Receiver<i64>,
    /// Warnings and troubles.
    pub notes: &'a Receiver<String>,
    /// Closed when the server has ended.
    pub ended: &'a Receiver<()>,
}

/// How soon a key or the server's end is noticed.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Lower than this the chart has no room between its labels.
const ROWS_MIN: u16 = 9;
/// Higher than this looks empty.
const ROWS_MAX: u16 = 24;

/// Shows pictures until the server ends; a key that asks for the end calls `stop`.
pub fn run(header: &str, client: &Client, ears: &Ears<'_>, stop: impl Fn()) -> Result<()> {
    let mut screen = Screen::open(header).map_err(unusable)?;
    let (mut trouble, mut is_stopping) = (String::new(), false);
    loop {
        if let Err(TryRecvError::Disconnected) = ears.ended.try_recv() {
            return Ok(());
        }
        if poll(LOOK_EVERY).map_err(unusable)? {
            match read().map_err(unusable)? {
                Event::Key(key) if asks_for_the_end(key) => {
                    is_stopping = true;
                    stop();
                }
                Event::Resize(..) => screen = screen.reopen(header).map_err(unusable)?,
                _ => {}
            }
        }
        for note in ears.notes.try_iter() {
            screen.say(&note).map_err(unusable)?;
        }
        // A server that is stopping would be said to be out of reach.
        let written = ears.written.try_iter().last();
        if let Some(second) = written.filter(|_| !is_stopping) {
            match client.answer(STATEMENT, &vec![("time", "s")]) {
                Ok(answer) => {
                    trouble.clear();
                    screen.show(Picture::new(&answer, second)).map_err(unusable)?;
                }
                // Once, not every second.
                Err(error) if error.to_string() != trouble => {
                    trouble = error.to_string();
                    screen.say(&trouble).map_err(unusable)?;
                }
                Err(_) => {}
            }
        }
    }
}

/// Fields are dropped in order: the terminal first, then raw mode.
struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
    last: Option<Picture>,
    _raw: RawMode,
}

impl Screen {
    fn open(header: &str) -> std::io::Result<Screen> {
        stdout().write_all(header.as_bytes())?;
        let (columns, rows) = size()?;
        let width = usize::from(columns).max(1);
        let header_rows: usize =
            header.lines().map(|line| Line::raw(line).width().max(1).div_ceil(width)).sum();
        // One row stays for what the shell says next.
        let room = rows.saturating_sub(u16::try_from(header_rows + 1).unwrap_or(u16::MAX));
        let raw = RawMode::enter()?;
        let viewport = Viewport::Inline(room.clamp(ROWS_MIN, ROWS_MAX).min(rows));
        let terminal = Terminal::with_options(CrosstermBackend::new(stdout()), TerminalOptions { viewport })?;
        Ok(Screen { terminal, last: None, _raw: raw })
    }

    /// Everything again: after a change of width the terminal has wrapped the old lines as it liked.
    fn reopen(mut self, header: &str) -> std::io::Result<Screen> {
        let last = self.last.take();
        drop(self);
        execute!(stdout(), Clear(ClearType::All), MoveTo(0, 0))?;
        let mut screen = Screen::open(header)?;
        screen.show(last)?;
        Ok(screen)
    }

    fn show(&mut self, picture: Option<Picture>) -> std::io::Result<()> {
        if let Some(picture) = picture {
            self.terminal.draw(|frame| picture.draw(frame))?;
            self.last = Some(picture);
        }
        Ok(())
    }

    /// A line above the picture.
    fn say(&mut self, text: &str) -> std::io::Result<()> {
        let width = usize::from(self.terminal.size()?.width).max(1);
        let lines: Vec<Line<'_>> = text.lines().map(Line::raw).collect();
        let rows: usize = lines.iter().map(|line| line.width().max(1).div_ceil(width)).sum();
        // Words that do not fit go to the next row, so there may be one more than a division says.
        let rows = u16::try_from(rows + usize::from(rows > lines.len())).unwrap_or(u16::MAX);
        self.terminal.insert_before(rows, |buffer| {
            Paragraph::new(lines).wrap(Wrap { trim: false }).render(buffer.area, buffer);
        })?;
        match self.last.take() {
            Some(picture) => self.show(Some(picture)),
            None => Ok(()),
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // The last picture stays; what follows is written below it.
        let bottom = self.terminal.get_frame().area().bottom();
        let _ = self.terminal.set_cursor_position((0, bottom.saturating_sub(1)));
    }
}

/// Keys arrive one by one and unechoed while this lives.
struct RawMode;

impl RawMode {
    fn enter() -> std::io::Result<RawMode> {
        enable_raw_mode()?;
        Ok(RawMode)
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // Nothing is left to tell it to if the terminal itself is gone.
        let _ = disable_raw_mode();
        let _ = execute!(stdout(), Show);
        let _ = stdout().write_all(b"\n");
    }
}

/// In raw mode Ctrl-C is a key like others.
fn asks_for_the_end(key: KeyEvent) -> bool {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    key.kind == KeyEventKind::Press
        && matches!(
            (key.code, control),
            (KeyCode::Char('c' | 'd'), true) | (KeyCode::Char('q') | KeyCode::Esc, false)
        )
}

fn unusable(source: std::io::Error) -> Error {
    Error::io("draw on", "the terminal", source)
}
