//! `waterclock config`: every setting in force and where each came from.
//!
//! Invariant: it reads the same sources in the same order as `serve`, so what it prints is what `serve` would run with.

use std::path::PathBuf;

use crate::cli::answer::Answer;
use crate::cli::table::write_table;
use crate::cli::{settings, terminal};
use crate::config::Setting;
use crate::error::Result;

#[derive(clap::Args, Debug)]
pub struct Args {
    /// TOML file of settings
    #[arg(long, env = "WATERCLOCK_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

pub fn run(args: Args) -> Result<()> {
    let config = settings::load(args.config.as_deref(), Vec::new())?;
    let row = |setting: Setting| {
        [setting.name.to_string(), setting.value, setting.origin.to_string(), setting.about.to_string()]
    };
    let rows = config.settings().into_iter().map(row);
    let answer = Answer::of_texts(["setting", "value", "from", "about"], rows);
    write_table(&mut std::io::stdout().lock(), &answer, terminal::style_of_stdout())
}
