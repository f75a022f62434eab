//! How often and how soon something that failed is tried again.

use std::time::Duration;

use rand::Rng as _;

/// What is done about failures that may pass. A byte that arrives starts the count anew.
#[derive(Debug, Clone, Copy)]
pub struct Retry {
    /// Failures in a row until it is given up.
    pub attempts: u32,
    /// Wait before the second attempt; twice as long before each further one.
    pub first_wait: Duration,
    /// The longest wait.
    pub longest_wait: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { attempts: 8, first_wait: Duration::from_millis(500), longest_wait: Duration::from_secs(30) }
    }
}

impl Retry {
    /// The wait after so many failures in a row; `None` gives up. A server may ask for a longer one.
    pub(crate) fn wait(&self, failures: u32, asked: Option<Duration>) -> Option<Duration> {
        if failures >= self.attempts {
            return None;
        }
        let doubled = self.first_wait.saturating_mul(1 << failures.saturating_sub(1).min(16));
        // Loaders that failed together do not come back together.
        let spread = doubled.min(self.longest_wait).mul_f64(rand::rng().random_range(0.5..=1.0));
        Some(spread.max(asked.unwrap_or_default().min(self.longest_wait * 4)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_a_limit_and_end() {
        let retry =
            Retry { attempts: 6, first_wait: Duration::from_secs(1), longest_wait: Duration::from_secs(4) };
        for (failures, longest) in [(1, 1), (2, 2), (3, 4), (4, 4), (5, 4)] {
            let (wait, longest) = (retry.wait(failures, None).unwrap(), Duration::from_secs(longest));
            assert!(wait <= longest && wait * 2 >= longest, "{failures}: {wait:?}");
        }
        assert_eq!(retry.wait(6, None), None);
        assert_eq!(retry.wait(1, Some(Duration::from_secs(7))), Some(Duration::from_secs(7)));
        assert_eq!(retry.wait(1, Some(Duration::from_secs(9999))), Some(Duration::from_secs(16)));
    }
}
