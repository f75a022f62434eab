//! Attention against f64 over ragged batches and scattered blocks, and the same bits in any company.

use proptest::prelude::*;

use super::*;
use crate::kv::{KvDtype, kv_write};
use crate::reference;
use crate::set_num_threads;
use crate::testing::{assert_close, bits, cached, noise, tensor, values};

/// Sequences whose keys and values are in the cache, and whose last tokens ask.
struct World {
    layer: KvLayer,
    heads: usize,
    kv_heads: usize,
    d: usize,
    spec: AttentionSpec,
    /// Length of each sequence.
    lengths: Vec<usize>,
    /// As they were written.
    written: Vec<Dense>,
    /// As the cache has them.
    stored: Vec<Dense>,
    tables: Vec<Vec<u32>>,
    seed: u64,
}

/// Keys and values of a sequence: `[length, kv_heads, d]`.
struct Dense {
    keys: Vec<f32>,
    values: Vec<f32>,
}

#[derive(Clone, Debug)]
struct Config {
    dtype: KvDtype,
    group: usize,
    kv_heads: usize,
    d: usize,
    block_size: usize,
    lengths: Vec<usize>,
    window: Option<usize>,
    soft_cap: Option<f32>,
    seed: u64,
}

fn configs() -> impl Strategy<Value = Config> {
    (
        prop::sample::select(vec![KvDtype::F32, KvDtype::F16, KvDtype::BF16, KvDtype::Int8]),
        1usize..9,
        1usize..4,
        prop::sample::select(vec![16usize, 24, 32, 64, 80, 96, 128, 256]),
        prop::sample::select(vec![16usize, 16, 32, 8, 24, 1]),
        prop::collection::vec(1usize..300, 1..4),
        prop::option::of(1usize..80),
        prop::option::of(1.0f32..30.0),
        any::<u64>(),
    )
        .prop_map(|(dtype, group, kv_heads, d, block_size, lengths, window, soft_cap, seed)| Config {
            dtype,
            group,
            kv_heads,
            d,
            block_size,
            lengths,
            window,
            soft_cap,
            seed,
        })
}

impl World {
    fn new(c: &Config) -> Self {
        let blocks: Vec<usize> = c.lengths.iter().map(|length| length.div_ceil(c.block_size)).collect();
        let total: usize = blocks.iter().sum::<usize>() + 3;
        // A shuffle: multiplication by a number without common factor.
        let stride = (1..).map(|i| i * 7 + 3).find(|s| gcd(*s, total) == 1).unwrap();
        let mut free = (0..total).map(|i| (i * stride % total) as u32);
        let layer = KvLayer::new(c.dtype, total, c.block_size, c.kv_heads, c.d).unwrap();
        // What no one wrote, or a dead sequence left, must not matter.
        let poison = tensor(
            &vec![f32::NAN; total * c.block_size * c.kv_heads * c.d],
            &[total * c.block_size, c.kv_heads, c.d],
        );
        let every: Vec<u32> = (0..(total * c.block_size) as u32).collect();
        kv_write(&layer, &poison, &poison, &every).unwrap();
        let mut world = Self {
            layer,
            heads: c.group * c.kv_heads,
            kv_heads: c.kv_heads,
            d: c.d,
            spec: AttentionSpec { scale: 1.0 / (c.d as f32).sqrt(), window: c.window, soft_cap: c.soft_cap },
            lengths: c.lengths.clone(),
            written: Vec::new(),
            stored: Vec::new(),
            tables: Vec::new(),
            seed: c.seed,
        };
        for (s, (length, blocks)) in c.lengths.iter().zip(blocks).enumerate() {
            let table: Vec<u32> = free.by_ref().take(blocks).collect();
            let make = |n: u64| -> Vec<f32> {
                let numbers = noise(c.seed.wrapping_add(n), length * c.kv_heads * c.d);
                numbers.into_iter().map(|v| v * 3.0).collect()
            };
            let written = Dense { keys: make(s as u64 * 2), values: make(s as u64 * 2 + 1) };
            let slots: Vec<u32> = (0..*length)
                .map(|p| table[p / c.block_size] * c.block_size as u32 + (p % c.block_size) as u32)
                .collect();
            let shape = [*length, c.kv_heads, c.d];
            kv_write(&world.layer, &tensor(&written.keys, &shape), &tensor(&written.values, &shape), &slots)
                .unwrap();
            let mut stored = Dense { keys: Vec::new(), values: Vec::new() };
            for (slot, head) in slots.iter().flat_map(|slot| (0..c.kv_heads).map(move |head| (slot, head))) {
                let (key, value) = cached(&world.layer, *slot as usize, head);
                stored.keys.extend(key);
                stored.values.extend(value);
            }
            world.written.push(written);
            world.stored.push(stored);
            world.tables.push(table);
        }
        world
    }

