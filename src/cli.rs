//! The commands of the one binary.
//!
//! Invariant: a command returns `Ok` or the error whose sentence is printed here, once; exit codes are 0, 1 for a failure
//! and 2 for a command line that makes no sense.
//! Not here: what a command does (one file each).

mod backup;
mod check;
mod completions;
mod config;
mod demo;
mod export;
mod import;
mod maintain;
mod queries;
mod query;
mod rollup;
mod serve;
mod shell;

mod answer; // what /api/wql answers
mod chart; // answers as pictures
mod client; // requests to a server
mod files; // the same for Parquet files by themselves
mod live; // statements that go on
mod folder; // a server within, for a folder that has none
mod line_text; // values to line protocol
mod progress; // how far a long work is
mod settings; // flags, environment and file to a Config
mod table; // answers for people
mod terminal; // colours, widths, standard error

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::allocator;

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
    /// Run a server on this machine's vital signs and watch a rollup move
    Demo(demo::Args),
    /// Ask a server
    Query(query::Args),
    /// Ask a server, statement after statement
    Shell(shell::Args),
    /// What a server is asked right now, and ending it
    Queries(queries::Args),
    /// List, show, create, drop and refresh rollups
    Rollup(rollup::Args),
    /// Write points to files that other tools read: Parquet, CSV, line protocol
    Export(export::Args),
    /// Read points from such files, ours or others'
    Import(import::Args),
    /// Copy everything to a second folder or a bucket, while the server runs
    Backup(backup::BackupArgs),
    /// Make a data folder from a backup
    Restore(backup::RestoreArgs),
    /// Verify a data folder that no server uses, and mend it if asked to
    Check(check::Args),
    /// Print every setting in force and where it came from
    Config(config::Args),
    /// Print what makes a shell complete these commands
    Completions(completions::Args),
    /// Write the points in memory to blocks now
    Flush(maintain::Args),
    /// Merge blocks now
    Compact(maintain::CompactArgs),
}

pub fn main() -> ExitCode {
    // Only a server has a limit.
    allocator::keep_within(usize::MAX);
    // Ends the process by itself for help and wrong usage.
    let outcome = match Cli::parse().command {
        Command::Serve(args) => serve::run(args),
        Command::Demo(args) => demo::run(args),
        Command::Query(args) => query::run(args),
        Command::Shell(args) => shell::run(args),
        Command::Queries(args) => queries::run(args),
        Command::Rollup(args) => rollup::run(args),
        Command::Export(args) => export::run(args),
        Command::Import(args) => import::run(args),
        Command::Backup(args) => backup::backup(args),
        Command::Restore(args) => backup::restore(args),
        Command::Check(args) => check::run(args),
        Command::Config(args) => config::run(args),
        Command::Completions(args) => completions::run(args, &mut Cli::command()),
        Command::Flush(args) => maintain::flush(args),
        Command::Compact(args) => maintain::compact(args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is_closed_pipe() => ExitCode::SUCCESS, // `waterclock query ... | head`
        Err(error) => {
            terminal::note(&[format!("waterclock: {}", terminal::sentence(&error))]);
            ExitCode::FAILURE
        }
    }
}
