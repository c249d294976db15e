//! The commands of the one binary.
//!
//! Invariant: a command returns `Ok` or the error whose sentence is printed here, once; exit codes are 0, 1 for a failure
//! and 2 for a command line that makes no sense.
//! Not here: what a command does (one file each).

mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "waterclock", version, about, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the server
    Serve(serve::Args),
}

pub fn main() -> ExitCode {
    // Ends the process by itself for help and wrong usage.
    let outcome = match Cli::parse().command {
        Command::Serve(args) => serve::run(args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is_closed_pipe() => ExitCode::SUCCESS, // `waterclock query ... | head`
        Err(error) => {
            #[expect(
                clippy::print_stderr,
                reason = "a command's last word is for the person at the terminal"
            )]
            {
                eprintln!("waterclock: {error}");
            }
            ExitCode::FAILURE
        }
    }
}
