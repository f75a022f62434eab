//! Ranks as threads of one process: tensors are handed over where they are, and nothing is copied to be sent.
//!
//! Each call begins with a meeting at which every rank offers what it brings. Offers have two places that take turns, so one
//! meeting is enough: who makes the call after next has met all ranks at the next, and they were done with this one.

mod meeting;
mod offer;

use std::sync::Arc;

use candle_core::{D, Tensor};

use self::meeting::{IN_STEP, Meeting, OUTSIDE};
use self::offer::{Bring, Offer, Offers, Room};
use crate::call::{Calls, Kind};
use crate::numbers::{ParallelFor, add_up, add_up_on, hold, serially};
use crate::{CommError, Communicator};

/// Numbers from which on ranks share the work of adding: below, each adds all by itself and saves two meetings.
const SHARED_SUM: usize = 16 * 1024;

/// One rank of a group of threads. When it is dropped, the group is broken.
#[derive(Debug)]
pub struct Threads {
    rank: usize,
    group: Arc<Group>,
    calls: Calls,
    parallel: ParallelFor,
}

/// What the ranks share.
#[derive(Debug)]
struct Group {
    size: usize,
    meeting: Meeting,
    offers: [Offers; 2],
}

// === impl Threads ===

impl Threads {
    /// A group of `size` ranks, in order; each belongs to a thread of its own.
    #[must_use]
    pub fn group(size: usize) -> Vec<Self> {
        let offers = [Offers::new(size), Offers::new(size)];
        let group = Arc::new(Group { size, meeting: Meeting::new(size), offers });
        let rank =
            |rank| Self { rank, group: Arc::clone(&group), calls: Calls::default(), parallel: serially };
        (0..size).map(rank).collect()
    }

    /// The same rank, which adds up large tensors on more threads than its own.
    #[must_use]
    pub fn with_threads(mut self, parallel: ParallelFor) -> Self {
        self.parallel = parallel;
        self
    }

    /// Offer something, meet the others, and see what they offer.
    fn meet(&self, kind: Kind, bring: Bring) -> Result<Vec<Offer>, CommError> {
        self.group.meeting.check().map_err(CommError::Broken)?;
        let call = self.calls.next(kind);
        let offers = &self.group.offers[(call.number % 2) as usize];
        offers.put(self.rank, Offer { call, bring });
        let patience = if kind == Kind::Bytes { OUTSIDE } else { IN_STEP };
        self.group.meeting.meet(call.number, patience).map_err(CommError::Broken)?;
        offers.all(call)
    }

    fn tensors(&self, kind: Kind, x: &Tensor) -> Result<Vec<Tensor>, CommError> {
        self.meet(kind, Bring::Tensor(x.clone()))?.into_iter().map(Offer::tensor).collect()
    }

    /// Each rank adds all.
    fn sum_alone(&self, x: &Tensor) -> Result<Tensor, CommError> {
        let tensors = self.tensors(Kind::AllReduce, x)?;
        let held: Vec<_> = tensors.iter().map(hold).collect();
        let parts = held.iter().map(|part| part.floats()).collect::<Result<Vec<_>, _>>()?;
        let room = Room::new(x.elem_count());
        // SAFETY: the room is fresh and as long as each part; then every number was written.
        let sums = unsafe {
            add_up(&parts, room.start());
            room.take(x.elem_count())
        };
        Ok(Tensor::from_vec(sums, x.dims(), x.device())?)
    }

    /// Each rank adds its slice, in room that the first one has brought.
    fn sum_together(&self, x: &Tensor) -> Result<Tensor, CommError> {
        let len = x.elem_count();
        let bring = Bring::Sum(x.clone(), Arc::new(Room::new(if self.rank == 0 { len } else { 0 })));
        let offers = self.meet(Kind::AllReduce, bring)?;
        let room = offers.first().and_then(Offer::room).ok_or_else(|| no("room"))?;
        let tensors = offers.into_iter().map(Offer::tensor).collect::<Result<Vec<_>, _>>()?;
        let held: Vec<_> = tensors.iter().map(hold).collect();
        let slice = len.div_ceil(self.group.size);
        let (start, end) = (len.min(slice * self.rank), len.min(slice * (self.rank + 1)));
        let parts = held.iter().map(|part| Ok(&part.floats()?[start..end]));
        let parts = parts.collect::<Result<Vec<_>, CommError>>()?;
        // SAFETY: the room is as long as each part, no other rank writes to this slice, and the room is not taken before all
        // have met again.
        unsafe { add_up_on(self.parallel, &parts, room.start().add(start))? };
        self.barrier()?;
        if self.rank > 0 {
            return self.broadcast(x, 0);
        }
        // SAFETY: all ranks have written their slices, which cover it.
        let sums = unsafe { room.take(len) };
        self.broadcast(&Tensor::from_vec(sums, x.dims(), x.device())?, 0)
    }
}

impl Communicator for Threads {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.group.size
    }

    fn all_reduce(&self, x: &Tensor) -> Result<Tensor, CommError> {
        if x.elem_count() < SHARED_SUM { self.sum_alone(x) } else { self.sum_together(x) }
    }

    fn all_gather(&self, x: &Tensor) -> Result<Tensor, CommError> {
        Ok(Tensor::cat(&self.tensors(Kind::AllGather, x)?, D::Minus1)?)
    }

    fn gather(&self, x: &Tensor, root: usize) -> Result<Option<Tensor>, CommError> {
        CommError::check_root(root, self.group.size)?;
        let tensors = self.tensors(Kind::Gather, x)?;
        if self.rank == root { Ok(Some(Tensor::cat(&tensors, D::Minus1)?)) } else { Ok(None) }
    }

    fn broadcast(&self, x: &Tensor, root: usize) -> Result<Tensor, CommError> {
        CommError::check_root(root, self.group.size)?;
        self.tensors(Kind::Broadcast, x)?.into_iter().nth(root).ok_or_else(|| no("tensor"))
    }

    fn broadcast_bytes(&self, bytes: &mut Vec<u8>, root: usize) -> Result<(), CommError> {
        CommError::check_root(root, self.group.size)?;
        let own = if self.rank == root { bytes.as_slice() } else { &[] };
        let offers = self.meet(Kind::Bytes, Bring::Bytes(own.into()))?;
        if self.rank != root {
            let theirs = offers.get(root).and_then(Offer::bytes).ok_or_else(|| no("bytes"))?;
            bytes.clear();
            bytes.extend_from_slice(theirs);
        }
        Ok(())
    }

    fn barrier(&self) -> Result<(), CommError> {
        self.meet(Kind::Barrier, Bring::Nothing).map(drop)
    }

    fn tag(&self, tag: u64) {
        self.calls.tag(tag);
    }

    fn broken(&self) -> Option<String> {
        self.group.meeting.check().err()
    }

    fn leave(&self, reason: &str) {
        self.group.meeting.call_off(reason);
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.leave(&format!("rank {} has ended", self.rank));
    }
}

/// Calls agree, so offers are of one kind; this is for the compiler.
fn no(what: &str) -> CommError {
    CommError::Tensor(format!("a rank has brought no {what}"))
}

#[cfg(test)]
mod tests;
