//! Live pages of a head or a server: what they show, and the hour of history behind them.

mod assets;
mod dashboard;
mod format;
mod histogram;
mod history;
mod pages;
mod plot;
mod range;
mod reported;
mod router;
mod source;
mod wire;

pub use self::{
    dashboard::{Dashboard, DashboardOptions},
    histogram::HistogramTotals,
    reported::{errors, phases, requests},
    source::{
        Circuit, ErrorView, ModelView, RequestView, Role, Snapshot, Source, Stage, Totals, WorkerState,
        WorkerView,
    },
};
