//! How long it takes to choose a worker, and to note the choice. Target: 20 us for a choice at 1,000 workers with 1 M blocks.

use criterion::{Criterion, criterion_group, criterion_main};
use vlinders_head::measured::Routed;

fn routing(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for (workers, blocks) in [(10, 10_000), (100, 100_000), (1000, 1_000_000)] {
        let mut routed = runtime.block_on(Routed::new(workers, blocks));
        let mut group = criterion.benchmark_group(format!("{workers} workers, {} blocks", routed.blocks()));
        group.bench_function("choose", |bencher| bencher.iter(|| assert!(routed.choose())));
        group.bench_function("choose and record", |bencher| bencher.iter(|| routed.record()));
        group.finish();
    }
}

criterion_group!(benches, routing);
criterion_main!(benches);
