//! From flags, environment and file to a checked [`Config`].
//!
//! Invariant: every subcommand that needs settings gets them here, so that all of them mean the same sources.

use std::path::Path;

use crate::cli::terminal;
use crate::config::Config;
use crate::error::Result;

/// Variables that are flags of a subcommand, not settings of the server.
const NOT_SETTINGS: [&str; 2] = ["WATERCLOCK_URL", "WATERCLOCK_CONFIG"];

pub fn load(file: Option<&Path>, flags: Vec<(String, String)>) -> Result<Config> {
    let text = file.map(|path| terminal::read_file("read the settings in", path)).transpose()?;
    let name = file.map(|path| path.display().to_string());
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| !NOT_SETTINGS.contains(&name.as_str()));
    Config::load(machine_bytes(), name.as_deref().zip(text.as_deref()), environment, flags)
}

/// What this process may use at the most: the machine's memory, or what its container has of it.
fn machine_bytes() -> usize {
    let Ok(mut system) = sysinfo::System::new() else { return UNKNOWN_MACHINE_BYTES };
    system.refresh_memory();
    let machine = system.total_memory();
    let bytes = system.cgroup_limits().map_or(machine, |container| container.total_memory.min(machine));
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// What a machine that does not say so is taken to have.
const UNKNOWN_MACHINE_BYTES: usize = 8 << 30;
