//! `waterclock completions`: the script that makes bash, zsh or fish complete commands and flags.

use clap_complete::Shell;

use crate::cli::table::put;
use crate::error::Result;

#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  waterclock completions bash > ~/.local/share/bash-completion/completions/waterclock
  waterclock completions zsh > ~/.zfunc/_waterclock
  waterclock completions fish > ~/.config/fish/completions/waterclock.fish")]
pub struct Args {
    #[arg(value_enum, value_name = "SHELL")]
    shell: Known,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Known {
    Bash,
    Zsh,
    Fish,
}

pub fn run(args: Args, command: &mut clap::Command) -> Result<()> {
    let shell = match args.shell {
        Known::Bash => Shell::Bash,
        Known::Zsh => Shell::Zsh,
        Known::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, command, "waterclock", &mut script);
    put(&mut std::io::stdout().lock(), &String::from_utf8_lossy(&script))
}
