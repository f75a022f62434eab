//! `vlinders check`: whether each model could be served, without loading its weights.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};
use vlinders_runner::{DeviceChoice, Inspection, ModelFiles, inspect, usable_cpus};
use vlinders_text::{RenderInput, TextModel};

use crate::args::{CheckArgs, ComputeArgs, ServerArgs};
use crate::config::{self, ModelConfig, format_bytes, format_count};

/// What was found of one model.
struct Finding<'a> {
    model: &'a ModelConfig,
    /// The GPU it computes on, if any.
    device: Option<String>,
    /// Memory for weights and cache, less what the models before it take; `None` if the system does not tell.
    available: Option<u64>,
    /// Where its files are, when they could be opened.
    place: Option<String>,
    inspection: Option<Inspection>,
    problems: Vec<String>,
    notes: Vec<String>,
}

/// Check configuration, weights, tokenizer, template and memory.
pub(crate) fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let server = ServerArgs { file: args.server.clone(), ..ServerArgs::default() };
    let resolved = config::resolve(&args.model, &server, &ComputeArgs::default(), Path::new(""))?;
    let share = 1.0 / resolved.models.len() as f64;
    let mut findings = Vec::new();
    // Models are loaded one after the other, so each has the memory that those before it on its device leave.
    let mut taken = HashMap::<Option<String>, u64>::new();
    // Asked once: what is free changes while we look.
    let mut memories = HashMap::<(DeviceChoice, usize), Result<Memory, String>>::new();
    for model in &resolved.models {
        let ranks = model.tensor_parallel_size.unwrap_or(1);
        let memory = memories
            .entry((model.device, ranks))
            .or_insert_with(|| model.device.memory(ranks).map_err(|error| error.to_string()));
        let finding = examine(model, share, memory.clone(), &taken);
        *taken.entry(finding.device.clone()).or_default() += finding.bytes();
        findings.push(finding);
    }
    if args.json {
        println!("{:#}", Value::from_iter(findings.iter().map(Finding::to_json)));
    } else {
        println!("configuration  {}; {}", resolved.origin.models, resolved.origin.server);
        findings.iter().for_each(|finding| print!("\n{}", finding.to_text()));
    }
    let bad = findings.iter().filter(|finding| !finding.problems.is_empty()).count();
    if bad > 0 {
        eprintln!("\n{bad} of {} models could not be served", findings.len());
    }
    Ok(if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The name of a GPU, if it is one, and the memory that is free.
type Memory = (Option<String>, Option<u64>);

/// What is found of one model, when so many bytes of each device are taken by others.
fn examine<'a>(
    model: &'a ModelConfig,
    share: f64,
    memory: Result<Memory, String>,
    taken: &HashMap<Option<String>, u64>,
) -> Finding<'a> {
    let mut problems = Vec::new();
    let (device, available) = memory.unwrap_or_else(|error| {
        problems.push(error);
        (None, None)
    });
    let taken = taken.get(&device).copied().unwrap_or(0);
    let available = available.map(|bytes| bytes.saturating_sub(taken));
    let mut finding =
        Finding { model, device, available, place: None, inspection: None, problems, notes: Vec::new() };
    let files = match model.files() {
        Ok(files) => files,
        Err(error) => {
            finding.problems.push(error.to_string());
            return finding;
        }
    };
    finding.place = Some(files.place());
    match inspect(&files, &model.load_options(share), available) {
        Ok(inspection) => {
            finding.problems.extend(inspection.problems.iter().cloned());
            finding.problems.extend(inspection.fit.as_ref().err().cloned());
            finding.inspection = Some(inspection);
        }
        Err(error) => finding.problems.push(error.to_string()),
    }
    if let Some(threads) = model.num_threads.filter(|threads| *threads > usable_cpus()) {
        let cpus = usable_cpus();
        finding.notes.push(format!("num_threads is {threads}, this machine lets a process use {cpus} CPUs"));
    }
    finding.examine_text(&files);
    finding
}

