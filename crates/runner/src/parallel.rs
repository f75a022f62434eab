//! One model on several ranks: the first sends every plan to the others, all execute it, the first samples.
//!
//! Each plan carries the hash of all plans up to it. A rank checks it, and tags its collectives with it, so that ranks that do
//! not do the same work find out before they mix up numbers. When a rank fails, it says why and breaks the group.

use std::sync::Arc;
use std::thread::JoinHandle;

use vlinders_comm::Communicator;
use vlinders_engine::{Executor, ExecutorError, StepOutput, StepPlan};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::layout::failed;

/// Bytes of the hash before each plan.
const HASH_BYTES: usize = 8;

/// The first rank of a model, or the only one.
pub struct Leader {
    local: Box<dyn Executor>,
    communicator: Arc<dyn Communicator>,
    chain: u64,
    message: Vec<u8>,
    /// Ranks that are threads of this process.
    followers: Vec<JoinHandle<()>>,
}

/// Any other rank.
pub struct Follower {
    local: Box<dyn Executor>,
    communicator: Arc<dyn Communicator>,
}

// === impl Leader ===

impl Leader {
    pub(crate) fn new(
        local: Box<dyn Executor>,
        communicator: Arc<dyn Communicator>,
        followers: Vec<JoinHandle<()>>,
    ) -> Self {
        Self { local, communicator, chain: 0, message: Vec::new(), followers }
    }

    fn is_alone(&self) -> bool {
        self.communicator.size() == 1
    }

    fn send(&mut self, plan: &StepPlan) -> Result<(), ExecutorError> {
        self.message.clear();
        self.message.resize(HASH_BYTES, 0);
        let message = postcard::to_extend(plan, std::mem::take(&mut self.message));
        self.message = message.map_err(|e| ExecutorError(format!("a plan can not be written: {e}")))?;
        self.chain = xxh3_64_with_seed(&self.message[HASH_BYTES..], self.chain);
        self.message[..HASH_BYTES].copy_from_slice(&self.chain.to_le_bytes());
        self.communicator.broadcast_bytes(&mut self.message, 0).map_err(failed)?;
        self.communicator.tag(self.chain);
        Ok(())
    }
}

impl Executor for Leader {
    fn step(&mut self, plan: &StepPlan) -> Result<StepOutput, ExecutorError> {
        if self.is_alone() {
            return self.local.step(plan);
        }
        let outcome = self.send(plan).and_then(|()| self.local.step(plan));
        outcome.inspect_err(|error| self.communicator.leave(&format!("rank 0: {error}")))
    }
}

/// The others end with the first.
impl Drop for Leader {
    fn drop(&mut self) {
        if self.is_alone() {
            return;
        }
        // The group must not end before all have heard this. Where it is broken, they have ended already.
        let told = self.communicator.broadcast_bytes(&mut Vec::new(), 0);
        let _ = told.and_then(|()| self.communicator.barrier());
        for follower in self.followers.drain(..) {
            // It has told of its end; see `Follower::run`.
            let _ = follower.join();
        }
    }
}

// === impl Follower ===

impl Follower {
    pub(crate) fn new(local: Box<dyn Executor>, communicator: Arc<dyn Communicator>) -> Self {
        Self { local, communicator }
    }

    /// Execute what the first rank sends, until it ends.
    ///
    /// # Errors
    /// When this rank or another one fails.
    pub fn run(mut self) -> Result<(), ExecutorError> {
        let rank = self.communicator.rank();
        self.execute().inspect_err(|error| self.communicator.leave(&format!("rank {rank}: {error}")))
    }

    fn execute(&mut self) -> Result<(), ExecutorError> {
        let mut message = Vec::new();
        let (mut chain, mut step) = (0, 0);
        loop {
            self.communicator.broadcast_bytes(&mut message, 0).map_err(failed)?;
            if message.is_empty() {
                // That is the end, agreed on. Rank 0 may be gone before this rank has heard that all have arrived here.
                let _ = self.communicator.barrier();
                return Ok(());
            }
            let plan = receive(&message, &mut chain)?;
            if plan.step != step + 1 {
                return Err(ExecutorError(format!("step {} came after step {step}", plan.step)));
            }
            step = plan.step;
            self.communicator.tag(chain);
            self.local.step(&plan)?;
        }
    }
}

/// The plan of a message, checked against its hash; `chain` is the hash of those before it.
fn receive(message: &[u8], chain: &mut u64) -> Result<StepPlan, ExecutorError> {
    let bad = |what: String| Err(ExecutorError(format!("a plan from rank 0 {what}")));
    let Some((hash, body)) = message.split_first_chunk::<HASH_BYTES>() else {
        return bad(format!("has only {} bytes", message.len()));
    };
    *chain = xxh3_64_with_seed(body, *chain);
    if *chain != u64::from_le_bytes(*hash) {
        return bad("is not the one that rank 0 sent next".to_owned());
    }
    match postcard::from_bytes::<StepPlan>(body) {
        Ok(plan) if plan.is_sound() => Ok(plan),
        Ok(_) => bad("points outside of itself".to_owned()),
        Err(error) => bad(format!("can not be read: {error}")),
    }
}

#[cfg(test)]
mod tests;
