//! Streams weights from files into packed matrices.
//!
//! Several threads claim runs of rows in the order in which they lie in the files, so the disk sees large, nearly
//! sequential reads with several in flight; while one thread packs its run, others read. What comes next
//! is announced to the system beforehand. At most a few megabytes per thread are held besides the weights.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use candle_core::{DType, Device};
use vlinders_device::Tensor;
use vlinders_kernels::gpu::{GpuFormat, GpuMatrixBuilder, RowStaging};
use vlinders_kernels::ops::Matrix;
use vlinders_kernels::{Format, PackedWeight, PackedWeightBuilder, Stored};

use super::cut::Cut;
use super::scales::Scales;
use super::shard::Shard;
use super::{Checkpoint, Container, TensorInfo};
use crate::{LayerError, LoadPlan, MatrixKind, MatrixSpec, Place, Precision};

/// Bytes of one read.
pub(super) const RUN_BYTES: usize = 8 << 20;
/// Reads in flight: more than cores, since a network volume is slow to answer.
pub(super) const MAX_WORKERS: usize = 8;

/// The tensors of a model, in the form in which layers use them, by the name of their first part.
#[derive(Debug, Default, Clone)]
pub struct LoadedTensors {
    pub(crate) place: Place,
    pub(crate) matrices: HashMap<String, Matrix>,
    pub(crate) vectors: HashMap<String, Tensor>,
}

/// How a load went.
#[derive(Debug, Clone, Copy, Default)]
pub struct LoadStats {
    /// Bytes read.
    pub bytes: u64,
    /// Bytes of them that stay in the file, which is mapped: memory of the system's page cache that this model needs.
    pub mapped: u64,
    /// Wall time of the whole load.
    pub wall: Duration,
    /// The share of `wall` that was spent waiting for reads.
    pub read: Duration,
    /// The share of `wall` that was spent converting and packing.
    pub convert: Duration,
}

/// A run of rows of one tensor: what one thread reads at once.
struct Run {
    shard: usize,
    offset: u64,
    len: usize,
    /// Bytes of one row, or of one number of a vector.
    row_bytes: usize,
    stored: Stored,
    /// The size of a head, when rows have to be put back into their places in each.
    interleaved_head: Option<usize>,
    /// The part of each row that is taken, unless that is all of it.
    cut: Option<Cut>,
    /// Where numbers are multiplied with others.
    scaled: Option<Scaled>,
    target: Target,
}

/// What is to be known of a run of rows that have scales.
struct Scaled {
    scales: Scales,
    rows: Range<usize>,
    cols: Range<usize>,
}

/// Where a run goes.
enum Target {
    Matrix { matrix: usize, first_row: usize },
    Vector { vector: usize, first: usize, take: Range<usize> },
}

/// What is being filled.
struct Filling {
    place: Place,
    matrices: Vec<Builder>,
    vectors: Vec<Mutex<Vec<f32>>>,
}

/// A matrix that is being filled.
enum Builder {
    Cpu(Mutex<PackedWeightBuilder>),
    Gpu(GpuMatrixBuilder),
}

/// What a thread that loads reads to.
#[derive(Default)]
struct Worker {
    buffer: Vec<u8>,
    ordered: Vec<u8>,
    /// On the way to a GPU.
    staging: RowStaging,
}

// === impl Checkpoint ===

impl Checkpoint {
    /// Load what `plan` asks for into memory of the host. `precision` decides on the format of matrices; vectors are widened to
    /// f32. `progress` is called with bytes done and bytes in all, from several threads.
    ///
    /// # Errors
    /// The first of [`Checkpoint::problems`], or what reading says.
    pub fn load(
        &self,
        plan: &LoadPlan,
        precision: Precision,
        progress: &(dyn Fn(u64, u64) + Sync),
    ) -> Result<(LoadedTensors, LoadStats), LayerError> {
        self.load_to(plan, precision, &Place::Cpu, progress)
    }

    /// The same into memory of `place`.
    ///
    /// # Errors
    /// As [`load`](Self::load), and when the device fails or its memory is too small.
    pub fn load_to(
        &self,
        plan: &LoadPlan,
        precision: Precision,
        place: &Place,
        progress: &(dyn Fn(u64, u64) + Sync),
    ) -> Result<(LoadedTensors, LoadStats), LayerError> {
        match (self.container, place) {
            (Container::Packed, Place::Cpu) => {
                self.map(plan, precision, progress).map_err(LayerError::of_packed)
            }
            (Container::Packed, Place::Gpu { .. }) => Err(LayerError::PackedForCpu),
            (Container::Safetensors | Container::Gguf, _) => {
                self.unexpected(plan).map_or(Ok(()), Err)?;
                self.stream(plan, precision, place, progress)
            }
        }
    }

