//! The allocator of the process, and when it gives freed memory back to the system.
//!
//! Invariant: what it keeps that nobody uses stays small beside `memory_limit`.
//! It keeps what each thread freed, by itself, and looks whether it is time to give it back only where that thread frees
//! again: threads that compute answers in turn keep some 200 MiB together, for as long as they wait.
//! Not here: limits (`config`), and memory by parts (`guard`).

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Below this limit freed memory goes back at once: what threads keep would be more than the eighth that is left for it.
const ROOMY_BYTES: usize = 2 << 30;

/// Milliseconds until freed pages go back to the system. The allocator's own 10 are less than the time between two batches of
/// an answer: a fifth of the time that large answers took went into clearing the same pages again.
const PURGE_DELAY: std::ffi::c_long = 100;

/// Holds for what is freed from now on.
#[expect(unsafe_code, reason = "the allocator's options are set by its C function")]
pub fn keep_within(memory_limit: usize) {
    /// Its place in the list of options (`mi_option_e` in mimalloc.h), which the crate has no name for.
    const MI_OPTION_PURGE_DELAY: std::ffi::c_int = 15;
    let delay = if memory_limit < ROOMY_BYTES { 0 } else { PURGE_DELAY };
    // SAFETY: it writes a number into a table of options, at an index that the table has. A value from the environment stays.
    unsafe { libmimalloc_sys::mi_option_set_default(MI_OPTION_PURGE_DELAY, delay) }
}
