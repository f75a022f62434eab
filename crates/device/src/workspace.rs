//! Where intermediate results lie: one piece of device memory, divided by first fit.
//!
//! Everything runs on one stream, so a region that is given back is free for the next result at once. Nothing is allocated
//! from the driver in a step, and a captured graph may use the same regions as any step.

use std::collections::BTreeMap;

/// Regions begin at multiples of this, in bytes.
const ALIGNMENT: usize = 256;

/// Divides `0..size` into regions.
#[derive(Debug)]
pub(crate) struct Workspace {
    /// Free regions: offset and length, never two that touch.
    free: BTreeMap<usize, usize>,
    size: usize,
    highest: usize,
}

// === impl Workspace ===

impl Workspace {
    pub(crate) fn new(size: usize) -> Self {
        let size = size / ALIGNMENT * ALIGNMENT;
        let free = if size > 0 { BTreeMap::from([(0, size)]) } else { BTreeMap::new() };
        Self { free, size, highest: 0 }
    }

    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// The highest end that a region had.
    pub(crate) fn highest(&self) -> usize {
        self.highest
    }

    /// The offset of a region of `bytes`; `None` when there is no room.
    pub(crate) fn take(&mut self, bytes: usize) -> Option<usize> {
        let bytes = padded(bytes)?;
        let (offset, len) = self.free.iter().find(|(_, len)| **len >= bytes).map(|(o, l)| (*o, *l))?;
        self.free.remove(&offset);
        if len > bytes {
            self.free.insert(offset + bytes, len - bytes);
        }
        self.highest = self.highest.max(offset + bytes);
        Some(offset)
    }

    /// Give back what [`take`](Self::take) gave for the same `bytes`.
    pub(crate) fn give_back(&mut self, offset: usize, bytes: usize) {
        let Some(mut len) = padded(bytes) else { return };
        let mut start = offset;
        if let Some(next) = self.free.remove(&(start + len)) {
            len += next;
        }
        let before = self.free.range(..start).next_back().map(|(o, l)| (*o, *l));
        if let Some((before, before_len)) = before.filter(|(o, l)| o + l == start) {
            start = before;
            len += before_len;
        }
        self.free.insert(start, len);
    }
}

fn padded(bytes: usize) -> Option<usize> {
    bytes.max(1).checked_next_multiple_of(ALIGNMENT)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn regions_never_overlap_and_all_comes_back(
            steps in prop::collection::vec((0usize..5000, any::<prop::sample::Index>(), any::<bool>()), 1..200),
        ) {
            let mut workspace = Workspace::new(100_000);
            let size = workspace.size();
            let mut held: Vec<(usize, usize)> = Vec::new();
            for (bytes, which, take) in steps {
                if take || held.is_empty() {
                    if let Some(offset) = workspace.take(bytes) {
                        let end = offset + bytes.max(1);
                        prop_assert!(end <= size && offset.is_multiple_of(ALIGNMENT));
                        prop_assert!(end <= workspace.highest());
                        for &(other, len) in &held {
                            prop_assert!(end <= other || other + len.max(1) <= offset);
                        }
                        held.push((offset, bytes));
                    }
                } else {
                    let (offset, bytes) = held.swap_remove(which.index(held.len()));
                    workspace.give_back(offset, bytes);
                }
            }
            for (offset, bytes) in held {
                workspace.give_back(offset, bytes);
            }
            prop_assert_eq!(workspace.take(size), Some(0), "all of it is one region again");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut workspace = Workspace::new(1000);
        assert_eq!(workspace.size(), 768);
        assert_eq!(workspace.take(800), None);
        assert_eq!(workspace.take(usize::MAX), None);
        assert_eq!(workspace.take(1), Some(0));
        assert_eq!(workspace.take(513), None);
        assert_eq!(workspace.take(512), Some(256));
        assert_eq!(Workspace::new(0).take(0), None);
    }
}
