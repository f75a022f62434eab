//! What lies between the projection to queries, keys and values and attention, in one pass over its rows: norms of heads,
//! rotation, and keys and values in their slots.
//!
//! Each step is that of the operation alone ([`rms_norm`](crate::rms_norm), [`rope`](crate::rope()),
//! [`kv_write`](crate::kv_write)), with the same bits.

use candle_core::{Device, Tensor};

use crate::element::Element;
use crate::error::{KernelError, Result};
use crate::kv::{HeadWriter, KvLayer, check_slots, with_kv_element};
use crate::norm::norm_row_body;
use crate::pool::{parallel_for, parallel_rows};
use crate::rope::{check_angles, turn_head};
use crate::simd::{Isa, Lanes, multiversion};
use crate::tensor::{Shared, activations, filled, read};

const OP: &str = "qkv";

/// Norms over each head of queries and of keys, with weights of `T`: tensors of one device, or of any.
#[derive(Clone, Copy, Debug)]
pub struct HeadNorms<'a, T = Tensor> {
    /// Weight for queries, `[head_dim]`.
    pub q: &'a T,
    /// Weight for keys, `[head_dim]`.
    pub k: &'a T,
    /// Added to the mean of squares.
    pub eps: f64,
}

/// By which angles heads turn: tables of `T`, and positions `P`.
#[derive(Clone, Copy, Debug)]
pub struct Rotation<'a, T = Tensor, P = &'a [u32]> {
    /// `[max_pos, rot / 2]`, f32.
    pub cos: &'a T,
    /// `[max_pos, rot / 2]`, f32.
    pub sin: &'a T,
    /// The position of each token.
    pub positions: P,
}

/// Split the rows of `qkv` `[n, (heads + 2 * kv_heads) * head_dim]` into queries, keys and values; give queries and keys
/// their norms, if any, and their rotation; store keys and values of token `i` in slot `slots[i]` of `layer`, whose
/// shape says what `kv_heads` and `head_dim` are. Returns the queries, `[n, heads, head_dim]`.
///
/// Where a slot is given twice, the last one counts.
///
/// # Errors
/// Shapes that do not fit, a position beyond the tables, a slot beyond the cache; nothing is written then.
pub fn qkv(
    qkv: &Tensor,
    norms: Option<HeadNorms<'_>>,
    rotation: Rotation<'_>,
    layer: &KvLayer,
    slots: &[u32],
) -> Result<Tensor> {
    qkv_on(Isa::detect(), qkv, norms, rotation, layer, slots)
}

fn qkv_on(
    isa: Isa,
    qkv: &Tensor,
    norms: Option<HeadNorms<'_>>,
    Rotation { cos, sin, positions }: Rotation<'_>,
    layer: &KvLayer,
    slots: &[u32],
) -> Result<Tensor> {
    let rows = activations(OP, "qkv", qkv)?;
    let (cos, sin) = (activations(OP, "cos", cos)?, activations(OP, "sin", sin)?);
    let shape = layer.shape();
    let d = shape.head_dim;
    let (n, heads) = match rows.dims()[..] {
        [n, width] if width % d == 0 && width / d > 2 * shape.kv_heads => (n, width / d - 2 * shape.kv_heads),
        _ => {
            let wanted = format!("[n, (heads + 2 * {}) * {d}], as the cache has it", shape.kv_heads);
            return Err(KernelError::shape(OP, format!("qkv is {:?}, it must be {wanted}", rows.dims())));
        }
    };
    let half = check_angles(OP, &cos, &sin, positions, n, d)?;
    if slots.len() != n {
        return Err(KernelError::shape(OP, format!("{} slots for {n} tokens", slots.len())));
    }
    check_slots(OP, shape, slots)?;
    let weights = match norms {
        Some(norms) => Some((norm_weight("q", norms.q, d)?, norm_weight("k", norms.k, d)?, norms.eps as f32)),
        None => None,
    };
    let weights = weights.as_ref().map(|(q, k, eps)| (read(q), read(k), *eps));
    let norms = match &weights {
        Some((q, k, eps)) => [Some((q.floats()?, *eps)), Some((k.floats()?, *eps))],
        None => [None, None],
    };
    let (rows, cos, sin) = (read(&rows), read(&cos), read(&sin));
    let (rows, cos, sin) = (rows.floats()?, cos.floats()?, sin.floats()?);
    let split = Split { isa, rows, norms, cos, sin, positions, slots, heads, half };
    // SAFETY: the queries of every token are written.
    let queries = unsafe {
        filled(
            n * heads * d,
            |out| with_kv_element!(shape.dtype, E => split.run::<E>(layer, Shared::new(out))),
        )?
    };
    Ok(Tensor::from_vec(queries, (n, heads, d), &Device::Cpu)?)
}

