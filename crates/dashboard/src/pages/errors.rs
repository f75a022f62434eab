//! The requests that failed last.

use askama::Template;

use crate::format::{NOTHING, machine_moment, moment};
use crate::source::{SHOWN_ERRORS, Snapshot};

/// Content of the page.
#[derive(Template)]
#[template(path = "errors.html")]
pub(crate) struct ErrorsLive {
    rows: Vec<ErrorRow>,
    shown: usize,
}

struct ErrorRow {
    time: String,
    time_machine: String,
    status: u16,
    message: String,
    model: String,
    worker: String,
    request_id: String,
}

// === impl ErrorsLive ===

impl ErrorsLive {
    pub(crate) fn new(snapshot: &Snapshot) -> Self {
        let or_nothing = |text: &Option<String>| text.clone().unwrap_or_else(|| NOTHING.to_owned());
        let rows = snapshot.errors.iter().map(|error| ErrorRow {
            time: moment(error.time),
            time_machine: machine_moment(error.time),
            status: error.status,
            message: error.message.clone(),
            model: or_nothing(&error.model),
            worker: or_nothing(&error.worker),
            request_id: error.request_id.clone(),
        });
        Self { rows: rows.collect(), shown: SHOWN_ERRORS }
    }
}
