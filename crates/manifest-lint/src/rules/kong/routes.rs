//! What Kong lets through reaches the head as it was asked for.

use super::{files, routes};
use crate::finding::Report;
use crate::look::Look as _;
use crate::rules::Rule;
use crate::set::Set;

pub(in crate::rules) const RULE: Rule = Rule {
    id: "kong-routes",
    explains: "Kong's routes keep the path (strip_path: false), have all of /v1, and take OPTIONS",
    check,
};

/// What a head serves to clients.
const SERVED: &[&str] = &["/v1/chat/completions", "/v1/models", "/v1/completions", "/v1/embeddings"];

fn check(set: &Set, report: &mut Report) {
    for (object, file) in files(set) {
        let routes = routes(&file);
        for route in routes.iter().filter(|route| route.at("strip_path") != &serde_json::Value::Bool(false)) {
            let what = format!("route {} strips its path: upstream sees another one", route.text("name"));
            report.at(object, what, "set strip_path: false");
        }
        let paths = || routes.iter().flat_map(|route| route.items("paths")).filter_map(|path| path.as_str());
        let covered = |served: &str| {
            paths().any(|path| served.starts_with(path.trim_start_matches('~').trim_end_matches('$')))
        };
        let missing: Vec<_> = SERVED.iter().copied().filter(|served| !covered(served)).collect();
        if !missing.is_empty() {
            report.at(object, format!("no route has {}", missing.join(", ")), "route /v1");
        }
        let takes_options = |route: &&serde_json::Value| {
            !route.has("methods")
                || route.items("methods").iter().any(|method| method.as_str() == Some("OPTIONS"))
        };
        if !routes.iter().any(takes_options) {
            report.at(object, "no route takes OPTIONS: browsers can not ask", "add OPTIONS to methods");
        }
    }
}