    /// Read tensors, decode and pack them.
    pub(super) fn stream(
        &self,
        plan: &LoadPlan,
        precision: Precision,
        place: &Place,
        progress: &(dyn Fn(u64, u64) + Sync),
    ) -> Result<(LoadedTensors, LoadStats), LayerError> {
        let started = Instant::now();
        let (mut runs, filling) = self.prepare(plan, precision, place)?;
        runs.sort_unstable_by_key(|run| (run.shard, run.offset));
        let total = runs.iter().map(Run::num_bytes).sum();
        let workers = runs.len().clamp(1, MAX_WORKERS);
        let next = AtomicUsize::new(0);
        let done = AtomicU64::new(0);
        let (read_ns, convert_ns) = (AtomicU64::new(0), AtomicU64::new(0));
        in_parallel(workers, &|stop| {
            let mut worker = Worker::default();
            while !stop.load(Ordering::Relaxed) {
                let i = next.fetch_add(1, Ordering::Relaxed);
                let Some(run) = runs.get(i) else { break };
                if let Some(ahead) = runs.get(i + workers) {
                    ahead.prefetch(&self.shards[ahead.shard]);
                }
                let (read, convert) = worker.load(run, &self.shards, &filling)?;
                read_ns.fetch_add(read.as_nanos() as u64, Ordering::Relaxed);
                convert_ns.fetch_add(convert.as_nanos() as u64, Ordering::Relaxed);
                let len = run.num_bytes();
                progress(done.fetch_add(len, Ordering::Relaxed) + len, total);
            }
            Ok(())
        })?;
        let loaded = filling.finish(plan, precision)?;
        let wall = started.elapsed();
        let (read, convert) = (read_ns.into_inner() as f64, convert_ns.into_inner() as f64);
        let read_share = if read + convert > 0.0 { read / (read + convert) } else { 0.0 };
        let read = wall.mul_f64(read_share);
        Ok((loaded, LoadStats { bytes: total, mapped: 0, wall, read, convert: wall - read }))
    }

    /// What the tensors of `plan` will take in memory, and the format of most of them. Tensors that are missing
    /// count as f32.
    #[must_use]
    pub fn in_memory(&self, plan: &LoadPlan, precision: Precision) -> (Format, u64) {
        let matrices: Vec<_> = plan
            .matrices()
            .iter()
            .map(|spec| {
                let format = self.format(spec, precision);
                let bytes = precision.bytes(format, spec.rows(), spec.cols.len());
                (format, bytes.map_or(u64::MAX, |bytes| bytes as u64))
            })
            .collect();
        let number = precision.on_gpu.map_or(4, |dtype| dtype.size_in_bytes()) as u64;
        let vectors =
            plan.vectors().iter().flat_map(|v| &v.parts).map(|part| part.rows.len() as u64 * number);
        let total = matrices.iter().map(|(_, bytes)| *bytes).chain(vectors).fold(0, u64::saturating_add);
        (most(matrices.into_iter()), total)
    }

    /// The type of activations on a GPU that suits the weights of `plan`: that of most that are not quantised, but never f32
    /// unless it is asked for.
    #[must_use]
    pub fn activations_on_gpu(&self, plan: &LoadPlan, asked: Option<DType>) -> DType {
        let parts = plan.matrices().iter().flat_map(|spec| &spec.parts);
        let halves = parts.filter_map(|part| match self.stored(&part.tensor) {
            Some(Stored::F16) => Some(part.rows.size() as i64),
            Some(Stored::BF16 | Stored::F32) => Some(-(part.rows.size() as i64)),
            _ => None,
        });
        let suits = if halves.sum::<i64>() > 0 { DType::F16 } else { DType::BF16 };
        asked.unwrap_or(suits)
    }

    /// The format in which a matrix will lie in memory.
    pub(super) fn format(&self, spec: &MatrixSpec, precision: Precision) -> Format {
        let packed = self.tensors.get(spec.key()).and_then(TensorInfo::packed);
        packed.unwrap_or_else(|| {
            let encodings: Vec<_> = spec.parts.iter().map(|part| self.kept(spec, part)).collect();
            precision.format(spec.kind, spec.cols.len(), &encodings)
        })
    }

