//! What KV blocks cost: taking and giving back, finding a prefix, evicting.

use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use vlinders_engine::{BlockHash, BlockHasher, BlockPool, BlockTable};

const BLOCK_SIZE: usize = 16;
/// Blocks of one sequence: 4,096 tokens.
const BLOCKS: usize = 256;
const POOL: usize = 100_000;

/// The hashes of a sequence's blocks.
fn chain(first: u32) -> Vec<BlockHash> {
    let mut hasher = BlockHasher::with_seed(1);
    let mut parent = None;
    let next = |idx: usize| {
        let tokens = [first + idx as u32; BLOCK_SIZE];
        let hash = hasher.hash(parent, &tokens, &[]);
        parent = Some(hash);
        hash
    };
    (0..BLOCKS).map(next).collect()
}

fn fill(pool: &BlockPool, hashes: Option<&[BlockHash]>) -> BlockTable {
    let mut table = BlockTable::default();
    for _ in 0..BLOCKS {
        table.push(pool.allocate().expect("the pool is large enough"));
    }
    table.seal((0..BLOCKS).map(|idx| hashes.map(|hashes| hashes[idx])));
    table
}

fn find(pool: &BlockPool, hashes: &[BlockHash]) -> BlockTable {
    let mut table = BlockTable::default();
    hashes.iter().filter_map(|hash| pool.find(*hash)).for_each(|block| table.adopt(block));
    assert_eq!(table.len(), BLOCKS);
    table
}

fn blocks(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("block_pool");
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    group.throughput(Throughput::Elements(BLOCKS as u64));

    let pool = BlockPool::new(POOL);
    group.bench_function("take and give back", |bencher| bencher.iter(|| drop(fill(&pool, None))));

    let hashes = chain(0);
    let held = fill(&pool, Some(&hashes));
    group.bench_function("find a held prefix", |bencher| bencher.iter(|| drop(find(&pool, &hashes))));
    drop(held);
    group.bench_function("find an idle prefix", |bencher| bencher.iter(|| drop(find(&pool, &hashes))));

    // Every block is idle with a content of its own, so each new one evicts another.
    let full = BlockPool::new(POOL);
    let chains: Vec<_> = (0..2 * POOL / BLOCKS).map(|idx| chain((idx * BLOCKS * 3) as u32)).collect();
    let mut next = chains.iter().cycle();
    chains.iter().for_each(|hashes| drop(fill(&full, Some(hashes))));
    let mut hashes = || next.next().expect("a cycle has no end");
    group.bench_function("evict and register", |bencher| {
        bencher.iter_batched(&mut hashes, |hashes| drop(fill(&full, Some(hashes))), BatchSize::SmallInput);
    });
    group.finish();

    let mut group = criterion.benchmark_group("hash");
    group.throughput(Throughput::Elements(BLOCKS as u64));
    group.bench_function("a chain of blocks", |bencher| bencher.iter(|| chain(7)));
    group.finish();
}

criterion_group!(benches, blocks);
criterion_main!(benches);