    /// The query of a token depends on the token alone.
    fn query(&self, sequence: usize, position: usize) -> Vec<f32> {
        noise(self.seed ^ ((sequence * 1000 + position) as u64) << 20, self.heads * self.d)
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

    fn run(&self, isa: Isa, tokens: &[(usize, usize)]) -> Vec<f32> {
        let q: Vec<f32> = tokens.iter().flat_map(|(s, p)| self.query(*s, *p)).collect();
        let q = tensor(&q, &[tokens.len(), self.heads, self.d]);
        let out = attention_on(isa, &q, &self.layer, &self.batch(tokens), &self.spec).unwrap();
        assert_eq!(out.dims(), [tokens.len(), self.heads * self.d]);
        values(&out)
    }

    /// What attention of a token over `dense` is.
    fn exact(&self, dense: &[Dense], (sequence, position): (usize, usize)) -> Vec<f64> {
        let q = self.query(sequence, position);
        let group = self.heads / self.kv_heads;
        (0..self.heads)
            .flat_map(|head| {
                let of_head = |dense: &[f32]| -> Vec<f32> {
                    dense
                        .chunks(self.kv_heads * self.d)
                        .flat_map(|token| token[head / group * self.d..][..self.d].to_vec())
                        .collect()
                };
                let (k, v) = (of_head(&dense[sequence].keys), of_head(&dense[sequence].values));
                reference::attention(&q[head * self.d..][..self.d], &k, &v, position, &self.spec)
            })
            .collect()
    }

    /// All tokens of all sequences, whole prompts.
    fn prompts(&self) -> Vec<(usize, usize)> {
        self.lengths.iter().enumerate().flat_map(|(s, length)| (0..*length).map(move |p| (s, p))).collect()
    }

    fn last_tokens(&self) -> Vec<(usize, usize)> {
        self.lengths.iter().enumerate().map(|(s, length)| (s, length - 1)).collect()
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn close_to_the_reference(config in configs()) {
        let world = World::new(&config);
        let mut tokens = world.last_tokens();
        tokens.extend(world.prompts().into_iter().step_by(17));
        let exact: Vec<f64> = tokens.iter().flat_map(|token| world.exact(&world.stored, *token)).collect();
        assert_close(&world.run(Isa::detect(), &tokens), &exact, 2e-5);
    }

    #[test]
    fn eight_bits_are_as_close_as_their_steps(config in configs()) {
        let world = World::new(&Config { dtype: KvDtype::Int8, ..config });
        let tokens = world.last_tokens();
        let exact: Vec<f64> = tokens.iter().flat_map(|token| world.exact(&world.written, *token)).collect();
        let found = world.run(Isa::detect(), &tokens);
        // Numbers are from -3 to 3, so half a step is 3 / 254 at most, and a score is off by as much times the sum of
        // a query's numbers; a weight grows or shrinks by e to the power of twice that.
        let step = 3.0 / 254.0;
        for (token, (found, exact)) in tokens.iter().zip(found.chunks(world.heads * world.d).zip(exact.chunks(world.heads * world.d))) {
            let q = world.query(token.0, token.1);
            for (head, q) in q.chunks(world.d).enumerate() {
                let sum: f64 = q.iter().map(|q| f64::from(q.abs())).sum();
                let bound = step + 3.0 * ((2.0 * step * sum * f64::from(world.spec.scale)).exp() - 1.0) + 1e-4;
                for i in head * world.d..(head + 1) * world.d {
                    let off = (f64::from(found[i]) - exact[i]).abs();
                    prop_assert!(off <= bound, "number {} of {:?} is {} off, more than {}", i, token, off, bound);
                }
            }
        }
        // That is the worst case; all numbers together are a hundredth off at most.
        let squares = |numbers: &mut dyn Iterator<Item = f64>| numbers.map(|v| v * v).sum::<f64>();
        let off = squares(&mut found.iter().zip(&exact).map(|(found, exact)| f64::from(*found) - exact));
        let share = (off / squares(&mut exact.iter().copied())).sqrt();
        prop_assert!(share < 0.015, "{} of the result is error", share);
    }

    #[test]
    fn a_token_has_the_same_bits_alone_in_a_chunk_and_in_a_prompt(
        config in configs(), cut in 1usize..300, threads in 1usize..5,
    ) {
        let world = World::new(&config);
        let row = world.heads * world.d;
        let prompts = world.prompts();
        set_num_threads(threads);
        let together = world.run(Isa::detect(), &prompts);
        set_num_threads(threads % 3 + 1);
        let chunks: Vec<f32> = prompts.chunks(cut).flat_map(|chunk| world.run(Isa::detect(), chunk)).collect();
        prop_assert_eq!(bits(&chunks), bits(&together));
        let last = world.last_tokens();
        for (token, decoded) in last.iter().zip(world.run(Isa::detect(), &last).chunks(row)) {
            let at = prompts.iter().position(|t| t == token).unwrap();
            prop_assert_eq!(bits(decoded), bits(&together[at * row..(at + 1) * row]));
            prop_assert_eq!(bits(&world.run(Isa::detect(), &[*token])), bits(decoded));
        }
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits(config in configs()) {
        let world = World::new(&config);
        let tokens: Vec<_> = world.prompts().into_iter().rev().step_by(11).collect();
        let portable = world.run(Isa::Portable, &tokens);
        for isa in Isa::all() {
            prop_assert_eq!(bits(&world.run(isa, &tokens)), bits(&portable), "{:?}", isa);
        }
    }
}

fn long(dtype: KvDtype, window: Option<usize>) -> World {
    World::new(&Config {
        dtype,
        group: 4,
        kv_heads: 2,
        d: 64,
        block_size: 16,
        lengths: vec![3000],
        window,
        soft_cap: None,
        seed: 5,
    })
}

#[test]
fn spans_of_a_long_sequence_merge_alike_on_one_thread_and_on_many() {
    let dtypes = [KvDtype::BF16, KvDtype::Int8];
    for (dtype, window) in dtypes.iter().flat_map(|dtype| [(*dtype, None), (*dtype, Some(700))]) {
        let world = long(dtype, window);
        let tokens = [(0, 2999), (0, 256), (0, 255), (0, 0)];
        let exact: Vec<f64> = tokens.iter().flat_map(|token| world.exact(&world.stored, *token)).collect();
        set_num_threads(1);
        let one = world.run(Isa::detect(), &tokens);
        assert_close(&one, &exact, 2e-5);
        set_num_threads(8);
        let many = world.run(Isa::detect(), &tokens);
        assert_eq!(bits(&one), bits(&many));
        let alone: Vec<f32> = tokens.iter().flat_map(|token| world.run(Isa::detect(), &[*token])).collect();
        assert_eq!(bits(&one), bits(&alone));
    }
}

#[test]
fn a_nan_key_reaches_only_those_who_see_it() {
    for dtype in [KvDtype::BF16, KvDtype::Int8] {
        let world = long(dtype, Some(100));
        let d = world.d;
        let nan = tensor(&vec![f32::NAN; 2 * d], &[1, 2, d]);
        let slot = world.tables[0][500 / 16] * 16 + 500 % 16;
        let tokens = [(0, 499), (0, 500), (0, 599), (0, 600)];
        let before = world.run(Isa::detect(), &tokens);
        kv_write(&world.layer, &nan, &nan, &[slot]).unwrap();
        let after = world.run(Isa::detect(), &tokens);
        let row = world.heads * d;
        assert_eq!(bits(&before[..row]), bits(&after[..row]));
        assert!(after[row..3 * row].iter().all(|v| v.is_nan()));
        assert_eq!(bits(&before[3 * row..]), bits(&after[3 * row..]));
    }
}

#[test]
fn ids_that_point_nowhere_are_errors() {
    let world = long(KvDtype::BF16, None);
    let q = tensor(&noise(1, 8 * 64), &[1, 8, 64]);
    let good = world.batch(&[(0, 7)]);
    let error = |q: &Tensor, batch: &AttentionBatch| {
        paged_attention(q, &world.layer, batch, &world.spec).unwrap_err().to_string()
    };
    let with = |change: fn(&mut AttentionBatch)| {
        let mut batch = good.clone();
        change(&mut batch);
        error(&q, &batch)
    };
    assert_eq!(
        with(|b| b.positions[0] = 3008),
        "paged_attention: position 3008 does not exist, there are 3008"
    );
    assert_eq!(with(|b| b.sequence_of[0] = 1), "paged_attention: sequence 1 does not exist, there are 1");
    assert_eq!(with(|b| b.block_tables[3] = 999), "paged_attention: block 999 does not exist, there are 191");
    assert!(with(|b| b.table_starts[1] = 1000).contains("do not divide"));
    assert!(with(|b| b.table_starts = vec![5, 3]).contains("do not divide"));
    assert!(with(|b| b.table_starts.clear()).contains("sequence 0 does not exist"));
    assert!(with(|b| b.positions.push(1)).contains("1 query tokens, but 2 positions"));
    assert!(error(&tensor(&noise(1, 7 * 64), &[1, 7, 64]), &good).contains("q has 7 heads of 64"));
    assert!(error(&tensor(&noise(1, 8 * 32), &[1, 8, 32]), &good).contains("sizes must agree"));
    let nothing = AttentionSpec { window: Some(0), ..world.spec };
    assert!(paged_attention(&q, &world.layer, &good, &nothing).is_err());
}
