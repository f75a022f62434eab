//! Writes a checkpoint again with its matrices quantised, so that the next start reads them as they are.
//!
//! Tensor after tensor is streamed: a run of rows is read, rounded and written before the next one. `header.rs` says how
//! encodings stand in the files.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde_json::{Map, Value, json};
use vlinders_kernels::{Format, Stored, round_rows};

use super::load::RUN_BYTES;
use super::scales::Scales;
use super::{Checkpoint, INDEX, SINGLE, TensorInfo, header};
use crate::{LayerError, LoadPlan, Precision, Quantization};

/// One tensor to be written.
struct Output<'a> {
    name: &'a str,
    source: &'a TensorInfo,
    stored: Stored,
    scales: Option<Scales>,
    /// What it is rounded to; its numbers stay as they are when `None`.
    format: Option<Format>,
    /// As the header has it.
    shape: Vec<usize>,
    bytes: u64,
}

/// What was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QuantizeStats {
    /// Files of weights.
    pub num_files: usize,
    /// Bytes of their tensors before.
    pub bytes_read: u64,
    /// Bytes of their tensors now.
    pub bytes_written: u64,
}

// === impl Checkpoint ===

impl Checkpoint {
    /// Write the tensors of `plan` to `folder` as safetensors, its matrices rounded as loading with this quantisation would
    /// round them, in files of about `file_bytes`. `progress` is called with bytes read and bytes in all.
    ///
    /// # Errors
    /// The first of [`Checkpoint::problems`], rows that are no whole blocks, or what reading or writing says.
    pub fn quantize(
        &self,
        plan: &LoadPlan,
        quantization: Quantization,
        folder: &Path,
        file_bytes: u64,
        progress: &dyn Fn(u64, u64),
    ) -> Result<QuantizeStats, LayerError> {
        let outputs = self.outputs(plan, quantization)?;
        let total = outputs.iter().map(|output| output.source.bytes).sum();
        let files = spread(&outputs, file_bytes);
        let mut done = 0;
        let mut weight_map = Map::new();
        for (i, tensors) in files.iter().enumerate() {
            let name = match files.len() {
                1 => SINGLE.to_owned(),
                count => format!("model-{:05}-of-{count:05}.safetensors", i + 1),
            };
            let path = folder.join(&name);
            let fail = |source| LayerError::Write { file: path.display().to_string(), source };
            let mut out = BufWriter::new(File::create(&path).map_err(fail)?);
            write_header(&mut out, tensors).map_err(fail)?;
            for output in *tensors {
                weight_map.insert(output.name.to_owned(), json!(name));
                self.write_tensor(output, &mut |bytes| out.write_all(bytes).map_err(fail), &mut |read| {
                    done += read;
                    progress(done, total);
                })?;
            }
            out.flush().map_err(fail)?;
        }
        let bytes_written = outputs.iter().map(|output| output.bytes).sum();
        if files.len() > 1 {
            let path = folder.join(INDEX);
            let index = json!({"metadata": {"total_size": bytes_written}, "weight_map": weight_map});
            let fail = |source| LayerError::Write { file: path.display().to_string(), source };
            std::fs::write(&path, format!("{index:#}\n")).map_err(fail)?;
        }
        Ok(QuantizeStats { num_files: files.len(), bytes_read: total, bytes_written })
    }

