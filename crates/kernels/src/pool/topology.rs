//! How many threads are worth having: physical cores, within the limit of the control group.
//!
//! Two threads of one core share its arithmetic units, so kernels gain nothing from the second one.

use std::collections::BTreeSet;
use std::path::Path;

/// Physical cores that this process may use, at most its CPU quota.
pub(super) fn default_threads() -> usize {
    // The standard library reads the affinity mask and the quota (cgroup v2 cpu.max, v1 cfs quota).
    let allowed = std::thread::available_parallelism().map_or(1, usize::from);
    match physical_cores(Path::new("/proc/self/status"), Path::new("/sys/devices/system/cpu")) {
        Some(cores) => allowed.min(cores),
        None => allowed,
    }
}

/// Distinct cores among the CPUs of the affinity mask; `None` where the system does not tell.
fn physical_cores(status: &Path, cpus: &Path) -> Option<usize> {
    let status = std::fs::read_to_string(status).ok()?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    let mut cores = BTreeSet::new();
    for cpu in parse_list(list.trim())? {
        let topology = cpus.join(format!("cpu{cpu}/topology"));
        let package = std::fs::read_to_string(topology.join("physical_package_id")).ok()?;
        let core = std::fs::read_to_string(topology.join("core_id")).ok()?;
        cores.insert((package, core));
    }
    (!cores.is_empty()).then_some(cores.len())
}

/// `0-3,8` as numbers.
fn parse_list(list: &str) -> Option<Vec<usize>> {
    let mut all = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse::<usize>().ok()?, last.parse::<usize>().ok()?);
        if last < first || last - first > 1 << 20 {
            return None;
        }
        all.extend(first..=last);
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists() {
        assert_eq!(parse_list("0-3,8"), Some(vec![0, 1, 2, 3, 8]));
        assert_eq!(parse_list("5"), Some(vec![5]));
        assert_eq!(parse_list("3-1"), None);
        assert_eq!(parse_list(""), None);
    }

    #[test]
    fn siblings_count_once() {
        let dir = std::env::temp_dir().join(format!("vlinders-topology-{}", std::process::id()));
        for (cpu, core) in [(0, 0), (1, 1), (2, 0), (3, 1)] {
            let at = dir.join(format!("cpu{cpu}/topology"));
            std::fs::create_dir_all(&at).unwrap();
            std::fs::write(at.join("physical_package_id"), "0\n").unwrap();
            std::fs::write(at.join("core_id"), format!("{core}\n")).unwrap();
        }
        std::fs::write(dir.join("status"), "Name:\tx\nCpus_allowed_list:\t0-3\n").unwrap();
        assert_eq!(physical_cores(&dir.join("status"), &dir), Some(2));
        std::fs::write(dir.join("status"), "Cpus_allowed_list:\t1,3\n").unwrap();
        assert_eq!(physical_cores(&dir.join("status"), &dir), Some(1));
        assert_eq!(physical_cores(&dir.join("nothing"), &dir), None);
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn default_is_positive() {
        assert!(default_threads() >= 1);
    }
}
