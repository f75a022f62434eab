//! Tokens are verified with public keys of known consumers, and end.

use serde_json::Value;

use super::{files, plugins};
use crate::finding::Report;
use crate::look::Look as _;
use crate::rules::Rule;
use crate::set::Set;

pub(in crate::rules) const RULE: Rule = Rule {
    id: "kong-tokens",
    explains: "Kong's jwt plugin has consumers with RS256 public keys, verifies exp and limits how long tokens live",
    check,
};

fn check(set: &Set, report: &mut Report) {
    for (object, file) in files(set) {
        let consumers = file.items("consumers");
        let with_keys: Vec<_> =
            consumers.iter().filter(|consumer| !consumer.items("jwt_secrets").is_empty()).collect();
        let jwt = plugins(&file, "jwt");
        if jwt.is_empty() {
            report.at(object, "there is no jwt plugin: everybody is let in", "add it to the service");
        } else if with_keys.is_empty() && file.items("jwt_secrets").is_empty() {
            report.at(
                object,
                "jwt has no consumer with a key: every request gets 401",
                "add consumers with jwt_secrets {key, algorithm: RS256, rsa_public_key}",
            );
        }
        for consumer in with_keys {
            if !consumer.items("jwt_secrets").iter().all(is_public_key) {
                let what = format!("consumer {} has no RS256 key", consumer.text("username"));
                report.at(object, what, "set algorithm: RS256 and rsa_public_key");
            }
        }
        for plugin in jwt {
            let config = plugin.at("config");
            if !config.items("claims_to_verify").iter().any(|claim| claim.as_str() == Some("exp")) {
                report.at(object, "jwt does not look at exp", "set claims_to_verify: [exp]");
            }
            if config.number("maximum_expiration").is_none_or(|most| most <= 0) {
                report.at(object, "tokens may live for ever", "set maximum_expiration");
            }
        }
    }
}

fn is_public_key(secret: &Value) -> bool {
    secret.text("algorithm") == "RS256" && !secret.text("rsa_public_key").is_empty()
}
