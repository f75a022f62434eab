//! A real device, through the CUDA driver, which is opened when the first device is asked for.

mod nccl;
mod products;

use std::ffi::{CString, c_void};
use std::sync::{Mutex, OnceLock, PoisonError};

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::{self, CUfunction_attribute as Attribute};

use self::products::{Products, WORKSPACE_BYTES};
use crate::driver::{Driver, Links, Neighbour};
use crate::product::Product;
use crate::{Code, DeviceError, Grid, Memory, Properties, Result};

/// The oldest driver that knows the functions we call: that of CUDA 12.8.
const LEAST_VERSION: i32 = 12_080;
/// The oldest compute capability that `cuda/` is compiled for.
const LEAST_CAPABILITY: (u32, u32) = (8, 0);

/// From this capability on kernels can start while the one before them ends; those compiled for it wait for its results.
const OVERLAPPING: (u32, i32) = (9, 90);

/// A kernel that was found.
struct Kernel {
    function: sys::CUfunction,
    /// Whether it may start before the one before it has ended.
    overlaps: bool,
}

/// A device with one stream.
pub(crate) struct Cuda {
    device: sys::CUdevice,
    context: sys::CUcontext,
    stream: sys::CUstream,
    modules: Vec<sys::CUmodule>,
    /// Handles are their addresses.
    #[expect(clippy::vec_box, reason = "what has a handle stays where it is")]
    kernels: Mutex<Vec<Box<Kernel>>>,
    properties: Properties,
    /// Opened by the first product; its memory is freed with it.
    products: Mutex<Option<(Products, u64)>>,
}

// SAFETY: handles of the driver may be used by any thread that has set the context, as each call here does.
unsafe impl Send for Cuda {}
// SAFETY: as above; the driver locks what it shares.
unsafe impl Sync for Cuda {}

/// How many devices the driver shows.
pub(crate) fn count() -> Result<usize> {
    init()?;
    Ok(result::device::get_count().map_err(failed("cuDeviceGetCount"))? as usize)
}

/// Open the driver, once for the process.
fn init() -> Result<()> {
    static OPENED: OnceLock<Result<()>> = OnceLock::new();
    OPENED.get_or_init(open).clone()
}

fn open() -> Result<()> {
    // SAFETY: the library is opened and closed again.
    if !unsafe { sys::is_culib_present() } {
        return Err(DeviceError::NoDriver);
    }
    result::init().map_err(|error| match error.0 {
        sys::CUresult::CUDA_ERROR_NO_DEVICE => DeviceError::NoSuchDevice { index: 0, count: 0 },
        _ => failed("cuInit")(error),
    })?;
    let mut version = 0;
    // SAFETY: a place for a number.
    unsafe { sys::cuDriverGetVersion(&raw mut version) }.result().map_err(failed("cuDriverGetVersion"))?;
    if version < LEAST_VERSION {
        let problem = format!(
            "the driver knows CUDA {}.{}, at least 12.8 is needed: update the driver (570 or newer)",
            version / 1000,
            version % 1000 / 10
        );
        return Err(DeviceError::Driver { call: "cuDriverGetVersion", problem });
    }
    Ok(())
}

fn failed(call: &'static str) -> impl Fn(DriverError) -> DeviceError {
    move |error| {
        let text = |of: std::result::Result<&std::ffi::CStr, DriverError>| {
            of.map_or_else(|_| format!("{:?}", error.0), |text| text.to_string_lossy().into_owned())
        };
        let problem = format!("{} ({})", text(error.error_string()), text(error.error_name()));
        DeviceError::Driver { call, problem }
    }
}

// === impl Cuda ===

