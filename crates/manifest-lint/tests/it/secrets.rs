//! deploy/secrets.yaml is what make-secrets.sh makes, and what the external-secrets component makes. Needs `openssl`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use crate::deploy;

/// Keys by name of a secret; one name in two namespaces is one folder there.
type Keys = BTreeMap<String, BTreeSet<String>>;

#[test]
fn the_script_makes_what_is_declared() {
    let (given, made) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for name in ["hf-token", "aws-access-key-id", "aws-secret-access-key", "tls.crt", "tls.key"] {
        fs::write(given.path().join(name), "x").unwrap();
    }
    for name in ["stripe-secret-key", "stripe-webhook-secret"] {
        fs::write(given.path().join(name), "x").unwrap();
    }
    let script = Command::new("bash")
        .arg(deploy::folder().join("scripts/make-secrets.sh"))
        .arg("--dir")
        .arg(made.path())
        .arg("--from")
        .arg(given.path())
        .output()
        .unwrap();
    assert!(script.status.success(), "{}", String::from_utf8_lossy(&script.stderr));
    let mut found = Keys::new();
    for entry in fs::read_dir(made.path()).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_dir())
    {
        let keys = fs::read_dir(entry.path()).unwrap();
        let keys = keys.map(|key| key.unwrap().file_name().to_string_lossy().into_owned()).collect();
        found.insert(entry.file_name().to_string_lossy().into_owned(), keys);
    }
    let mut expected = Keys::new();
    for entry in deploy::secrets().secrets {
        expected.entry(entry.name).or_default().extend(entry.keys);
    }
    assert_eq!(found, expected);
}

#[test]
fn the_script_makes_each_in_its_namespace() {
    let text = fs::read_to_string(deploy::folder().join("scripts/make-secrets.sh")).unwrap();
    let mut made = BTreeSet::new();
    for line in text.lines() {
        let mut words = line.split_whitespace().skip_while(|word| *word != "make");
        if let (Some(_), Some(namespace), Some(name)) = (words.next(), words.next(), words.next())
            && let Some(namespace) = namespace.strip_prefix('$')
        {
            made.insert((format!("vlinders-{namespace}"), name.to_owned()));
        }
    }
    let expected: BTreeSet<_> =
        deploy::secrets().secrets.into_iter().map(|entry| (entry.namespace, entry.name)).collect();
    assert_eq!(made, expected);
}