    /// Check every tensor of the plan, cut it into runs, and make room for it.
    fn prepare(
        &self,
        plan: &LoadPlan,
        precision: Precision,
        place: &Place,
    ) -> Result<(Vec<Run>, Filling), LayerError> {
        let mut runs = Vec::new();
        let mut filling = Filling { place: place.clone(), matrices: Vec::new(), vectors: Vec::new() };
        for (matrix, spec) in plan.matrices().iter().enumerate() {
            let mut encodings = Vec::with_capacity(spec.parts.len());
            let mut first_row = 0;
            for part in &spec.parts {
                let (info, stored) = self.check(&part.tensor, &[part.rows.size(), spec.cols.size()])?;
                let scales = self.scales(&part.tensor, info)?;
                encodings.push(self.kept(spec, part));
                // The file was opened, so its tensors are whole rows of whole blocks.
                let row_bytes = (info.bytes / part.rows.size().max(1) as u64) as usize;
                let cut = (!spec.cols.is_all()).then(|| Cut::new(spec.cols, stored));
                let read_bytes = cut.as_ref().map_or(row_bytes, |cut| cut.bytes.len());
                let unit = info.interleaved_head.unwrap_or(16);
                // Numbers with scales become f32 on the way.
                let run_bytes = if scales.is_some() { RUN_BYTES / size_of::<f32>() } else { RUN_BYTES };
                let rows_per_run = (run_bytes / read_bytes.max(1)).max(unit) / unit * unit;
                for start in part.rows.range().step_by(rows_per_run) {
                    let rows = rows_per_run.min(part.rows.range().end - start);
                    runs.push(Run {
                        shard: info.shard,
                        offset: info.offset + (start * row_bytes) as u64,
                        len: rows * row_bytes,
                        row_bytes,
                        stored,
                        interleaved_head: info.interleaved_head,
                        cut: cut.clone(),
                        scaled: scales.as_ref().map(|scales| Scaled {
                            scales: scales.clone(),
                            rows: start..start + rows,
                            cols: spec.cols.range(),
                        }),
                        target: Target::Matrix { matrix, first_row: first_row + start - part.rows.start() },
                    });
                }
                first_row += part.rows.len();
            }
            let format = precision.format(spec.kind, spec.cols.len(), &encodings);
            filling.matrices.push(Builder::new(place, format, first_row, spec.cols.len())?);
        }
        for (vector, spec) in plan.vectors().iter().enumerate() {
            let mut first = 0;
            for part in &spec.parts {
                let (info, stored) = self.check(&part.tensor, &[part.rows.size()])?;
                runs.push(Run {
                    shard: info.shard,
                    offset: info.offset,
                    len: info.bytes as usize,
                    row_bytes: stored.block_bytes(),
                    stored,
                    interleaved_head: info.interleaved_head,
                    cut: None,
                    scaled: None,
                    target: Target::Vector { vector, first, take: part.rows.range() },
                });
                first += part.rows.len();
            }
            filling.vectors.push(Mutex::new(vec![0.0; first]));
        }
        Ok((runs, filling))
    }
}

// === impl Run ===

impl Run {
    /// Bytes that are read.
    fn num_bytes(&self) -> u64 {
        self.cut.as_ref().map_or(self.len, |cut| self.len / self.row_bytes.max(1) * cut.bytes.len()) as u64
    }

    fn read<'a>(&self, shard: &Shard, buffer: &'a mut Vec<u8>) -> Result<Cow<'a, [u8]>, LayerError> {
        if self.cut.is_none() {
            return shard.read(self.offset, self.len, buffer);
        }
        buffer.resize(self.num_bytes() as usize, 0);
        self.read_to(shard, buffer)?;
        Ok(Cow::Borrowed(&buffer[..]))
    }

    /// Read to memory of just that size.
    fn read_to(&self, shard: &Shard, to: &mut [u8]) -> Result<(), LayerError> {
        match &self.cut {
            None => shard.read_to(self.offset, to),
            Some(cut) => {
                let offset = self.offset + cut.bytes.start as u64;
                shard.read_strided(offset, cut.bytes.len(), self.row_bytes as u64, to)
            }
        }
    }

    /// Whether what is read are rows as they are.
    fn is_plain(&self) -> bool {
        self.interleaved_head.is_none() && self.cut.as_ref().is_none_or(Cut::is_all)
    }

    /// Pieces of rows are read one by one, and what lies between is for other ranks to fetch.
    fn prefetch(&self, shard: &Shard) {
        if self.cut.is_none() {
            shard.prefetch(self.offset, self.len as u64);
        }
    }
}

