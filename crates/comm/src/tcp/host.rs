//! Which machine a rank runs on, as far as sharing memory and cores is concerned.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};

/// Equal for ranks that share memory and cores: one start of one machine, seen from one container. Containers have limits of
/// their own, so each counts as a machine.
pub(super) fn this_host() -> u64 {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let container = std::fs::read_link("/proc/self/ns/cgroup").unwrap_or_default();
    // With fixed keys, so that all ranks of one build come to the same number.
    let mut hash = DefaultHasher::new();
    (boot, container).hash(&mut hash);
    hash.finish()
}
