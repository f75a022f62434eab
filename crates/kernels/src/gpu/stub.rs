//! stub
#![allow(missing_docs, unused, reason = "stub")]
use crate::error::Result;
use crate::{AttentionBatch, AttentionSpec, Format, KvDtype, Stored};
use candle_core::DType;
use vlinders_device::{Gpu, GpuTensor};
#[derive(Debug)]
    pub fn num_bytes(&self) -> usize {
        todo!()
    }
    pub fn format(&self) -> Format {
        todo!()
    }
}
    pub fn new(gpu: &Gpu, format: Format, out: usize, inn: usize) -> Result<Self> {
        todo!()
    }
        todo!()
    }
        todo!()
    }
}
#[derive(Debug)]
pub struct GpuKvLayer;
impl GpuKvLayer {
    pub fn new(gpu: &Gpu, d: KvDtype, n: usize, b: usize, h: usize, e: usize) -> Result<Self> {
        todo!()
    }
    pub fn num_bytes(&self) -> usize {
        todo!()
    }
    pub fn dtype(&self) -> KvDtype {
        todo!()
    }
    pub fn bytes_per_block(d: KvDtype, b: usize, h: usize, e: usize) -> Result<usize> {
        todo!()
    }
}
#[derive(Debug)]
pub struct GpuAttentionBatch;
#[derive(Debug, Clone, Copy)]
pub struct GpuAttentionLimits {
    pub num_tokens: usize,
    pub num_sequences: usize,
    pub num_blocks: usize,
    pub block_size: usize,
    pub heads: usize,
    pub kv_heads: usize,
}
impl GpuAttentionBatch {
    pub fn new(gpu: &Gpu, l: GpuAttentionLimits) -> Result<Self> {
        todo!()
    }
    pub fn update(&mut self, b: &AttentionBatch, n: usize) -> Result<()> {
        todo!()
    }
}
#[derive(Clone, Copy)]
pub struct GpuHeadNorms<'a> {
    pub q: &'a GpuTensor,
    pub k: &'a GpuTensor,
    pub eps: f64,
}
    todo!()
}
    todo!()
}
    todo!()
}
    todo!()
}
pub fn qkv(
    x: &GpuTensor,
    n: Option<GpuHeadNorms<'_>>,
    c: &GpuTensor,
    s: &GpuTensor,
    p: &GpuTensor,
    l: &GpuKvLayer,
    sl: &GpuTensor,
) -> Result<GpuTensor> {
    todo!()
}
pub fn paged_attention(
    q: &GpuTensor,
    l: &GpuKvLayer,
    b: &GpuAttentionBatch,
    s: &AttentionSpec,
) -> Result<GpuTensor> {
    todo!()
}
