//! What a rule has found, and where rules put it.

use std::fmt;

use crate::object::Object;

/// Something that must not stay as it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Where the object was read from.
    pub file: String,
    /// `Kind namespace/name`, or the line of a script.
    pub object: String,
    /// The id of the rule.
    pub rule: &'static str,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

/// Takes the findings of one rule.
#[derive(Debug)]
pub(crate) struct Report {
    rule: &'static str,
    findings: Vec<Finding>,
}

// === impl Finding ===

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}: {}: {}: {}", self.file, self.object, self.rule, self.what, self.remedy)
    }
}

// === impl Report ===

impl Report {
    pub(crate) fn new(rule: &'static str) -> Self {
        Self { rule, findings: Vec::new() }
    }

    /// `what` is wrong with this object; `remedy` says what to do.
    pub(crate) fn at(&mut self, object: &Object, what: impl Into<String>, remedy: impl Into<String>) {
        self.in_file(&object.file, object.to_string(), what, remedy);
    }

    /// As [`Self::at`], for what is no object of Kubernetes.
    pub(crate) fn in_file(
        &mut self,
        file: &str,
        object: impl Into<String>,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.findings.push(Finding {
            file: file.to_owned(),
            object: object.into(),
            rule: self.rule,
            what: what.into(),
            remedy: remedy.into(),
        });
    }

    pub(crate) fn into_findings(self) -> Vec<Finding> {
        self.findings
    }
}
