//! A device whose kernels are compiled for the host: what is asked of it is queued, and happens when somebody waits.
//!
//! That is as late as a real device may be, so a program that reads too early, or changes what a copy has yet to read, is
//! found out. Memory is its own mapping for each allocation, ends where the mapping ends, and is full of NaNs at first.
//! A device that belongs to a group runs ahead, on a thread of its own, since others wait for it.

mod links;

use std::collections::{HashMap, VecDeque};
use std::ffi::{CStr, CString, c_char, c_void};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::driver::{Driver, Links, Neighbour};
use crate::product::{Numbers, Product};
use crate::{DeviceError, Grid, Memory, Properties, Result};

/// The interface of kernels that were compiled for the host.
#[derive(Clone, Copy)]
pub struct EmulatedKernels {
    /// The kernel of that name and the bytes of its parameters, or null.
    pub find: unsafe extern "C" fn(name: *const c_char, params_bytes: *mut usize) -> *const c_void,
    /// Run all blocks of a grid, those of a cluster at once. Returns 0, or writes what is wrong as text of at most `error_bytes`.
    pub run: unsafe extern "C" fn(
        kernel: *const c_void,
        blocks: *const u32,
        cluster: u32,
        threads: *const u32,
        shared_bytes: usize,
        params: *const c_void,
        order: u64,
        error: *mut c_char,
        error_bytes: usize,
    ) -> i32,
}

/// How a device is emulated.
#[derive(Debug, Clone, Copy)]
pub struct EmulationOptions {
    /// Chooses the order in which threads of a block run: 0 by number, 1 from the last, any other one shuffled.
    pub order: u64,
    /// Bytes of memory.
    pub memory: u64,
    /// Whether each intermediate result has memory of its own, so that reading beyond it ends the program.
    pub separate_tensors: bool,
}

/// The emulation.
pub(crate) struct Emulated {
    kernels: EmulatedKernels,
    options: EmulationOptions,
    properties: Properties,
    shared: Arc<Shared>,
    /// Does what is asked for, once the device runs ahead.
    runner: Mutex<Option<JoinHandle<()>>>,
}

/// What the device and its runner have in common.
#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Something was queued, or done.
    changed: Condvar,
}

type Task = Arc<dyn Fn() -> Result<()> + Send + Sync>;

#[derive(Default)]
struct State {
    names: HashMap<u64, String>,
    /// Allocations: first byte, and length of the mapping.
    memory: HashMap<u64, usize>,
    used: u64,
    queue: VecDeque<Task>,
    runs_ahead: bool,
    /// The runner is at a task.
    is_busy: bool,
    is_closed: bool,
    captured: Option<Vec<Task>>,
    graphs: HashMap<u64, Vec<Task>>,
    next: u64,
    /// What failed first; it fails everything after it.
    failed: Option<DeviceError>,
}

/// Memory of the device, for tasks.
#[derive(Clone, Copy)]
struct Address(*mut u8);

// SAFETY: callers of the driver promise that what tasks touch is valid, whatever thread runs them.
unsafe impl Send for Address {}
// SAFETY: as above.
unsafe impl Sync for Address {}

const PAGE: usize = 4096;
/// Addresses of allocations are multiples of this.
const ALIGNMENT: usize = 16;

// === impl EmulationOptions ===

impl Default for EmulationOptions {
    fn default() -> Self {
        Self { order: 2, memory: 4 << 30, separate_tensors: true }
    }
}

// === impl Address ===

impl Address {
    fn of(address: u64) -> Self {
        Self(address as usize as *mut u8)
    }

    fn get(self) -> *mut u8 {
        self.0
    }
}

// === impl Emulated ===

impl Emulated {
    pub(crate) fn new(kernels: EmulatedKernels, options: EmulationOptions) -> Self {
        let properties = Properties {
            name: "emulated GPU".to_owned(),
            capability: (9, 0),
            multiprocessors: 4,
            shared_bytes: 227 << 10,
        };
        Self { kernels, options, properties, shared: Arc::default(), runner: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }

    fn queue(&self, task: impl Fn() -> Result<()> + Send + Sync + 'static) -> Result<()> {
        self.shared.queue(task)
    }

    /// Do all that was queued.
    fn catch_up(&self) -> Result<()> {
        let mut state = self.state();
        if state.captured.is_some() {
            let problem = "a result was asked for while a graph is captured".to_owned();
            return Err(DeviceError::Driver { call: "wait", problem });
        }
        if let Some(error) = &state.failed {
            return Err(error.clone());
        }
        if state.runs_ahead {
            while state.is_busy || !state.queue.is_empty() {
                state = self.shared.wait(state);
            }
            return state.failed.clone().map_or(Ok(()), Err);
        }
        for task in std::mem::take(&mut state.queue) {
            if let Err(error) = task() {
                state.failed = Some(error.clone());
                return Err(error);
            }
        }
        Ok(())
    }

    fn fresh(state: &mut State) -> u64 {
        state.next += 1;
        state.next
    }
}

impl Driver for Emulated {
    fn properties(&self) -> &Properties {
        &self.properties
    }

