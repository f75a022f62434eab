//! Attention against f64 over ragged batches and scattered blocks, and the same bits in any company.

use super::plan::Splitting;
use super::*;
use crate::AttentionBatch;
use crate::gpu::kv::tests::{cached_on_gpu, poison, row_at};
use crate::gpu::qkv::{GpuRotation, qkv};
use crate::gpu::testing::{assert_near, device, devices, ids_on_gpu, on_gpu, rounded_to, values_of};
use crate::reference;
use crate::testing::noise;
use vlinders_device::Gpu;

/// Sequences whose keys and values are in the cache, and whose tokens ask.
struct World {
    gpu: Gpu,
    layer: GpuKvLayer,
    shape: AttentionShape,
    spec: AttentionSpec,
    dtype: DType,
    lengths: Vec<usize>,
    tables: Vec<Vec<u32>>,
    /// As the cache has them.
    stored: [Vec<f32>; 2],
    seed: u64,
}

#[derive(Clone, Debug)]
struct Config {
    dtype: DType,
    cache: KvDtype,
    group: usize,
    kv_heads: usize,
    d: usize,
    block_size: usize,
    lengths: Vec<usize>,
    window: Option<usize>,
    soft_cap: Option<f32>,
    seed: u64,
}

/// What the activations' type goes with.
const PAIRS: [(DType, KvDtype); 8] = [
    (DType::BF16, KvDtype::BF16),
    (DType::F16, KvDtype::F16),
    (DType::BF16, KvDtype::Int8),
    (DType::F16, KvDtype::Int8),
    (DType::F32, KvDtype::F32),
    (DType::F32, KvDtype::BF16),
    (DType::F32, KvDtype::F16),
    (DType::F32, KvDtype::Int8),
];

/// Whole numbers below `limit`, reproducible.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }

    fn choose<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.roll(of.len())]
    }
}

impl Config {
    fn random(seed: u64) -> Self {
        let mut dice = Dice(seed);
        dice.roll(2);
        let (dtype, cache) = PAIRS[seed as usize % PAIRS.len()];
        let lengths = (0..1 + dice.roll(3)).map(|_| 1 + dice.roll(400)).collect();
        Self {
            dtype,
            cache,
            group: 1 + dice.roll(8),
            kv_heads: 1 + dice.roll(2),
            d: dice.choose(&[16, 64, 80, 96, 128, 128, 256]),
            block_size: dice.choose(&[16, 32, 8, 24, 1]),
            lengths,
            window: [None, Some(1 + dice.roll(300))][dice.roll(2)],
            soft_cap: [None, None, Some(2.0)][dice.roll(3)],
            seed,
        }
    }
}

impl World {
    fn new(gpu: &Gpu, c: &Config) -> Self {
        let blocks: Vec<usize> = c.lengths.iter().map(|length| length.div_ceil(c.block_size)).collect();
        let total = blocks.iter().sum::<usize>() + 3;
        let mut free: Vec<u32> = (0..total as u32).collect();
        let mut dice = Dice(c.seed);
        for i in 0..total {
            free.swap(i, i + dice.roll(total - i));
        }
        let mut free = free.into_iter();
        let tables: Vec<Vec<u32>> = blocks.iter().map(|n| free.by_ref().take(*n).collect()).collect();
        let layer = GpuKvLayer::new(gpu, c.cache, total, c.block_size, c.kv_heads, c.d).unwrap();
        poison(&layer);
        let slots: Vec<u32> =
            c.lengths.iter().zip(&tables).flat_map(|(n, table)| slots(c, *n, table)).collect();
        let rows = noise(c.seed, slots.len() * (1 + 2 * c.kv_heads) * c.d);
        let rows = on_gpu(gpu, &rows, &[slots.len(), (1 + 2 * c.kv_heads) * c.d], c.dtype);
        let still = on_gpu(gpu, &[], &[1, 0], DType::F32);
        let positions = ids_on_gpu(gpu, &vec![0; slots.len()]);
        let rotation = GpuRotation { cos: &still, sin: &still, positions: &positions };
        qkv(&rows, None, rotation, &layer, &ids_on_gpu(gpu, &slots)).unwrap();
        Self {
            gpu: gpu.clone(),
            stored: cached_on_gpu(&layer),
            layer,
            shape: AttentionShape {
                heads: c.group * c.kv_heads,
                kv_heads: c.kv_heads,
                head_dim: c.d,
                block_size: c.block_size,
                num_blocks: total,
            },
            spec: AttentionSpec { scale: 1.0 / (c.d as f32).sqrt(), window: c.window, soft_cap: c.soft_cap },
            dtype: c.dtype,
            lengths: c.lengths.clone(),
            tables,
            seed: c.seed,
        }
    }

