//! What every group does, whatever joins it: each check runs on a group of threads and on one of connections.

use std::thread;
use std::time::Duration;

use candle_core::{Device, Tensor};

use crate::Communicator;

/// Makes a group of so many ranks.
pub(crate) type MakeGroup = fn(usize) -> Vec<Box<dyn Communicator>>;

/// Threads that run chunks in another order than the obvious one, each on a thread of its own.
pub(crate) fn backwards(count: usize, body: &(dyn Fn(usize) + Sync)) -> Result<(), String> {
    thread::scope(|scope| (0..count).rev().for_each(|chunk| drop(scope.spawn(move || body(chunk)))));
    Ok(())
}

/// From here on ranks share the work of adding.
const LARGE: usize = 16 * 1024;

/// Run `work` on every rank of a group and collect what each gives.
fn on_all<T: Send>(make: MakeGroup, size: usize, work: impl Fn(&dyn Communicator) -> T + Sync) -> Vec<T> {
    let work = &work;
    thread::scope(|scope| {
        let start = |rank: Box<dyn Communicator>| scope.spawn(move || (work(&*rank), rank));
        let ranks: Vec<_> = make(size).into_iter().map(start).collect();
        // Nobody leaves before all are done.
        let done: Vec<_> = ranks.into_iter().map(|rank| rank.join().unwrap()).collect();
        done.into_iter().map(|(result, _)| result).collect()
    })
}

/// Numbers whose sums depend on the order in which they are added.
fn numbers(rank: usize, len: usize) -> Vec<f32> {
    (0..len)
        .map(|i| ((i * 31 + rank * 17) % 101) as f32 * 10f32.powi((rank * 5 + i) as i32 % 9 - 4))
        .collect()
}

pub(crate) fn tensor(values: &[f32]) -> Tensor {
    Tensor::from_slice(values, values.len(), &Device::Cpu).unwrap()
}

fn bits(x: &Tensor) -> Vec<u32> {
    x.flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().map(|v| v.to_bits()).collect()
}

pub(crate) fn sums_are_added_in_the_order_of_the_ranks(make: MakeGroup) {
    for size in [2, 3, 5] {
        for len in [1, 7, 2049, LARGE - 1, LARGE, LARGE + 13, 7 * LARGE + 1] {
            let parts: Vec<_> = (0..size).map(|rank| numbers(rank, len)).collect();
            let sum = |i: usize| parts[1..].iter().fold(parts[0][i], |sum, part| sum + part[i]);
            let expected: Vec<u32> = (0..len).map(|i| sum(i).to_bits()).collect();
            let sums =
                on_all(make, size, |comm| bits(&comm.all_reduce(&tensor(&parts[comm.rank()])).unwrap()));
            assert!(sums.iter().all(|sum| *sum == expected), "{size} ranks, {len} numbers");
        }
    }
}

pub(crate) fn gathered_tensors_are_joined_along_the_last_dimension(make: MakeGroup) {
    let rank_of = |rank: usize| {
        // Two rows, of as many columns as the rank says and one more.
        let values: Vec<f32> = (0..2 * (rank + 1)).map(|i| (rank * 10 + i) as f32).collect();
        Tensor::from_vec(values, (2, rank + 1), &Device::Cpu).unwrap()
    };
    let expected = [[0.0, 10.0, 11.0, 20.0, 21.0, 22.0], [1.0, 12.0, 13.0, 23.0, 24.0, 25.0]];
    let all = on_all(make, 3, |comm| {
        let x = rank_of(comm.rank());
        (comm.all_gather(&x).unwrap().to_vec2::<f32>().unwrap(), comm.gather(&x, 1).unwrap())
    });
    for (rank, (gathered, at_root)) in all.into_iter().enumerate() {
        assert_eq!(gathered, expected);
        let at_root = at_root.map(|x| x.to_vec2::<f32>().unwrap());
        assert_eq!(at_root.is_some(), rank == 1);
        assert!(at_root.is_none_or(|x| x == expected));
    }
}

pub(crate) fn the_root_decides_what_all_get(make: MakeGroup) {
    let all = on_all(make, 4, |comm| {
        let mine = tensor(&[comm.rank() as f32]);
        let mut bytes = vec![comm.rank() as u8; comm.rank() + 1];
        comm.broadcast_bytes(&mut bytes, 3).unwrap();
        (bits(&comm.broadcast(&mine, 2).unwrap()), bytes)
    });
    assert!(all.iter().all(|(x, bytes)| *x == [2f32.to_bits()] && *bytes == [3; 4]));
    let missing = make(2)[0].broadcast(&tensor(&[0.0]), 2).unwrap_err().to_string();
    assert_eq!(missing, "there is no rank 2 in a group of 2");
}

