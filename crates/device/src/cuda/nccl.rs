//! Links between the GPUs of a group by NCCL, which is opened when a group asks for it.
//!
//! Only its sends and receives are used: its sums are added in an order that depends on their size.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError, TryLockError, mpsc};
use std::time::{Duration, Instant};

use libloading::Library;

use crate::driver::{Links, Parcel};
use crate::{DeviceError, Result};

/// The name that NCCL has been installed under since 2017.
const LIBRARY: &str = "libnccl.so.2";
/// `NCCL_UNIQUE_ID_BYTES` of nccl.h.
const ID_BYTES: usize = 128;
/// `ncclInt8` of nccl.h: bytes.
const BYTES: c_int = 0;
/// `ncclSuccess` and `ncclInProgress`.
const SUCCESS: c_int = 0;
const IN_PROGRESS: c_int = 7;
/// How often a rank that waits for others asks whether they will come.
const LOOK: Duration = Duration::from_millis(50);
/// How long an abort waits for a call that is being made; one that takes longer waits for a rank that is gone.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Clone, Copy)]
#[repr(C)]
struct Id([u8; ID_BYTES]);

type Comm = *mut c_void;

/// What we call of the library, as nccl.h declares it.
struct Api {
    get_unique_id: unsafe extern "C" fn(*mut Id) -> c_int,
    comm_init_rank: unsafe extern "C" fn(*mut Comm, c_int, Id, c_int) -> c_int,
    comm_abort: unsafe extern "C" fn(Comm) -> c_int,
    comm_destroy: unsafe extern "C" fn(Comm) -> c_int,
    get_async_error: unsafe extern "C" fn(Comm, *mut c_int) -> c_int,
    send: unsafe extern "C" fn(*const c_void, usize, c_int, c_int, Comm, *mut c_void) -> c_int,
    recv: unsafe extern "C" fn(*mut c_void, usize, c_int, c_int, Comm, *mut c_void) -> c_int,
    group_start: unsafe extern "C" fn() -> c_int,
    group_end: unsafe extern "C" fn() -> c_int,
    get_error_string: unsafe extern "C" fn(c_int) -> *const c_char,
    /// What the functions are in.
    _library: Library,
}

/// The links of one rank.
pub(super) struct Nccl {
    api: &'static Api,
    comm: Comm,
    stream: usize,
    is_aborted: AtomicBool,
    /// Held while the communicator is used.
    in_use: Mutex<()>,
}

// SAFETY: a communicator is used by one thread at a time, but for `ncclCommAbort`, which is made to be called by another.
unsafe impl Send for Nccl {}
// SAFETY: as above.
unsafe impl Sync for Nccl {}

/// A communicator on its way from the thread that made it.
struct Made(Comm);

// SAFETY: no thread is bound to it.
unsafe impl Send for Made {}

/// Open the library, once for the process.
fn api() -> Result<&'static Api> {
    static API: OnceLock<Result<Api>> = OnceLock::new();
    API.get_or_init(Api::open).as_ref().map_err(Clone::clone)
}

/// What all ranks of a group must be given to find each other.
pub(super) fn fresh_id() -> Result<Vec<u8>> {
    let api = api()?;
    let mut id = Id([0; ID_BYTES]);
    // SAFETY: a place for an id.
    api.check("ncclGetUniqueId", unsafe { (api.get_unique_id)(&raw mut id) })?;
    Ok(id.0.to_vec())
}

// === impl Api ===

impl Api {
    fn open() -> Result<Self> {
        let missing = |error: libloading::Error| {
            DeviceError::Links(format!("NCCL can not be opened, install {LIBRARY} ({error})"))
        };
        // SAFETY: the library has no initialisers that need anything; each name has the type that nccl.h gives it.
        unsafe {
            let library = Library::new(LIBRARY).map_err(missing)?;
            Ok(Self {
                get_unique_id: *library.get(b"ncclGetUniqueId\0").map_err(missing)?,
                comm_init_rank: *library.get(b"ncclCommInitRank\0").map_err(missing)?,
                comm_abort: *library.get(b"ncclCommAbort\0").map_err(missing)?,
                comm_destroy: *library.get(b"ncclCommDestroy\0").map_err(missing)?,
                get_async_error: *library.get(b"ncclCommGetAsyncError\0").map_err(missing)?,
                send: *library.get(b"ncclSend\0").map_err(missing)?,
                recv: *library.get(b"ncclRecv\0").map_err(missing)?,
                group_start: *library.get(b"ncclGroupStart\0").map_err(missing)?,
                group_end: *library.get(b"ncclGroupEnd\0").map_err(missing)?,
                get_error_string: *library.get(b"ncclGetErrorString\0").map_err(missing)?,
                _library: library,
            })
        }
    }

    fn check(&self, call: &'static str, status: c_int) -> Result<()> {
        if status == SUCCESS {
            return Ok(());
        }
        // SAFETY: the library gives a string that stays.
        let text = unsafe { CStr::from_ptr((self.get_error_string)(status)) }.to_string_lossy();
        Err(DeviceError::Links(format!("{call} failed: {text}; NCCL_DEBUG=WARN says more")))
    }
}