impl Cuda {
    pub(crate) fn open(index: usize, code: Code) -> Result<Self> {
        let count = count()?;
        if index >= count {
            return Err(DeviceError::NoSuchDevice { index, count });
        }
        let device = result::device::get(index as i32).map_err(failed("cuDeviceGet"))?;
        let attribute = |which| {
            // SAFETY: the device is one that the driver gave.
            let value = unsafe { result::device::get_attribute(device, which) };
            value.map(|value| value as u32).map_err(failed("cuDeviceGetAttribute"))
        };
        use sys::CUdevice_attribute as DeviceAttribute;
        let properties = Properties {
            name: result::device::get_name(device).map_err(failed("cuDeviceGetName"))?,
            capability: (
                attribute(DeviceAttribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
                attribute(DeviceAttribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
            ),
            multiprocessors: attribute(DeviceAttribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
            shared_bytes: attribute(DeviceAttribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?,
        };
        if properties.capability < LEAST_CAPABILITY {
            let (major, minor) = properties.capability;
            return Err(DeviceError::TooOld { name: properties.name, major, minor });
        }
        // SAFETY: as above; it is released when this is dropped.
        let context =
            unsafe { result::primary_ctx::retain(device) }.map_err(failed("cuDevicePrimaryCtxRetain"))?;
        let mut cuda = Self {
            device,
            context,
            stream: std::ptr::null_mut(),
            modules: Vec::new(),
            kernels: Mutex::default(),
            properties,
            products: Mutex::new(None),
        };
        cuda.bind()?;
        cuda.stream = result::stream::create(result::stream::StreamKind::NonBlocking)
            .map_err(failed("cuStreamCreate"))?;
        for (name, fatbin) in code.fatbins {
            // SAFETY: nvcc made these bytes, and a fatbin says its length.
            let module = unsafe { result::module::load_data(fatbin.as_ptr().cast()) };
            let module = module.map_err(|error| {
                let DeviceError::Driver { call, problem } = failed("cuModuleLoadData")(error) else {
                    return DeviceError::NoKernel((*name).to_owned());
                };
                DeviceError::Driver { call, problem: format!("{name}: {problem}") }
            })?;
            cuda.modules.push(module);
        }
        Ok(cuda)
    }

    /// Make calls of this thread mean this device.
    fn bind(&self) -> Result<()> {
        bind(self.context)
    }
}

fn bind(context: sys::CUcontext) -> Result<()> {
    // SAFETY: the context was retained.
    unsafe { result::ctx::set_current(context) }.map_err(failed("cuCtxSetCurrent"))
}

impl Driver for Cuda {
    fn properties(&self) -> &Properties {
        &self.properties
    }

    fn memory(&self) -> Result<Memory> {
        self.bind()?;
        let (free, total) = result::mem_get_info().map_err(failed("cuMemGetInfo"))?;
        Ok(Memory { free: free as u64, total: total as u64 })
    }

    fn allocate(&self, bytes: usize) -> Result<u64> {
        self.bind()?;
        // SAFETY: the length is not zero; nobody reads the memory before it is written.
        unsafe { result::malloc_sync(bytes) }.map_err(|error| match (error.0, self.memory()) {
            (sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY, Ok(Memory { free, total })) => {
                DeviceError::OutOfMemory { bytes: bytes as u64, free, total }
            }
            _ => failed("cuMemAlloc")(error),
        })
    }

    fn free(&self, address: u64) {
        if self.bind().is_ok() {
            // The driver waits for work that uses the memory. A failure is one of work before, which others see too.
            // SAFETY: it was allocated here, and is freed once.
            let _ = unsafe { result::free_sync(address) };
        }
    }

    fn allocate_host(&self, bytes: usize) -> Result<*mut u8> {
        self.bind()?;
        // SAFETY: the length is not zero.
        let memory = unsafe { result::malloc_host(bytes, 0) }.map_err(failed("cuMemHostAlloc"))?;
        Ok(memory.cast())
    }

    fn free_host(&self, memory: *mut u8, _: usize) {
        if self.bind().is_ok() {
            // SAFETY: it was allocated here, and is freed once.
            let _ = unsafe { result::free_host(memory.cast()) };
        }
    }

    fn kernel(&self, name: &str) -> Result<u64> {
        self.bind()?;
        let missing = || DeviceError::NoKernel(name.to_owned());
        let text = CString::new(name).map_err(|_| missing())?;
        // SAFETY: modules stay loaded as long as this.
        let found = self
            .modules
            .iter()
            .find_map(|module| unsafe { result::module::get_function(*module, text.clone()) }.ok());
        let function = found.ok_or_else(missing)?;
        // SAFETY: the function was just found.
        let compiled_for = unsafe {
            let most = self.properties.shared_bytes as i32;
            result::function::set_function_attribute(
                function,
                Attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                most,
            )
            .map_err(failed("cuFuncSetAttribute"))?;
            result::function::get_function_attribute(function, Attribute::CU_FUNC_ATTRIBUTE_PTX_VERSION)
                .map_err(failed("cuFuncGetAttribute"))?
        };
        let overlaps = self.properties.capability.0 >= OVERLAPPING.0 && compiled_for >= OVERLAPPING.1;
        let kernel = Box::new(Kernel { function, overlaps });
        let handle = std::ptr::from_ref(&*kernel) as usize as u64;
        self.kernels.lock().unwrap_or_else(PoisonError::into_inner).push(kernel);
        Ok(handle)
    }

    unsafe fn launch(&self, kernel: u64, grid: &Grid, params: &[u8]) -> Result<()> {
        self.bind()?;
        // SAFETY: the handle is one of `kernel`, and kernels live as long as this.
        let kernel = unsafe { &*(kernel as usize as *const Kernel) };
        let attribute = |id, value| sys::CUlaunchAttribute { id, pad: [0; 4], value };
        let overlap = attribute(
            sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION,
            sys::CUlaunchAttributeValue { programmaticStreamSerializationAllowed: 1 },
        );
        let cluster = attribute(
            sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION,
            sys::CUlaunchAttributeValue {
                clusterDim: sys::CUlaunchAttributeValue_union__bindgen_ty_1 { x: grid.cluster, y: 1, z: 1 },
            },
        );
        let mut attributes = [overlap, cluster];
        let wanted = [kernel.overlaps, grid.cluster > 1];
        let first = usize::from(!kernel.overlaps);
        let config = sys::CUlaunchConfig {
            gridDimX: grid.blocks[0],
            gridDimY: grid.blocks[1],
            gridDimZ: grid.blocks[2],
            blockDimX: grid.threads[0],
            blockDimY: grid.threads[1],
            blockDimZ: grid.threads[2],
            sharedMemBytes: grid.shared_bytes,
            hStream: self.stream,
            attrs: attributes[first..].as_mut_ptr(),
            numAttrs: wanted.map(u32::from).iter().sum(),
        };
        let mut arguments = [params.as_ptr().cast_mut().cast::<c_void>()];
        // SAFETY: the function has one parameter, which the driver copies; the rest is the caller's promise.
        unsafe {
            sys::cuLaunchKernelEx(
                &raw const config,
                kernel.function,
                arguments.as_mut_ptr(),
                std::ptr::null_mut(),
            )
        }
        .result()
        .map_err(failed("cuLaunchKernelEx"))
    }

    unsafe fn write(&self, to: u64, bytes: &[u8]) -> Result<()> {
        self.bind()?;
        // From memory that is not locked, the driver returns when it has copied the bytes aside.
        // SAFETY: the caller's promise.
        unsafe { result::memcpy_htod_async(to, bytes, self.stream) }.map_err(failed("cuMemcpyHtoDAsync"))
    }

    unsafe fn write_from_host(&self, to: u64, from: *const u8, bytes: usize) -> Result<()> {
        self.bind()?;
        // SAFETY: the caller's promise.
        unsafe {
            let from = std::slice::from_raw_parts(from, bytes);
            result::memcpy_htod_async(to, from, self.stream)
        }
        .map_err(failed("cuMemcpyHtoDAsync"))
    }

    unsafe fn read(&self, from: u64, into: &mut [u8]) -> Result<()> {
        // To memory that is not locked the driver copies while it waits, and lets no other thread of this context do anything: also
        // not the one that another rank's kernel, which ours may wait for, is to be launched by.
        self.wait()?;
        // SAFETY: the caller's promise, and the copy is over when this returns.
        unsafe { result::memcpy_dtoh_async(into, from, self.stream) }.map_err(failed("cuMemcpyDtoHAsync"))?;
        self.wait()
    }

    unsafe fn copy(&self, to: u64, from: u64, bytes: usize) -> Result<()> {
        self.bind()?;
        // SAFETY: the caller's promise.
        unsafe { result::memcpy_dtod_async(to, from, bytes, self.stream) }
            .map_err(failed("cuMemcpyDtoDAsync"))
    }

    unsafe fn fill(&self, to: u64, byte: u8, bytes: usize) -> Result<()> {
        self.bind()?;
        // SAFETY: the caller's promise.
        unsafe { result::memset_d8_async(to, byte, bytes, self.stream) }.map_err(failed("cuMemsetD8Async"))
    }

    fn record(&self) -> Result<u64> {
        self.bind()?;
        let event = result::event::create(sys::CUevent_flags::CU_EVENT_DISABLE_TIMING)
            .map_err(failed("cuEventCreate"))?;
        // SAFETY: event and stream are ours.
        unsafe { result::event::record(event, self.stream) }.map_err(failed("cuEventRecord"))?;
        Ok(event as usize as u64)
    }

    fn wait_for(&self, event: u64) -> Result<()> {
        self.bind()?;
        // SAFETY: the event is one of `record`.
        unsafe { result::event::synchronize(event as usize as sys::CUevent) }
            .map_err(failed("cuEventSynchronize"))
    }

    fn free_event(&self, event: u64) {
        if self.bind().is_ok() {
            // SAFETY: the event is one of `record`, and freed once.
            let _ = unsafe { result::event::destroy(event as usize as sys::CUevent) };
        }
    }

    fn wait(&self) -> Result<()> {
        self.bind()?;
        // SAFETY: the stream is ours.
        unsafe { result::stream::synchronize(self.stream) }.map_err(failed("cuStreamSynchronize"))
    }

    fn begin_capture(&self) -> Result<()> {
        self.bind()?;
        // SAFETY: the stream is ours.
        unsafe {
            result::stream::begin_capture(
                self.stream,
                sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL,
            )
        }
        .map_err(failed("cuStreamBeginCapture"))
    }

    fn end_capture(&self) -> Result<u64> {
        self.bind()?;
        // SAFETY: stream and graph are ours; the graph is not needed once it can be launched.
        unsafe {
            let graph = result::stream::end_capture(self.stream).map_err(failed("cuStreamEndCapture"))?;
            let launchable = result::graph::instantiate(graph, sys::CUgraphInstantiate_flags(0))
                .map_err(failed("cuGraphInstantiate"));
            result::graph::destroy(graph).map_err(failed("cuGraphDestroy"))?;
            Ok(launchable? as usize as u64)
        }
    }

    fn launch_graph(&self, graph: u64) -> Result<()> {
        self.bind()?;
        // SAFETY: the graph is one of `end_capture`.
        unsafe { result::graph::launch(graph as usize as sys::CUgraphExec, self.stream) }
            .map_err(failed("cuGraphLaunch"))
    }

    fn neighbour(&self) -> Neighbour {
        Neighbour { device: self.device, context: self.context as usize as u64 }
    }

    fn reach(&self, other: Neighbour) -> Result<bool> {
        if other.device == self.device {
            return Ok(true);
        }
        self.bind()?;
        let mut can = 0;
        // SAFETY: a place for a number; both devices and the context are retained by their owners.
        unsafe {
            sys::cuDeviceCanAccessPeer(&raw mut can, self.device, other.device)
                .result()
                .map_err(failed("cuDeviceCanAccessPeer"))?;
            if can == 0 {
                return Ok(false);
            }
            match sys::cuCtxEnablePeerAccess(other.context as usize as sys::CUcontext, 0) {
                sys::CUresult::CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED => Ok(true),
                status => {
                    status.result().map_err(failed("cuCtxEnablePeerAccess"))?;
                    Ok(true)
                }
            }
        }
    }

    fn run_ahead(&self) -> Result<()> {
        self.bind()?;
        for module in &self.modules {
            // SAFETY: the module is loaded, and there is room for as many functions as it says it has.
            unsafe {
                let mut count = 0;
                sys::cuModuleGetFunctionCount(&raw mut count, *module)
                    .result()
                    .map_err(failed("cuModuleGetFunctionCount"))?;
                let mut functions = vec![std::ptr::null_mut(); count as usize];
                sys::cuModuleEnumerateFunctions(functions.as_mut_ptr(), count, *module)
                    .result()
                    .map_err(failed("cuModuleEnumerateFunctions"))?;
                for function in functions {
                    sys::cuFuncLoad(function).result().map_err(failed("cuFuncLoad"))?;
                }
            }
        }
        Ok(())
    }

    fn links_id(&self) -> Result<Vec<u8>> {
        nccl::fresh_id()
    }

    fn links(
        &self,
        id: &[u8],
        rank: usize,
        ranks: usize,
        is_off: &dyn Fn() -> bool,
    ) -> Result<Box<dyn Links>> {
        self.run_ahead()?;
        let context = self.context as usize;
        let bind = move || bind(context as sys::CUcontext);
        Ok(Box::new(nccl::Nccl::join(id, rank, ranks, self.stream as usize, bind, is_off)?))
    }

    unsafe fn product(&self, product: &Product) -> Result<()> {
        self.bind()?;
        let mut opened = self.products.lock().unwrap_or_else(PoisonError::into_inner);
        if opened.is_none() {
            let workspace = self.allocate(WORKSPACE_BYTES)?;
            let products = Products::open(workspace).inspect_err(|_| self.free(workspace))?;
            *opened = Some((products, workspace));
        }
        let Some((products, _)) = opened.as_mut() else { return Err(DeviceError::NotBuilt) };
        // SAFETY: the caller's promise; the context was set.
        unsafe { products.run(product, self.stream.cast()) }
    }

    fn free_graph(&self, graph: u64) {
        if self.bind().is_ok() {
            // SAFETY: the graph is one of `end_capture`, and freed once.
            let _ = unsafe { result::graph::exec_destroy(graph as usize as sys::CUgraphExec) };
        }
    }
}

impl Drop for Cuda {
    fn drop(&mut self) {
        if self.bind().is_err() {
            return;
        }
        // SAFETY: all of these are ours, and nobody uses them any more.
        unsafe {
            let _ = result::stream::synchronize(self.stream);
            let opened = self.products.get_mut().unwrap_or_else(PoisonError::into_inner).take();
            if let Some((products, workspace)) = opened {
                drop(products);
                let _ = result::free_sync(workspace);
            }
            for module in self.modules.drain(..) {
                let _ = result::module::unload(module);
            }
            let _ = result::stream::destroy(self.stream);
            let _ = result::primary_ctx::release(self.device);
        }
    }
}
