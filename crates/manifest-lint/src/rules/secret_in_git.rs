//! No secret stands in a manifest, and what is secret of one consumer is not in the hands of another.

use super::Rule;
use crate::finding::Report;
use crate::look::{Look as _, strings};
use crate::set::Set;

pub(super) const RULE: Rule = Rule {
    id: "secret-in-git",
    explains: "manifests hold no Secret, no private key and no password in a URL; each consumer has a secret of its own",
    check,
};

fn check(set: &Set, report: &mut Report) {
    for secret in set.of_kind("Secret") {
        let keys: Vec<_> = secret.value.entries("data").chain(secret.value.entries("stringData")).collect();
        if keys.is_empty() {
            continue;
        }
        let names: Vec<_> = keys.iter().map(|(key, _)| *key).collect();
        report.at(
            secret,
            format!("values stand in the manifest: {}", names.join(", ")),
            "make-secrets.sh makes one secret for each consumer, from files",
        );
    }
    for object in &set.objects {
        strings("", &object.value, &mut |key, text| {
            if key.contains("private-key") || text.contains("PRIVATE KEY-----") {
                report.at(object, format!("`{key}` is a private key"), "the cluster gets public keys only");
            }
            if has_password(text) {
                report.at(object, format!("`{key}` holds a URL with a password"), "read it from a secret");
            }
        });
    }
}

/// `scheme://user:password@host`, where the password is no reference to a variable.
fn has_password(text: &str) -> bool {
    text.match_indices("://").any(|(at, _)| {
        let rest = &text[at + 3..];
        let authority = rest.split(['/', ' ', '\n', '"', '\'']).next().unwrap_or_default();
        let user = authority.rsplit_once('@').map(|(user, _)| user);
        let password = user.and_then(|user| user.split_once(':')).map(|(_, password)| password);
        password.is_some_and(|password| !password.is_empty() && !password.contains(['$', '{', '<', '…']))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::found;

    #[test]
    fn secrets_private_keys_and_passwords_are_found() {
        let secret = "kind: Secret\nmetadata: {name: s, namespace: a}\nstringData: {jwt-private-key: x, url: 'redis://u:p@h:1'}";
        assert_eq!(
            found(&RULE, secret),
            [
                "Secret a/s: values stand in the manifest: jwt-private-key, url",
                "Secret a/s: `jwt-private-key` is a private key",
                "Secret a/s: `url` holds a URL with a password",
            ]
        );
    }

    #[test]
    fn variables_in_urls_are_no_passwords() {
        assert!(!has_password("postgresql://u:$(PASSWORD)@h/d"));
        assert!(!has_password("http://prometheus.monitoring:9090/a@b"));
        assert!(has_password("x postgresql://u:p@h/d"));
    }
}
