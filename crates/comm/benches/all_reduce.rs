//! How fast ranks add up a tensor: 8 KB, which one token of a model with 2048 features takes, and 8 MB, which a long prompt does.
//!
//! `cargo bench -p vlinders-comm --bench all_reduce -- [--ranks 2] [--rounds 9]` prints microseconds, medians of the rounds, by turns
//! beside what the machine can do at best: threads that add slices without waiting for each other, and plain sockets that
//! carry the same bytes both ways at once.

#![allow(missing_docs, reason = "a program")]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use candle_core::{Device, Tensor};
use vlinders_comm::{Communicator, GroupOptions, Tcp, Threads};

/// Bytes of a tensor, and calls of a round.
const SIZES: [(usize, usize); 3] = [(8 << 10, 3000), (256 << 10, 300), (8 << 20, 20)];

fn main() -> ExitCode {
    let (mut ranks, mut rounds) = (2, 9);
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
    while let Some(option) = words.next() {
        match (option.as_str(), words.next().and_then(|value| value.parse().ok())) {
            ("--ranks", Some(number)) => ranks = number,
            ("--rounds", Some(number)) => rounds = number,
            _ => {
                eprintln!("usage: all_reduce [--ranks N] [--rounds N]");
                return ExitCode::FAILURE;
            }
        }
    }
    let mut threads = Threads::group(ranks);
    let mut tcp = tcp_group(ranks);
    println!("{ranks} ranks, {rounds} rounds; microseconds of a call, and payload a second");
    for (bytes, calls) in SIZES {
        let mut times: [Vec<f64>; 4] = Default::default();
        for _ in 0..rounds {
            times[0].push(added(ranks, bytes, calls));
            times[1].push(reduced(&mut threads, bytes, calls));
            times[2].push(carried(bytes, calls));
            times[3].push(reduced(&mut tcp, bytes, calls));
        }
        let [adding, threads, socket, tcp] = times.map(median);
        for (name, time, best) in [
            ("slices added, nobody waits", adding, adding),
            ("threads", threads, adding),
            ("two plain sockets, both ways", socket, socket),
            ("TCP", tcp, socket),
        ] {
            let rate = bytes as f64 / time / 1e9;
            println!(
                "{:>8} KB  {name:30} {:>10.1} us  {rate:>7.2} GB/s  {:>5.2} of the best",
                bytes >> 10,
                time * 1e6,
                best / time
            );
        }
    }
    let messages = [told(&mut threads), told(&mut tcp)].map(|time| time * 1e6);
    println!(
        "     512 B  bytes of one rank to all: threads {:.1} us, TCP {:.1} us",
        messages[0], messages[1]
    );
    ExitCode::SUCCESS
}

/// Seconds until bytes of one rank, as many as the plan of a small step has, are at the others: there and back, halved.
fn told<C: Communicator>(ranks: &mut [C]) -> f64 {
    const CALLS: usize = 20_000;
    let time = thread::scope(|scope| {
        let run = |rank: &C| {
            let mut bytes = vec![7; 512];
            rank.barrier().expect("a group");
            let began = Instant::now();
            for call in 0..CALLS {
                rank.broadcast_bytes(&mut bytes, call % 2).expect("bytes");
            }
            began.elapsed().as_secs_f64()
        };
        let started: Vec<_> = ranks.iter().map(|rank| scope.spawn(move || run(rank))).collect();
        started.into_iter().map(|rank| rank.join().expect("a rank")).fold(0.0, f64::max)
    });
    time / CALLS as f64
}

/// Seconds of one of `calls` sums, on all ranks.
fn reduced<C: Communicator>(ranks: &mut [C], bytes: usize, calls: usize) -> f64 {
    let times = thread::scope(|scope| {
        let run = |rank: &C| {
            let x = Tensor::ones(bytes / 4, candle_core::DType::F32, &Device::Cpu).expect("a tensor");
            for _ in 0..calls / 10 {
                rank.all_reduce(&x).expect("a sum");
            }
            rank.barrier().expect("a group");
            let began = Instant::now();
            for _ in 0..calls {
                rank.all_reduce(&x).expect("a sum");
            }
            began.elapsed().as_secs_f64()
        };
        let started: Vec<_> = ranks.iter().map(|rank| scope.spawn(move || run(rank))).collect();
        started.into_iter().map(|rank| rank.join().expect("a rank")).fold(0.0, f64::max)
    });
    times / calls as f64
}

/// What threads need at least: each adds its slice of all tensors.
fn added(ranks: usize, bytes: usize, calls: usize) -> f64 {
    let slice = bytes / 4 / ranks;
    let start = Barrier::new(ranks);
    let times = thread::scope(|scope| {
        let run = || {
            let parts = vec![vec![1.0f32; slice]; ranks];
            let mut sums = vec![0.0f32; slice];
            start.wait();
            let began = Instant::now();
            for _ in 0..calls {
                sums.copy_from_slice(&parts[0]);
                for part in &parts[1..] {
                    sums.iter_mut().zip(part).for_each(|(sum, number)| *sum += number);
                }
                std::hint::black_box(&mut sums);
            }
            began.elapsed().as_secs_f64()
        };
        let started: Vec<_> = (0..ranks).map(|_| scope.spawn(run)).collect();
        started.into_iter().map(|rank| rank.join().expect("a thread")).fold(0.0, f64::max)
    });
    times / calls as f64
}

/// What two ranks need at least over sockets: the bytes go both ways at once, and nobody adds.
fn carried(bytes: usize, calls: usize) -> f64 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let near = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
    let (far, _) = listener.accept().expect("a connection");
    let run = |mut stream: &TcpStream| {
        stream.set_nodelay(true).expect("a socket");
        stream.set_nonblocking(true).expect("a socket");
        let (payload, mut buffer) = (vec![1u8; bytes], vec![0u8; bytes]);
        let began = Instant::now();
        for _ in 0..calls {
            let (mut sent, mut received) = (0, 0);
            while sent < bytes || received < bytes {
                if let Ok(more) = stream.write(&payload[sent..]) {
                    sent += more;
                }
                if received < bytes
                    && let Ok(more) = stream.read(&mut buffer[received..])
                {
                    received += more;
                }
            }
        }
        began.elapsed().as_secs_f64()
    };
    let times = thread::scope(|scope| {
        let other = scope.spawn(|| run(&far));
        run(&near).max(other.join().expect("a thread"))
    });
    times / calls as f64
}

fn tcp_group(ranks: usize) -> Vec<Tcp> {
    let leader = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free address");
    let join = |rank| {
        let options = GroupOptions::new(rank, ranks, leader.to_string());
        thread::spawn(move || Tcp::join(&options).expect("a group"))
    };
    let joining: Vec<_> = (0..ranks).map(join).collect();
    joining.into_iter().map(|rank| rank.join().expect("a rank")).collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
