//! Groups of devices against sums made one number at a time, with each way of carrying them.

use std::sync::Barrier;
use std::thread;

use candle_core::DType;
use vlinders_device::{Gpu, GpuLinks};

use super::*;
use crate::gpu::testing::{DTYPES, device, on_gpu, rounded_to, values_of};
use crate::gpu::{test_device_of_rank, test_devices_suffice};
use crate::testing::noise;

/// What rank `rank` brings.
fn part(rank: usize, len: usize, dtype: DType) -> Vec<f32> {
    rounded_to(dtype, &noise(1 + rank as u64, len))
}

/// The sum in the order of ranks, rounded once.
fn sum(ranks: usize, len: usize, dtype: DType) -> Vec<f32> {
    let mut all = part(0, len, dtype);
    for rank in 1..ranks {
        for (sum, number) in all.iter_mut().zip(part(rank, len, dtype)) {
            *sum += number;
        }
    }
    rounded_to(dtype, &all)
}

/// What each of `ranks` threads gives, each with a device that is joined to the others in all ways that there are here.
fn on_ranks<T: Send>(ranks: usize, work: impl Fn(usize, &Gpu, &GpuGroup) -> T + Sync) -> Vec<Vec<T>> {
    let peers = Peers::new(ranks).unwrap();
    let id = GpuLinks::fresh_id(&device());
    let (all_there, work, peers) = (Barrier::new(ranks), &work, &peers);
    let (all_there, id) = (&all_there, &id);
    let rank = move |rank: usize| {
        let gpu = test_device_of_rank(rank).unwrap();
        peers.bring(&gpu, rank).unwrap();
        all_there.wait();
        let by_peers = peers.join(&gpu, rank).unwrap().expect("devices that reach each other");
        // Where ranks share a device, kernels that are loaded wait for those that run.
        all_there.wait();
        let mut groups = vec![GpuGroup::Peers(by_peers)];
        // NCCL wants a device for each rank.
        if test_devices_suffice(ranks).unwrap() {
            let id = id.as_ref().unwrap();
            groups.push(GpuGroup::Links(GpuLinks::join(&gpu, id, rank, ranks, &|| false).unwrap()));
        }
        let results: Vec<T> = groups.iter().map(|group| work(rank, &gpu, group)).collect();
        gpu.wait().unwrap();
        all_there.wait();
        results
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..ranks).map(|number| scope.spawn(move || rank(number))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn sums_have_the_same_bits_however_they_are_carried() {
    // Blocks of eight ranks do not fit on one real device, and wait for each other.
    for ranks in [2, 3, 8].into_iter().filter(|ranks| *ranks < 8 || test_devices_suffice(*ranks).unwrap()) {
        // One pack, some blocks, several rounds, and so much that ranks add up slices.
        let slices = if ranks == 8 { 200_000 } else { 1_300_000 };
        let lens = [8, 4096, 70_000, slices];
        for dtype in DTYPES {
            let of_ranks = on_ranks(ranks, |rank, gpu, group| {
                lens.map(|len| {
                    let x = on_gpu(gpu, &part(rank, len, dtype), &[len / 8, 8], dtype);
                    let y = group.all_reduce(&x).unwrap();
                    assert_eq!((y.dims(), y.dtype()), (x.dims(), dtype));
                    values_of(&y)
                })
            });
            for (place, len) in lens.into_iter().enumerate() {
                let exact = sum(ranks, len, dtype);
                for results in of_ranks.iter().flatten() {
                    assert!(results[place] == exact, "{len} numbers of {dtype:?} on {ranks} ranks");
                }
            }
        }
    }
    assert!(
        adds_by_slices(200_000 * 2, 8) && adds_by_slices(1_300_000 * 2, 3) && !adds_by_slices(1 << 30, 2)
    );
}

/// A token has the same bits in a small step and in a large one.
#[test]
fn sums_of_a_token_do_not_depend_on_the_others() {
    let (ranks, hidden, tokens) = (4, 512, 1100);
    let sums = on_ranks(ranks, |rank, gpu, group| {
        let x = on_gpu(gpu, &part(rank, tokens * hidden, DType::BF16), &[tokens, hidden], DType::BF16);
        let whole = values_of(&group.all_reduce(&x).unwrap());
        let last = values_of(&group.all_reduce(&x.rows(tokens - 1, 1).unwrap()).unwrap());
        (whole, last)
    });
    assert!(adds_by_slices(tokens * hidden * 2, ranks) && !adds_by_slices(hidden * 2, ranks));
    for (whole, last) in sums.iter().flatten() {
        assert!(whole[(tokens - 1) * hidden..] == *last);
    }
}

#[test]
fn columns_of_all_ranks_are_beside_each_other_on_the_first() {
    for (rows, columns) in [(1, vec![5, 3]), (3, vec![1000, 1001, 7]), (40, vec![4000, 4096, 4096, 1])] {
        let all: usize = columns.iter().sum();
        let gathered = on_ranks(columns.len(), |rank, gpu, group| {
            let own = columns[rank];
            let x = on_gpu(gpu, &part(rank, rows * own, DType::F32), &[rows, own], DType::F32);
            let twice = [(); 2].map(|()| group.gather(&x, &columns).unwrap().map(|y| values_of(&y)));
            assert_eq!(twice[0], twice[1]);
            let [first, _] = twice;
            first
        });
        let parts: Vec<_> =
            columns.iter().enumerate().map(|(r, own)| part(r, rows * own, DType::F32)).collect();
        let row = |row: usize| {
            let own = parts.iter().zip(&columns);
            own.flat_map(move |(part, own)| part[row * own..(row + 1) * own].to_vec()).collect::<Vec<f32>>()
        };
        let exact: Vec<f32> = (0..rows).flat_map(row).collect();
        assert_eq!(exact.len(), rows * all);
        for (rank, results) in gathered.into_iter().enumerate() {
            for result in results {
                assert_eq!(result, (rank == 0).then(|| exact.clone()), "rank {rank} of {columns:?}");
            }
        }
    }
}

/// Counters are in memory of the device, so a graph goes on where the last kernel was.
#[test]
fn graphs_of_sums_can_be_launched_again() {
    let all_captured = Barrier::new(2);
    let sums = on_ranks(2, |rank, gpu, group| {
        let x = on_gpu(gpu, &part(rank, 1024, DType::F32), &[2, 512], DType::F32);
        let y = gpu.allocate(x.num_bytes()).unwrap();
        let y = vlinders_device::GpuTensor::of_buffer(&y, x.dims(), x.dtype()).unwrap();
        let graph = gpu.capture(|| -> Result<()> { Ok(gpu.copy(&group.all_reduce(&x)?, &y)?) }).unwrap();
        // Where ranks share a device, a graph that is made waits for kernels that run.
        all_captured.wait();
        let mut found = Vec::new();
        for _ in 0..3 {
            graph.launch().unwrap();
            found.push(values_of(&y));
            found.push(values_of(&group.all_reduce(&x).unwrap()));
        }
        found
    });
    let exact = sum(2, 1024, DType::F32);
    for found in sums.iter().flatten().flatten() {
        assert!(*found == exact);
    }
}

/// A rank that never comes does not hold the others for ever.
#[test]
fn a_group_that_is_aborted_waits_for_nobody() {
    let ended = on_ranks(3, |rank, gpu, group| {
        if rank == 1 {
            return true;
        }
        let x = on_gpu(gpu, &part(rank, 512, DType::F32), &[1, 512], DType::F32);
        let y = group.all_reduce(&x).unwrap();
        group.abort();
        values_of(&y).len() == 512
    });
    assert!(ended.into_iter().flatten().all(|ended| ended));
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    on_ranks(2, |rank, gpu, group| {
        let odd = on_gpu(gpu, &[1.0; 3], &[1, 3], DType::F32);
        assert!(group.all_reduce(&odd).is_err(), "no whole packs");
        assert!(group.gather(&odd, &[3]).is_err(), "columns of one rank");
        assert!(group.gather(&odd, &[4, 4]).is_err(), "rank {rank} has three");
    });
    assert!(Peers::new(9).is_none());
}
