//! Writes a checkpoint as a packed file: each matrix is loaded as for serving, and its bytes are written.
//!
//! `packed.rs` has the format of the file. One matrix is held in memory at a time. The same source and precision give the same
//! bytes.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use serde_json::{Map, Value, json};
use vlinders_kernels::{Format, TILE_ALIGNMENT, TILE_LAYOUT};

use super::{Checkpoint, PACKED, header, packed};
use crate::{LayerError, LoadPlan, MatrixSpec, Part, Place, Precision, VectorSpec};

/// Bytes of one write. Writes of whole multiples of large pages, at such multiples, make the system keep the file in large pages.
const WRITE_BYTES: usize = 8 << 20;
/// The file while it is being written.
const UNFINISHED: &str = "packed.safetensors.part";

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackStats {
    /// Bytes of the files that were read.
    pub bytes_read: u64,
    /// Bytes of the packed file.
    pub bytes_written: u64,
    /// The format of most weights.
    pub format: Format,
}

/// What is written, in its order.
struct Contents<'a> {
    matrices: Vec<(&'a MatrixSpec, Format)>,
    vectors: Vec<&'a Part>,
}

/// A file that is written in runs of [`WRITE_BYTES`] from its beginning on.
struct Output<'a> {
    path: &'a Path,
    file: File,
    waiting: Vec<u8>,
    written: u64,
}

// === impl Checkpoint ===

impl Checkpoint {
    /// Write the tensors of `plan` to `packed.safetensors` in `folder`, as loading with this precision would have them in
    /// memory. The file has another name until it is complete and on the disk. `progress` is called with bytes written and
    /// bytes in all.
    ///
    /// # Errors
    /// The first of [`Checkpoint::problems`], a checkpoint that is packed already, or what reading or writing says.
    pub fn pack(
        &self,
        plan: &LoadPlan,
        precision: Precision,
        folder: &Path,
        progress: &dyn Fn(u64, u64),
    ) -> Result<PackStats, LayerError> {
        self.refuse_packed()?;
        if let Some(problem) = self.problems(plan, precision).into_iter().next() {
            return Err(problem);
        }
        let unfinished = folder.join(UNFINISHED);
        let outcome = self.write_packed(plan, precision, &unfinished, progress).and_then(|bytes| {
            let path = folder.join(PACKED);
            fs::rename(&unfinished, &path)
                .map_err(|source| LayerError::Write { file: path.display().to_string(), source })?;
            Ok(bytes)
        });
        let bytes_written = outcome.inspect_err(|_| {
            // What is left of it is of no use; the first error is the one to tell.
            let _ = fs::remove_file(&unfinished);
        })?;
        let (format, _) = self.in_memory(plan, precision);
        Ok(PackStats { bytes_read: self.file_bytes(), bytes_written, format })
    }

    fn write_packed(
        &self,
        plan: &LoadPlan,
        precision: Precision,
        path: &Path,
        progress: &dyn Fn(u64, u64),
    ) -> Result<u64, LayerError> {
        let contents = self.contents(plan, precision);
        let (header, total) = contents.header()?;
        let mut out = Output::create(path)?;
        let mut write = |bytes: &[u8]| -> Result<(), LayerError> {
            out.write(bytes)?;
            progress(out.written, total);
            Ok(())
        };
        write(&header)?;
        for (spec, _) in &contents.matrices {
            let one = LoadPlan::of(vec![(*spec).clone()], Vec::new());
            let (loaded, _) = self.stream(&one, precision, &Place::Cpu, &|_, _| {})?;
            for matrix in loaded.matrices.values() {
                let bytes = matrix.cpu()?.bytes();
                bytes.chunks(WRITE_BYTES).try_for_each(&mut write)?;
                write(&[0; TILE_ALIGNMENT][..bytes.len().next_multiple_of(TILE_ALIGNMENT) - bytes.len()])?;
            }
        }
        for part in &contents.vectors {
            let one = LoadPlan::of(Vec::new(), vec![VectorSpec { parts: vec![(*part).clone()] }]);
            let (loaded, _) = self.stream(&one, precision, &Place::Cpu, &|_, _| {})?;
            for vector in loaded.vectors.values() {
                let numbers = vector.to_cpu()?.to_vec1::<f32>()?;
                write(&numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<_>>())?;
            }
        }
        out.finish()?;
        progress(total, total);
        Ok(total)
    }

    /// Each matrix and each part of a vector once, in the order of the plan.
    fn contents<'a>(&self, plan: &'a LoadPlan, precision: Precision) -> Contents<'a> {
        let mut seen = HashSet::new();
        let matrices = plan.matrices().iter().filter(|spec| seen.insert(spec.key()));
        let matrices = matrices.map(|spec| (spec, self.format(spec, precision))).collect();
        let mut seen = HashSet::new();
        let parts = plan.vectors().iter().flat_map(|spec| &spec.parts);
        Contents { matrices, vectors: parts.filter(|part| seen.insert(&part.tensor)).collect() }
    }
}

// === impl Contents ===

impl Contents<'_> {
    /// What stands before the data, and the bytes of the whole file.
    fn header(&self) -> Result<(Vec<u8>, u64), LayerError> {
        let mut metadata = Map::new();
        metadata.insert(packed::LAYOUT.to_owned(), json!(TILE_LAYOUT.to_string()));
        let mut entries = Map::new();
        let mut end = 0u64;
        let mut entry = |name: &str, dtype: &str, shape: usize, bytes: u64| {
            let begin = end;
            end += bytes;
            let entry = json!({"dtype": dtype, "shape": [shape], "data_offsets": [begin, end]});
            entries.insert(name.to_owned(), entry);
        };
        for (spec, format) in &self.matrices {
            let bytes = packed::file_bytes(*format, spec.rows(), spec.cols.len())
                .ok_or(vlinders_kernels::KernelError::Memory { bytes: usize::MAX })?;
            entry(spec.key(), "U8", bytes, bytes as u64);
            metadata.insert(format!("{}{}", packed::NOTE, spec.key()), json!(packed::note(*format, spec)));
        }
        for part in &self.vectors {
            entry(&part.tensor, "F32", part.rows.len(), part.rows.len() as u64 * 4);
        }
        let mut all = Map::new();
        all.insert("__metadata__".to_owned(), Value::Object(metadata));
        all.extend(entries);
        let header = header::to_bytes(all, TILE_ALIGNMENT);
        let total = header.len() as u64 + end;
        Ok((header, total))
    }
}

// === impl Output ===

impl<'a> Output<'a> {
    fn create(path: &'a Path) -> Result<Self, LayerError> {
        let fail = |source| LayerError::Write { file: path.display().to_string(), source };
        let file = File::create(path).map_err(fail)?;
        Ok(Self { path, file, waiting: Vec::with_capacity(WRITE_BYTES), written: 0 })
    }

    fn write(&mut self, mut bytes: &[u8]) -> Result<(), LayerError> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(WRITE_BYTES - self.waiting.len()));
            self.waiting.extend_from_slice(now);
            self.written += now.len() as u64;
            bytes = later;
            if self.waiting.len() == WRITE_BYTES {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), LayerError> {
        self.file.write_all(&self.waiting).map_err(|source| self.failed(source))?;
        self.waiting.clear();
        Ok(())
    }

    /// Everything is on the disk afterwards.
    fn finish(mut self) -> Result<(), LayerError> {
        self.flush()?;
        self.file.sync_all().map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> LayerError {
        LayerError::Write { file: self.path.display().to_string(), source }
    }
}
