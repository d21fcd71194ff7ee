//! What a process has used, as Linux tells it.

/// Ticks per second of the times in `/proc/<pid>/stat`: fixed for programs, whatever the kernel's
/// own clock does.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU time that the processes have used so far, in milliseconds; 0 for those that are gone.
pub fn cpu_ms(pids: &[u32]) -> f64 {
    pids.iter().filter_map(|pid| ticks(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)).sum::<f64>()
        * 1_000.0
        / TICKS_PER_SECOND
}

/// Memory of the processes that is in use now, in bytes.
pub fn memory_bytes(pids: &[u32]) -> u64 {
    pids.iter().filter_map(|pid| resident(&std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?)).sum()
}

/// User and system time of a `/proc/<pid>/stat` line.
fn ticks(stat: &str) -> Option<f64> {
    // The program's name stands in brackets and may hold blanks and brackets itself.
    let after_name = &stat[stat.rfind(')')? + 1..];
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_linux_says_is_read() {
        let stat = "42 (a b) c) S 1 1 1 0 -1 4194304 100 0 0 0 70 30 0 0 20 0 1 0 100 1 1";
        assert_eq!(ticks(stat), Some(100.0));
        assert_eq!(resident("Name:\tx\nVmRSS:\t  12 kB\n"), Some(12 * 1024));
        assert!(memory_bytes(&[std::process::id()]) > 1024 * 1024);
    }
}
