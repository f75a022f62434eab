//! A stream of events on its way through: passed on whole, without what a worker tells the head alone.

use bytes::{Bytes, BytesMut};
use memchr::memmem;
use vlinders_edge::UsageReport;

/// Takes bytes as they come and gives whole events.
#[derive(Debug, Default)]
pub(crate) struct Events {
    /// The beginning of an event whose end is still to come.
    partial: BytesMut,
    /// The last report in a comment.
    pub(crate) usage: Option<UsageReport>,
    /// The last event has passed.
    pub(crate) done: bool,
    /// An event told of an error.
    pub(crate) failed: bool,
}

/// An event is longer than any that a worker sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the worker sent an event of more than {MAX_EVENT} bytes")]
pub(crate) struct EventTooLong;

/// With log-probabilities of a long prompt, events are megabytes.
const MAX_EVENT: usize = 64 << 20;

const BOUNDARY: &[u8] = b"\n\n";
const DONE: &[u8] = b"data: [DONE]\n\n";
const COMMENT: &[u8] = b": ";
const ERROR: &[u8] = b"data: {\"error\":";

// === impl Events ===

impl Events {
    /// The whole events that end in `data`, which may be none.
    ///
    /// # Errors
    /// One does not end.
    pub(crate) fn push(&mut self, data: Bytes) -> Result<Bytes, EventTooLong> {
        let data = if self.partial.is_empty() {
            data
        } else {
            self.partial.extend_from_slice(&data);
            self.partial.split().freeze()
        };
        let Some(end) = memmem::rfind(&data, BOUNDARY).map(|at| at + BOUNDARY.len()) else {
            return self.keep(&data).map(|()| Bytes::new());
        };
        self.keep(&data[end..])?;
        Ok(self.without_reports(data.slice(..end)))
    }

    /// Something of an event came and its end did not.
    pub(crate) fn is_broken(&self) -> bool {
        !self.done || !self.partial.is_empty()
    }

    fn keep(&mut self, rest: &[u8]) -> Result<(), EventTooLong> {
        if rest.len() > MAX_EVENT {
            return Err(EventTooLong);
        }
        self.partial.extend_from_slice(rest);
        Ok(())
    }

    /// Events without comments that report usage. Most often there is one, at the end: then nothing is copied.
    fn without_reports(&mut self, data: Bytes) -> Bytes {
        let mut kept = BytesMut::new();
        // What is passed on begins and ends here, as long as it is one piece.
        let (mut piece, mut end) = (0, 0);
        let mut start = 0;
        for at in memmem::find_iter(&data, BOUNDARY) {
            let next = at + BOUNDARY.len();
            let event = &data[start..next];
            if !self.look(event) {
                if end < start {
                    kept.extend_from_slice(&data[piece..end]);
                    piece = start;
                }
                end = next;
            }
            start = next;
        }
        if kept.is_empty() {
            return data.slice(piece..end);
        }
        kept.extend_from_slice(&data[piece..end]);
        kept.freeze()
    }

    /// Whether an event is for the head alone.
    fn look(&mut self, event: &[u8]) -> bool {
        if let Some(comment) = event.strip_prefix(COMMENT) {
            let report = std::str::from_utf8(comment).ok().and_then(|text| text.trim_end().parse().ok());
            self.usage = report.or(self.usage);
            return report.is_some();
        }
        self.done |= event == DONE;
        self.failed |= event.starts_with(ERROR);
        false
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STREAM: &str = ": usage 1 0 0\n\ndata: {\"a\":1}\n\ndata: {\"a\":2}\n\n: usage 6 0 2\n\n: keep-alive\n\n\
                          data: {\"a\":3}\n\n: usage 6 4 3\n\ndata: [DONE]\n\n";
    const SHOWN: &str =
        "data: {\"a\":1}\n\ndata: {\"a\":2}\n\n: keep-alive\n\ndata: {\"a\":3}\n\ndata: [DONE]\n\n";

    fn passed(stream: &str, cuts: &[usize]) -> (String, Events) {
        let mut events = Events::default();
        let mut shown = Vec::new();
        let mut from = 0;
        for to in cuts.iter().copied().chain([stream.len()]) {
            let out = events.push(Bytes::copy_from_slice(&stream.as_bytes()[from..to])).expect("short");
            assert!(out.is_empty() || out.ends_with(BOUNDARY), "whole events only");
            shown.extend_from_slice(&out);
            from = to;
        }
        (String::from_utf8(shown).expect("text"), events)
    }

    #[test]
    fn reports_are_kept_and_the_rest_passes() {
        let (shown, events) = passed(STREAM, &[]);
        assert_eq!(shown, SHOWN);
        assert_eq!(events.usage.map(|usage| usage.to_string()).as_deref(), Some("usage 6 4 3"));
        assert!(events.done && !events.is_broken() && !events.failed);
    }

    #[test]
    fn what_is_cut_is_broken() {
        assert!(passed("data: {\"a\":1}\n\n", &[]).1.is_broken());
        let (shown, events) = passed("data: {\"a\":1}\n\ndata: {\"b", &[]);
        assert_eq!(shown, "data: {\"a\":1}\n\n");
        assert!(events.is_broken());
        let (_, events) = passed("data: {\"error\":{\"message\":\"m\"}}\n\ndata: [DONE]\n\n", &[]);
        assert!(events.failed && !events.is_broken());
    }

    #[test]
    fn one_report_at_the_end_costs_no_copy() {
        let data = Bytes::from_static(b"data: {\"a\":1}\n\n: usage 6 0 2\n\n");
        let out = Events::default().push(data.clone()).expect("short");
        assert_eq!(out, "data: {\"a\":1}\n\n");
        assert_eq!(out.as_ptr(), data.as_ptr());
    }

    proptest! {
        #[test]
        fn it_does_not_matter_where_packets_end(mut cuts in prop::collection::vec(0..STREAM.len(), 0..9)) {
            cuts.sort_unstable();
            let (shown, events) = passed(STREAM, &cuts);
            prop_assert_eq!(shown, SHOWN);
            prop_assert!(!events.is_broken());
            prop_assert_eq!(events.usage.map(|usage| usage.completion_tokens), Some(3));
        }
    }
}
