//! Worker manifests: from what models.yaml says about a model to the files of an overlay, always the same bytes.

mod error;
mod folder;
mod manifest;
mod quantity;
mod scalar;
mod slug;
mod worker;

pub use self::{
    error::RenderError,
    folder::{Difference, Folder, Outcome},
    manifest::render,
    slug::Slug,
    worker::{Autoscaler, Platform, Replicas, Worker},
};
