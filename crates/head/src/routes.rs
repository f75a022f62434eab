//! The routes, one file each.

mod forward;
mod models;
mod probes;

pub(crate) use self::{
    forward::forward,
    models::{get_model, list_models},
    probes::{health, queue, ready, render_metrics, version},
};
