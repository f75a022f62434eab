//! Streams pass Kong token by token, and as long as the head lets them.

use serde_json::Value;

use super::{files, routes};
use crate::finding::Report;
use crate::input::yaml;
use crate::look::Look as _;
use crate::rules::Rule;
use crate::set::Set;
use crate::span;

pub(in crate::rules) const RULE: Rule = Rule {
    id: "kong-streams",
    explains: "Kong does not buffer answers, waits as long as a request may take, and sends none twice",
    check,
};

/// Of server.yaml.
const DEFAULT_REQUEST_TIMEOUT: f64 = 600.0;
/// Of Kong, in milliseconds.
const DEFAULT_READ_TIMEOUT: i64 = 60_000;

fn check(set: &Set, report: &mut Report) {
    let longest = longest_request(set);
    for (object, file) in files(set) {
        for route in routes(&file) {
            if route.at("response_buffering") != &Value::Bool(false) {
                let what = format!("route {} holds streams back", route.text("name"));
                report.at(object, what, "set response_buffering: false");
            }
        }
        for service in file.items("services") {
            let name = service.text("name");
            let waits = service.number("read_timeout").unwrap_or(DEFAULT_READ_TIMEOUT) as f64 / 1000.0;
            if waits < longest {
                report.at(
                    object,
                    format!("service {name} waits {waits} s, requests may take {longest} s"),
                    "set read_timeout (in milliseconds) above limits.request_timeout",
                );
            }
            if service.number("retries") != Some(0) {
                let what = format!("service {name} sends a request again that may have run");
                report.at(object, what, "set retries: 0; heads know when it is safe");
            }
        }
    }
}

/// Seconds, by the server.yaml that gives most.
fn longest_request(set: &Set) -> f64 {
    let entries = set.of_kind("ConfigMap").flat_map(|object| object.value.entries("data"));
    let settings = entries.filter(|(key, _)| *key == "server.yaml");
    let settings = settings.filter_map(|(_, text)| yaml::<Value>(text.as_str()?).ok());
    let spans = settings.map(|settings| {
        span::seconds(settings.text("limits.request_timeout")).unwrap_or(DEFAULT_REQUEST_TIMEOUT)
    });
    spans.reduce(f64::max).unwrap_or(DEFAULT_REQUEST_TIMEOUT)
}
