//! What a rank says of the call it makes, so that ranks that do different things find out before they mix up numbers.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// One collective call of one rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) kind: Kind,
    /// Calls of this rank before it.
    pub(crate) number: u64,
    /// What it belongs to.
    pub(crate) tag: u64,
}

/// Which collective.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    AllReduce = 1,
    AllGather = 2,
    Gather = 3,
    Broadcast = 4,
    Bytes = 5,
    Barrier = 6,
}

/// Numbers the calls of one rank.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    next: AtomicU64,
    tag: AtomicU64,
}

// === impl Kind ===

impl Kind {
    pub(crate) const ALL: [Self; 6] =
        [Self::AllReduce, Self::AllGather, Self::Gather, Self::Broadcast, Self::Bytes, Self::Barrier];
}

// === impl Calls ===

impl Calls {
    pub(crate) fn next(&self, kind: Kind) -> Call {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        Call { kind, number, tag: self.tag.load(Ordering::Relaxed) }
    }

    pub(crate) fn tag(&self, tag: u64) {
        self.tag.store(tag, Ordering::Relaxed);
    }
}

// === impl Call ===

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.kind {
            Kind::AllReduce => "all_reduce",
            Kind::AllGather => "all_gather",
            Kind::Gather => "gather",
            Kind::Broadcast => "broadcast",
            Kind::Bytes => "broadcast_bytes",
            Kind::Barrier => "barrier",
        };
        write!(f, "{name} (call {}, of plan {:016x})", self.number, self.tag)
    }
}
