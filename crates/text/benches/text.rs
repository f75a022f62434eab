//! What a token and a prompt cost: detokenizer, stop strings, template, encoding, with the built-in model.

use std::{borrow::Cow, fs, hint::black_box, io, path::PathBuf};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use serde_json::json;
use vlinders_text::{RenderInput, StopStrings, TextModel, TextOptions};

const TEXT: &str =
    "The brimstone 🦋 (Gonepteryx rhamni) flies from March to October; in Dutch: «citroenvlinder». ";

fn load() -> TextModel {
    let assets = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../demo/assets");
    let read = |name: &str| match fs::read(assets.join(name)) {
        Ok(bytes) => Ok(Some(Cow::Owned(bytes))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    };
    TextModel::load(read, TextOptions::default()).expect("the built-in model has a tokenizer")
}

/// A conversation of so many turns.
fn conversation(turns: usize) -> RenderInput {
    let messages = (0..turns)
        .map(|turn| json!({"role": if turn % 2 == 0 { "user" } else { "assistant" }, "content": TEXT}))
        .collect();
    RenderInput { messages, add_generation_prompt: true, ..RenderInput::default() }
}

fn tokens_to_text(c: &mut Criterion) {
    let model = load();
    let ids = model.encode(&TEXT.repeat(20), false).expect("text can be encoded");
    let mut group = c.benchmark_group("detokenizer");
    group.throughput(Throughput::Elements(ids.len() as u64));
    group.bench_function("push", |b| {
        b.iter(|| {
            let mut detokenizer = model.detokenizer(&[], true);
            ids.iter().map(|&id| black_box(detokenizer.push(id)).len()).sum::<usize>()
        });
    });
    group.bench_function("push with 4 stop strings", |b| {
        let strings = ["\n\nUser:", "</answer>", "<|im_end|>", "The brimstone 🦌"];
        b.iter(|| {
            let mut detokenizer = model.detokenizer(&[], true);
            let mut stops = StopStrings::new(strings.map(str::to_owned).to_vec(), false);
            ids.iter().map(|&id| black_box(stops.push(&detokenizer.push(id))).text.len()).sum::<usize>()
        });
    });
    group.finish();
}

fn prompts(c: &mut Criterion) {
    let model = load();
    let mut group = c.benchmark_group("prompt");
    for turns in [1, 10, 100] {
        let input = conversation(turns);
        group.throughput(Throughput::Elements(turns as u64));
        group.bench_function(format!("render {turns} messages"), |b| {
            b.iter(|| model.render(black_box(&input)).map(|prompt| prompt.len()));
        });
    }
    let text = TEXT.repeat(100);
    group.throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function("encode", |b| b.iter(|| model.encode(black_box(&text), false).map(|ids| ids.len())));
    group.finish();
}

criterion_group!(benches, tokens_to_text, prompts);
criterion_main!(benches);
