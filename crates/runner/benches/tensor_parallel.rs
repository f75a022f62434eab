//! What it costs to split a model among ranks on the cores of one machine: on one rank with all cores, on threads, and on ranks
//! that are joined by TCP on the loopback interface, by turns in one run.
//!
//! `cargo bench -p vlinders-runner --bench tensor_parallel -- FOLDER|FILE.gguf [--ranks 2] [--prompt 512] [--answer 64]
//! [--streams 1] [--rounds 7]` prints tokens a second, medians of the rounds, and for each the median of its
//! shares of the first row within a round. All three models are in memory at once.

#![allow(missing_docs, reason = "a program")]

#[path = "measured/files.rs"]
mod files;
mod measured;

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;

use vlinders_runner::{
    ComputeOptions, GroupOptions, LoadOptions, LoadedModel, Member, ModelFiles, NoProgress, Tcp,
    configure_compute, load, load_member,
};

use self::files::model_files;
use self::measured::{Measured, median};

/// Tokens of a step.
const STEP: usize = 512;

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
    let Some(folder) = words.next() else { return usage() };
    let (mut ranks, mut prompt, mut answer, mut streams, mut rounds) = (2, 512, 64, 1, 7);
    while let Some(option) = words.next() {
        let place = match option.as_str() {
            "--ranks" => &mut ranks,
            "--prompt" => &mut prompt,
            "--answer" => &mut answer,
            "--streams" => &mut streams,
            "--rounds" => &mut rounds,
            _ => return usage(),
        };
        match words.next().and_then(|value| value.parse().ok()) {
            Some(number) => *place = number,
            None => return usage(),
        }
    }
    // As a server of one model does. Only one of the contenders computes at a time.
    let report = configure_compute(&ComputeOptions { engines: 1, ..ComputeOptions::default() });
    println!("{} threads, {:?}", report.threads, report.binding);
    let files = model_files(PathBuf::from(folder));
    let options =
        LoadOptions { max_model_len: Some(prompt + answer), max_num_seqs: streams, ..LoadOptions::default() };
    let split = LoadOptions { tensor_parallel_size: ranks, ..options.clone() };
    let mut contenders = [
        ("one rank", load(&files, &options, &NoProgress).expect("a model that loads")),
        ("threads", load(&files, &split, &NoProgress).expect("a model that can be split")),
        ("TCP", over_tcp(&files, &options, ranks)),
    ]
    .map(|(name, loaded)| (name, Measured::new(&loaded.info, loaded.executor, streams, STEP), Vec::new()));
    for (_, model, _) in &mut contenders {
        // Memory for a whole step is there afterwards.
        model.run(streams, prompt, 2);
    }
    for _ in 0..rounds {
        for (_, model, times) in &mut contenders {
            times.push(model.run(streams, prompt, answer));
        }
    }
    println!(
        "{ranks} ranks, {streams} streams, {prompt} + {answer} tokens, {rounds} rounds; tokens a second"
    );
    println!("{:10} {:>10} {:>6} {:>10} {:>6}", "", "prefill", "", "decode", "");
    let first = contenders[0].2.clone();
    for (name, _, times) in &contenders {
        let median_of = |of: fn(&(f64, f64)) -> f64| median(times.iter().map(of).collect());
        // The machine may be faster in one round than in the next, so contenders are compared within each.
        let share = |of: fn(&(f64, f64)) -> f64| {
            median(first.iter().zip(times).map(|(first, time)| of(first) / of(time)).collect())
        };
        println!(
            "{name:10} {:>10.1} {:>6.3} {:>10.2} {:>6.3}",
            (streams * prompt) as f64 / median_of(|time| time.0),
            share(|time| time.0),
            (streams * (answer - 1)) as f64 / median_of(|time| time.1),
            share(|time| time.1),
        );
    }
    ExitCode::SUCCESS
}

/// Ranks that are joined by TCP, though they are threads of this process.
fn over_tcp(files: &ModelFiles, options: &LoadOptions, ranks: usize) -> LoadedModel {
    let leader = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free address");
    let start = |rank| {
        let (files, options) = (files.clone(), options.clone());
        let group = GroupOptions::new(rank, ranks, leader.to_string());
        thread::spawn(move || {
            let group = Tcp::join(&group).expect("a group");
            match load_member(&files, &options, group, &NoProgress).expect("a model that can be split") {
                Member::Leader(loaded) => Some(*loaded),
                Member::Follower(follower) => {
                    follower.run().expect("a first rank");
                    None
                }
            }
        })
    };
    let first = start(0);
    for rank in 1..ranks {
        start(rank);
    }
    first.join().ok().flatten().expect("a first rank")
}

fn usage() -> ExitCode {
    eprintln!(
        "usage: tensor_parallel FOLDER|FILE.gguf [--ranks N] [--prompt N] [--answer N] [--streams N] [--rounds N]"
    );
    ExitCode::FAILURE
}
