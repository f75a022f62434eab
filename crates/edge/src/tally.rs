//! A histogram that can be read: how many values fell into which bucket. Those of the registry can only be rendered.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts values by bucket.
#[derive(Debug)]
pub struct Tally {
    bounds: &'static [f64],
    counts: Box<[AtomicU64]>,
}

// === impl Tally ===

impl Tally {
    /// With these upper bounds, rising.
    #[must_use]
    pub fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Count a value.
    pub fn record(&self, value: f64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
    }

    /// Upper bounds of the buckets.
    #[must_use]
    pub fn bounds(&self) -> &'static [f64] {
        self.bounds
    }

    /// Values in each bucket alone, with one bucket more for what is above the last bound.
    #[must_use]
    pub fn counts(&self) -> Vec<u64> {
        self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let tally = Tally::new(&[0.5, 1.0]);
        for value in [0.0, 0.5, 0.500_1, 1.0, 7.0] {
            tally.record(value);
        }
        assert_eq!(tally.counts(), [2, 2, 1]);
    }
}
