//! Matrix products by cuBLASLt, opened when the first one is asked for.
//!
//! The library counts columns first: our `[rows, inn]` is its `[inn, rows]`, so that `y = x w^T` becomes `y^T = w x^T`.

use std::collections::HashMap;
use std::ffi::c_void;

use cudarc::cublaslt::result::{self, CublasError};
use cudarc::cublaslt::sys;

use crate::product::{Numbers, Product, ProductSizes};
use crate::{DeviceError, Result};

/// Memory that kernels of the library may use: what NVIDIA recommends for Hopper.
pub(super) const WORKSPACE_BYTES: usize = 32 << 20;

/// `CUBLAS_OP_T`: the matrix is taken transposed.
const TRANSPOSED: i32 = 1;

/// The library, and what it chose for the sizes it has seen.
pub(super) struct Products {
    handle: sys::cublasLtHandle_t,
    workspace: u64,
    plans: HashMap<ProductSizes, Plan>,
}

/// A product of certain sizes.
struct Plan {
    operation: sys::cublasLtMatmulDesc_t,
    w: sys::cublasLtMatrixLayout_t,
    x: sys::cublasLtMatrixLayout_t,
    y: sys::cublasLtMatrixLayout_t,
    /// Chosen once the rest is known.
    algorithm: Option<sys::cublasLtMatmulAlgo_t>,
}

// SAFETY: handles of the library may be used by any thread, one at a time.
unsafe impl Send for Products {}

fn failed(call: &'static str) -> impl Fn(CublasError) -> DeviceError {
    move |error| DeviceError::Driver { call, problem: format!("{:?}", error.0) }
}

// === impl Products ===

impl Products {
    /// Open the library. `workspace` has [`WORKSPACE_BYTES`].
    pub(super) fn open(workspace: u64) -> Result<Self> {
        // SAFETY: the library is opened and closed again.
        if !unsafe { sys::is_culib_present() } {
            let problem = "libcublasLt.so can not be loaded".to_owned();
            return Err(DeviceError::Driver { call: "cublasLtCreate", problem });
        }
        let handle = result::create_handle().map_err(failed("cublasLtCreate"))?;
        Ok(Self { handle, workspace, plans: HashMap::new() })
    }

    /// # Safety
    /// All addresses are valid for the sizes, and the context of the stream's device is set.
    pub(super) unsafe fn run(&mut self, product: &Product, stream: *mut c_void) -> Result<()> {
        let handle = self.handle;
        let plan = match self.plans.entry(product.sizes) {
            std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::hash_map::Entry::Vacant(new) => new.insert(Plan::new(handle, product.sizes)?),
        };
        let (one, zero) = (1.0f32, 0.0f32);
        // SAFETY: plan and handle are ours; the caller answers for the addresses.
        unsafe {
            if product.sizes.numbers == Numbers::Fp8 {
                use sys::cublasLtMatmulDescAttributes_t as Attribute;
                plan.set(Attribute::CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, &product.w_scale)?;
                plan.set(Attribute::CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, &product.x_scale)?;
            }
            let y = product.y as *mut c_void;
            result::matmul(
                handle,
                plan.operation,
                (&raw const one).cast(),
                (&raw const zero).cast(),
                product.w as *const c_void,
                plan.w,
                product.x as *const c_void,
                plan.x,
                y,
                plan.y,
                y,
                plan.y,
                plan.algorithm.as_ref().map_or(std::ptr::null(), std::ptr::from_ref),
                self.workspace as *mut c_void,
                WORKSPACE_BYTES,
                stream.cast(),
            )
        }
        .map_err(failed("cublasLtMatmul"))
    }
}

impl Drop for Products {
    fn drop(&mut self) {
        // SAFETY: these are ours, and freed once.
        unsafe {
            for plan in self.plans.values() {
                for layout in [plan.w, plan.x, plan.y] {
                    let _ = result::destroy_matrix_layout(layout);
                }
                let _ = result::destroy_matmul_desc(plan.operation);
            }
            let _ = result::destroy_handle(self.handle);
        }
    }
}

// === impl Plan ===

impl Plan {
    fn new(handle: sys::cublasLtHandle_t, sizes: ProductSizes) -> Result<Self> {
        use sys::cudaDataType_t as Type;
        let (numbers, narrow) = match sizes.numbers {
            Numbers::BF16 => (Type::CUDA_R_16BF, Type::CUDA_R_16BF),
            Numbers::F16 => (Type::CUDA_R_16F, Type::CUDA_R_16F),
            Numbers::Fp8 => (Type::CUDA_R_8F_E4M3, Type::CUDA_R_16BF),
        };
        let result_type = if sizes.y_is_f32 { Type::CUDA_R_32F } else { narrow };
        let layout = |of, rows: usize, cols: usize, stride: usize| {
            result::create_matrix_layout(of, rows as u64, cols as u64, stride as i64)
                .map_err(failed("cublasLtMatrixLayoutCreate"))
        };
        let operation =
            result::create_matmul_desc(sys::cublasComputeType_t::CUBLAS_COMPUTE_32F, Type::CUDA_R_32F)
                .map_err(failed("cublasLtMatmulDescCreate"))?;
        let mut plan = Self {
            operation,
            w: layout(numbers, sizes.inn, sizes.out, sizes.w_stride)?,
            x: layout(numbers, sizes.inn, sizes.rows, sizes.inn)?,
            y: layout(result_type, sizes.out, sizes.rows, sizes.out)?,
            algorithm: None,
        };
        plan.set(sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_TRANSA, &TRANSPOSED)?;
        plan.choose(handle)?;
        Ok(plan)
    }

    fn set<V>(&self, attribute: sys::cublasLtMatmulDescAttributes_t, value: &V) -> Result<()> {
        // SAFETY: the descriptor is ours, and the value is as long as its type.
        unsafe {
            result::set_matmul_desc_attribute(
                self.operation,
                attribute,
                std::ptr::from_ref(value).cast(),
                size_of::<V>(),
            )
        }
        .map_err(failed("cublasLtMatmulDescSetAttribute"))
    }

    fn choose(&mut self, handle: sys::cublasLtHandle_t) -> Result<()> {
        let preference = result::create_matmul_pref().map_err(failed("cublasLtMatmulPreferenceCreate"))?;
        let bytes = WORKSPACE_BYTES;
        // SAFETY: all handles are ours.
        let chosen = unsafe {
            result::set_matmul_pref_attribute(
                preference,
                sys::cublasLtMatmulPreferenceAttributes_t::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                (&raw const bytes).cast(),
                size_of::<usize>(),
            )
            .and_then(|()| {
                result::get_matmul_algo_heuristic(
                    handle,
                    self.operation,
                    self.w,
                    self.x,
                    self.y,
                    self.y,
                    preference,
                )
            })
        };
        // SAFETY: it is ours, and freed once.
        let _ = unsafe { result::destroy_matmul_pref(preference) };
        self.algorithm = Some(chosen.map_err(failed("cublasLtMatmulAlgoGetHeuristic"))?.algo);
        Ok(())
    }
}
