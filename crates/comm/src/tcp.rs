//! Ranks as processes, on one host or on several: each two have a connection for data and one for signs of life.
//!
//! Tensors go out from where they lie and come in to where they are used. Small ones are sent whole to every rank, which
//! adds them up by itself; of large ones each rank adds up a slice, which halves what is added and keeps what is sent. Either way
//! a number is added in the order of the ranks, so all have the same bits.

mod accept;
mod hello;
mod host;
mod join;
mod pulse;
mod wire;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use candle_core::Tensor;

pub use self::hello::GroupSecret;
pub use self::join::JoinError;
pub use self::pulse::GroupEnd;
use self::pulse::Health;
use self::wire::{Failed, Receiving, Sending, exchange};
use crate::call::{Call, Calls, Kind};
use crate::numbers::{Arriving, ParallelFor, add_up_on, bytes_of, bytes_of_mut, hold, serially};
use crate::{CommError, Communicator};

/// Numbers from which on ranks share the work of adding, where there are more than two.
const SHARED_SUM: usize = 16 * 1024;
/// The longest message of bytes.
const MOST_BYTES: usize = 1 << 30;
/// How long a rank whose connection was closed is given to say why.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// How a rank finds its group.
#[derive(Debug, Clone)]
pub struct GroupOptions {
    /// This rank, `0..size`.
    pub rank: usize,
    /// Ranks in the group.
    pub size: usize,
    /// `HOST:PORT` where rank 0 waits for the others.
    pub leader: String,
    /// What all ranks know.
    pub secret: GroupSecret,
    /// How long ranks wait for each other to be started.
    pub join_timeout: Duration,
    /// How long a rank may give no sign of life.
    pub silence: Duration,
}

/// One rank of a group of processes. When it is dropped, the group is broken.
#[derive(Debug)]
pub struct Tcp {
    rank: usize,
    size: usize,
    health: Arc<Health>,
    calls: Calls,
    hosts: Vec<u64>,
    /// Room for the numbers of other ranks, kept between calls; held while a call is made.
    scratch: Mutex<Vec<f32>>,
    parallel: ParallelFor,
}

/// Hears of the end of a group.
#[derive(Debug, Clone)]
pub struct Watcher(Arc<Health>);

// === impl GroupOptions ===

impl GroupOptions {
    /// Rank `rank` of `size`, without a secret. Ranks wait ten minutes for each other, and ten seconds for a sign of life.
    #[must_use]
    pub fn new(rank: usize, size: usize, leader: impl Into<String>) -> Self {
        Self {
            rank,
            size,
            leader: leader.into(),
            secret: GroupSecret::default(),
            join_timeout: Duration::from_secs(600),
            silence: Duration::from_secs(10),
        }
    }
}

// === impl Watcher ===

impl Watcher {
    /// Wait until the group is broken, or a rank asks the first one to end it.
    #[must_use]
    pub fn wait(&self) -> GroupEnd {
        self.0.wait_for_end()
    }

    /// Ask the first rank to finish what it has, and to end the group.
    pub fn ask_to_end(&self) {
        self.0.ask_to_end();
    }
}

// === impl Tcp ===

impl Tcp {
    /// Wait for the other ranks and connect with them.
    ///
    /// # Errors
    /// They do not come in time, or do not belong to this group.
    pub fn join(options: &GroupOptions) -> Result<Self, JoinError> {
        let mesh = join::join(options)?;
        let health = Arc::new(Health::new(options.rank, mesh.pulse, mesh.data));
        let (watched, silence) = (Arc::clone(&health), options.silence);
        let spawned = std::thread::Builder::new()
            .name("pulse".to_owned())
            .spawn(move || pulse::watch(&watched, silence));
        if let Err(error) = spawned {
            health.leave(&format!("rank {} can not start a thread: {error}", options.rank));
        }
        Ok(Self {
            rank: options.rank,
            size: options.size,
            health,
            calls: Calls::default(),
            hosts: mesh.hosts,
            scratch: Mutex::default(),
            parallel: serially,
        })
    }

