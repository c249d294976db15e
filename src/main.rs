//! The process: its exit code.

fn main() -> std::process::ExitCode {
    waterclock::cli::main()
}
