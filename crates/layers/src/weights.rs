//! How a layer gets its weights: by name, without knowing where they come from.
//!
//! A model is built twice by the same code. The first time [`Weights`] only records what is asked for and answers
//! with placeholders; the record, a [`LoadPlan`], is checked against the checkpoint and loaded in the
//! order of the files. The second time the loaded tensors are handed out.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use candle_core::{DType, Device};
use vlinders_device::Tensor;
use vlinders_kernels::ops::Matrix;
use vlinders_kernels::{Format, PackedWeight, Stored};

use crate::{LayerError, LoadedTensors, Place, Ranks, Span};

/// Weights under a prefix of a checkpoint, like `model.layers.0.self_attn`.
#[derive(Clone)]
pub struct Weights {
    prefix: String,
    shared: Rc<Shared>,
}

struct Shared {
    source: RefCell<Source>,
    max_positions: usize,
    place: Place,
    ranks: Ranks,
}

#[derive(Clone)]
enum Source {
    Plan(LoadPlan),
    Loaded(LoadedTensors),
}

/// What a model needs of a checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadPlan {
    matrices: Vec<MatrixSpec>,
    vectors: Vec<VectorSpec>,
}

/// What a matrix is for, which decides how far it may be rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MatrixKind {
    /// A linear map.
    Linear,
    /// A vector for each token: embedding, head.
    Table,
    /// Chooses experts, which a small error does for good: never quantised.
    Router,
}

/// A matrix, made of one tensor or of several stacked by rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MatrixSpec {
    /// What it is for.
    pub kind: MatrixKind,
    /// From top to bottom; never empty.
    pub parts: Vec<Part>,
    /// Which columns of every part: input features.
    pub cols: Span,
}

/// A vector, made of one tensor or of several joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VectorSpec {
    /// In order; never empty.
    pub parts: Vec<Part>,
}

/// One tensor of the checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its full name.
    pub tensor: String,
    /// Which rows of it, or which numbers when it is a vector.
    pub rows: Span,
}

// === impl Weights ===

impl Weights {
    /// Weights that record what a model asks for.
    #[must_use]
    pub fn planning(ranks: impl Into<Ranks>) -> Self {
        Self::new(Source::Plan(LoadPlan::default()), 1, Place::Cpu, ranks.into())
    }

    /// Weights that hand out `loaded`. Rotary embeddings are made for positions below `max_positions`.
    #[must_use]
    pub fn loaded(loaded: LoadedTensors, max_positions: usize, ranks: impl Into<Ranks>) -> Self {
        let place = loaded.place.clone();
        Self::new(Source::Loaded(loaded), max_positions, place, ranks.into())
    }

    /// The same weights, with rotary embeddings for positions below `max_positions`.
    #[must_use]
    pub fn with_max_positions(&self, max_positions: usize) -> Self {
        let source = self.shared.source.borrow().clone();
        let Shared { place, ranks, .. } = &*self.shared;
        Self::new(source, max_positions, place.clone(), ranks.clone())
    }

    fn new(source: Source, max_positions: usize, place: Place, ranks: Ranks) -> Self {
        let shared = Shared { source: RefCell::new(source), max_positions, place, ranks };
        Self { prefix: String::new(), shared: Rc::new(shared) }
    }

    /// What was asked for so far; empty when these weights are loaded.
    #[must_use]
    pub fn plan(&self) -> LoadPlan {
        match &*self.shared.source.borrow() {
            Source::Plan(plan) => plan.clone(),
            Source::Loaded(_) => LoadPlan::default(),
        }
    }

    /// Whether these weights only record what is asked for.
    pub(crate) fn is_planning(&self) -> bool {
        matches!(&*self.shared.source.borrow(), Source::Plan(_))
    }

    /// The weights under one more component of the name.
    #[must_use]
    pub fn pp(&self, component: impl std::fmt::Display) -> Self {
        let prefix = match self.prefix.as_str() {
            "" => component.to_string(),
            prefix => format!("{prefix}.{component}"),
        };
        Self { prefix, shared: Rc::clone(&self.shared) }
    }

    /// Positions that will be asked for are below this.
    #[must_use]
    pub fn max_positions(&self) -> usize {
        self.shared.max_positions
    }

