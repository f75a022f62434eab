//! Attention against f64 over ragged batches and scattered blocks, and the same bits in any company.

use vlinders_device::Gpu;

use super::plan::Splitting;
use super::*;
use crate::AttentionBatch;
use crate::Rotation;
use crate::gpu::kv::tests::{cached_on_gpu, poison, row_at};
use crate::gpu::qkv::qkv;
use crate::gpu::testing::{assert_near, device, devices, ids_on_gpu, on_gpu, rounded_to, values_of};
use crate::reference;
use crate::testing::noise;

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
        let rotation = Rotation { cos: &still, sin: &still, positions: &positions };
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
        self.attend_by(true, tokens, rows, splitting)
    }

    fn attend_by(
        &self,
        warpgroups: bool,
        tokens: &[(usize, usize)],
        rows: usize,
        splitting: Splitting,
    ) -> Vec<Vec<f32>> {
        let mut batch = self.on_device();
        batch.set_splitting(splitting);
        batch.use_warpgroups(warpgroups);
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
    for seed in 0..16 {
        let config = Config::random(seed);
        println!("{config:?}");
        let world = World::new(&gpu, &config);
        let tokens = world.last_tokens(&[1, 30, 3]);
        world.check(
            &tokens,
            [Splitting::Always(1), Splitting::Never, Splitting::Always(2), Splitting::Fair]
                [seed as usize / 2 % 4],
        );
    }
}

#[test]
fn long_sequences_agree_with_exact_attention() {
    let gpu = device();
    for (config, tokens) in [
        (
            plain(DType::BF16, KvDtype::BF16, &[5000, 1025]),
            vec![(0, 4999), (1, 1023), (1, 1024), (0, 639), (0, 640)],
        ),
        (
            Config { window: Some(1000), d: 80, ..plain(DType::F16, KvDtype::F16, &[3000]) },
            vec![(0, 2999), (0, 1000)],
        ),
        (Config { d: 256, group: 8, ..plain(DType::BF16, KvDtype::Int8, &[1500]) }, vec![(0, 1499)]),
    ] {
        let world = World::new(&gpu, &config);
        world.check(&tokens, Splitting::Fair);
    }
}

/// Rows of `tokens` in several batches, chunks and cuts are those of each token alone.
fn check_company(world: &World) {
    let tokens = world.last_tokens(&[17, 2]);
    let alone: Vec<Vec<f32>> =
        tokens.iter().map(|token| world.attend(&[*token], 1, Splitting::Never).remove(0)).collect();
    for splitting in [Splitting::Never, Splitting::Always(1), Splitting::Always(2)] {
        assert_eq!(
            world.attend(&tokens, tokens.len() + 3, splitting)[..tokens.len()],
            alone,
            "{splitting:?}"
        );
    }
    // Chunks that begin elsewhere, and another order.
    let mut turned = tokens.clone();
    turned.rotate_left(9 % tokens.len());
    let found = world.attend(&turned, turned.len(), Splitting::Always(1));
    for (token, found) in turned.iter().zip(found) {
        assert_eq!(found, alone[tokens.iter().position(|other| other == token).unwrap()], "{token:?}");
    }
    let every_third: Vec<_> = tokens.iter().copied().step_by(3).collect();
    let found = world.attend(&every_third, every_third.len(), Splitting::Never);
    assert!(found.iter().eq(alone.iter().step_by(3)), "none of them are neighbours");
}

#[test]
fn a_token_has_the_same_bits_in_any_company() {
    let gpu = device();
    for (dtype, cache) in PAIRS {
        let plain = plain(dtype, cache, &[267, 20]);
        check_company(&World::new(&gpu, &plain));
    }
    // Spans begin and end within the windows of some tokens of a tile.
    let (bf16, f16) = ((DType::BF16, KvDtype::BF16), (DType::F16, KvDtype::Int8));
    for (seed, (dtype, cache)) in [bf16, f16, bf16].into_iter().enumerate() {
        let lengths = [266 + seed, 133];
        let window = Some([132, 20, 150][seed]);
        let soft_cap = [None, Some(3.0), None][seed];
        let group = [2, 5, 7][seed];
        check_company(&World::new(
            &gpu,
            &Config { window, soft_cap, group, ..plain(dtype, cache, &lengths) },
        ));
    }
}

/// Tokens by warpgroups have the bits that they have without.
#[track_caller]
fn check_warpgroups(world: &World, tokens: &[(usize, usize)], splitting: Splitting) {
    let [with, without] = [true, false].map(|yes| world.attend_by(yes, tokens, tokens.len(), splitting));
    assert!(with.iter().flatten().all(|v| v.is_finite()));
    for ((token, with), without) in tokens.iter().zip(with).zip(without) {
        assert_eq!(with, without, "{token:?}");
    }
}

