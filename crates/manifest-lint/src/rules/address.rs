//! Addresses inside the cluster lead to Services that are there, on ports that they have.

use std::collections::BTreeSet;

use super::Rule;
use crate::finding::Report;
use crate::look::{Look as _, strings};
use crate::set::Set;

pub(super) const RULE: Rule = Rule {
    id: "address",
    explains: "each `service.namespace:port` in settings, arguments and scripts is a Service of the set with that port",
    check,
};

/// A host that a text names, with its port.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Address<'a> {
    service: &'a str,
    namespace: &'a str,
    port: Option<&'a str>,
}

fn check(set: &Set, report: &mut Report) {
    for object in &set.objects {
        let mut named = BTreeSet::new();
        strings("", &object.value, &mut |_, text| {
            for namespace in set.of_kind("Namespace") {
                named.extend(addresses(text, namespace.name()));
            }
        });
        for Address { service, namespace, port } in named {
            let Some(found) = set.find("Service", namespace, service) else {
                report.at(
                    object,
                    format!("there is no Service {namespace}/{service}"),
                    "correct the address",
                );
                continue;
            };
            let has = |port: &str| {
                let mut ports = found.value.items("spec.ports").iter();
                ports.any(|own| own.number("port").map(|own| own.to_string()).as_deref() == Some(port))
            };
            if let Some(port) = port.filter(|port| !has(port)) {
                report.at(object, format!("{found} has no port {port}"), "correct the port");
            }
        }
    }
}

/// Every host in `text` that ends with this namespace.
fn addresses<'a>(text: &'a str, namespace: &'a str) -> Vec<Address<'a>> {
    let is_host = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let ends = text.match_indices(namespace).filter_map(|(at, _)| {
        let before = text[..at].strip_suffix('.')?;
        let after = &text[at + namespace.len()..];
        let start = before
            .rfind(|c| !is_host(c))
            .map_or(0, |at| at + text[at..].chars().next().map_or(1, char::len_utf8));
        let service = &before[start..];
        let whole =
            !service.is_empty() && !after.starts_with(is_host) && !before[..start].ends_with(['$', '{', '}']);
        whole.then_some((service, after))
    });
    let found = ends.map(|(service, after)| {
        let after = after.strip_prefix(".svc").unwrap_or(after);
        let after = after.strip_prefix(".cluster.local").unwrap_or(after);
        let digits = after.strip_prefix(':').unwrap_or_default();
        let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        Address { service, namespace, port: Some(&digits[..end]).filter(|port| !port.is_empty()) }
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::found;

    fn documents(text: &str) -> String {
        format!(
            "
kind: Namespace
metadata: {{name: a-b}}
---
kind: Service
metadata: {{name: s, namespace: a-b}}
spec: {{ports: [{{port: 80}}]}}
---
kind: ConfigMap
metadata: {{name: c, namespace: x}}
data: {{k: '{text}'}}
"
        )
    }

    #[test]
    fn hosts_and_ports_are_looked_up() {
        for text in [
            "http://s.a-b:80/x",
            "s.a-b.svc.cluster.local:80",
            "pod-0.s.a-b",
            "a-b",
            "s.a-bc:1",
            "${x}.a-b",
            "→ s.a-b",
        ] {
            assert_eq!(found(&RULE, &documents(text)), [""; 0], "{text}");
        }
        assert_eq!(found(&RULE, &documents("http://t.a-b:80")), ["ConfigMap x/c: there is no Service a-b/t"]);
        assert_eq!(
            found(&RULE, &documents("s.a-b:81,s.a-b:80")),
            ["ConfigMap x/c: Service a-b/s has no port 81"]
        );
    }
}