    /// The same rank, which adds up large tensors on more threads than its own.
    #[must_use]
    pub fn with_threads(mut self, parallel: ParallelFor) -> Self {
        self.parallel = parallel;
        self
    }

    /// The ranks that share memory and cores with this one, itself included, in order.
    #[must_use]
    pub fn ranks_here(&self) -> Vec<usize> {
        (0..self.size).filter(|rank| self.hosts[*rank] == self.hosts[self.rank]).collect()
    }

    /// Hears of the end of the group, also while no call is made.
    #[must_use]
    pub fn watcher(&self) -> Watcher {
        Watcher(Arc::clone(&self.health))
    }

    fn others(&self) -> impl Iterator<Item = usize> + use<> {
        let own = self.rank;
        (0..self.size).filter(move |rank| *rank != own)
    }

    /// Send and receive all of these.
    fn exchange(
        &self,
        sending: &mut [Sending<'_>],
        receiving: &mut [Receiving<'_>],
    ) -> Result<(), CommError> {
        let check = || self.health.check().map_err(CommError::Broken);
        check()?;
        exchange(|rank| self.health.data(rank), sending, receiving, check).map_err(|failed| match failed {
            Failed::Broken(error) => error,
            Failed::Gone(rank, error) => {
                let why = self.health.wait_for(LAST_WORDS).unwrap_or_else(|| {
                    let error = error.map_or("there is none".to_owned(), |error| error.to_string());
                    let why =
                        format!("rank {}: the connection with rank {rank} has failed: {error}", self.rank);
                    self.health.leave(&why);
                    why
                });
                CommError::Broken(why)
            }
        })
    }

    fn send_all<'a>(&self, call: Call, bytes: &'a [u8]) -> Vec<Sending<'a>> {
        self.others().map(|rank| Sending::new(rank, call, bytes)).collect()
    }

    /// Each rank gets all of every other, and adds up by itself.
    fn sum_alone(&self, own: &[f32], scratch: &mut Vec<f32>) -> Result<Vec<f32>, CommError> {
        let call = self.calls.next(Kind::AllReduce);
        let theirs = room(scratch, own.len() * (self.size - 1));
        let mut receiving = self.receive_each(call, theirs, self.others_have(own.len()));
        self.exchange(&mut self.send_all(call, bytes_of(own)), &mut receiving)?;
        drop(receiving);
        self.sum(own, theirs)
    }