    /// What is to be written, in the order in which it is read.
    fn outputs<'a>(
        &'a self,
        plan: &'a LoadPlan,
        quantization: Quantization,
    ) -> Result<Vec<Output<'a>>, LayerError> {
        self.refuse_packed()?;
        let precision = Precision { quantization: Some(quantization), ..Precision::default() };
        if let Some(problem) = self.problems(plan, precision).into_iter().next() {
            return Err(problem);
        }
        let mut outputs = Vec::new();
        for spec in plan.matrices() {
            let cols = spec.cols.size();
            for part in &spec.parts {
                let rows = part.rows.size();
                let (source, stored) = self.check(&part.tensor, &[rows, cols])?;
                let format = precision.format(spec.kind, cols, &[self.kept(spec, part)]);
                let scales = self.scales(&part.tensor, source)?;
                let name = part.tensor.as_str();
                if format.dtype().is_some() {
                    // What chooses experts: as it is, or without its scales.
                    let bytes = if scales.is_some() { 4 * source.bytes } else { source.bytes };
                    let shape = vec![rows, cols];
                    outputs.push(Output { name, source, stored, scales, format: None, shape, bytes });
                    continue;
                }
                let row_bytes = format.stored().row_bytes(cols).ok_or_else(|| LayerError::NoWholeBlocks {
                    tensor: part.tensor.clone(),
                    cols,
                    block: format.stored().block_len(),
                })?;
                let (shape, bytes) = (vec![rows, row_bytes], (rows * row_bytes) as u64);
                outputs.push(Output { name, source, stored, scales, format: Some(format), shape, bytes });
            }
        }
        for part in plan.vectors().iter().flat_map(|spec| &spec.parts) {
            let shape = vec![part.rows.size()];
            let (source, stored) = self.check(&part.tensor, &shape)?;
            outputs.push(Output {
                name: &part.tensor,
                source,
                stored,
                scales: None,
                format: None,
                shape,
                bytes: source.bytes,
            });
        }
        outputs.sort_by_key(|output| (output.source.shard, output.source.offset));
        Ok(outputs)
    }

    fn write_tensor(
        &self,
        output: &Output<'_>,
        write: &mut dyn FnMut(&[u8]) -> Result<(), LayerError>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), LayerError> {
        let source = output.source;
        let row_bytes = source.bytes / source.shape[0].max(1) as u64;
        // Numbers with scales become f32 on the way.
        let run_bytes = if output.scales.is_some() { RUN_BYTES / size_of::<f32>() } else { RUN_BYTES };
        let run = (run_bytes as u64 / row_bytes.max(1)).max(1) * row_bytes;
        let mut buffer = Vec::new();
        let mut at = 0;
        while at < source.bytes {
            let len = run.min(source.bytes - at);
            let rows = self.shards[source.shard].read(source.offset + at, len as usize, &mut buffer)?;
            let cols = source.shape.last().copied().unwrap_or(1).max(1);
            let numbers = match &output.scales {
                None => None,
                Some(scales) => {
                    let first = (at / row_bytes.max(1)) as usize;
                    scales.check_codes(&self.shards[source.shard], &rows)?;
                    let of_rows =
                        scales.read(&self.shards[scales.shard], first..first + rows.len() / cols)?;
                    Some(of_rows.numbers(&rows, 0..cols))
                }
            };
            let (stored, rows) =
                numbers.as_deref().map_or((output.stored, &*rows), |numbers| (Stored::F32, numbers));
            match output.format {
                Some(format) => write(&round_rows(format, stored, cols, rows)?)?,
                None => write(rows)?,
            }
            progress(len);
            at += len;
        }
        Ok(())
    }
}

/// Cut into files of at most `file_bytes`, or of one tensor.
fn spread<'a, 'b>(outputs: &'b [Output<'a>], file_bytes: u64) -> Vec<&'b [Output<'a>]> {
    let mut files = Vec::new();
    let (mut begin, mut held) = (0, 0);
    for (i, output) in outputs.iter().enumerate() {
        if i > begin && held + output.bytes > file_bytes {
            files.push(&outputs[begin..i]);
            (begin, held) = (i, 0);
        }
        held += output.bytes;
    }
    files.push(&outputs[begin..]);
    files
}

fn write_header(out: &mut impl Write, tensors: &[Output<'_>]) -> io::Result<()> {
    let mut metadata = Map::new();
    metadata.insert("format".to_owned(), json!("pt"));
    let mut entries = Map::new();
    let mut end = 0;
    for output in tensors {
        let begin = end;
        end += output.bytes;
        let dtype = match output.format {
            Some(format) => {
                let encoding = format!("{:?}", format.stored());
                metadata.insert(format!("{}{}", header::ENCODING, output.name), json!(encoding));
                "U8"
            }
            None if output.scales.is_some() => "F32",
            None => output.source.dtype_name(),
        };
        let entry = json!({"dtype": dtype, "shape": output.shape, "data_offsets": [begin, end]});
        entries.insert(output.name.to_owned(), entry);
    }
    let mut all = Map::new();
    all.insert("__metadata__".to_owned(), Value::Object(metadata));
    all.extend(entries);
    // Data begins at a multiple of eight, as the reference writer has it.
    out.write_all(&header::to_bytes(all, 8))
}

#[cfg(test)]
mod tests;
