//! Every token meets every position once, in tiles that fit their blocks.

use super::*;

fn device() -> Properties {
    Properties { name: String::new(), capability: (9, 0), multiprocessors: 132, shared_bytes: 227 << 10 }
}

fn shape(heads: usize, kv_heads: usize, head_dim: usize) -> AttentionShape {
    AttentionShape { heads, kv_heads, head_dim, block_size: 16, num_blocks: 1 << 20 }
}

fn planner(shape: AttentionShape, partial_rows: usize) -> Planner {
    let limits = AttentionLimits { tokens: 1024, table_entries: 1 << 16, partial_rows };
    Planner::new(&device(), shape, limits).unwrap()
}

/// `(sequence, first position, tokens)` for each run of tokens.
fn batch(runs: &[(u32, u32, u32)]) -> AttentionBatch {
    let mut batch = AttentionBatch { table_starts: vec![0], ..AttentionBatch::default() };
    for (sequence, first, tokens) in runs {
        for position in *first..first + tokens {
            batch.sequence_of.push(*sequence);
            batch.positions.push(position);
        }
    }
    let sequences = batch.sequence_of.iter().max().map_or(0, |last| last + 1);
    batch.table_starts.extend((0..sequences).map(|s| 100 * (s + 1)));
    batch.block_tables.resize(100 * sequences as usize, 5);
    batch
}

/// The units of both lists: first row, rows, table, begin, end, partial.
fn units(words: &[u32]) -> [Vec<[u32; UNIT]>; 2] {
    let list = |count: u32, start: u32| {
        words[start as usize..].chunks(UNIT).take(count as usize).map(|u| u.try_into().unwrap()).collect()
    };
    [list(words[0], words[2]), list(words[1], words[3])]
}

#[test]
fn every_row_meets_every_position_once() {
    for splitting in [Splitting::Fair, Splitting::Always(1), Splitting::Always(3), Splitting::Never] {
        for (heads, kv_heads) in [(8, 8), (32, 8), (28, 4), (24, 8), (40, 1)] {
            let mut planner = planner(shape(heads, kv_heads, 128), 3000);
            planner.splitting = splitting;
            let group = heads / kv_heads;
            let batch = batch(&[(0, 0, 1), (1, 700, 100), (2, 255, 2), (2, 0, 3), (3, 1500, 1)]);
            let (words, _) = planner.plan(&batch, 120);
            let words = words.to_vec();
            let mut seen = vec![0; 107 * group];
            let mut partials = std::collections::HashSet::new();
            for (kind, units) in units(&words).iter().enumerate() {
                let rows_of_block = [16, 128][kind];
                assert!(units.is_sorted_by_key(|u| Reverse(u[4] - u[3])), "long ones first");
                for [first, rows, table, begin, end, partial] in units {
                    assert!(*rows <= rows_of_block && begin < end);
                    let last = batch.positions[(first + rows - 1) as usize / group];
                    for row in *first..first + rows {
                        let token = row as usize / group;
                        assert_eq!(*table, 100 * batch.sequence_of[token]);
                        assert_eq!(
                            last - batch.positions[token],
                            (first + rows - 1) / group as u32 - token as u32
                        );
                        seen[row as usize] += end.min(&(batch.positions[token] + 1)).saturating_sub(*begin);
                    }
                    let of = &words[words[5] as usize + 2 * (*first as usize / group)..][..2];
                    if *partial == NONE {
                        assert_eq!((*begin, *end, of[0]), (0, last + 1, NONE));
                    } else {
                        let most = if splitting == Splitting::Always(3) { 3 } else { 1 };
                        let spans = (end - begin).div_ceil(128);
                        assert!(spans <= most && begin % 128 == 0, "{begin}..{end}");
                        assert_eq!(of[1], *rows, "from one span of the unit to the next");
                        assert_eq!(*partial, of[0] + begin / 128 * of[1], "where it is looked for");
                        let mut own = *partial..partial + spans * rows;
                        assert!(own.all(|row| row < 3000 && partials.insert(row)));
                    }
                }
            }
            for (row, seen) in seen.iter().enumerate() {
                assert_eq!(*seen, batch.positions[row / group] + 1, "row {row}");
            }
            for pad in 107..120 {
                assert_eq!(words[words[5] as usize + 2 * pad], PADDING);
            }
            assert!(words.len() <= Planner::most_words(&planner.limits));
            assert_eq!(words[words[6] as usize..], batch.block_tables);
            match splitting {
                Splitting::Never => assert!(partials.is_empty()),
                _ => assert!(!partials.is_empty()),
            }
        }
    }
}