    fn memory(&self) -> Result<Memory> {
        let total = self.options.memory;
        Ok(Memory { free: total.saturating_sub(self.state().used), total })
    }

    fn allocate(&self, bytes: usize) -> Result<u64> {
        let memory = self.memory()?;
        if bytes as u64 > memory.free {
            let Memory { free, total } = memory;
            return Err(DeviceError::OutOfMemory { bytes: bytes as u64, free, total });
        }
        let room = bytes.next_multiple_of(ALIGNMENT).next_multiple_of(PAGE);
        let mapped = room + PAGE;
        // SAFETY: a new mapping, whose last page nobody may touch.
        let start = unsafe {
            let start = libc::mmap(
                std::ptr::null_mut(),
                mapped,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            );
            if start == libc::MAP_FAILED {
                return Err(DeviceError::Driver { call: "mmap", problem: "no memory".to_owned() });
            }
            libc::mprotect(start.cast::<u8>().add(room).cast(), PAGE, libc::PROT_NONE);
            // All bits set is a NaN in each type of floats, and an index that is nowhere.
            if bytes < 64 << 20 {
                start.cast::<u8>().write_bytes(0xff, room);
            }
            start.cast::<u8>()
        };
        let address = (start as usize + room - bytes.next_multiple_of(ALIGNMENT)) as u64;
        let mut state = self.state();
        state.memory.insert(address, bytes);
        state.used += bytes as u64;
        Ok(address)
    }

    fn free(&self, address: u64) {
        let mut state = self.state();
        let Some(bytes) = state.memory.remove(&address) else { return };
        state.used -= bytes as u64;
        let unmap = move || {
            let room = bytes.next_multiple_of(ALIGNMENT).next_multiple_of(PAGE);
            let start = address as usize + bytes.next_multiple_of(ALIGNMENT) - room;
            // SAFETY: the mapping was made by `allocate`, and tasks that use it were queued before this one.
            unsafe { libc::munmap(start as *mut c_void, room + PAGE) };
            Ok(())
        };
        // Not when a graph is captured: the memory that it names would be gone.
        if state.captured.is_none() {
            state.queue.push_back(Arc::new(unmap));
            self.shared.changed.notify_all();
        }
    }

    fn allocate_host(&self, bytes: usize) -> Result<*mut u8> {
        Ok(Box::leak(vec![0u64; bytes.div_ceil(8)].into_boxed_slice()).as_mut_ptr().cast())
    }

    fn free_host(&self, memory: *mut u8, bytes: usize) {
        // SAFETY: the box was leaked by `allocate_host` with the same length.
        drop(unsafe {
            Box::from_raw(std::ptr::slice_from_raw_parts_mut(memory.cast::<u64>(), bytes.div_ceil(8)))
        });
    }

    fn kernel(&self, name: &str) -> Result<u64> {
        let missing = || DeviceError::NoKernel(name.to_owned());
        let text = CString::new(name).map_err(|_| missing())?;
        let mut bytes = 0;
        // SAFETY: a string that ends, and a place for a number.
        let kernel = unsafe { (self.kernels.find)(text.as_ptr(), &raw mut bytes) } as usize as u64;
        if kernel == 0 {
            return Err(missing());
        }
        self.state().names.insert(kernel, name.to_owned());
        Ok(kernel)
    }