// === impl Nccl ===

impl Nccl {
    /// The links of rank `rank`, on a stream of the device that `bind` makes the current one.
    ///
    /// NCCL waits for all ranks and can not be told to stop, so a thread of its own does; it is left behind when the group is off.
    pub(super) fn join(
        id: &[u8],
        rank: usize,
        ranks: usize,
        stream: usize,
        bind: impl FnOnce() -> Result<()> + Send + 'static,
        is_off: &dyn Fn() -> bool,
    ) -> Result<Self> {
        let api = api()?;
        let bytes = <[u8; ID_BYTES]>::try_from(id)
            .map_err(|_| DeviceError::Links(format!("an id of {} bytes", id.len())))?;
        let (send, made) = mpsc::sync_channel(1);
        let work = move || {
            let outcome = bind().and_then(|()| {
                let mut comm: Comm = std::ptr::null_mut();
                // SAFETY: a place for a communicator; the device was bound.
                let status =
                    unsafe { (api.comm_init_rank)(&raw mut comm, ranks as c_int, Id(bytes), rank as c_int) };
                api.check("ncclCommInitRank", status).map(|()| Made(comm))
            });
            // Nobody may be waiting any more.
            let _ = send.send(outcome);
        };
        let spawned = std::thread::Builder::new().name("nccl-join".into()).spawn(work);
        spawned.map_err(|error| DeviceError::Links(format!("a thread can not be started: {error}")))?;
        loop {
            match made.recv_timeout(LOOK) {
                Ok(outcome) => {
                    let Made(comm) = outcome?;
                    return Ok(Self {
                        api,
                        comm,
                        stream,
                        is_aborted: AtomicBool::new(false),
                        in_use: Mutex::default(),
                    });
                }
                Err(mpsc::RecvTimeoutError::Timeout) if !is_off() => {}
                Err(_) => {
                    let problem = "another rank has left before all had joined";
                    return Err(DeviceError::Links(problem.to_owned()));
                }
            }
        }
    }
}

impl Links for Nccl {
    unsafe fn exchange(&self, sent: &[Parcel], received: &[Parcel]) -> Result<()> {
        let (api, stream) = (self.api, self.stream as *mut c_void);
        let _in_use = self.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_aborted.load(Ordering::Acquire) {
            return Err(DeviceError::Links("the group has ended".to_owned()));
        }
        // SAFETY: the caller promises that the ranges are valid; the calls of a group are one operation.
        unsafe {
            api.check("ncclGroupStart", (api.group_start)())?;
            let mut outcome = Ok(());
            for Parcel { rank, address, bytes } in sent.iter().filter(|parcel| parcel.bytes > 0) {
                let from = *address as usize as *const c_void;
                let status = (api.send)(from, *bytes, BYTES, *rank as c_int, self.comm, stream);
                outcome = outcome.and(api.check("ncclSend", status));
            }
            for Parcel { rank, address, bytes } in received.iter().filter(|parcel| parcel.bytes > 0) {
                let to = *address as usize as *mut c_void;
                let status = (api.recv)(to, *bytes, BYTES, *rank as c_int, self.comm, stream);
                outcome = outcome.and(api.check("ncclRecv", status));
            }
            // What was begun is ended whatever happened.
            let ended = api.check("ncclGroupEnd", (api.group_end)());
            outcome.and(ended)
        }
    }

    fn check(&self) -> Result<()> {
        let _in_use = match self.in_use.try_lock() {
            Ok(held) => held,
            Err(TryLockError::Poisoned(held)) => held.into_inner(),
            // The call that is being made tells how it went.
            Err(TryLockError::WouldBlock) => return Ok(()),
        };
        if self.is_aborted.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut status = SUCCESS;
        // SAFETY: the communicator is ours, and there is a place for a number.
        let asked = unsafe { (self.api.get_async_error)(self.comm, &raw mut status) };
        self.api.check("ncclCommGetAsyncError", asked)?;
        if status == IN_PROGRESS { Ok(()) } else { self.api.check("a collective", status) }
    }

    fn abort(&self) {
        let asked = Instant::now();
        let mut in_use = self.in_use.try_lock();
        while matches!(in_use, Err(TryLockError::WouldBlock)) && asked.elapsed() < PATIENCE {
            std::thread::sleep(LOOK);
            in_use = self.in_use.try_lock();
        }
        if !self.is_aborted.swap(true, Ordering::AcqRel) {
            // Kernels that wait for other ranks end; there is nobody to tell of a failure.
            // SAFETY: the communicator is ours, and is given back once: here, or when this is dropped.
            let _ = unsafe { (self.api.comm_abort)(self.comm) };
        }
    }
}

impl Drop for Nccl {
    fn drop(&mut self) {
        if !self.is_aborted.swap(true, Ordering::AcqRel) {
            // SAFETY: as above.
            let _ = unsafe { (self.api.comm_destroy)(self.comm) };
        }
    }
}
