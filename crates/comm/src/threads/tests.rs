//! Every collective among threads, with ranks that are late, that leave, and that do something else.

use std::thread;
use std::time::Duration;

use candle_core::Device;

use super::*;

/// Run `work` on every rank of a group and collect what each gives.
fn on_all<T: Send>(size: usize, work: impl Fn(Threads) -> T + Sync) -> Vec<T> {
    let work = &work;
    thread::scope(|scope| {
        let ranks: Vec<_> =
            Threads::group(size).into_iter().map(|rank| scope.spawn(move || work(rank))).collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}

/// Numbers whose sums depend on the order in which they are added.
fn numbers(rank: usize, len: usize) -> Vec<f32> {
    (0..len)
        .map(|i| ((i * 31 + rank * 17) % 101) as f32 * 10f32.powi((rank * 5 + i) as i32 % 9 - 4))
        .collect()
}

fn tensor(values: &[f32]) -> Tensor {
    Tensor::from_slice(values, values.len(), &Device::Cpu).unwrap()
}

fn bits(x: &Tensor) -> Vec<u32> {
    x.flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().map(|v| v.to_bits()).collect()
}

#[test]
fn sums_are_added_in_the_order_of_the_ranks() {
    for size in [1, 2, 3, 5, 8] {
        for len in [1, 7, 2049, SHARED_SUM - 1, SHARED_SUM, SHARED_SUM + 13] {
            let parts: Vec<_> = (0..size).map(|rank| numbers(rank, len)).collect();
            let sum = |i: usize| parts[1..].iter().fold(parts[0][i], |sum, part| sum + part[i]);
            let expected: Vec<u32> = (0..len).map(|i| sum(i).to_bits()).collect();
            let sums = on_all(size, |comm| bits(&comm.all_reduce(&tensor(&parts[comm.rank()])).unwrap()));
            assert!(sums.iter().all(|sum| *sum == expected), "{size} ranks, {len} numbers");
        }
    }
}

#[test]
fn gathered_tensors_are_joined_along_the_last_dimension() {
    let rank_of = |rank: usize| {
        // Two rows, of as many columns as the rank says and one more.
        let values: Vec<f32> = (0..2 * (rank + 1)).map(|i| (rank * 10 + i) as f32).collect();
        Tensor::from_vec(values, (2, rank + 1), &Device::Cpu).unwrap()
    };
    let expected = [[0.0, 10.0, 11.0, 20.0, 21.0, 22.0], [1.0, 12.0, 13.0, 23.0, 24.0, 25.0]];
    let all = on_all(3, |comm| {
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

#[test]
fn the_root_decides_what_all_get() {
    let all = on_all(4, |comm| {
        let mine = tensor(&[comm.rank() as f32]);
        let mut bytes = vec![comm.rank() as u8; comm.rank() + 1];
        comm.broadcast_bytes(&mut bytes, 3).unwrap();
        (bits(&comm.broadcast(&mine, 2).unwrap()), bytes)
    });
    assert!(all.iter().all(|(x, bytes)| *x == [2f32.to_bits()] && *bytes == [3; 4]));
    let missing = Threads::group(2)[0].broadcast(&tensor(&[0.0]), 2).unwrap_err().to_string();
    assert_eq!(missing, "there is no rank 2 in a group of 2");
}

/// Calls of different length one behind the other, with ranks that are late by turns: nobody reads an offer of another call.
#[test]
fn ranks_may_be_late() {
    for (size, rounds) in [(2, 400), (5, 100)] {
        let sums = on_all(size, |comm| {
            (0..rounds)
                .map(|round| {
                    if round % size == comm.rank() && round % 7 == 0 {
                        thread::sleep(Duration::from_micros(700));
                    }
                    let len = if round % 5 == 0 { SHARED_SUM } else { 3 };
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

#[test]
fn who_leaves_ends_the_group_with_its_reason() {
    let errors = on_all(3, |comm| {
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

#[test]
fn a_rank_whose_thread_ends_is_missed_by_those_that_sleep() {
    let mut ranks = Threads::group(2);
    let second = ranks.pop().unwrap();
    let first = ranks.pop().unwrap();
    let waiting = thread::spawn(move || first.broadcast_bytes(&mut Vec::new(), 1).unwrap_err().to_string());
    thread::sleep(Duration::from_millis(20));
    drop(second);
    assert!(waiting.join().unwrap().ends_with("rank 1 has ended"));
}

#[test]
fn ranks_that_do_different_things_find_out() {
    let other_call = on_all(2, |comm| match comm.rank() {
        0 => comm.all_reduce(&tensor(&[1.0])).map(drop).unwrap_err().to_string(),
        _ => comm.barrier().unwrap_err().to_string(),
    });
    assert!(other_call[0].starts_with("rank 1 is at barrier (call 0"), "{other_call:?}");
    assert!(other_call[1].starts_with("rank 0 is at all_reduce (call 0"), "{other_call:?}");
    let other_plan = on_all(2, |comm| {
        comm.tag(if comm.rank() == 0 { 0xabc } else { 0xdef });
        comm.all_reduce(&tensor(&[1.0])).map(drop).unwrap_err().to_string()
    });
    assert!(other_plan[0].contains("of plan 0000000000000def), this rank at"), "{other_plan:?}");
    let other_shape = on_all(2, |comm| {
        comm.all_reduce(&tensor(&vec![1.0; 3 + comm.rank()])).map(drop).unwrap_err().to_string()
    });
    assert_eq!(other_shape, ["rank 0 adds a tensor of shape [3], rank 1 one of [4]"; 2]);
}