    fn width(&self) -> usize {
        self.shape.heads * self.shape.head_dim
    }

    /// The query of a token depends on the token alone.
    fn query(&self, (sequence, position): (usize, usize)) -> Vec<f32> {
        let seed = self.seed ^ ((sequence * 10_000 + position + 1) as u64) << 20;
        let numbers = noise(seed, self.width()).into_iter().map(|v| v * 4.0);
        rounded_to(self.dtype, &numbers.collect::<Vec<_>>())
    }

    fn queries(&self, tokens: &[(usize, usize)], rows: usize) -> GpuTensor {
        let mut q: Vec<f32> = tokens.iter().flat_map(|token| self.query(*token)).collect();
        q.resize(rows * self.width(), f32::NAN);
        on_gpu(&self.gpu, &q, &[rows, self.shape.heads, self.shape.head_dim], self.dtype)
    }

    fn batch(&self, tokens: &[(usize, usize)]) -> AttentionBatch {
        let mut batch = AttentionBatch { table_starts: vec![0], ..AttentionBatch::default() };
        for (sequence, position) in tokens {
            batch.sequence_of.push(*sequence as u32);
            batch.positions.push(*position as u32);
        }
        for table in &self.tables {
            batch.block_tables.extend(table);
            batch.table_starts.push(batch.block_tables.len() as u32);
        }
        batch
    }

    fn on_device(&self) -> GpuAttentionBatch {
        let table_entries = self.tables.iter().map(Vec::len).sum();
        let limits = AttentionLimits { tokens: 600, table_entries, partial_rows: 2000 };
        GpuAttentionBatch::new(&self.gpu, self.shape, limits).unwrap()
    }

    fn attend(&self, tokens: &[(usize, usize)], rows: usize, splitting: Splitting) -> Vec<Vec<f32>> {
        let mut batch = self.on_device();
        batch.set_splitting(splitting);
        batch.update(&self.batch(tokens), rows).unwrap();
        let out = paged_attention(&self.queries(tokens, rows), &self.layer, &batch, &self.spec).unwrap();
        values_of(&out).chunks(self.width()).map(<[f32]>::to_vec).collect()
    }

    fn expected(&self, (sequence, position): (usize, usize)) -> Vec<f64> {
        let AttentionShape { kv_heads, head_dim: d, block_size, .. } = self.shape;
        let query = self.query((sequence, position));
        let dense = |of: &[f32], head: usize| -> Vec<f32> {
            let slot =
                |p: usize| self.tables[sequence][p / block_size] as usize * block_size + p % block_size;
            let row = |p: usize| &of[row_at(&self.layer, slot(p), head) * d..][..d];
            (0..=position).flat_map(|p| row(p).to_vec()).collect()
        };
        let of_kv_head = |head: usize| {
            let (k, v) = (dense(&self.stored[0], head), dense(&self.stored[1], head));
            let group = query.chunks(self.shape.group() * d).nth(head).unwrap().chunks(d);
            group.flat_map(|q| reference::attention(q, &k, &v, position, &self.spec)).collect::<Vec<_>>()
        };
        (0..kv_heads).flat_map(of_kv_head).collect()
    }

    /// The last tokens of each sequence, at most so many.
    fn last_tokens(&self, most: &[usize]) -> Vec<(usize, usize)> {
        let of = |(s, n): (usize, &usize)| (n.saturating_sub(most[s % most.len()])..*n).map(move |p| (s, p));
        self.lengths.iter().enumerate().flat_map(of).collect()
    }

    #[track_caller]
    fn check(&self, tokens: &[(usize, usize)], splitting: Splitting) {
        for (token, found) in tokens.iter().zip(self.attend(tokens, tokens.len(), splitting)) {
            assert_near(self.dtype, &found, &self.expected(*token));
        }
    }
}

fn slots(c: &Config, length: usize, table: &[u32]) -> Vec<u32> {
    (0..length).map(|p| table[p / c.block_size] * c.block_size as u32 + (p % c.block_size) as u32).collect()
}

fn plain(dtype: DType, cache: KvDtype, lengths: &[usize]) -> Config {
    Config {
        dtype,
        cache,
        group: 4,
        kv_heads: 1,
        d: 64,
        block_size: 16,
        lengths: lengths.to_vec(),
        window: None,
        soft_cap: None,
        seed: 7,
    }
}

#[test]
fn ragged_batches_agree_with_exact_attention() {
    let gpu = device();
    for seed in 0..32 {
        let config = Config::random(seed);
        let world = World::new(&gpu, &config);
        let tokens = world.last_tokens(&[1, 30, 3]);
        println!("{config:?}");
        world.check(&tokens, [Splitting::Always, Splitting::Never, Splitting::Fair][seed as usize % 3]);
    }
}
