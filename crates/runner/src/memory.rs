//! How much memory this process may still take: the least of what the system and its control groups allow.

use std::fs;
use std::path::Path;

/// Bytes that can be allocated without swapping or being killed, `None` where the system does not tell.
///
/// Linux only: `MemAvailable`, and for each control group above this process its limit less what it uses. Pages of
/// files that it could drop count as free.
#[must_use]
pub fn available_memory() -> Option<u64> {
    available_below(Path::new("/"))
}

fn available_below(root: &Path) -> Option<u64> {
    let system = system_available(root);
    let groups = [cgroup_v2(root), cgroup_v1(root)];
    system.into_iter().chain(groups.into_iter().flatten()).min()
}

fn system_available(root: &Path) -> Option<u64> {
    let text = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

fn cgroup_v2(root: &Path) -> Option<u64> {
    let text = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mount = root.join("sys/fs/cgroup");
    let own = mount.join(path.trim_start_matches('/'));
    own.ancestors()
        .take_while(|folder| folder.starts_with(&mount))
        .filter_map(|folder| group_left(folder, "memory.max", "memory.current", "inactive_file"))
        .min()
}

fn cgroup_v1(root: &Path) -> Option<u64> {
    let folder = root.join("sys/fs/cgroup/memory");
    group_left(&folder, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
}

/// Limit less use of one control group; `None` when it has no limit.
fn group_left(folder: &Path, limit: &str, used: &str, droppable: &str) -> Option<u64> {
    let number =
        |file: &str| -> Option<u64> { fs::read_to_string(folder.join(file)).ok()?.trim().parse().ok() };
    let (limit, used) = (number(limit)?, number(used)?);
    let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
    let droppable = stat
        .lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(key, _)| *key == droppable)
        .and_then(|(_, value)| value.parse().ok())
        .unwrap_or(0);
    Some(limit.saturating_sub(used.saturating_sub(droppable)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    const MEMINFO: (&str, &str) = ("proc/meminfo", "MemTotal: 2000 kB\nMemAvailable:    1000 kB\n");

    #[test]
    fn without_a_limit_the_system_decides() {
        let root = machine(&[
            MEMINFO,
            ("proc/self/cgroup", "0::/a\n"),
            ("sys/fs/cgroup/a/memory.max", "max\n"),
            ("sys/fs/cgroup/a/memory.current", "5\n"),
        ]);
        assert_eq!(available_below(root.path()), Some(1_024_000));
    }

    #[test]
    fn the_tightest_group_decides_and_file_pages_are_free() {
        let root = machine(&[
            MEMINFO,
            ("proc/self/cgroup", "0::/pod/container\n"),
            ("sys/fs/cgroup/pod/memory.max", "600000\n"),
            ("sys/fs/cgroup/pod/memory.current", "200000\n"),
            ("sys/fs/cgroup/pod/memory.stat", "anon 1\ninactive_file 50000\n"),
            ("sys/fs/cgroup/pod/container/memory.max", "900000\n"),
            ("sys/fs/cgroup/pod/container/memory.current", "100000\n"),
        ]);
        assert_eq!(available_below(root.path()), Some(450_000));
    }

    #[test]
    fn the_older_groups_are_read_too() {
        let root = machine(&[
            MEMINFO,
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "500000\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "400000\n"),
            ("sys/fs/cgroup/memory/memory.stat", "total_inactive_file 1000\n"),
        ]);
        assert_eq!(available_below(root.path()), Some(101_000));
    }

    #[test]
    fn a_system_that_does_not_tell_is_no_error() {
        assert_eq!(available_below(machine(&[]).path()), None);
    }
}