#[test]
fn warpgroups_give_the_same_bits() {
    let gpu = device();
    for seed in 100..116 {
        let mut dice = Dice(seed);
        dice.roll(2);
        let config = Config {
            // What they are for: a cache of the type of activations.
            dtype: PAIRS[seed as usize % 2].0,
            cache: PAIRS[seed as usize % 2].1,
            d: dice.choose(&[64, 128, 128, 40, 120]),
            block_size: dice.choose(&[16, 32, 24, 1, 7]),
            lengths: (0..1 + dice.roll(2)).map(|_| 1 + dice.roll(900)).collect(),
            ..Config::random(seed)
        };
        println!("{config:?}");
        let mut world = World::new(&gpu, &config);
        if dice.roll(4) == 0 {
            world.spec.scale = -world.spec.scale;
        }
        let tokens = world.last_tokens(&[1 + dice.roll(160), 40]);
        let splitting =
            dice.choose(&[Splitting::Never, Splitting::Always(1), Splitting::Always(2), Splitting::Fair]);
        check_warpgroups(&world, &tokens, splitting);
    }
}

#[test]
fn warpgroups_give_the_same_bits_over_long_sequences() {
    let gpu = device();
    for (config, most) in [
        (Config { d: 128, group: 8, ..plain(DType::BF16, KvDtype::BF16, &[2600, 190]) }, [33, 190]),
        (Config { kv_heads: 2, window: Some(700), ..plain(DType::F16, KvDtype::F16, &[1800]) }, [64, 64]),
    ] {
        let world = World::new(&gpu, &config);
        let tokens = world.last_tokens(&most);
        check_warpgroups(&world, &tokens, Splitting::Never);
        check_warpgroups(&world, &tokens, Splitting::Always(3));
        // And as when decoding.
        let found = world.attend(&tokens, tokens.len(), Splitting::Never);
        for at in [0, tokens.len() / 2, tokens.len() - 1] {
            assert_eq!(world.attend(&tokens[at..=at], 1, Splitting::Never)[0], found[at], "{:?}", tokens[at]);
        }
    }
}

#[test]
fn tokens_that_are_many_go_to_warpgroups() {
    let gpu = device();
    let has = gpu.properties().capability == crate::gpu::WARPGROUPS;
    for (d, yes) in [(64, true), (128, true), (120, true), (16, true), (80, false), (96, false), (256, false)]
    {
        for (dtype, cache) in PAIRS {
            let shape = AttentionShape { heads: 4, kv_heads: 1, head_dim: d, block_size: 16, num_blocks: 3 };
            let limits = AttentionLimits { tokens: 1, table_entries: 1, partial_rows: 1 };
            let batch = GpuAttentionBatch::new(&gpu, shape, limits).unwrap();
            let found = by_warpgroups(dtype, cache, d).zip(batch.warpgroups());
            let same = matches!((dtype, cache), (DType::BF16, KvDtype::BF16) | (DType::F16, KvDtype::F16));
            assert_eq!(found.is_some(), has && yes && same, "{dtype:?} {cache:?} {d}");
        }
    }
}

#[test]
fn threads_may_run_in_any_order() {
    for (dtype, cache) in
        [(DType::BF16, KvDtype::BF16), (DType::BF16, KvDtype::Int8), (DType::F32, KvDtype::F32)]
    {
        let config = Config { group: 5, ..plain(dtype, cache, &[150, 70]) };
        let mut all = devices().map(|gpu| {
            let world = World::new(&gpu, &config);
            let tokens = world.last_tokens(&[15, 2]);
            world.check(&tokens, Splitting::Always(1));
            world.attend(&tokens, tokens.len(), Splitting::Never)
        });
        let first = all.next().unwrap();
        assert!(all.all(|other| other == first));
    }
}

#[test]
fn padding_becomes_zeros_and_reads_nothing() {
    let gpu = device();
    let world = World::new(&gpu, &plain(DType::BF16, KvDtype::BF16, &[3]));
    let found = world.attend(&[(0, 2)], 5, Splitting::Fair);
    assert_eq!(found[0], world.attend(&[(0, 2)], 1, Splitting::Fair)[0]);
    assert!(found[1..].iter().flatten().all(|v| *v == 0.0));
    // A batch of nothing but padding.
    assert!(world.attend(&[], 2, Splitting::Fair).iter().flatten().all(|v| *v == 0.0));
    assert!(world.attend(&[], 0, Splitting::Fair).is_empty());
}

