//! The process: its allocator and its exit code.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Milliseconds until freed pages go back to the system. The allocator's own 10 are less than the time between two batches of
/// an answer: a fifth of the time that large answers took went into clearing the same pages again.
const PURGE_DELAY: std::ffi::c_long = 100;

fn main() -> std::process::ExitCode {
    keep_freed_pages_a_little();
    waterclock::cli::main()
}

#[expect(unsafe_code, reason = "the allocator's options are set by its C function")]
fn keep_freed_pages_a_little() {
    /// Its place in the list of options (`mi_option_e` in mimalloc.h), which the crate has no name for.
    const MI_OPTION_PURGE_DELAY: std::ffi::c_int = 15;
    // SAFETY: it writes a number into a table of options, at an index that the table has. A value from the environment stays.
    unsafe { libmimalloc_sys::mi_option_set_default(MI_OPTION_PURGE_DELAY, PURGE_DELAY) }
}
