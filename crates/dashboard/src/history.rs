//! The last hour of each model, in slots of five seconds, in memory that does not grow.

mod slot;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::SystemTime;

use crate::source::{ModelView, unix};

pub(crate) use self::slot::Slot;

/// Seconds of one slot.
pub(crate) const SLOT_SECONDS: u64 = 5;
/// Slots of one hour.
pub(crate) const SLOTS: usize = 720;
/// Models that have a history. More are shown without plots.
pub(crate) const MODELS: usize = 64;

/// What is remembered of all models. Has no clock: samples come with their time.
#[derive(Debug, Default)]
pub(crate) struct History {
    models: Vec<Track>,
    latest: u64,
}

/// What is remembered of one model.
#[derive(Debug)]
struct Track {
    name: String,
    /// The sample before, with its time in seconds since 1970.
    last: Option<(f64, ModelView)>,
    /// Slots in which there was a sample, oldest first.
    slots: VecDeque<Slot>,
}

// === impl History ===

impl History {
    /// Take a sample of all models. What rose since the sample before counts in the slot of this one. A clock that is
    /// set back takes the slots with it that have not been yet.
    pub(crate) fn record(&mut self, at: SystemTime, models: &[ModelView]) {
        let at = unix(at);
        let idx = at as u64 / SLOT_SECONDS;
        self.latest = idx;
        for model in models {
            if let Some(track) = self.track(&model.name) {
                track.record(at, idx, model);
            }
        }
        for track in &mut self.models {
            if !models.iter().any(|model| model.name == track.name) {
                track.last = None;
            }
            track.forget(idx);
        }
        self.models.retain(|track| track.last.is_some() || !track.slots.is_empty());
    }

    /// The last `seconds` of a model in bins of `step` seconds that end now, oldest first; bins without a sample are
    /// `None`. Both are multiples of [`SLOT_SECONDS`].
    pub(crate) fn bins(&self, model: &str, seconds: u64, step: u64) -> Vec<Option<Slot>> {
        let per_bin = slots(step);
        self.binned(model, slots(seconds) / per_bin, |idx| (self.latest - idx) / per_bin)
    }

    /// As [`History::bins`], with bins that end at multiples of `step`: what lies in a bin stays there while time goes
    /// on, so a line moves without changing its form. The newest bin is not full yet.
    pub(crate) fn steady_bins(&self, model: &str, seconds: u64, step: u64) -> Vec<Option<Slot>> {
        let per_bin = slots(step);
        self.binned(model, slots(seconds) / per_bin, |idx| self.latest / per_bin - idx / per_bin)
    }

    /// `age` says how many bins before the newest one a slot lies.
    fn binned(&self, model: &str, num_bins: u64, age: impl Fn(u64) -> u64) -> Vec<Option<Slot>> {
        let mut bins: Vec<Option<Slot>> = vec![None; num_bins as usize];
        let Some(track) = self.models.iter().find(|track| track.name == model) else {
            return bins;
        };
        for slot in track.slots.iter().filter(|slot| slot.idx <= self.latest) {
            match bins.iter_mut().rev().nth(age(slot.idx) as usize) {
                Some(Some(bin)) => bin.merge(slot),
                Some(empty) => *empty = Some(slot.clone()),
                None => {}
            }
        }
        bins
    }

    /// End of the newest slot, in seconds since 1970.
    pub(crate) fn end(&self) -> u64 {
        (self.latest + 1) * SLOT_SECONDS
    }

    /// Models with a history, those that are gone for less than an hour too.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.models.iter().map(|track| track.name.as_str())
    }

    /// The history of a model, new if there is room. Who is gone the longest makes room.
    fn track(&mut self, name: &str) -> Option<&mut Track> {
        if let Some(idx) = self.models.iter().position(|track| track.name == name) {
            return self.models.get_mut(idx);
        }
        if self.models.len() >= MODELS {
            let newest = |track: &Track| track.slots.back().map_or(0, |slot| slot.idx);
            let gone = self.models.iter().enumerate().filter(|(_, track)| track.last.is_none());
            let (idx, _) = gone.min_by_key(|(_, track)| newest(track))?;
            self.models.remove(idx);
        }
        self.models.push(Track { name: name.to_owned(), last: None, slots: VecDeque::new() });
        self.models.last_mut()
    }
}

// === impl Track ===

impl Track {
    fn record(&mut self, at: f64, idx: u64, model: &ModelView) {
        let before = self.last.replace((at, model.clone())).filter(|(then, _)| *then < at);
        while self.slots.back().is_some_and(|slot| slot.idx > idx) {
            self.slots.pop_back();
        }
        if self.slots.back().is_none_or(|slot| slot.idx < idx) {
            self.slots.push_back(Slot::new(idx));
        }
        if let Some(slot) = self.slots.back_mut() {
            slot.observe(model);
            if let Some((then, before)) = before {
                slot.rise(at - then, &before.totals, &model.totals);
            }
        }
    }

    fn forget(&mut self, idx: u64) {
        while self.slots.front().is_some_and(|slot| slot.idx + SLOTS as u64 <= idx) {
            self.slots.pop_front();
        }
        while self.slots.len() > SLOTS {
            self.slots.pop_front();
        }
    }
}

fn slots(seconds: u64) -> u64 {
    (seconds / SLOT_SECONDS).max(1)
}
