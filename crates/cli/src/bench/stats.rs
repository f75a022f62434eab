//! From many numbers to a few: mean and percentiles.

use serde::Serialize;

/// A distribution, condensed. All values have the unit of the samples.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Summary {
    pub(super) count: usize,
    pub(super) mean: f64,
    pub(super) min: f64,
    pub(super) p50: f64,
    pub(super) p90: f64,
    pub(super) p95: f64,
    pub(super) p99: f64,
    pub(super) max: f64,
}

impl Summary {
    /// `None` of nothing. Samples that are not finite are left out.
    pub(super) fn of(samples: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = samples.into_iter().filter(|sample| sample.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        Some(Self {
            count: sorted.len(),
            mean: sorted.iter().sum::<f64>() / sorted.len() as f64,
            min,
            p50: percentile(&sorted, 50.0),
            p90: percentile(&sorted, 90.0),
            p95: percentile(&sorted, 95.0),
            p99: percentile(&sorted, 99.0),
            max,
        })
    }
}

/// Linear between the two nearest ranks, as NumPy does it. `sorted` is not empty.
pub(super) fn percentile(sorted: &[f64], percent: f64) -> f64 {
    let last = sorted.len() - 1;
    let rank = percent / 100.0 * last as f64;
    let below = (rank.floor() as usize).min(last);
    let above = (below + 1).min(last);
    sorted[below] + (sorted[above] - sorted[below]) * (rank - below as f64)
}

/// How many samples fall into each of `bins` equal parts of `0..=end`; larger ones into the last.
pub(super) fn histogram(samples: &[f64], end: f64, bins: usize) -> Vec<usize> {
    let mut counts = vec![0; bins];
    for sample in samples {
        let bin = (sample / end * bins as f64).max(0.0) as usize;
        counts[bin.min(bins - 1)] += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_lie_between_ranks() {
        let sorted = [1.0, 2.0, 3.0, 4.0];
        assert_eq!(percentile(&sorted, 0.0), 1.0);
        assert_eq!(percentile(&sorted, 50.0), 2.5);
        assert_eq!(percentile(&sorted, 100.0), 4.0);
        assert!((percentile(&sorted, 90.0) - 3.7).abs() < 1e-12);
        assert_eq!(percentile(&[7.0], 99.0), 7.0);
    }

    #[test]
    fn a_summary_does_not_depend_on_order_and_leaves_out_what_is_no_number() {
        let summary = Summary::of([3.0, 1.0, f64::NAN, 2.0]).unwrap();
        assert_eq!(
            (summary.count, summary.mean, summary.min, summary.p50, summary.max),
            (3, 2.0, 1.0, 2.0, 3.0)
        );
        assert_eq!(Summary::of([]), None);
    }

    #[test]
    fn a_histogram_counts_every_sample_once() {
        assert_eq!(histogram(&[0.0, 0.4, 0.5, 1.0, 9.0], 1.0, 2), [2, 3]);
    }
}
