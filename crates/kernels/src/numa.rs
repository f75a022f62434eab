//! Where weights and caches lie on machines with several memory nodes: page by page on every node in turn.
//!
//! Chunks go to whichever thread is free, so any thread may read any part of a weight. Without a policy a page lies on
//! the node of the thread that happened to fill it, and how evenly the memory channels are used is an accident of
//! loading. Taking turns uses the channels of all nodes for every matrix, whoever reads. Reading only
//! what lies on one's own node would save the way between nodes, but needs chunks that belong to threads, and then the
//! slowest thread decides how long each region takes.

use std::io;

use crate::aligned::AlignedBuf;
use crate::topology::topology;

/// How memory is placed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placement {
    /// On the one node there is, or the only one this process may use.
    OneNode,
    /// On this many nodes, in turns.
    Interleaved {
        /// How many.
        nodes: usize,
    },
    /// By whoever writes it first, since the system refused to place it: containers often forbid that
    /// (`mbind` needs `CAP_SYS_NICE` in the usual profiles).
    Refused {
        /// How many nodes there are.
        nodes: usize,
        /// What the system said.
        reason: String,
    },
}

/// Spread the pages of fresh memory, which no one has touched yet. Where the system refuses, nothing happens.
pub(crate) fn interleave(start: *mut u8, len: usize) {
    let nodes = &topology().memory_nodes;
    if nodes.len() > 1 {
        let _ = place(start, len, nodes);
    }
}

/// How memory is placed on this machine; finds out by trying.
pub(crate) fn placement() -> Placement {
    /// Enough to be mapped, so that it can have a policy of its own.
    const TRIAL: usize = 4 << 20;
    let nodes = &topology().memory_nodes;
    if nodes.len() < 2 {
        return Placement::OneNode;
    }
    let tried = AlignedBuf::zeroed(TRIAL).map_err(io::Error::other);
    match tried.and_then(|mut trial| place(trial.as_mut_ptr(), TRIAL, nodes)) {
        Ok(()) => Placement::Interleaved { nodes: nodes.len() },
        Err(error) => Placement::Refused { nodes: nodes.len(), reason: error.to_string() },
    }
}

#[cfg(target_os = "linux")]
fn place(start: *mut u8, len: usize, nodes: &[usize]) -> io::Result<()> {
    let mask = crate::bits::bits(nodes);
    // The system takes one less than it is told.
    let num_bits = mask.len() * libc::c_ulong::BITS as usize + 1;
    // SAFETY: the call reads the mask, which has as many bits, and changes where pages will lie, never their contents.
    let outcome = unsafe {
        libc::syscall(libc::SYS_mbind, start, len, libc::MPOL_INTERLEAVE, mask.as_ptr(), num_bits, 0)
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(not(target_os = "linux"))]
fn place(_: *mut u8, _: usize, _: &[usize]) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn pages_take_turns_where_the_system_lets_them() {
        let node = topology().memory_nodes.first().copied().unwrap_or(0);
        let mut buf = AlignedBuf::zeroed(4 << 20).unwrap();
        let Ok(()) = place(buf.as_mut_ptr(), buf.len(), &[node]) else { return };
        let mut mode: libc::c_int = -1;
        let flags = 1 << 1; // MPOL_F_ADDR: the policy of an address
        // SAFETY: the call writes one integer, and reads nothing of the buffer.
        let outcome = unsafe {
            libc::syscall(
                libc::SYS_get_mempolicy,
                &mut mode,
                std::ptr::null_mut::<u8>(),
                0,
                buf.as_ptr(),
                flags,
            )
        };
        assert_eq!((outcome, mode), (0, libc::MPOL_INTERLEAVE));
        assert!(buf.as_slice().iter().all(|byte| *byte == 0));
    }

    #[test]
    fn a_node_that_does_not_exist_is_refused() {
        let mut buf = AlignedBuf::zeroed(4 << 20).unwrap();
        assert!(place(buf.as_mut_ptr(), buf.len(), &[1023]).is_err());
    }
}
