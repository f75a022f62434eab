//! The same bits as the single operations one after the other, in any company, and their errors.

use proptest::prelude::*;

use super::*;
use crate::testing::{bits, cached, noise, tensor, values};
use crate::{KvDtype, kv_write, rms_norm, rope, set_num_threads};

const MAX_POS: usize = 50;
const EPS: f64 = 1e-5;

#[derive(Clone, Debug)]
struct Config {
    dtype: KvDtype,
    group: usize,
    kv_heads: usize,
    half: usize,
    rest: usize,
    block_size: usize,
    norms: bool,
    slots: Vec<u32>,
    seed: u64,
}

/// Blocks of any size that hold 240 positions.
fn configs() -> impl Strategy<Value = Config> {
    (
        prop::sample::select(vec![KvDtype::F32, KvDtype::F16, KvDtype::BF16, KvDtype::Int8]),
        1usize..6,
        1usize..4,
        1usize..40,
        prop::sample::select(vec![0usize, 0, 1, 16, 20]),
        prop::sample::select(vec![16usize, 24, 8]),
        any::<bool>(),
        // Slots in any order, some of them twice.
        prop::collection::vec(0u32..240, 1..70),
        any::<bool>(),
        any::<u64>(),
    )
        .prop_map(|(dtype, group, kv_heads, half, rest, block_size, norms, mut slots, once, seed)| {
            if once {
                let mut taken = std::collections::HashSet::new();
                slots.retain(|slot| taken.insert(*slot));
            }
            Config { dtype, group, kv_heads, half, rest, block_size, norms, slots, seed }
        })
}

struct World {
    config: Config,
    d: usize,
    rows: Tensor,
    norms: [Tensor; 2],
    cos: Tensor,
    sin: Tensor,
    positions: Vec<u32>,
}

impl World {
    fn new(config: Config) -> Self {
        let Config { group, kv_heads, half, rest, seed, .. } = config;
        let (n, d) = (config.slots.len(), 2 * half + rest);
        let width = (group + 2) * kv_heads * d;
        let table = |seed| tensor(&noise(seed, MAX_POS * half), &[MAX_POS, half]);
        Self {
            d,
            rows: tensor(&noise(seed, n * width), &[n, width]),
            norms: [1, 2].map(|i| tensor(&noise(seed ^ i, d), &[d])),
            cos: table(seed ^ 3),
            sin: table(seed ^ 4),
            positions: (0..n).map(|i| ((i as u64 * 7 + seed % 50) % 50) as u32).collect(),
            config,
        }
    }

    fn layer(&self) -> KvLayer {
        let Config { dtype, kv_heads, block_size, .. } = self.config;
        KvLayer::new(dtype, 240 / block_size, block_size, kv_heads, self.d).unwrap()
    }

    /// Queries of some of the tokens, whose keys and values then are in `layer`.
    fn run(&self, isa: Isa, tokens: std::ops::Range<usize>, layer: &KvLayer) -> Vec<f32> {
        let [q, k] = &self.norms;
        let norms = self.config.norms.then_some(HeadNorms { q, k, eps: EPS });
        let positions = &self.positions[tokens.clone()];
        let rotation = Rotation { cos: &self.cos, sin: &self.sin, positions };
        let rows = self.rows.narrow(0, tokens.start, tokens.len()).unwrap();
        let q = qkv_on(isa, &rows, norms, rotation, layer, &self.config.slots[tokens.clone()]).unwrap();
        assert_eq!(q.dims(), [tokens.len(), self.config.group * self.config.kv_heads, self.d]);
        values(&q)
    }

    /// The same by the operations that do one step each.
    fn one_by_one(&self, layer: &KvLayer) -> Vec<f32> {
        let Config { group, kv_heads, ref slots, norms, .. } = self.config;
        let part = |first: usize, heads: usize| {
            let part = self.rows.narrow(1, first * self.d, heads * self.d).unwrap().contiguous().unwrap();
            part.reshape((slots.len(), heads, self.d)).unwrap()
        };
        let heads = group * kv_heads;
        let (mut q, mut k, v) = (part(0, heads), part(heads, kv_heads), part(heads + kv_heads, kv_heads));
        if norms {
            (q, k) = (rms_norm(&q, &self.norms[0], EPS).unwrap(), rms_norm(&k, &self.norms[1], EPS).unwrap());
        }
        let turn = |x| rope(&x, &self.cos, &self.sin, &self.positions).unwrap();
        kv_write(layer, &turn(k), &v, slots).unwrap();
        values(&turn(q))
    }