    /// A message from each other rank, of as many numbers as `len_of` says, one behind the other in `place`. The room that
    /// `len_of` gives to this rank is left alone.
    fn receive_each<'a>(
        &self,
        call: Call,
        mut place: &'a mut [f32],
        len_of: impl Fn(usize) -> usize,
    ) -> Vec<Receiving<'a>> {
        let mut receiving = Vec::with_capacity(self.size);
        for rank in 0..self.size {
            let (to, behind) = place.split_at_mut(len_of(rank));
            place = behind;
            if rank != self.rank {
                receiving.push(Receiving::new(rank, call, vec![bytes_of_mut(to)]));
            }
        }
        receiving
    }

    /// Numbers of each rank, none of this one.
    fn others_have(&self, len: usize) -> impl Fn(usize) -> usize + use<> {
        let own = self.rank;
        move |rank| if rank == own { 0 } else { len }
    }

    /// `own` and those of the others, which lie in `theirs` in their order, added in the order of all ranks.
    fn sum(&self, own: &[f32], theirs: &[f32]) -> Result<Vec<f32>, CommError> {
        let mut others = theirs.chunks_exact(own.len().max(1));
        let parts: Vec<&[f32]> = (0..self.size)
            .filter_map(|rank| if rank == self.rank { Some(own) } else { others.next() })
            .collect();
        let mut sum = Vec::with_capacity(own.len());
        // SAFETY: there is room for as many numbers as each part has, and all of them are written.
        unsafe {
            add_up_on(self.parallel, &parts, sum.as_mut_ptr())?;
            sum.set_len(own.len());
        }
        Ok(sum)
    }

    /// Each rank gets its slice of every other, adds it up, and gives the sum to all.
    fn sum_together(&self, own: &[f32], scratch: &mut Vec<f32>) -> Result<Vec<f32>, CommError> {
        let len = own.len().div_ceil(self.size);
        let slice = |rank: usize| own.len().min(len * rank)..own.len().min(len * (rank + 1));
        let mine = slice(self.rank);
        let call = self.calls.next(Kind::AllReduce);
        let theirs = room(scratch, mine.len() * (self.size - 1));
        let mut receiving = self.receive_each(call, theirs, self.others_have(mine.len()));
        let mut sending: Vec<_> =
            self.others().map(|rank| Sending::new(rank, call, bytes_of(&own[slice(rank)]))).collect();
        self.exchange(&mut sending, &mut receiving)?;
        drop((sending, receiving));
        let sum = self.sum(&own[mine.clone()], theirs)?;

        let call = self.calls.next(Kind::AllGather);
        let mut all = vec![0.0f32; own.len()];
        all[mine].copy_from_slice(&sum);
        let mut receiving = self.receive_each(call, &mut all, |rank| slice(rank).len());
        self.exchange(&mut self.send_all(call, bytes_of(&sum)), &mut receiving)?;
        drop(receiving);
        Ok(all)
    }

    /// What the others send, and `own`, beside each other in the order of the ranks: `[.., last]`. `sending` has said how
    /// much this rank sends, and sends it meanwhile.
    fn receive_joined(
        &self,
        call: Call,
        x: &Tensor,
        own: &[u8],
        mut sending: Vec<Sending<'_>>,
    ) -> Result<Tensor, CommError> {
        let Some((own_last, rows)) = x.dims().split_last() else {
            return Err(CommError::Tensor("a lone number can not be joined to others".to_owned()));
        };
        let size = x.dtype().size_in_bytes();
        let num_rows: usize = rows.iter().product();
        let mut heads: Vec<_> = self.others().map(|rank| Receiving::header(rank, call)).collect();
        self.exchange(&mut sending, &mut heads)?;
        // Bytes of a row, of each rank.
        let mut widths = vec![own_last * size; self.size];
        for head in &heads {
            let bytes = head.announced();
            if num_rows == 0 || !bytes.is_multiple_of(num_rows * size) || bytes > MOST_BYTES {
                let problem =
                    format!("rank {} sends {bytes} bytes, which are not {num_rows} rows", head.rank);
                return Err(CommError::Tensor(problem));
            }
            widths[head.rank] = bytes / num_rows;
        }
        let width: usize = widths.iter().sum();
        let mut joined = Arriving::new(x.dtype(), width / size * num_rows)?;
        let mut places: Vec<Vec<&mut [u8]>> = (0..self.size).map(|_| Vec::with_capacity(num_rows)).collect();
        for (row, mut rest) in joined.bytes_mut().chunks_exact_mut(width.max(1)).enumerate() {
            for (rank, width) in widths.iter().enumerate() {
                let (place, behind) = rest.split_at_mut(*width);
                rest = behind;
                if rank == self.rank {
                    place.copy_from_slice(&own[row * width..(row + 1) * width]);
                } else {
                    places[rank].push(place);
                }
            }
        }
        let places = places.into_iter().enumerate().filter(|(rank, _)| *rank != self.rank);
        let mut bodies: Vec<_> = places.map(|(rank, to)| Receiving::rest(rank, call, to)).collect();
        let mut sending: Vec<_> = sending.into_iter().map(Sending::rest).collect();
        self.exchange(&mut sending, &mut bodies)?;
        drop((bodies, sending));
        let shape: Vec<usize> = rows.iter().copied().chain([width / size]).collect();
        joined.into_tensor(&shape, x.device())
    }

    /// One call at a time uses the connections.
    fn scratch(&self) -> MutexGuard<'_, Vec<f32>> {
        self.scratch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Communicator for Tcp {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn all_reduce(&self, x: &Tensor) -> Result<Tensor, CommError> {
        let mut scratch = self.scratch();
        let held = hold(x);
        let own = held.floats()?;
        let sum = if own.len() < SHARED_SUM || self.size == 2 {
            self.sum_alone(own, &mut scratch)?
        } else {
            self.sum_together(own, &mut scratch)?
        };
        Ok(Tensor::from_vec(sum, x.dims(), x.device())?)
    }

    fn all_gather(&self, x: &Tensor) -> Result<Tensor, CommError> {
        let _turn = self.scratch();
        let call = self.calls.next(Kind::AllGather);
        let held = hold(x);
        let own = held.bytes()?;
        let sending = self.others().map(|rank| Sending::header(rank, call, own)).collect();
        self.receive_joined(call, x, own, sending)
    }

    fn gather(&self, x: &Tensor, root: usize) -> Result<Option<Tensor>, CommError> {
        CommError::check_root(root, self.size)?;
        let _turn = self.scratch();
        let call = self.calls.next(Kind::Gather);
        let held = hold(x);
        let own = held.bytes()?;
        if self.rank == root {
            return self.receive_joined(call, x, own, Vec::new()).map(Some);
        }
        self.exchange(&mut [Sending::new(root, call, own)], &mut [])?;
        Ok(None)
    }

    fn broadcast(&self, x: &Tensor, root: usize) -> Result<Tensor, CommError> {
        CommError::check_root(root, self.size)?;
        let _turn = self.scratch();
        let call = self.calls.next(Kind::Broadcast);
        let held = hold(x);
        let own = held.bytes()?;
        if self.rank == root {
            self.exchange(&mut self.send_all(call, own), &mut [])?;
            return Ok(x.clone());
        }
        let mut theirs = Arriving::new(x.dtype(), x.elem_count())?;
        self.exchange(&mut [], &mut [Receiving::new(root, call, vec![theirs.bytes_mut()])])?;
        theirs.into_tensor(x.dims(), x.device())
    }

    fn broadcast_bytes(&self, bytes: &mut Vec<u8>, root: usize) -> Result<(), CommError> {
        CommError::check_root(root, self.size)?;
        let _turn = self.scratch();
        let call = self.calls.next(Kind::Bytes);
        if self.rank == root {
            return self.exchange(&mut self.send_all(call, bytes), &mut []);
        }
        let mut head = [Receiving::header(root, call)];
        self.exchange(&mut [], &mut head)?;
        let length = head[0].announced();
        if length > MOST_BYTES {
            return Err(CommError::Tensor(format!("rank {root} sends a message of {length} bytes")));
        }
        bytes.clear();
        bytes.resize(length, 0);
        self.exchange(&mut [], &mut [Receiving::rest(root, call, vec![bytes])])
    }

    fn barrier(&self) -> Result<(), CommError> {
        let _turn = self.scratch();
        let call = self.calls.next(Kind::Barrier);
        let mut receiving: Vec<_> =
            self.others().map(|rank| Receiving::new(rank, call, Vec::new())).collect();
        self.exchange(&mut self.send_all(call, &[]), &mut receiving)
    }

    fn tag(&self, tag: u64) {
        self.calls.tag(tag);
    }

    fn broken(&self) -> Option<String> {
        self.health.check().err()
    }

    fn leave(&self, reason: &str) {
        self.health.leave(reason);
    }
}

impl Drop for Tcp {
    fn drop(&mut self) {
        self.health.end();
    }
}

/// Room for so many numbers, whatever they are.
fn room(scratch: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if scratch.len() < len {
        scratch.resize(len, 0.0);
    }
    &mut scratch[..len]
}

#[cfg(test)]
mod tests;
