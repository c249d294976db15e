//! This machine's vital signs as line protocol.
//!
//! Invariant: one call gives every table one consistent second; counters are the system's own totals, so that a missed
//! second loses no bytes.
//! Not here: when to sample and where to send it (`collector`).

use std::fmt::Write;

use sysinfo::{
    CpuRefreshKind, DiskRefreshKind, Disks, MemoryRefreshKind, Networks, ProcessRefreshKind,
    ProcessesToUpdate, RefreshKind, System,
};

use crate::error::{Error, Kind, Result};

pub struct Vitals {
    system: System,
    disks: Disks,
    networks: Networks,
    host: String,
}

impl Vitals {
    /// CPU usage is a difference: the first sample is good after [`sysinfo::MINIMUM_CPU_UPDATE_INTERVAL`].
    pub fn new() -> Result<Vitals> {
        let kinds = RefreshKind::nothing()
            .with_cpu(CpuRefreshKind::everything())
            .with_memory(MemoryRefreshKind::everything());
        Ok(Vitals {
            system: System::new_with_specifics(kinds).map_err(unreadable)?,
            disks: Disks::new_with_refreshed_list().map_err(unreadable)?,
            networks: Networks::new_with_refreshed_list().map_err(unreadable)?,
            host: escaped(&System::host_name().unwrap_or_else(|_| "localhost".into())),
        })
    }

    /// The lines of one second.
    pub fn sample(&mut self, time_s: i64) -> String {
        self.system.refresh_cpu_all();
        self.system.refresh_memory();
        self.system.refresh_processes_specifics(ProcessesToUpdate::All, true, ProcessRefreshKind::nothing());
        self.disks.refresh_specifics(true, DiskRefreshKind::everything());
        self.networks.refresh(true);
        let mut lines = String::with_capacity(4 << 10);
        self.cpu(&mut lines, time_s);
        self.memory(&mut lines, time_s);
        self.load(&mut lines, time_s);
        self.disk(&mut lines, time_s);
        self.network(&mut lines, time_s);
        self.whole(&mut lines, time_s);
        lines
    }

    fn cpu(&self, lines: &mut String, time: i64) {
        let cpus = self.system.cpus();
        let mut line = |cpu: &str, usage: f32, freq_mhz: u64| {
            push(
                lines,
                format_args!("cpu,cpu={cpu},host={} usage={usage:.2},freq_mhz={freq_mhz}i {time}", self.host),
            );
        };
        for (number, cpu) in cpus.iter().enumerate() {
            line(&format!("cpu{number}"), cpu.usage(), cpu.frequency());
        }
        let frequency = cpus.iter().map(|cpu| cpu.frequency()).sum::<u64>() / cpus.len().max(1) as u64;
        line("total", self.system.global_cpu_usage(), frequency);
    }

    fn memory(&self, lines: &mut String, time: i64) {
        let (used, total) = (self.system.used_memory(), self.system.total_memory());
        push(
            lines,
            format_args!(
                "mem,host={} used_bytes={used}i,available_bytes={}i,used_percent={:.2},swap_used_bytes={}i {time}",
                self.host,
                self.system.available_memory(),
                percent(used, total),
                self.system.used_swap(),
            ),
        );
    }

    /// Not every system keeps load averages; then there is no table `load`.
    fn load(&self, lines: &mut String, time: i64) {
        if let Ok(load) = System::load_average() {
            let (one, five, fifteen) = (load.one, load.five, load.fifteen);
            push(
                lines,
                format_args!(
                    "load,host={} one={one:.2},five={five:.2},fifteen={fifteen:.2} {time}",
                    self.host
                ),
            );
        }
    }

    fn disk(&self, lines: &mut String, time: i64) {
        for disk in &self.disks {
            let (free, total) = (disk.available_space(), disk.total_space());
            // Files mounted into a container look like disks of size zero, or are a disk's second name.
            if total == 0 || !disk.mount_point().is_dir() {
                continue;
            }
            let usage = disk.usage();
            push(
                lines,
                format_args!(
                    "disk,device={},host={},mount={} used_percent={:.2},free_bytes={free}i,read_bytes={}i,written_bytes={}i {time}",
                    escaped(&disk.name().to_string_lossy()),
                    self.host,
                    escaped(&disk.mount_point().to_string_lossy()),
                    percent(total.saturating_sub(free), total),
                    usage.total_read_bytes,
                    usage.total_written_bytes,
                ),
            );
        }
    }

    fn network(&self, lines: &mut String, time: i64) {
        for (interface, counters) in self.networks.iter() {
            push(
                lines,
                format_args!(
                    "net,host={},interface={} received_bytes={}i,sent_bytes={}i {time}",
                    self.host,
                    escaped(&interface.to_string_lossy()),
                    counters.total_received(),
                    counters.total_transmitted(),
                ),
            );
        }
    }

    fn whole(&self, lines: &mut String, time: i64) {
        let uptime = System::uptime().unwrap_or(0);
        let processes = self.system.processes().len();
        push(lines, format_args!("system,host={} uptime={uptime}i,processes={processes}i {time}", self.host));
    }
}

fn push(lines: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(lines, "{line}").expect("writing to a String cannot fail");
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

/// A tag's value in line protocol. It may not be empty, and a line end cannot be escaped.
fn escaped(text: &str) -> String {
    let mut value = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            ',' | ' ' | '=' => value.extend(['\\', c]),
            c if c.is_control() => value.push('_'),
            c => value.push(c),
        }
    }
    // A backslash at the end would escape what follows the value.
    if value.is_empty() || value.ends_with('\\') {
        value.push('_');
    }
    value
}

fn unreadable(error: sysinfo::Error) -> Error {
    let why = format!("cannot read this machine's vital signs: {error}");
    Error::rejected(Kind::Unavailable, "vital_signs", why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_has_its_lines() {
        let lines = Vitals::new().unwrap().sample(1_767_225_600);
        for start in ["cpu,cpu=cpu0,host=", "cpu,cpu=total,host=", "mem,host=", "system,host="] {
            assert!(lines.lines().any(|line| line.starts_with(start)), "{start} in {lines}");
        }
        assert!(lines.lines().all(|line| line.ends_with(" 1767225600")), "{lines}");
    }

    #[test]
    fn tag_values_are_escaped() {
        assert_eq!(escaped("my disk,a=b"), "my\\ disk\\,a\\=b");
        assert_eq!(escaped(""), "_");
        assert_eq!(escaped("c:\\"), "c:\\_");
        assert_eq!(escaped("a\nb"), "a_b");
    }
}
