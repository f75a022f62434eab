//! What ranks bring to a meeting, and where they put it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::Tensor;

use super::no;
use crate::CommError;
use crate::call::Call;

/// One place for each rank.
#[derive(Debug)]
pub(super) struct Offers(Vec<Mutex<Option<Offer>>>);

/// What one rank brings, and to which call.
#[derive(Debug, Clone)]
pub(super) struct Offer {
    pub(super) call: Call,
    pub(super) bring: Bring,
}

#[derive(Debug, Clone)]
pub(super) enum Bring {
    Nothing,
    Tensor(Tensor),
    /// A tensor to be added to those of the others, and, from the first rank, room for the sums.
    Sum(Tensor, Arc<Room>),
    Bytes(Arc<[u8]>),
}

/// Room for numbers that several ranks write.
#[derive(Debug)]
pub(super) struct Room(Mutex<Vec<f32>>);

// === impl Offers ===

impl Offers {
    pub(super) fn new(size: usize) -> Self {
        Self((0..size).map(|_| Mutex::default()).collect())
    }

    pub(super) fn put(&self, rank: usize, offer: Offer) {
        if let Some(place) = self.0.get(rank) {
            *lock(place) = Some(offer);
        }
    }

    /// The offers of all ranks, once they have met; an error if one of them makes another call than `ours`.
    pub(super) fn all(&self, ours: Call) -> Result<Vec<Offer>, CommError> {
        let offers = self.0.iter().map(|place| lock(place).clone().ok_or_else(|| no("offer")));
        let offers = offers.collect::<Result<Vec<_>, _>>()?;
        if let Some(rank) = offers.iter().position(|offer| offer.call != ours) {
            return Err(CommError::diverged(rank, offers[rank].call, ours));
        }
        Offer::check_sums(&offers)?;
        Ok(offers)
    }
}

// === impl Offer ===

impl Offer {
    /// Tensors that are added have one shape.
    fn check_sums(offers: &[Self]) -> Result<(), CommError> {
        let shapes: Vec<_> = offers.iter().filter_map(Self::summand).map(Tensor::dims).collect();
        match shapes.windows(2).position(|pair| pair[0] != pair[1]) {
            None => Ok(()),
            Some(rank) => Err(CommError::Tensor(format!(
                "rank {rank} adds a tensor of shape {:?}, rank {} one of {:?}",
                shapes[rank],
                rank + 1,
                shapes[rank + 1]
            ))),
        }
    }

    fn summand(&self) -> Option<&Tensor> {
        match &self.bring {
            Bring::Sum(tensor, _) => Some(tensor),
            Bring::Tensor(tensor) if self.call.kind == crate::call::Kind::AllReduce => Some(tensor),
            _ => None,
        }
    }

    pub(super) fn tensor(self) -> Result<Tensor, CommError> {
        match self.bring {
            Bring::Tensor(tensor) | Bring::Sum(tensor, _) => Ok(tensor),
            Bring::Nothing | Bring::Bytes(_) => Err(no("tensor")),
        }
    }

    pub(super) fn room(&self) -> Option<Arc<Room>> {
        match &self.bring {
            Bring::Sum(_, room) => Some(Arc::clone(room)),
            _ => None,
        }
    }

    pub(super) fn bytes(&self) -> Option<&[u8]> {
        match &self.bring {
            Bring::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }
}

// === impl Room ===

impl Room {
    /// Room for `len` numbers, not written yet.
    pub(super) fn new(len: usize) -> Self {
        Self(Mutex::new(Vec::with_capacity(len)))
    }

    /// Where it begins. Whoever writes keeps the room alive and has it to itself, or agrees on slices with the others.
    pub(super) fn start(&self) -> *mut f32 {
        lock(&self.0).as_mut_ptr()
    }

    /// What was written; the room is empty afterwards.
    ///
    /// # Safety
    /// `len` numbers were written, no more than there is room for, and nobody writes any more.
    pub(super) unsafe fn take(&self, len: usize) -> Vec<f32> {
        let mut numbers = std::mem::take(&mut *lock(&self.0));
        debug_assert!(numbers.capacity() >= len);
        // SAFETY: as the caller says.
        unsafe { numbers.set_len(len) };
        numbers
    }
}

/// Nobody panics with the lock.
fn lock<T>(place: &Mutex<T>) -> MutexGuard<'_, T> {
    place.lock().unwrap_or_else(PoisonError::into_inner)
}
