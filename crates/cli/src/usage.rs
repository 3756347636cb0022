//! What a process has used: processor time and peak memory, from `/proc`.

use std::fs;
use std::time::Duration;

/// The kernel counts processor time in these, everywhere that Rust's tier 1 Linux runs.
const TICKS_PER_SECOND: u64 = 100;

/// What a process has used so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time, user and system.
    pub cpu: Duration,
    /// The most memory that was resident at once, bytes.
    pub memory_peak: u64,
}

impl Usage {
    /// Of the process with this id; `None` where there is no such process, or no `/proc`. Of a process that has ended and
    /// was not waited for yet, the memory is not known any more.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        // The name stands in brackets and may hold anything.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        Some(Self {
            cpu: Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND),
            memory_peak: peak.unwrap_or_default() * 1024,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Usage;

    #[test]
    fn this_process_has_used_something() {
        let usage = Usage::of(std::process::id()).expect("this process runs");
        assert!(usage.memory_peak > 1 << 20, "{usage:?}");
        assert_eq!(Usage::of(u32::MAX), None);
    }
}