/// Put the rows of each head from pairs of neighbours into two halves: of `2 * i + side` to `side * head / 2 + i`.
fn put_halves_apart(rows: &[u8], row_bytes: usize, head: usize, ordered: &mut Vec<u8>) {
    ordered.clear();
    ordered.reserve(rows.len());
    for head_rows in rows.chunks(head * row_bytes) {
        for side in 0..2 {
            for pair in head_rows.chunks(2 * row_bytes) {
                ordered.extend_from_slice(&pair[side * row_bytes..(side + 1) * row_bytes]);
            }
        }
    }
}

// === impl Builder ===

impl Builder {
    fn new(place: &Place, format: Format, out: usize, inn: usize) -> Result<Self, LayerError> {
        Ok(match place {
            Place::Cpu => Self::Cpu(Mutex::new(PackedWeight::builder(format, out, inn)?)),
            Place::Gpu { gpu, .. } => Self::Gpu(GpuMatrixBuilder::new(gpu, format.try_into()?, out, inn)?),
        })
    }

    fn finish(self, kind: MatrixKind, precision: Precision) -> Result<Matrix, LayerError> {
        Ok(match self {
            Self::Cpu(builder) => {
                let mut matrix = builder.into_inner().unwrap_or_else(PoisonError::into_inner).finish()?;
                matrix.round_activations(precision.rounds_activations());
                Matrix::Cpu(Arc::new(matrix))
            }
            Self::Gpu(builder) => {
                let mut matrix = builder.finish()?;
                if precision.rounds_to_eight_bits(kind, matrix.format().into()) {
                    matrix.round_activations()?;
                }
                Matrix::Gpu(Arc::new(matrix))
            }
        })
    }
}

// === impl Worker ===

impl Worker {
    /// Load a run; returns how long reading took, and the rest.
    fn load(
        &mut self,
        run: &Run,
        shards: &[Arc<Shard>],
        filling: &Filling,
    ) -> Result<(Duration, Duration), LayerError> {
        let before = Instant::now();
        let shard = &*shards[run.shard];
        if let Some(Scaled { scales, rows, cols }) = &run.scaled {
            let codes = run.read(shard, &mut self.buffer)?;
            let of_run = scales.read(&shards[scales.shard], rows.clone())?;
            let between = Instant::now();
            scales.check_codes(shard, &codes)?;
            match (filling.takes_scales(run), of_run.of_rows(rows.len())) {
                (Some((builder, first)), Some(of_rows)) => {
                    builder.scaled_rows(&mut self.staging, first, &codes, &of_rows)?;
                }
                _ => {
                    let numbers = of_run.numbers(&codes, cols.clone());
                    filling.put_rows(run, Stored::F32, &numbers, &mut self.staging)?;
                }
            }
            return Ok((between - before, between.elapsed()));
        }
        if let Some((builder, first)) = filling.as_it_is(run) {
            let bytes = run.num_bytes() as usize;
            run.read_to(shard, builder.stage(&mut self.staging, bytes)?)?;
            let between = Instant::now();
            builder.staged_rows(&mut self.staging, first, run.stored, bytes)?;
            return Ok((between - before, between.elapsed()));
        }
        let bytes = run.read(shard, &mut self.buffer)?;
        let between = Instant::now();
        match run.interleaved_head {
            None => filling.put(run, &bytes, &mut self.staging)?,
            Some(head) => {
                put_halves_apart(&bytes, run.row_bytes, head, &mut self.ordered);
                filling.put(run, &self.ordered, &mut self.staging)?;
            }
        }
        Ok((between - before, between.elapsed()))
    }
}

// === impl Filling ===

impl Filling {
    /// The matrix of a GPU that holds what is read as it is, and the first row.
    fn as_it_is(&self, run: &Run) -> Option<(&GpuMatrixBuilder, usize)> {
        match run.target {
            Target::Matrix { matrix, first_row } if run.is_plain() => match &self.matrices[matrix] {
                Builder::Gpu(builder) if builder.holds(run.stored) => Some((builder, first_row)),
                _ => None,
            },
            _ => None,
        }
    }

    /// The matrix of a GPU that holds codes of fp8 and scales of rows, and the first row.
    fn takes_scales(&self, run: &Run) -> Option<(&GpuMatrixBuilder, usize)> {
        match run.target {
            Target::Matrix { matrix, first_row } => match &self.matrices[matrix] {
                Builder::Gpu(builder) if builder.format() == GpuFormat::Fp8 => Some((builder, first_row)),
                _ => None,
            },
            Target::Vector { .. } => None,
        }
    }

