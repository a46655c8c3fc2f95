//! Resource usage of processes, as reported by the kernel: processor time, memory, and how much of
//! the machine others used.

use std::fs;

/// Returns a process and all its descendants.
pub fn family(parent: u32) -> Vec<u32> {
    let mut pairs = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if let Some(parent) = parent_of(pid) {
            pairs.push((pid, parent));
        }
    }
    let mut family = vec![parent];
    let mut next = 0;
    while let Some(&member) = family.get(next) {
        family.extend(pairs.iter().filter(|pair| pair.1 == member).map(|pair| pair.0));
        next += 1;
    }
    family
}

fn parent_of(pid: u32) -> Option<u32> {
    stat_fields(pid)?.get(1)?.parse().ok()
}

/// Returns the fields of `stat` after the process name, which may contain any character: state,
/// parent, and so on.
fn stat_fields(pid: u32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    Some(fields.split(' ').map(str::to_owned).collect())
}

/// Returns the user and system time that the processes have used so far, in µs.
pub fn cpu_us(pids: &[u32]) -> f64 {
    pids.iter().filter_map(|pid| scheduled_us(*pid).or_else(|| ticks_us(*pid))).sum()
}

/// Returns the processor time of all threads with nanosecond precision, where the kernel provides
/// it; `stat` rounds to ticks.
fn scheduled_us(pid: u32) -> Option<f64> {
    threads(pid).iter().map(|thread| thread_us(pid, *thread)).sum()
}

/// Returns the processor time of a process's threads other than the first, in µs.
pub fn side_threads_us(pid: u32) -> f64 {
    let beside = threads(pid).into_iter().filter(|thread| *thread != pid);
    beside.filter_map(|thread| thread_us(pid, thread)).sum()
}

fn threads(pid: u32) -> Vec<u32> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn thread_us(pid: u32, thread: u32) -> Option<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{thread}/schedstat")).ok()?;
    let nanos: f64 = text.split(' ').next()?.parse().ok()?;
    Some(nanos / 1e3)
}

fn ticks_us(pid: u32) -> Option<f64> {
    let fields = stat_fields(pid)?;
    let ticks = |index: usize| fields.get(index)?.parse::<f64>().ok();
    let per_second = rustix::param::clock_ticks_per_second() as f64;
    Some((ticks(11)? + ticks(12)?) / per_second * 1e6)
}

/// Returns the memory of the processes in bytes, with shared pages divided among the processes that
/// share them. Pages of programs and libraries are excluded, because their share falls when another
/// process starts the same program.
pub fn memory(pids: &[u32]) -> f64 {
    let own = |pid: &u32| {
        let file = format!("/proc/{pid}/smaps_rollup");
        let programs = kilobytes(&file, "Pss_File:").unwrap_or(0.0);
        kilobytes(&file, "Pss:").map(|all| all - programs)
    };
    pids.iter().filter_map(own).sum()
}

/// Returns the private memory of the processes in bytes, without shared mappings.
pub fn own_memory(pids: &[u32]) -> f64 {
    let own = |pid: &u32| kilobytes(&format!("/proc/{pid}/smaps_rollup"), "Pss_Anon:");
    pids.iter().filter_map(own).sum()
}

/// Returns the number of open files of the processes.
pub fn open_files(pids: &[u32]) -> usize {
    let open = |pid: &u32| fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
    pids.iter().map(open).sum()
}

/// Returns the unused memory of the machine in bytes.
pub fn available() -> f64 {
    kilobytes("/proc/meminfo", "MemAvailable:").unwrap_or(0.0)
}

/// Returns the memory of the kernel's own objects, such as sockets, in bytes.
pub fn slab() -> f64 {
    let part = |field| kilobytes("/proc/meminfo", field).unwrap_or(0.0);
    part("SReclaimable:") + part("SUnreclaim:")
}

/// Returns the memory of the kernel's TCP buffers in bytes.
pub fn tcp_buffers() -> f64 {
    let text = fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
    tcp_pages(&text).unwrap_or(0.0) * rustix::param::page_size() as f64
}

fn tcp_pages(sockstat: &str) -> Option<f64> {
    let line = sockstat.lines().find_map(|line| line.strip_prefix("TCP:"))?;
    line.split_whitespace().skip_while(|word| *word != "mem").nth(1)?.parse().ok()
}

/// Returns the memory of the machine in bytes.
pub fn installed() -> f64 {
    kilobytes("/proc/meminfo", "MemTotal:").unwrap_or(0.0)
}

fn kilobytes(file: &str, field: &str) -> Option<f64> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    let kilobytes: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes * 1024.0)
}

/// How the machine's time has been spent so far: in total, and by other guests of its host.
#[derive(Clone, Copy, Default)]
pub struct Machine {
    all: f64,
    busy: f64,
    stolen: f64,
}

impl Machine {
    pub fn now() -> Self {
        let text = fs::read_to_string("/proc/stat").unwrap_or_default();
        let first = text.lines().next().unwrap_or_default();
        let times: Vec<f64> =
            first.split_whitespace().skip(1).take(8).filter_map(|time| time.parse().ok()).collect();
        let time = |index: usize| times.get(index).copied().unwrap_or(0.0);
        let all: f64 = times.iter().sum();
        // Neither idle nor waiting for a disk.
        Self { all, busy: all - time(3) - time(4), stolen: time(7) }
    }

    /// Returns the share of the machine used by others since `earlier`, from 0 to 1, if this
    /// benchmark used `own` µs.
    pub fn others_since(self, earlier: Self, own: f64) -> f64 {
        let own = own / 1e6 * rustix::param::clock_ticks_per_second() as f64;
        ((self.busy - earlier.busy - own) / (self.all - earlier.all).max(1.0)).max(0.0)
    }

    /// Returns the share taken by the host since `earlier`, from 0 to 1.
    pub fn stolen_since(self, earlier: Self) -> f64 {
        (self.stolen - earlier.stolen) / (self.all - earlier.all).max(1.0)
    }
}

/// Describes the machine, for readers of the figures.
pub fn machine() -> serde_json::Value {
    let text = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let cpuinfo = text("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("");
    serde_json::json!({
        "processors": cpus().len(),
        "model": model.trim_start_matches([' ', '\t', ':']),
        "memory_gib": (installed() / f64::from(1 << 30) * 10.0).round() / 10.0,
        "kernel": text("/proc/sys/kernel/osrelease").trim(),
    })
}

/// Returns the processors that this program may use.
pub fn cpus() -> Vec<usize> {
    let Ok(set) = rustix::thread::sched_getaffinity(None) else { return vec![0] };
    (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_tcp() {
        let text =
            "sockets: used 90\nTCP: inuse 5 orphan 0 tw 2 alloc 6 mem 17\nUDP: inuse 0 mem 3\n";
        assert_eq!(tcp_pages(text), Some(17.0));
        assert_eq!(tcp_pages("UDP: inuse 0 mem 3\n"), None);
    }
}