/// Calls of different length one behind the other, with ranks that are late by turns: nobody reads an offer of another call.
pub(crate) fn ranks_may_be_late(make: MakeGroup) {
    for (size, rounds) in [(2, 400), (5, 100)] {
        let sums = on_all(make, size, |comm| {
            (0..rounds)
                .map(|round| {
                    if round % size == comm.rank() && round % 7 == 0 {
                        thread::sleep(Duration::from_micros(700));
                    }
                    let len = if round % 5 == 0 { LARGE } else { 3 };
                    let x = tensor(&vec![(round + comm.rank()) as f32; len]);
                    let sum = comm.all_reduce(&x).unwrap();
                    bits(&sum.narrow(0, len - 1, 1).unwrap())[0]
                })
                .collect::<Vec<_>>()
        });
        let expected = |round: usize| ((size * round + size * (size - 1) / 2) as f32).to_bits();
        let expected: Vec<u32> = (0..rounds).map(expected).collect();
        assert!(sums.iter().all(|sum| *sum == expected));
    }
}

pub(crate) fn who_leaves_ends_the_group_with_its_reason(make: MakeGroup) {
    let errors = on_all(make, 3, |comm| {
        comm.barrier().unwrap();
        if comm.rank() == 1 {
            comm.leave("rank 1 has no more memory");
        }
        let first = comm.all_reduce(&tensor(&[1.0])).unwrap_err().to_string();
        assert_eq!(comm.barrier().unwrap_err().to_string(), first, "it stays so");
        first
    });
    let expected = "the ranks of this model no longer work together: rank 1 has no more memory";
    assert!(errors.iter().all(|error| error == expected), "{errors:?}");
}

pub(crate) fn ranks_that_do_different_things_find_out(make: MakeGroup) {
    let other_call = on_all(make, 2, |comm| match comm.rank() {
        0 => comm.all_reduce(&tensor(&[1.0])).map(drop).unwrap_err().to_string(),
        _ => comm.barrier().unwrap_err().to_string(),
    });
    assert!(other_call[0].starts_with("rank 1 is at barrier (call 0"), "{other_call:?}");
    assert!(other_call[1].starts_with("rank 0 is at all_reduce (call 0"), "{other_call:?}");
    let other_plan = on_all(make, 2, |comm| {
        comm.tag(if comm.rank() == 0 { 0xabc } else { 0xdef });
        comm.all_reduce(&tensor(&[1.0])).map(drop).unwrap_err().to_string()
    });
    assert!(other_plan[0].contains("of plan 0000000000000def), this rank at"), "{other_plan:?}");
    let other_shape = on_all(make, 2, |comm| {
        comm.all_reduce(&tensor(&vec![1.0; 3 + comm.rank()])).map(drop).unwrap_err().to_string()
    });
    let said = |error: &String| error.contains("rank 1 one of [4]") || error.contains("bytes where");
    assert!(other_shape.iter().all(said), "{other_shape:?}");
}

/// Words that do not fit into a float survive being gathered.
pub(crate) fn whole_numbers_are_gathered_as_they_are(make: MakeGroup) {
    let all = on_all(make, 3, |comm| {
        let x = Tensor::new(&[u32::MAX - comm.rank() as u32, 0x7f80_0001], &Device::Cpu).unwrap();
        comm.all_gather(&x).unwrap().to_vec1::<u32>().unwrap()
    });
    let expected = [u32::MAX, 0x7f80_0001, u32::MAX - 1, 0x7f80_0001, u32::MAX - 2, 0x7f80_0001];
    assert!(all.iter().all(|gathered| *gathered == expected));
}

/// One test for each check.
macro_rules! conformance {
    ($make:expr) => {
        $crate::conformance::tests!($make;
            sums_are_added_in_the_order_of_the_ranks, gathered_tensors_are_joined_along_the_last_dimension, the_root_decides_what_all_get, ranks_may_be_late, who_leaves_ends_the_group_with_its_reason, ranks_that_do_different_things_find_out, whole_numbers_are_gathered_as_they_are);
    };
}

macro_rules! tests {
    ($make:expr; $($check:ident),+) => {
        $(#[test]
        fn $check() {
            crate::conformance::$check($make);
        })+
    };
}

pub(crate) use {conformance, tests};