#[test]
fn one_long_sequence_is_spread_and_many_are_not() {
    let mut planner = planner(shape(32, 8, 128), 1 << 14);
    let (words, is_decode) = planner.plan(&batch(&[(0, 4999, 1)]), 1);
    assert_eq!((words[0], words[1], is_decode), (40, 0, true));
    let many: Vec<_> = (0..600).map(|s| (s, 999, 1)).collect();
    let (words, _) = planner.plan(&batch(&many), 600);
    assert_eq!(words[0], 600);
    // What finds no room stays in one piece.
    let mut planner = self::planner(shape(32, 8, 128), 200);
    let (words, _) = planner.plan(&batch(&[(0, 4999, 1), (1, 4999, 1)]), 2);
    assert_eq!(words[0], 41);
}

#[test]
fn large_tiles_are_for_many_tokens() {
    let mut planner = planner(shape(32, 8, 128), 0);
    let (words, is_decode) = planner.plan(&batch(&[(0, 100, 4), (1, 0, 5), (2, 0, 33)]), 42);
    let [small, large] = units(words);
    assert!(!is_decode);
    let rows = |units: &[[u32; UNIT]]| units.iter().map(|u| (u[0], u[1])).collect::<Vec<_>>();
    assert_eq!(rows(&small), [(0, 16), (41 * 4, 4)].to_vec());
    assert_eq!(rows(&large), [(9 * 4, 128), (16, 20)].to_vec());
}

#[test]
fn blocks_fit_their_device() {
    for (head_dim, shared_bytes, warps, tiles, bytes) in [
        (128, 227 << 10, 8, 2, 137_216),
        (256, 227 << 10, 4, 1, 134_400),
        (256, 100_000, 2, 1, 84_736),
        (256, 70_000, 1, 1, 59_904),
        (80, 99 << 10, 8, 1, 77_312),
    ] {
        let device = Properties { shared_bytes, ..device() };
        let blocks = Blocks::new(&device, head_dim, WARPS, 2);
        let found = (blocks.warps, blocks.tiles, blocks.shared_bytes(2, blocks.tiles));
        assert_eq!(found, (warps, tiles, bytes), "{head_dim} {shared_bytes}");
        assert!(blocks.resident >= 132 && blocks.shared_bytes(2, blocks.most_tiles) <= shared_bytes as usize);
        assert_eq!(
            [blocks.grid(2, 132).0.threads[0], blocks.grid(2, 133).0.threads[0]],
            [32 * warps.max(4) as u32, 32 * warps as u32]
        );
    }
    let limits = AttentionLimits { tokens: 1, table_entries: 1, partial_rows: 1 };
    let small = Properties { shared_bytes: 70_000, ..device() };
    assert!(Planner::new(&small, shape(32, 1, 256), limits).is_err(), "more heads than rows");
}

#[test]
fn warpgroups_need_their_device() {
    let bytes = |device: &Properties, head_dim: usize| {
        let grid = Blocks::new(device, head_dim, WARPS, 2).by_warpgroups(device)?;
        assert_eq!((grid.blocks, grid.threads[0]), ([132, 1, 1], 384));
        Some(grid.shared_bytes)
    };
    let hopper = device();
    let found = [64, 96, 112, 128, 256].map(|d| bytes(&hopper, d));
    assert_eq!(found, [Some(115_712), None, Some(197_632), Some(197_632), None]);
    for other in [
        Properties { capability: (10, 0), ..device() },
        Properties { capability: (8, 0), ..device() },
        Properties { shared_bytes: 160 << 10, ..device() },
    ] {
        assert_eq!(bytes(&other, 128), None, "{other:?}");
    }
}