    unsafe fn launch(&self, kernel: u64, grid: &Grid, params: &[u8]) -> Result<()> {
        let name = self.state().names.get(&kernel).cloned().unwrap_or_default();
        let wrong = |problem| DeviceError::Kernel { kernel: name.clone(), problem };
        let mut wanted = 0;
        let text = CString::new(name.clone()).unwrap_or_default();
        // SAFETY: as above.
        unsafe { (self.kernels.find)(text.as_ptr(), &raw mut wanted) };
        if wanted != params.len() {
            return Err(wrong(format!("parameters have {} bytes, it takes {wanted}", params.len())));
        }
        let limits = [1024, 1024, 64];
        let too_large = grid.threads.iter().zip(limits).any(|(n, most)| *n > most)
            || grid.threads.iter().product::<u32>() > 1024
            || grid.blocks[1] > 65_535
            || grid.blocks[2] > 65_535
            || grid.shared_bytes > self.properties.shared_bytes;
        if too_large || grid.threads.contains(&0) {
            return Err(wrong(format!("no device can start {grid:?}")));
        }
        let (run, grid, order) = (self.kernels.run, *grid, self.options.order);
        // Parameters are aligned as their type: eight bytes suffice for all of ours.
        let mut copy = vec![0u64; params.len().div_ceil(8)];
        // SAFETY: the copy is as long as the parameters.
        unsafe {
            std::ptr::copy_nonoverlapping(params.as_ptr(), copy.as_mut_ptr().cast::<u8>(), params.len());
        }
        self.queue(move || {
            let mut error = [0 as c_char; 2048];
            // SAFETY: the caller of `launch` answers for kernel, grid and parameters.
            let status = unsafe {
                run(
                    kernel as usize as *const c_void,
                    grid.blocks.as_ptr(),
                    grid.cluster,
                    grid.threads.as_ptr(),
                    grid.shared_bytes as usize,
                    copy.as_ptr().cast(),
                    order,
                    error.as_mut_ptr(),
                    error.len(),
                )
            };
            if status == 0 {
                return Ok(());
            }
            // SAFETY: the interface ends its text within the bytes it was given.
            let problem = unsafe { CStr::from_ptr(error.as_ptr()) }.to_string_lossy().into_owned();
            Err(DeviceError::Kernel { kernel: name.clone(), problem })
        })
    }

    unsafe fn write(&self, to: u64, bytes: &[u8]) -> Result<()> {
        let (to, bytes) = (Address::of(to), bytes.to_vec());
        // SAFETY: the caller promises that the range is valid.
        self.queue(move || unsafe {
            to.get().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
            Ok(())
        })
    }

    unsafe fn write_from_host(&self, to: u64, from: *const u8, bytes: usize) -> Result<()> {
        let (to, from) = (Address::of(to), Address(from.cast_mut()));
        // SAFETY: as above, for both.
        self.queue(move || unsafe {
            to.get().copy_from_nonoverlapping(from.get(), bytes);
            Ok(())
        })
    }

    unsafe fn read(&self, from: u64, into: &mut [u8]) -> Result<()> {
        self.catch_up()?;
        // SAFETY: as above.
        unsafe { into.as_mut_ptr().copy_from_nonoverlapping(Address::of(from).get(), into.len()) };
        Ok(())
    }

    unsafe fn copy(&self, to: u64, from: u64, bytes: usize) -> Result<()> {
        let (to, from) = (Address::of(to), Address::of(from));
        // SAFETY: as above.
        self.queue(move || unsafe {
            to.get().copy_from(from.get(), bytes);
            Ok(())
        })
    }

    unsafe fn fill(&self, to: u64, byte: u8, bytes: usize) -> Result<()> {
        let to = Address::of(to);
        // SAFETY: as above.
        self.queue(move || unsafe {
            to.get().write_bytes(byte, bytes);
            Ok(())
        })
    }

    fn record(&self) -> Result<u64> {
        Ok(Self::fresh(&mut self.state()))
    }

    fn wait_for(&self, _: u64) -> Result<()> {
        self.catch_up()
    }

    fn free_event(&self, _: u64) {}

    fn wait(&self) -> Result<()> {
        self.catch_up()
    }

    fn begin_capture(&self) -> Result<()> {
        self.catch_up()?;
        self.state().captured = Some(Vec::new());
        Ok(())
    }

    fn end_capture(&self) -> Result<u64> {
        let mut state = self.state();
        let Some(captured) = state.captured.take() else {
            return Err(DeviceError::Driver { call: "end_capture", problem: "nothing was begun".to_owned() });
        };
        let graph = Self::fresh(&mut state);
        state.graphs.insert(graph, captured);
        Ok(graph)
    }

    fn launch_graph(&self, graph: u64) -> Result<()> {
        let tasks = self.state().graphs.get(&graph).cloned().unwrap_or_default();
        self.queue(move || tasks.iter().try_for_each(|task| task()))
    }

    fn free_graph(&self, graph: u64) {
        self.state().graphs.remove(&graph);
    }

    fn neighbour(&self) -> Neighbour {
        Neighbour { device: 0, context: 0 }
    }

    /// All of it is memory of the process.
    fn reach(&self, _: Neighbour) -> Result<bool> {
        Ok(true)
    }

    fn run_ahead(&self) -> Result<()> {
        let mut runner = self.runner.lock().unwrap_or_else(PoisonError::into_inner);
        if runner.is_none() {
            let shared = Arc::clone(&self.shared);
            let thread = std::thread::Builder::new().name("emulated-gpu".into()).spawn(move || shared.run());
            let failed =
                |error: std::io::Error| DeviceError::Driver { call: "spawn", problem: error.to_string() };
            *runner = Some(thread.map_err(failed)?);
            self.state().runs_ahead = true;
        }
        Ok(())
    }

