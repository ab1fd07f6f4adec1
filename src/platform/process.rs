//! What Linux tells of this process: its memory and CPU time.

use std::fs;

/// Memory that is resident now.
pub fn resident_bytes() -> Option<u64> {
    memory_bytes("VmRSS:")
}

/// The most memory that was resident at a time.
pub fn peak_resident_bytes() -> Option<u64> {
    memory_bytes("VmHWM:")
}

fn memory_bytes(field: &str) -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

/// CPU time: user and system, in hundredths of a second as Linux counts them.
pub fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(ticks as f64 / 100.0)
}
