//! Which part of a dimension one rank has.

use std::ops::Range;

use vlinders_comm::Communicator;

/// Sizes that ranks are cut at, the coarsest first: blocks with common scales, blocks with one scale, tiles.
const UNITS: [usize; 4] = [256, 32, 16, 1];
/// The coarsest unit is taken of which each rank has as many as this: then none has an eighth more than its share.
const FAIR: usize = 8;

/// A run of a dimension: all of it, or the share of a rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    size: usize,
    start: usize,
    len: usize,
}

// === impl Span ===

impl Span {
    /// All of a dimension.
    #[must_use]
    pub fn all(size: usize) -> Self {
        Self { size, start: 0, len: size }
    }

    /// The share of a rank. Shares cover the dimension, differ by one unit at most, and are cut where blocks of quantised
    /// weights end as long as that is fair. Where there are more ranks than numbers, some have none.
    #[must_use]
    pub fn share(size: usize, communicator: &dyn Communicator) -> Self {
        Self::of_rank(size, communicator.rank(), communicator.size())
    }

    /// The share of rank `rank` of `ranks`.
    pub(crate) fn of_rank(size: usize, rank: usize, ranks: usize) -> Self {
        let ranks = ranks.max(1);
        let is_fair = |unit: &&usize| {
            let units = size / **unit;
            size.is_multiple_of(**unit) && (units.is_multiple_of(ranks) || units >= FAIR * ranks)
        };
        let unit = UNITS.iter().find(is_fair).copied().unwrap_or(1);
        let cut = |rank: usize| size / unit * rank / ranks * unit;
        Self { size, start: cut(rank), len: cut(rank + 1) - cut(rank) }
    }

    /// `len` from `start` on.
    #[must_use]
    pub fn of(size: usize, start: usize, len: usize) -> Self {
        let start = start.min(size);
        Self { size, start, len: len.min(size - start) }
    }

    /// The same share where each of its units is `factor` numbers, such as a head.
    #[must_use]
    pub fn times(self, factor: usize) -> Self {
        let times = |n: usize| n.saturating_mul(factor);
        Self { size: times(self.size), start: times(self.start), len: times(self.len) }
    }

    /// The whole dimension.
    #[must_use]
    pub fn size(self) -> usize {
        self.size
    }

    /// Where the run begins.
    #[must_use]
    pub fn start(self) -> usize {
        self.start
    }

    /// How long the run is.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "only its length is ever asked for")]
    pub fn len(self) -> usize {
        self.len
    }

    /// The run.
    #[must_use]
    pub fn range(self) -> Range<usize> {
        self.start..self.start + self.len
    }

    /// Whether the run is the whole dimension.
    #[must_use]
    pub fn is_all(self) -> bool {
        self.len == self.size
    }

    /// Whether the run begins and ends with blocks of `block`.
    #[must_use]
    pub fn is_whole_blocks(self, block: usize) -> bool {
        self.start.is_multiple_of(block) && self.len.is_multiple_of(block)
    }
}

impl From<usize> for Span {
    fn from(size: usize) -> Self {
        Self::all(size)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use vlinders_comm::Outline;

    use super::*;

    fn shares(size: usize, ranks: usize) -> Vec<Span> {
        (0..ranks).map(|rank| Span::share(size, &Outline::new(rank, ranks).unwrap())).collect()
    }

    proptest! {
        #[test]
        fn shares_cover_a_dimension_and_are_fair(size in 1usize..40_000, ranks in 1usize..17) {
            let shares = shares(size, ranks);
            let mut end = 0;
            for share in &shares {
                prop_assert_eq!(share.start(), end);
                end = share.range().end;
            }
            prop_assert_eq!(end, size);
            let most = shares.iter().map(|share| share.len()).max().unwrap();
            prop_assert!(most * ranks <= size + (size / 8).max(ranks), "{:?}", shares);
        }
    }

    #[test]
    fn cuts_are_where_blocks_end_as_long_as_that_is_fair() {
        let lens = |size, ranks| shares(size, ranks).into_iter().map(Span::len).collect::<Vec<_>>();
        assert_eq!(lens(8192, 4), [2048; 4]);
        assert_eq!(lens(11008, 2), [21 * 256, 22 * 256], "43 blocks of 256");
        assert_eq!(lens(4864, 4), [38 * 32; 4], "19 blocks of 256 would give one rank a quarter more");
        assert_eq!(lens(56, 4), [14; 4]);
        assert_eq!(lens(3, 4), [0, 1, 1, 1]);
    }
}