    fn links_id(&self) -> Result<Vec<u8>> {
        Ok(links::fresh_id())
    }

    fn links(
        &self,
        id: &[u8],
        rank: usize,
        ranks: usize,
        is_off: &dyn Fn() -> bool,
    ) -> Result<Box<dyn Links>> {
        self.run_ahead()?;
        let mail = links::join(id, ranks, is_off)?;
        Ok(Box::new(links::EmulatedLinks::new(Arc::clone(&self.shared), mail, rank)))
    }

    unsafe fn product(&self, product: &Product) -> Result<()> {
        let product = *product;
        // SAFETY: the caller promises that all ranges are valid.
        self.queue(move || unsafe {
            multiply(&product);
            Ok(())
        })
    }

    fn wants_separate_tensors(&self) -> bool {
        self.options.separate_tensors
    }
}

// === impl Shared ===

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// Do it later, or take it down.
    fn queue(&self, task: impl Fn() -> Result<()> + Send + Sync + 'static) -> Result<()> {
        let mut state = self.state();
        if let Some(error) = &state.failed {
            return Err(error.clone());
        }
        let task: Task = Arc::new(task);
        match &mut state.captured {
            Some(captured) => captured.push(task),
            None => state.queue.push_back(task),
        }
        self.changed.notify_all();
        Ok(())
    }

    /// Do what is queued until the device is closed.
    fn run(&self) {
        let mut state = self.state();
        loop {
            let Some(task) = state.queue.pop_front() else {
                if state.is_closed {
                    return;
                }
                state = self.wait(state);
                continue;
            };
            state.is_busy = true;
            drop(state);
            let outcome = task();
            drop(task);
            state = self.state();
            state.is_busy = false;
            if let Err(error) = outcome {
                state.failed.get_or_insert(error);
                state.queue.clear();
            }
            self.changed.notify_all();
        }
    }
}

/// # Safety
/// All ranges of the product are valid.
unsafe fn multiply(product: &Product) {
    let sizes = product.sizes;
    // SAFETY: the caller's promise; every index is inside of its matrix.
    unsafe {
        let number = |from: u64, i: usize| {
            let from = Address::of(from).get();
            match sizes.numbers {
                Numbers::BF16 => half::bf16::from_bits(from.cast::<u16>().add(i).read()).to_f32(),
                Numbers::F16 => half::f16::from_bits(from.cast::<u16>().add(i).read()).to_f32(),
                Numbers::Fp8 => e4m3(from.add(i).read()),
            }
        };
        let scale = |from: u64| if from == 0 { 1.0 } else { Address::of(from).get().cast::<f32>().read() };
        let scale = scale(product.x_scale) * scale(product.w_scale);
        for row in 0..sizes.rows {
            for out in 0..sizes.out {
                let terms = (0..sizes.inn).map(|k| {
                    number(product.x, row * sizes.inn + k) * number(product.w, out * sizes.w_stride + k)
                });
                let sum = terms.sum::<f32>() * scale;
                let at = row * sizes.out + out;
                let y = Address::of(product.y).get();
                match (sizes.y_is_f32, sizes.numbers) {
                    (true, _) => y.cast::<f32>().add(at).write(sum),
                    (false, Numbers::F16) => {
                        y.cast::<u16>().add(at).write(half::f16::from_f32(sum).to_bits())
                    }
                    (false, _) => y.cast::<u16>().add(at).write(half::bf16::from_f32(sum).to_bits()),
                }
            }
        }
    }
}

/// A float of eight bits: sign, four bits of exponent, three of mantissa, and one NaN of each sign.
fn e4m3(bits: u8) -> f32 {
    let (exponent, mantissa) = (i32::from(bits >> 3 & 15), f32::from(bits & 7));
    let size = match (exponent, bits & 7) {
        (15, 7) => f32::NAN,
        (0, _) => mantissa / 8.0 * 2f32.powi(-6),
        _ => (1.0 + mantissa / 8.0) * 2f32.powi(exponent - 7),
    };
    if bits & 0x80 == 0 { size } else { -size }
}

impl Drop for Emulated {
    fn drop(&mut self) {
        // What is left in the queue may be the end of memory.
        let _ = self.catch_up();
        self.state().is_closed = true;
        self.shared.changed.notify_all();
        if let Some(runner) = self.runner.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            // It has caught up.
            let _ = runner.join();
        }
    }
}