    /// Whole rows of the matrix that is the target of `run`, encoded as `stored`.
    fn put_rows(
        &self,
        run: &Run,
        stored: Stored,
        bytes: &[u8],
        staging: &mut RowStaging,
    ) -> Result<(), LayerError> {
        let Target::Matrix { matrix, first_row } = run.target else { return Ok(()) };
        match &self.matrices[matrix] {
            Builder::Cpu(builder) => {
                let mut builder = builder.lock().unwrap_or_else(PoisonError::into_inner);
                Ok(builder.rows(first_row, stored, bytes)?)
            }
            Builder::Gpu(builder) => Ok(builder.rows_through(staging, first_row, stored, bytes)?),
        }
    }

    fn put(&self, run: &Run, bytes: &[u8], staging: &mut RowStaging) -> Result<(), LayerError> {
        match run.target {
            Target::Matrix { .. } => {
                let numbers = run.cut.as_ref().and_then(|cut| cut.numbers(run.stored, bytes));
                let (stored, bytes) =
                    numbers.as_deref().map_or((run.stored, bytes), |all| (Stored::F32, all));
                self.put_rows(run, stored, bytes, staging)?;
            }
            Target::Vector { vector, first, ref take } => {
                let mut numbers = vec![0.0; bytes.len() / run.row_bytes.max(1) * run.stored.block_len()];
                run.stored.decode(bytes, &mut numbers);
                let mut values = self.vectors[vector].lock().unwrap_or_else(PoisonError::into_inner);
                values[first..first + take.len()].copy_from_slice(&numbers[take.clone()]);
            }
        }
        Ok(())
    }

    fn finish(self, plan: &LoadPlan, precision: Precision) -> Result<LoadedTensors, LayerError> {
        let mut loaded = LoadedTensors { place: self.place, ..LoadedTensors::default() };
        for (builder, spec) in self.matrices.into_iter().zip(plan.matrices()) {
            let matrix = builder.finish(spec.kind, precision)?;
            loaded.matrices.insert(spec.key().to_owned(), matrix);
        }
        for (values, spec) in self.vectors.into_iter().zip(plan.vectors()) {
            let values = values.into_inner().unwrap_or_else(PoisonError::into_inner);
            let len = values.len();
            let vector = candle_core::Tensor::from_vec(values, len, &Device::Cpu)?;
            loaded.vectors.insert(spec.key().to_owned(), loaded.place.put_vector(vector)?);
        }
        Ok(loaded)
    }
}

// === impl LoadedTensors ===

impl LoadedTensors {
    /// Bytes that the weights take in memory.
    #[must_use]
    pub fn num_bytes(&self) -> u64 {
        let matrices: usize = self.matrices.values().map(Matrix::num_bytes).sum();
        let bytes = |v: &Tensor| v.dims().iter().product::<usize>() * v.dtype().size_in_bytes();
        let vectors: usize = self.vectors.values().map(bytes).sum();
        (matrices + vectors) as u64
    }

    /// The format of most weights.
    #[must_use]
    pub fn format(&self) -> Format {
        most(self.matrices.values().map(|m| (m.format(), m.num_bytes() as u64)))
    }
}

/// The format with the most bytes; [`Format::F32`] where there are none.
fn most(matrices: impl Iterator<Item = (Format, u64)>) -> Format {
    let mut bytes = HashMap::<Format, u64>::new();
    matrices.for_each(|(format, more)| *bytes.entry(format).or_default() += more);
    // The name decides between equals, so that the answer does not depend on the order of a map.
    let largest = bytes.into_iter().max_by_key(|(format, bytes)| (*bytes, format.as_str()));
    largest.map_or(Format::F32, |(format, _)| format)
}

/// Run `work` on so many threads, of which this is one, until each returns. It is told to stop when one of them fails.
pub(super) fn in_parallel(
    workers: usize,
    work: &(dyn Fn(&AtomicBool) -> Result<(), LayerError> + Sync),
) -> Result<(), LayerError> {
    let stop = AtomicBool::new(false);
    let watched = || work(&stop).inspect_err(|_| stop.store(true, Ordering::Relaxed));
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..workers).map(|_| scope.spawn(watched)).collect();
        let mut outcome = watched();
        for other in others {
            let joined = other.join().unwrap_or_else(|_| Err(worker_died()));
            outcome = outcome.and(joined);
        }
        outcome
    })
}

fn worker_died() -> LayerError {
    LayerError::Tensor(candle_core::Error::msg("a loading thread ended unexpectedly"))
}
