//! Links between emulated devices of one process: what one sends waits in a box until the other takes it.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use super::{Address, Shared};
use crate::driver::{Links, Parcel};
use crate::{DeviceError, Result};

/// Groups of this process.
static GROUPS: LazyLock<Mutex<HashMap<Vec<u8>, Weak<Mail>>>> = LazyLock::new(Mutex::default);
static NEXT: AtomicU64 = AtomicU64::new(1);

/// How often a rank that waits for others asks whether they will come.
const LOOK: Duration = Duration::from_millis(10);

/// What is under way between the ranks of a group.
#[derive(Default)]
pub(super) struct Mail {
    state: Mutex<MailState>,
    changed: Condvar,
}

#[derive(Default)]
struct MailState {
    joined: usize,
    is_aborted: bool,
    /// By sender and receiver.
    sent: HashMap<(usize, usize), VecDeque<Vec<u8>>>,
}

/// The links of one rank.
pub(super) struct EmulatedLinks {
    device: Arc<Shared>,
    mail: Arc<Mail>,
    rank: usize,
}

pub(super) fn fresh_id() -> Vec<u8> {
    NEXT.fetch_add(1, Ordering::Relaxed).to_le_bytes().to_vec()
}

/// Wait for all ranks of the group.
pub(super) fn join(id: &[u8], ranks: usize, is_off: &dyn Fn() -> bool) -> Result<Arc<Mail>> {
    let mail = {
        let mut groups = GROUPS.lock().unwrap_or_else(PoisonError::into_inner);
        groups.retain(|_, mail| mail.strong_count() > 0);
        let known = groups.get(id).and_then(Weak::upgrade);
        known.unwrap_or_else(|| {
            let mail = Arc::<Mail>::default();
            groups.insert(id.to_vec(), Arc::downgrade(&mail));
            mail
        })
    };
    let mut state = mail.state();
    state.joined += 1;
    mail.changed.notify_all();
    while state.joined < ranks {
        if is_off() {
            return Err(DeviceError::Links("another rank has left before all had joined".to_owned()));
        }
        state = mail.changed.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner).0;
    }
    drop(state);
    Ok(mail)
}

// === impl Mail ===

impl Mail {
    fn state(&self) -> MutexGuard<'_, MailState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, from: usize, to: usize, bytes: Vec<u8>) {
        self.state().sent.entry((from, to)).or_default().push_back(bytes);
        self.changed.notify_all();
    }

    /// `None` when nobody waits any more.
    fn receive(&self, from: usize, to: usize) -> Option<Vec<u8>> {
        let mut state = self.state();
        loop {
            if let Some(bytes) = state.sent.get_mut(&(from, to)).and_then(VecDeque::pop_front) {
                return Some(bytes);
            }
            if state.is_aborted {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

// === impl EmulatedLinks ===

impl EmulatedLinks {
    pub(super) fn new(device: Arc<Shared>, mail: Arc<Mail>, rank: usize) -> Self {
        Self { device, mail, rank }
    }
}

impl Links for EmulatedLinks {
    unsafe fn exchange(&self, sent: &[Parcel], received: &[Parcel]) -> Result<()> {
        let with_place = |parcels: &[Parcel]| -> Vec<_> {
            parcels.iter().map(|parcel| (*parcel, Address::of(parcel.address))).collect()
        };
        let (sent, received) = (with_place(sent), with_place(received));
        let (mail, rank) = (Arc::clone(&self.mail), self.rank);
        self.device.queue(move || {
            for (parcel, from) in &sent {
                let mut bytes = vec![0; parcel.bytes];
                // SAFETY: the caller promises that the range is valid.
                unsafe { bytes.as_mut_ptr().copy_from_nonoverlapping(from.get(), parcel.bytes) };
                mail.send(rank, parcel.rank, bytes);
            }
            for (parcel, to) in &received {
                let Some(bytes) = mail.receive(parcel.rank, rank) else { return Ok(()) };
                if bytes.len() != parcel.bytes {
                    let (found, wanted) = (bytes.len(), parcel.bytes);
                    let problem =
                        format!("rank {} sent {found} bytes, rank {rank} awaits {wanted}", parcel.rank);
                    return Err(DeviceError::Links(problem));
                }
                // SAFETY: as above.
                unsafe { to.get().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
            }
            Ok(())
        })
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }

    fn abort(&self) {
        self.mail.state().is_aborted = true;
        self.mail.changed.notify_all();
    }
}
