//! The one test binary: a module per subject.

mod support;

mod cli;
mod clients;
mod compaction;
mod crash;
mod damage;
mod disk_faults;
mod formats;
mod grafana;
mod http;
mod kill;
mod random;
mod readme;
mod restart;
mod rules;
mod scripts;

#[path = "../benches/subjects.rs"]
mod benches;

#[test]
fn benchmarks_in_small_size_give_right_answers() {
    let mut table = Vec::new();
    benches::run(&mut table, benches::support::Size::Small, &[]).unwrap();
    assert!(String::from_utf8(table).unwrap().contains("CPU ms/M"));
}
