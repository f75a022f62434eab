//! Trouble is logged at once, and then once a minute with how often it came: loud, but not a flood.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_secs(60);

/// Counts of one kind of trouble.
#[derive(Debug, Default)]
pub(crate) struct Alarm(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    count: u64,
    said: Option<Instant>,
}

// === impl Alarm ===

impl Alarm {
    /// Add `count`; when it is time to speak, all that came since it last was.
    pub(crate) fn raise(&self, count: u64) -> Option<u64> {
        self.raise_at(count, Instant::now())
    }

    fn raise_at(&self, count: u64, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.count += count;
        if state.said.is_some_and(|said| now.duration_since(said) < PAUSE) {
            return None;
        }
        state.said = Some(now);
        Some(std::mem::take(&mut state.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_speaks_at_once_and_then_each_minute_of_all_it_kept_to_itself() {
        let (alarm, start) = (Alarm::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(alarm.raise_at(2, at(0)), Some(2));
        assert_eq!(alarm.raise_at(3, at(1)), None);
        assert_eq!(alarm.raise_at(4, at(59)), None);
        assert_eq!(alarm.raise_at(1, at(60)), Some(8));
        assert_eq!(alarm.raise_at(1, at(61)), None);
    }
}
