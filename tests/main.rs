//! The one test binary: a module per subject.

mod support;

mod crash;
mod disk_faults;
