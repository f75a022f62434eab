//! Machines as their files describe them.

use super::*;

/// Files of a machine, under a folder that is gone afterwards.
struct Machine(std::path::PathBuf);

impl Machine {
    /// `cores` lists the CPUs of each core, `nodes` those of each node.
    fn new(name: &str, cores: &[&str], nodes: &[&str]) -> Self {
        let root = std::env::temp_dir().join(format!("vlinders-topology-{}-{name}", std::process::id()));
        for siblings in cores {
            for cpu in parse_list(siblings).unwrap() {
                let at = root.join(format!("cpu/cpu{cpu}/topology"));
                std::fs::create_dir_all(&at).unwrap();
                std::fs::write(at.join("thread_siblings_list"), format!("{siblings}\n")).unwrap();
            }
        }
        for (node, cpus) in nodes.iter().enumerate() {
            let at = root.join(format!("node/node{node}"));
            std::fs::create_dir_all(&at).unwrap();
            std::fs::write(at.join("cpulist"), format!("{cpus}\n")).unwrap();
        }
        Self(root)
    }

    fn seen_with(&self, cpus: &str, memory: &str, usable: usize) -> Topology {
        let status = self.0.join("status");
        let text = format!("Name:\tx\nCpus_allowed_list:\t{cpus}\nMems_allowed_list:\t{memory}\n");
        std::fs::write(&status, text).unwrap();
        Topology::read(&status, &self.0, usable)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn cpu_lists() {
    assert_eq!(parse_list("0-3,8"), Some(vec![0, 1, 2, 3, 8]));
    assert_eq!(parse_list("\t5\n"), Some(vec![5]));
    assert_eq!(parse_list("3-1"), None);
    assert_eq!(parse_list(""), None);
}

#[test]
fn siblings_count_once() {
    let machine = Machine::new("siblings", &["0,2", "1,3"], &["0-3"]);
    let all = machine.seen_with("0-3", "0", 4);
    assert_eq!((&all.cores[..], all.default_threads()), (&[0, 1][..], 2));
    let one_core = machine.seen_with("1,3", "0", 2);
    assert_eq!((&one_core.cores[..], one_core.default_threads()), (&[1][..], 1));
    let second_siblings = machine.seen_with("2,3", "0", 2);
    assert_eq!(second_siblings.cores, [2, 3]);
}

/// CPUs are often numbered across sockets: even ones here, odd ones there.
#[test]
fn cores_of_a_node_come_before_those_of_the_next() {
    let machine = Machine::new("nodes", &["0,4", "1,5", "2,6", "3,7"], &["0,2,4,6", "1,3,5,7"]);
    let all = machine.seen_with("0-7", "0-1", 8);
    assert_eq!((&all.cores[..], &all.memory_nodes[..]), (&[0, 2, 1, 3][..], &[0, 1][..]));
    let one_socket = machine.seen_with("1,3,5,7", "0-1", 4);
    assert_eq!((&one_socket.cores[..], &one_socket.memory_nodes[..]), (&[1, 3][..], &[1][..]));
    let memory_of_one = machine.seen_with("0-7", "0", 8);
    assert_eq!(memory_of_one.memory_nodes, [0]);
}

/// A pod with `cpu: 8` on a node of 96 cores sees all CPUs and has time for eight.
#[test]
fn a_quota_limits_threads_but_not_cores() {
    let cores: Vec<String> = (0..96).map(|core| format!("{core},{}", core + 96)).collect();
    let cores: Vec<&str> = cores.iter().map(String::as_str).collect();
    let machine = Machine::new("quota", &cores, &["0-47,96-143", "48-95,144-191"]);
    let pod = machine.seen_with("0-191", "0-1", 8);
    assert_eq!((pod.cores.len(), pod.default_threads(), pod.is_limited()), (96, 8, true));
    let whole = machine.seen_with("0-191", "0-1", 192);
    assert_eq!((whole.default_threads(), whole.is_limited()), (96, false));
    assert_eq!(whole.cores[..3], [0, 1, 2]);
}

#[test]
fn a_system_that_does_not_tell_is_taken_at_its_count() {
    let unknown = Topology::read(Path::new("/nowhere/status"), Path::new("/nowhere"), 6);
    assert_eq!((unknown.default_threads(), unknown.cores.len(), unknown.is_limited()), (6, 0, false));
    let machine = Machine::new("no-topology", &["0"], &[]);
    let half_told = machine.seen_with("0-1", "0", 2);
    assert_eq!((half_told.default_threads(), half_told.cores.len()), (2, 0));
}

#[test]
fn this_machine_has_something_to_compute_on() {
    let here = topology();
    assert!(here.default_threads() >= 1 && here.default_threads() <= here.usable);
    assert!(here.cores.iter().all(|cpu| here.allowed.contains(cpu)));
}