    fn contents(&self, layer: &KvLayer) -> Vec<u32> {
        let heads = (0..240).flat_map(|slot| (0..self.config.kv_heads).map(move |head| (slot, head)));
        let heads = heads.map(|(slot, head)| cached(layer, slot, head));
        heads.flat_map(|(key, value)| [bits(&key), bits(&value)].concat()).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_bits_of_the_single_operations(config in configs(), threads in 1usize..5) {
        let world = World::new(config);
        let layer = world.layer();
        let queries = bits(&world.one_by_one(&layer));
        let contents = world.contents(&layer);
        set_num_threads(threads);
        for isa in Isa::all() {
            let layer = world.layer();
            prop_assert_eq!(&bits(&world.run(isa, 0..world.positions.len(), &layer)), &queries, "{:?}", isa);
            prop_assert_eq!(&world.contents(&layer), &contents, "{:?}", isa);
        }
        let layer = world.layer();
        let singly = (0..world.positions.len()).flat_map(|i| world.run(Isa::detect(), i..i + 1, &layer));
        prop_assert_eq!(bits(&singly.collect::<Vec<f32>>()), queries);
        prop_assert_eq!(world.contents(&layer), contents);
    }
}

/// Two tokens, heads of 4 of which 2 turn, two heads of queries and one of keys and of values.
struct Small {
    rows: Tensor,
    norm: Tensor,
    table: Tensor,
    layer: KvLayer,
}

impl Small {
    fn new() -> Self {
        Self {
            rows: tensor(&[1.0; 32], &[2, 16]),
            norm: tensor(&[1.0; 4], &[4]),
            table: tensor(&[1.0; 3], &[3, 1]),
            layer: KvLayer::new(KvDtype::F32, 2, 4, 1, 4).unwrap(),
        }
    }

    fn run(&self, positions: &[u32], slots: &[u32]) -> Result<Tensor> {
        let rotation = Rotation { cos: &self.table, sin: &self.table, positions };
        let norms = HeadNorms { q: &self.norm, k: &self.norm, eps: EPS };
        qkv(&self.rows, Some(norms), rotation, &self.layer, slots)
    }
}

#[test]
fn bad_arguments_are_errors_and_write_nothing() {
    let good = Small::new();
    let error = |of: &Small, positions: &[u32], slots: &[u32]| {
        let message = of.run(positions, slots).unwrap_err().to_string();
        for slot in 0..8 {
            assert_eq!(cached(&of.layer, slot, 0), (vec![0.0; 4], vec![0.0; 4]), "{message}");
        }
        message
    };
    assert_eq!(error(&good, &[0, 3], &[0, 1]), "qkv: position 3 does not exist, there are 3");
    assert_eq!(error(&good, &[0], &[0, 1]), "qkv: 1 positions for 2 tokens");
    assert_eq!(error(&good, &[0, 1], &[0, 8]), "qkv: slot 8 does not exist, there are 8");
    assert_eq!(error(&good, &[0, 1], &[0, 1, 2]), "qkv: 3 slots for 2 tokens");
    for shape in [&[4, 8][..], &[32], &[2, 4, 4]] {
        let rows = good.rows.reshape(shape).unwrap();
        let message = error(&Small { rows, ..Small::new() }, &[0, 1], &[0, 1]);
        assert_eq!(
            message,
            format!("qkv: qkv is {shape:?}, it must be [n, (heads + 2 * 1) * 4], as the cache has it")
        );
    }
    let wide = Small { table: tensor(&[1.0; 9], &[3, 3]), ..Small::new() };
    assert_eq!(error(&wide, &[0, 1], &[0, 1]), "qkv: a rotation of 6 does not fit heads of 4");
    let short = Small { norm: tensor(&[1.0; 3], &[3]), ..Small::new() };
    assert_eq!(error(&short, &[0, 1], &[0, 1]), "qkv: the norm of q is [3], it must be [4]");
    let double = Small { rows: good.rows.to_dtype(candle_core::DType::F64).unwrap(), ..Small::new() };
    assert!(error(&double, &[0, 1], &[0, 1]).contains("qkv has dtype F64"));
    assert!(good.run(&[0, 1], &[0, 1]).is_ok());
}
