//! How quantiles come out of histograms, in the way Prometheus interpolates.

use serde::Serialize;

/// A histogram as counters.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct HistogramTotals {
    /// Upper bounds of the buckets, in seconds, rising. Each bucket holds values up to and with its bound.
    pub bounds: Vec<f64>,
    /// Values in each bucket alone (not cumulative): one for each bound, and a last one for what is above all bounds.
    pub counts: Vec<u64>,
}

// === impl HistogramTotals ===

impl HistogramTotals {
    /// An empty histogram with these bounds.
    #[must_use]
    pub fn new(bounds: &[f64]) -> Self {
        Self { bounds: bounds.to_vec(), counts: vec![0; bounds.len() + 1] }
    }

    /// Count one value, in seconds.
    pub fn record(&mut self, seconds: f64) {
        let idx = self.bounds.iter().take_while(|bound| seconds > **bound).count();
        if let Some(count) = self.counts.get_mut(idx) {
            *count += 1;
        }
    }

    /// Number of values.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The value below which the share `q` (0 to 1) of all values lies, if there are any. Inside a bucket values count
    /// as spread evenly; above the last bound the last bound is the answer.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let total = self.total();
        let last = *self.bounds.last()?;
        if total == 0 {
            return None;
        }
        let rank = q * total as f64;
        let mut below = 0.0;
        let mut lower = 0.0;
        for (&upper, &count) in self.bounds.iter().zip(&self.counts) {
            let count = count as f64;
            if count > 0.0 && below + count >= rank {
                return Some(if upper <= lower {
                    upper
                } else {
                    lower + (upper - lower) * ((rank - below) / count).clamp(0.0, 1.0)
                });
            }
            below += count;
            lower = upper;
        }
        Some(last)
    }

    /// What was counted since `earlier`. A histogram that fell in any bucket, or has other bounds, was started again:
    /// nothing can be said about the time between.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let comparable = self.is_whole()
            && self.bounds == earlier.bounds
            && self.counts.len() == earlier.counts.len()
            && self.counts.iter().zip(&earlier.counts).all(|(now, then)| now >= then);
        if !comparable {
            return Self::new(&self.bounds);
        }
        let counts = self.counts.iter().zip(&earlier.counts).map(|(now, then)| now - then).collect();
        Self { bounds: self.bounds.clone(), counts }
    }

    /// Add what another one has counted. One with other bounds takes the place of this one.
    pub(crate) fn add(&mut self, other: &Self) {
        if self.bounds != other.bounds || self.counts.len() != other.counts.len() {
            self.clone_from(other);
            return;
        }
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
    }

    fn is_whole(&self) -> bool {
        self.counts.len() == self.bounds.len() + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(counts: &[u64]) -> HistogramTotals {
        HistogramTotals { bounds: vec![0.1, 0.5, 1.0], counts: counts.to_vec() }
    }

    #[track_caller]
    fn close(found: Option<f64>, expected: f64) {
        let found = found.expect("a quantile");
        assert!((found - expected).abs() < 1e-12, "{found} is not {expected}");
    }

    /// Ten values: 4 up to 0.1, 4 up to 0.5, 2 up to 1.0. By hand, as `histogram_quantile` does it.
    #[test]
    fn quantiles_are_interpolated_inside_their_bucket() {
        let values = histogram(&[4, 4, 2, 0]);
        close(values.quantile(0.5), 0.1 + 0.4 * (5.0 - 4.0) / 4.0);
        close(values.quantile(0.95), 0.5 + 0.5 * (9.5 - 8.0) / 2.0);
        close(values.quantile(0.2), 0.1 * 2.0 / 4.0);
        close(values.quantile(0.4), 0.1);
        close(values.quantile(1.0), 1.0);
    }

    #[test]
    fn above_the_last_bound_the_last_bound_is_the_answer() {
        close(histogram(&[1, 0, 0, 9]).quantile(0.5), 1.0);
        close(histogram(&[0, 0, 0, 3]).quantile(0.0), 1.0);
    }

    #[test]
    fn buckets_without_values_are_passed_over() {
        close(histogram(&[0, 0, 4, 0]).quantile(0.0), 0.5);
        close(histogram(&[2, 0, 2, 0]).quantile(0.75), 0.75);
    }

    #[test]
    fn nothing_counted_is_no_quantile() {
        assert_eq!(histogram(&[0, 0, 0, 0]).quantile(0.5), None);
        assert_eq!(HistogramTotals::default().quantile(0.5), None);
    }

    #[test]
    fn values_on_a_bound_belong_to_its_bucket() {
        let mut values = HistogramTotals::new(&[0.1, 0.5]);
        for seconds in [0.1, 0.100_001, 0.5, 7.0] {
            values.record(seconds);
        }
        assert_eq!(values.counts, [1, 2, 1]);
    }

    #[test]
    fn a_histogram_that_fell_says_nothing() {
        let (then, now) = (histogram(&[5, 5, 5, 0]), histogram(&[6, 5, 4, 9]));
        assert_eq!(now.since(&then).counts, [0, 0, 0, 0]);
        assert_eq!(histogram(&[6, 5, 5, 1]).since(&then).counts, [1, 0, 0, 1]);
        let other = HistogramTotals { bounds: vec![0.1], counts: vec![9, 9] };
        assert_eq!(other.since(&then).counts, [0, 0]);
        let broken = HistogramTotals { bounds: vec![0.1, 0.5, 1.0], counts: vec![7] };
        assert_eq!(broken.since(&then).counts, [0, 0, 0, 0]);
    }
}
