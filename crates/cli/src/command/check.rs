//! `vlinders check`: whether each model could be served, without loading its weights.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};
use vlinders_runner::{Inspection, ModelFiles, inspect};
use vlinders_text::{RenderInput, TextModel};

use crate::args::{CheckArgs, ServerArgs};
use crate::config::{self, ModelConfig, format_bytes, format_count};

/// What was found of one model.
struct Finding<'a> {
    model: &'a ModelConfig,
    inspection: Option<Inspection>,
    problems: Vec<String>,
    notes: Vec<String>,
}

/// Check configuration, weights, tokenizer, template and memory.
pub(crate) fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let server = ServerArgs { file: args.server.clone(), ..ServerArgs::default() };
    let resolved = config::resolve(&args.model, &server, Path::new(""))?;
    let share = 1.0 / resolved.models.len() as f64;
    let findings: Vec<_> = resolved.models.iter().map(|model| examine(model, share)).collect();
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

fn examine(model: &ModelConfig, share: f64) -> Finding<'_> {
    let files = model.files();
    let mut finding = Finding { model, inspection: None, problems: Vec::new(), notes: Vec::new() };
    match inspect(&files, &model.load_options(share)) {
        Ok(inspection) => {
            finding.problems.extend(inspection.problems.iter().cloned());
            finding.problems.extend(inspection.fit.as_ref().err().cloned());
            finding.inspection = Some(inspection);
        }
        Err(error) => finding.problems.push(error.to_string()),
    }
    finding.examine_text(&files);
    finding
}

impl Finding<'_> {
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
        row("files", self.model.files().place());
        if let Some(found) = &self.inspection {
            row("architecture", found.architecture.to_owned());
            row("parameters", format_count(found.num_parameters));
            let missing = found.problems.len();
            row(
                "tensors",
                format!("{} needed, {missing} problems, {} not used", found.num_tensors, found.unused.len()),
            );
            row("weights", format!("{} in memory as {:?}", format_bytes(found.weight_bytes), found.dtype));
            row(
                "KV cache",
                format!(
                    "{} for each token as {:?}; {} for one sequence of full length",
                    format_bytes(found.kv_bytes_per_token),
                    found.kv_cache_dtype,
                    format_bytes(found.kv_bytes_per_sequence)
                ),
            );
            let memory = found.available_memory.map_or_else(|| "unknown".to_owned(), format_bytes);
            row("free memory", memory);
            if let Ok(fit) = &found.fit {
                let tokens = fit.kv_bytes / found.kv_bytes_per_token.max(1);
                let full = tokens / fit.max_model_len.max(1) as u64;
                row(
                    "fits",
                    format!(
                        "max_model_len {} ({full} sequences of that length at once, cache {}); \
                         the largest max_model_len that fits is {}",
                        fit.max_model_len,
                        format_bytes(fit.kv_bytes),
                        fit.largest_max_model_len
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
            json!({
                "architecture": found.architecture,
                "parameters": found.num_parameters,
                "dtype": format!("{:?}", found.dtype),
                "file_bytes": found.file_bytes,
                "weight_bytes": found.weight_bytes,
                "kv_bytes_per_token": found.kv_bytes_per_token,
                "available_bytes": found.available_memory,
                "max_model_len": found.fit.as_ref().ok().map(|fit| fit.max_model_len),
                "largest_max_model_len": found.fit.as_ref().ok().map(|fit| fit.largest_max_model_len),
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