#[test]
fn a_graph_takes_the_plan_of_its_step() {
    let gpu = device();
    // While a graph is captured, a real device gives no memory.
    gpu.set_aside(16 << 20).unwrap();
    let world = World::new(&gpu, &plain(DType::BF16, KvDtype::BF16, &[600, 300, 40]));
    let mut batch = world.on_device();
    let q = GpuTensor::of_buffer(&gpu.allocate(4 * world.width() * 2).unwrap(), &[4, 4, 64], DType::BF16)
        .unwrap();
    let out = gpu.empty(&[4, world.width()], DType::BF16).unwrap();
    batch.update(&world.batch(&[(2, 5)]), 4).unwrap();
    let graph = gpu
        .capture(|| -> Result<()> {
            let attended = paged_attention(&q, &world.layer, &batch, &world.spec)?;
            Ok(gpu.copy(&attended, &out)?)
        })
        .unwrap();
    for tokens in [vec![(0, 599), (2, 39), (1, 299)], vec![(1, 7)], vec![(0, 1), (0, 555), (1, 256), (2, 0)]]
    {
        batch.update(&world.batch(&tokens), 4).unwrap();
        assert!(batch.is_decode());
        gpu.copy(&world.queries(&tokens, 4), &q).unwrap();
        graph.launch().unwrap();
        let alone = world.attend(&tokens, 4, Splitting::Never);
        assert_eq!(values_of(&out), alone.concat());
    }
}

#[test]
fn steps_that_wait_keep_their_plans() {
    let gpu = device();
    let world = World::new(&gpu, &plain(DType::F16, KvDtype::F16, &[300, 90]));
    let mut batch = world.on_device();
    let steps = [vec![(0, 299)], vec![(1, 60), (1, 61)], vec![(0, 10), (1, 89)], vec![(0, 77)]];
    // Nothing has run when the second plan is made.
    let results: Vec<_> = (steps.iter())
        .map(|tokens| {
            batch.update(&world.batch(tokens), tokens.len()).unwrap();
            paged_attention(&world.queries(tokens, tokens.len()), &world.layer, &batch, &world.spec).unwrap()
        })
        .collect();
    for (tokens, found) in steps.iter().zip(results) {
        assert_eq!(values_of(&found), world.attend(tokens, tokens.len(), Splitting::Never).concat());
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let gpu = device();
    let world = World::new(&gpu, &plain(DType::BF16, KvDtype::BF16, &[20]));
    let mut batch = world.on_device();
    let step = world.batch(&[(0, 3)]);
    batch.update(&step, 1).unwrap();
    let attend =
        |q: &GpuTensor, layer: &GpuKvLayer, spec: &AttentionSpec| paged_attention(q, layer, &batch, spec);
    let q = world.queries(&[(0, 3)], 1);
    assert!(attend(&q, &world.layer, &world.spec).is_ok());
    assert!(attend(&world.queries(&[(0, 3)], 2), &world.layer, &world.spec).is_err(), "two rows");
    assert!(attend(&q, &world.layer, &AttentionSpec { window: Some(0), ..world.spec }).is_err());
    let other = GpuKvLayer::new(&gpu, KvDtype::BF16, world.shape.num_blocks, 16, 2, 64).unwrap();
    assert!(attend(&q, &other, &world.spec).is_err(), "more heads");
    let other = GpuKvLayer::new(&gpu, KvDtype::F16, world.shape.num_blocks, 16, 1, 64).unwrap();
    let problem = attend(&q, &other, &world.spec).unwrap_err().to_string();
    assert!(problem.contains("float16"), "{problem}");

    let entries = AttentionLimits { tokens: 1, table_entries: 1, partial_rows: 0 };
    let mut narrow = GpuAttentionBatch::new(&gpu, world.shape, entries).unwrap();
    assert!(narrow.update(&step, 1).is_err(), "two blocks");
    assert!(batch.update(&step, 601).is_err(), "more than the limit");
    assert!(batch.update(&world.batch(&[(0, 3), (0, 4)]), 1).is_err(), "less than there are");
    assert!(batch.update(&world.batch(&[(0, 32)]), 1).is_err(), "beyond the table");
    let group = AttentionShape { heads: 129, ..world.shape };
    assert!(GpuAttentionBatch::new(&gpu, group, entries).is_err());
    assert!(GpuAttentionBatch::new(&gpu, AttentionShape { head_dim: 100, ..world.shape }, entries).is_err());
}
