//! Loads a packed file: maps it, brings it into memory in parallel, and hands out its matrices where they are.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use vlinders_kernels::ops::Matrix;
use vlinders_kernels::{FileMapping, PackedWeight};

use super::Checkpoint;
use super::load::{LoadStats, LoadedTensors, MAX_WORKERS, in_parallel};
use super::shard::Shard;
use crate::{LayerError, LoadPlan, Place, Precision};

/// Bytes that one thread brings in at once: whole large pages, enough for a disk to be busy.
const PIECE: usize = 16 << 20;

// === impl Checkpoint ===

impl Checkpoint {
    /// Load a packed file. Everything about it is checked before it is mapped.
    pub(super) fn map(
        &self,
        plan: &LoadPlan,
        precision: Precision,
        progress: &(dyn Fn(u64, u64) + Sync),
    ) -> Result<(LoadedTensors, LoadStats), LayerError> {
        let started = Instant::now();
        if let Some(problem) = self.problems(plan, precision).into_iter().next() {
            return Err(problem);
        }
        let Some(shard) = self.shards.first() else {
            return Err(LayerError::NoWeights { place: self.place.clone() });
        };
        let vectors = LoadPlan::of(Vec::new(), plan.vectors().to_vec());
        let (mut loaded, _) = self.stream(&vectors, precision, &Place::Cpu, &|_, _| {})?;
        let mapping = Arc::new(shard.map()?);
        populate(shard, &mapping, progress)?;
        let mut mapped = 0;
        for spec in plan.matrices() {
            let (info, format) = self.check_packed(spec, precision)?;
            let [out, inn] = [info.shape[0], info.shape[1]];
            // The offset lies in the map, whose length is a `usize`.
            let mut matrix = PackedWeight::mapped(format, out, inn, &mapping, info.offset as usize)?;
            matrix.round_activations(precision.rounds_activations());
            mapped += matrix.num_bytes() as u64;
            loaded.matrices.insert(spec.key().to_owned(), Matrix::Cpu(Arc::new(matrix)));
        }
        let wall = started.elapsed();
        Ok((loaded, LoadStats { bytes: shard.len, mapped, wall, read: wall, convert: Duration::ZERO }))
    }
}

/// Bring all of a file into memory, so that no request waits for it.
fn populate(
    shard: &Shard,
    mapping: &FileMapping,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<(), LayerError> {
    let len = mapping.as_slice().len();
    let pieces = len.div_ceil(PIECE);
    let (next, done) = (AtomicUsize::new(0), AtomicU64::new(0));
    in_parallel(pieces.clamp(1, MAX_WORKERS), &|stop| {
        while !stop.load(Ordering::Relaxed) {
            let begin = next.fetch_add(1, Ordering::Relaxed) * PIECE;
            if begin >= len {
                break;
            }
            let range = begin..len.min(begin + PIECE);
            let bytes = range.len() as u64;
            let fail = |source| LayerError::Io { file: shard.name.clone(), source };
            mapping.populate(range).map_err(fail)?;
            progress(done.fetch_add(bytes, Ordering::Relaxed) + bytes, shard.len);
        }
        Ok(())
    })
}
