//! Which thread is bound to which core, and when binding does good.
//!
//! A bound thread keeps its caches and its node, and can not be moved away from a core that others want. So threads
//! are bound where they take up all the cores that this process has, or where it is asked for.

use std::io;

use crate::topology::Topology;

/// Whether threads that compute are bound to cores.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Pinning {
    /// Where there is one engine, one thread for every physical core of the affinity mask, and no quota that gives
    /// time instead of cores.
    #[default]
    Auto,
    /// Wherever there are as many cores as threads.
    On,
    /// Never.
    Off,
}

/// Where threads that compute run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Binding {
    /// Each on a core of its own, bound.
    Cores,
    /// Where the system puts them.
    Free {
        /// Why.
        reason: String,
    },
}

/// The CPU of each of `num_threads` threads, the caller's first.
///
/// # Errors
/// Why they are not to be bound.
pub(super) fn choose(
    pinning: Pinning,
    num_threads: usize,
    num_engines: usize,
    topology: &Topology,
) -> Result<Vec<usize>, &'static str> {
    let Topology { cores, .. } = topology;
    if pinning == Pinning::Off {
        return Err("binding is off");
    }
    if cores.is_empty() {
        return Err("the system does not tell which cores there are");
    }
    if num_threads > cores.len() {
        return Err("there are more threads than cores");
    }
    if pinning == Pinning::Auto {
        if num_engines > 1 {
            return Err("several engines share the threads");
        }
        if topology.is_limited() {
            return Err("a CPU quota gives time on any core");
        }
        if num_threads < cores.len() {
            return Err("there are more cores than threads");
        }
    }
    Ok(cores[..num_threads].to_vec())
}

/// Bind the calling thread to each of `cpus` in turn, then let it run on `allowed` again.
///
/// # Errors
/// What the system said to the first that it refused.
pub(super) fn try_all(cpus: &[usize], allowed: &[usize]) -> io::Result<()> {
    let tried = cpus.iter().try_for_each(|cpu| bind(&[*cpu]));
    bind(allowed).and(tried)
}

/// Let the calling thread run on `cpus` only.
///
/// # Errors
/// What the system said.
#[cfg(target_os = "linux")]
pub(super) fn bind(cpus: &[usize]) -> io::Result<()> {
    let mask = crate::bits::bits(cpus);
    // SAFETY: the call reads as many bytes as it is told of, and the mask has them. 0 is the calling thread.
    let outcome = unsafe { libc::sched_setaffinity(0, size_of_val(&mask[..]), mask.as_ptr().cast()) };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Let the calling thread run on `cpus` only.
///
/// # Errors
/// Always: only Linux can.
#[cfg(not(target_os = "linux"))]
pub(super) fn bind(_: &[usize]) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `num_cores` cores of two CPUs each, as many CPUs usable as said.
    fn machine(num_cores: usize, usable: usize) -> Topology {
        Topology {
            allowed: (0..2 * num_cores).collect(),
            usable,
            cores: (0..num_cores).map(|core| 2 * core).collect(),
            memory_nodes: vec![0],
        }
    }

    #[test]
    fn auto_binds_where_all_cores_are_taken() {
        let auto = |threads, engines, machine: Topology| choose(Pinning::Auto, threads, engines, &machine);
        assert_eq!(auto(4, 1, machine(4, 8)), Ok(vec![0, 2, 4, 6]));
        assert!(auto(3, 1, machine(4, 8)).is_err(), "a core is left to move to");
        assert!(auto(5, 1, machine(4, 8)).is_err(), "two threads would share a core");
        assert!(auto(4, 2, machine(4, 8)).is_err(), "two engines would share the first core");
        assert!(auto(4, 1, Topology { cores: Vec::new(), ..machine(4, 8) }).is_err());
    }

    /// Eight pods of `cpu: 8` on one node see the same cores; all of them on the first eight would be a disaster.
    #[test]
    fn a_quota_leaves_threads_free_unless_asked() {
        let pod = machine(96, 8);
        assert!(choose(Pinning::Auto, 8, 1, &pod).is_err());
        assert!(choose(Pinning::Auto, 96, 1, &pod).is_err());
        assert_eq!(choose(Pinning::On, 8, 1, &pod).unwrap().len(), 8);
    }

    #[test]
    fn asking_binds_while_there_are_cores() {
        assert_eq!(choose(Pinning::On, 3, 2, &machine(4, 8)), Ok(vec![0, 2, 4]));
        assert!(choose(Pinning::On, 5, 1, &machine(4, 8)).is_err());
        assert!(choose(Pinning::Off, 4, 1, &machine(4, 8)).is_err());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_thread_can_be_bound_and_let_go() {
        let here = crate::topology::topology();
        let first = here.allowed[0];
        std::thread::spawn(move || {
            bind(&[first]).unwrap();
            assert_eq!(std::thread::available_parallelism().unwrap().get(), 1);
            try_all(&[first], &here.allowed).unwrap();
            assert_eq!(std::thread::available_parallelism().unwrap().get(), here.usable);
            assert!(bind(&[100_000]).is_err());
            assert!(try_all(&[first, 100_000], &here.allowed).is_err());
            assert_eq!(std::thread::available_parallelism().unwrap().get(), here.usable);
        })
        .join()
        .unwrap();
    }
}