    /// Where the model will compute; the CPU while it is only planned.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.shared.place
    }

    /// This rank's share of a dimension that is split among the ranks.
    #[must_use]
    pub fn share(&self, size: usize) -> Span {
        Span::share(size, self.shared.ranks.communicator())
    }

    /// The ranks among which this model is split.
    #[must_use]
    pub fn ranks(&self) -> Ranks {
        self.shared.ranks.clone()
    }

    /// The matrix `name` of a linear map, `[rows, cols]`.
    ///
    /// # Errors
    /// When it was not part of the plan that was loaded.
    pub fn matrix(
        &self,
        name: &str,
        rows: impl Into<Span>,
        cols: impl Into<Span>,
    ) -> Result<Matrix, LayerError> {
        self.stacked_matrix(&[(name, rows.into())], cols)
    }

    /// The table `name`, `[tokens, cols]`.
    ///
    /// # Errors
    /// When it was not part of the plan that was loaded.
    pub fn table(&self, name: &str, tokens: impl Into<Span>, cols: usize) -> Result<Matrix, LayerError> {
        let parts = self.parts(&[(name, tokens.into())]);
        self.find(MatrixSpec { kind: MatrixKind::Table, parts, cols: cols.into() })
    }

    /// The matrix `name` that chooses among experts, `[experts, cols]`.
    ///
    /// # Errors
    /// When it was not part of the plan that was loaded.
    pub fn router(&self, name: &str, experts: usize, cols: usize) -> Result<Matrix, LayerError> {
        let parts = self.parts(&[(name, experts)]);
        self.find(MatrixSpec { kind: MatrixKind::Router, parts, cols: cols.into() })
    }

    /// Several matrices of `cols` columns as one, the first on top: one pass over the input computes them all.
    ///
    /// # Errors
    /// When it was not part of the plan that was loaded.
    pub fn stacked_matrix(
        &self,
        parts: &[(&str, impl Into<Span> + Copy)],
        cols: impl Into<Span>,
    ) -> Result<Matrix, LayerError> {
        self.find(MatrixSpec { kind: MatrixKind::Linear, parts: self.parts(parts), cols: cols.into() })
    }

    fn find(&self, spec: MatrixSpec) -> Result<Matrix, LayerError> {
        match &mut *self.shared.source.borrow_mut() {
            Source::Plan(plan) => {
                plan.matrices.push(spec);
                Ok(Matrix::Cpu(Arc::new(PackedWeight::pack(Format::F32, 1, 1, &[0; 4])?)))
            }
            Source::Loaded(loaded) => {
                let found = loaded.matrices.get(spec.key()).cloned();
                found.ok_or_else(|| LayerError::NotPlanned(spec.key().to_owned()))
            }
        }
    }

    /// The vector `name`, `[len]`: f32 on the CPU, the type of activations on a GPU.
    ///
    /// # Errors
    /// When it was not part of the plan that was loaded.
    pub fn vector(&self, name: &str, len: impl Into<Span>) -> Result<Tensor, LayerError> {
        self.joined_vector(&[(name, len.into())])
    }

    /// Several vectors one behind the other, likewise.
    ///
    /// # Errors
    /// When it was not part of the plan that was loaded.
    pub fn joined_vector(&self, parts: &[(&str, impl Into<Span> + Copy)]) -> Result<Tensor, LayerError> {
        let spec = VectorSpec { parts: self.parts(parts) };
        match &mut *self.shared.source.borrow_mut() {
            Source::Plan(plan) => {
                plan.vectors.push(spec);
                Ok(candle_core::Tensor::zeros(1, DType::F32, &Device::Cpu)?.into())
            }
            Source::Loaded(loaded) => {
                let found = loaded.vectors.get(spec.key()).cloned();
                found.ok_or_else(|| LayerError::NotPlanned(spec.key().to_owned()))
            }
        }
    }

    fn parts(&self, parts: &[(&str, impl Into<Span> + Copy)]) -> Vec<Part> {
        parts.iter().map(|&(name, rows)| Part { tensor: self.pp(name).prefix, rows: rows.into() }).collect()
    }
}

// === impl LoadPlan ===

impl LoadPlan {
    /// The matrices, in the order in which the model asked for them.
    #[must_use]
    pub fn matrices(&self) -> &[MatrixSpec] {
        &self.matrices
    }

    /// The vectors, in the order in which the model asked for them.
    #[must_use]
    pub fn vectors(&self) -> &[VectorSpec] {
        &self.vectors
    }

    /// A plan of these alone.
    pub(crate) fn of(matrices: Vec<MatrixSpec>, vectors: Vec<VectorSpec>) -> Self {
        Self { matrices, vectors }
    }

    /// Full names of all tensors.
    pub fn tensors(&self) -> impl Iterator<Item = &str> {
        let matrices = self.matrices.iter().flat_map(|m| &m.parts);
        matrices.chain(self.vectors.iter().flat_map(|v| &v.parts)).map(|part| part.tensor.as_str())
    }

    /// Numbers in all tensors, those of other ranks included.
    #[must_use]
    pub fn num_parameters(&self) -> u64 {
        let size = |part: &Part| part.rows.size() as u64;
        let matrices =
            self.matrices.iter().flat_map(|m| m.parts.iter().map(|p| size(p) * m.cols.size() as u64));
        let vectors = self.vectors.iter().flat_map(|v| v.parts.iter().map(size));
        matrices.chain(vectors).sum()
    }
}

// === impl MatrixSpec ===

impl MatrixSpec {
    /// The name under which it is found again: that of its first part.
    pub(crate) fn key(&self) -> &str {
        self.parts.first().map_or("", |part| part.tensor.as_str())
    }

    /// Rows of all parts.
    pub(crate) fn rows(&self) -> usize {
        self.parts.iter().map(|part| part.rows.len()).sum()
    }

    /// Whether it is all of its tensors.
    pub(crate) fn is_whole(&self) -> bool {
        self.cols.is_all() && self.parts.iter().all(|part| part.rows.is_all())
    }

    /// The encoding that what is taken of rows encoded as `stored` can keep: where blocks are cut, their numbers are rounded
    /// again, to eight bits.
    pub(crate) fn kept(&self, stored: Stored) -> Stored {
        if self.cols.is_whole_blocks(stored.block_len()) { stored } else { Stored::Q8_0 }
    }
}

// === impl VectorSpec ===

impl VectorSpec {
    pub(crate) fn key(&self) -> &str {
        self.parts.first().map_or("", |part| part.tensor.as_str())
    }
}