impl Finding<'_> {
    /// What the model would take.
    fn bytes(&self) -> u64 {
        let Some(found) = &self.inspection else { return 0 };
        found.weight_bytes + found.fit.as_ref().map_or(0, |fit| fit.kv_bytes)
    }

    fn examine_text(&mut self, files: &ModelFiles) {
        let text = match self.model.text(files) {
            Ok(text) => text,
            Err(error) => return self.problems.push(format!("{error:#}")),
        };
        if let Some(inspection) = &self.inspection
            && text.vocab_size() > inspection.vocab_size
        {
            let (tokenizer, model) = (text.vocab_size(), inspection.vocab_size);
            self.problems.push(format!(
                "the tokenizer has {tokenizer} tokens and the model {model}; they do not belong together"
            ));
        }
        if text.eos_token_ids().is_empty() {
            self.notes
                .push("no end-of-sequence token is known: every answer runs to its length limit".to_owned());
        }
        if !text.has_chat_template() {
            self.notes.push(
                "there is no chat template: /v1/completions works, /v1/chat/completions does not".to_owned(),
            );
        } else if let Err(error) = sample_prompt(&text) {
            self.problems.push(error);
        }
    }

    fn to_text(&self) -> String {
        let mut out = String::new();
        let verdict = if self.problems.is_empty() { "ok" } else { "PROBLEMS" };
        // Writing to a string does not fail.
        let _ = writeln!(out, "{}  {verdict}", self.model.name);
        let mut row = |name: &str, value: String| {
            let _ = writeln!(out, "  {name:<14} {value}");
        };
        if let Some(place) = &self.place {
            row("files", place.clone());
        }
        if let Some(found) = &self.inspection {
            row("architecture", found.architecture.to_owned());
            row("parameters", format_count(found.num_parameters));
            if let Some(ranks) = self.model.tensor_parallel_size.filter(|ranks| *ranks > 1) {
                row("ranks", format!("{ranks}, all on this machine; sizes below are those of all together"));
            }
            let missing = found.problems.len();
            row(
                "tensors",
                format!("{} needed, {missing} problems, {} not used", found.num_tensors, found.unused.len()),
            );
            let stored =
                found.stored.iter().map(|(name, bytes)| format!("{} as {name}", format_bytes(*bytes)));
            row("in the files", stored.collect::<Vec<_>>().join(", "));
            row("weights", format!("{} in memory as {}", format_bytes(found.weight_bytes), found.format));
            row(
                "KV cache",
                format!(
                    "{} for each token as {}; {} for one sequence of full length",
                    format_bytes(found.kv_bytes_per_token),
                    found.kv_cache_dtype,
                    format_bytes(found.kv_bytes_per_sequence)
                ),
            );
            if let Some(device) = &self.device {
                row("device", device.clone());
            }
            row("free memory", self.available.map_or_else(|| "unknown".to_owned(), format_bytes));
            if let Ok(fit) = &found.fit {
                row(
                    "fits",
                    format!(
                        "max_model_len {} with max_num_seqs {}: {} sequences of that length at once, in a cache of {}",
                        fit.max_model_len,
                        self.model.max_num_seqs(),
                        fit.full_sequences,
                        format_bytes(fit.kv_bytes)
                    ),
                );
                row(
                    "largest",
                    format!(
                        "max_model_len {}, for one sequence at a time; max_num_seqs {} at max_model_len {}",
                        fit.largest_max_model_len, fit.largest_max_num_seqs, fit.max_model_len
                    ),
                );
            }
        }
        self.notes.iter().for_each(|note| row("note", note.clone()));
        self.problems.iter().for_each(|problem| row("problem", problem.clone()));
        out
    }

    fn to_json(&self) -> Value {
        let found = self.inspection.as_ref().map(|found| {
            let fit = found.fit.as_ref().ok();
            json!({
                "architecture": found.architecture,
                "parameters": found.num_parameters,
                "format": found.format.as_str(),
                "file_bytes": found.file_bytes,
                "stored_bytes": found.stored.iter().cloned().collect::<BTreeMap<_, _>>(),
                "weight_bytes": found.weight_bytes,
                "tensor_parallel_size": self.model.tensor_parallel_size.unwrap_or(1),
                "kv_cache_dtype": found.kv_cache_dtype.as_str(),
                "kv_bytes_per_token": found.kv_bytes_per_token,
                "device": self.device,
                "available_bytes": self.available,
                "kv_bytes": fit.map(|fit| fit.kv_bytes),
                "max_model_len": fit.map(|fit| fit.max_model_len),
                "max_num_seqs": self.model.max_num_seqs(),
                "full_sequences": fit.map(|fit| fit.full_sequences),
                "largest_max_model_len": fit.map(|fit| fit.largest_max_model_len),
                "largest_max_num_seqs": fit.map(|fit| fit.largest_max_num_seqs),
                "unused_tensors": found.unused,
            })
        });
        json!({
            "name": self.model.name,
            "ok": self.problems.is_empty(),
            "problems": self.problems,
            "notes": self.notes,
            "model": found,
        })
    }
}

/// Render and encode a short conversation, as the first request would.
fn sample_prompt(text: &TextModel) -> Result<(), String> {
    let messages = vec![json!({"role": "user", "content": "Hello"})];
    let input = RenderInput { messages, add_generation_prompt: true, ..RenderInput::default() };
    let prompt = text.render(&input).map_err(|error| error.to_string())?;
    let ids = text.encode(&prompt, false).map_err(|error| error.to_string())?;
    if ids.is_empty() { Err("the chat template gives an empty prompt".to_owned()) } else { Ok(()) }
}