fn norm_weight(of: &str, weight: &Tensor, d: usize) -> Result<Tensor> {
    let weight = activations(OP, "the weight of a norm", weight)?;
    if weight.dims() != [d] {
        let problem = format!("the norm of {of} is {:?}, it must be [{d}]", weight.dims());
        return Err(KernelError::shape(OP, problem));
    }
    Ok(weight)
}

/// Arguments that were checked against each other.
struct Split<'a> {
    isa: Isa,
    rows: &'a [f32],
    /// Weight and epsilon for queries and for keys.
    norms: [Option<(&'a [f32], f32)>; 2],
    cos: &'a [f32],
    sin: &'a [f32],
    positions: &'a [u32],
    slots: &'a [u32],
    heads: usize,
    half: usize,
}

// === impl Split ===

impl Split<'_> {
    /// Write the queries of all tokens to `out`, keys and values to `layer`.
    fn run<E: Element>(&self, layer: &KvLayer, out: Shared<f32>) -> Result<()> {
        let shape = layer.shape();
        let (d, kv_heads) = (shape.head_dim, shape.kv_heads);
        let width = (self.heads + 2 * kv_heads) * d;
        let writer = HeadWriter::<E>::new(layer);
        let tokens = |tokens: std::ops::Range<usize>| {
            let mut keys = vec![0.0f32; kv_heads * d];
            for token in tokens {
                let row = &self.rows[token * width..(token + 1) * width];
                let (q, rest) = row.split_at(self.heads * d);
                let (k, v) = rest.split_at(kv_heads * d);
                let angle = self.positions[token] as usize * self.half;
                let (cos, sin) = (&self.cos[angle..][..self.half], &self.sin[angle..][..self.half]);
                let [q_norm, k_norm] = self.norms;
                // SAFETY: the queries of a token are written by one chunk only, and slots that are given twice are
                // all written by one chunk, in their order. The slots were checked, and no read runs: the layer is
                // not shared between threads.
                unsafe {
                    turn_heads(self.isa, q, d, q_norm, cos, sin, out.get().add(token * q.len()));
                    turn_heads(self.isa, k, d, k_norm, cos, sin, keys.as_mut_ptr());
                    for head in 0..kv_heads {
                        let at = head * d..(head + 1) * d;
                        writer.write(self.slots[token], head, &keys[at.clone()], &v[at]);
                    }
                }
            }
        };
        if all_differ(self.slots) {
            parallel_rows(self.slots.len(), width, &tokens)
        } else {
            parallel_for(1, &|_| tokens(0..self.slots.len()))
        }
    }
}

/// Whether no slot is given twice.
fn all_differ(slots: &[u32]) -> bool {
    if slots.is_sorted_by(|a, b| a < b) {
        return true;
    }
    let mut sorted = slots.to_vec();
    sorted.sort_unstable();
    sorted.is_sorted_by(|a, b| a < b)
}

/// Norm, if any, and rotation of the heads of `x`, `d` numbers each.
///
/// # Safety
/// `out` is valid for `x.len()` elements, a multiple of `d`, and none of `x`; a norm's weight has `d` numbers; `cos` and
/// `sin` have the same number, at most half of `d`.
#[inline(always)]
unsafe fn turn_heads_body<L: Lanes>(
    x: &[f32],
    d: usize,
    norm: Option<(&[f32], f32)>,
    cos: &[f32],
    sin: &[f32],
    out: *mut f32,
) {
    for at in (0..x.len()).step_by(d) {
        // SAFETY: `at + d <= x.len()`, and the caller's promise.
        unsafe {
            let (mut from, to) = (x.as_ptr().add(at), out.add(at));
            if let Some((weight, eps)) = norm {
                norm_row_body::<L>(from, weight, eps, to);
                from = to;
            }
            turn_head::<L>(from, cos.as_ptr(), sin.as_ptr(), to, d, cos.len());
        }
    }
}
multiversion! {
    unsafe fn turn_heads(
        x: &[f32], d: usize, norm: Option<(&[f32], f32)>, cos: &[f32], sin: &[f32], out: *mut f32,
    ) = turn_heads_body
}

#[cfg(test)]
mod tests;
