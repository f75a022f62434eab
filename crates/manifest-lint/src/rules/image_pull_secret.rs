//! Credentials of image registries exist, and are used by the pods of their namespace that pull our images.

use super::Rule;
use crate::finding::Report;
use crate::look::Look as _;
use crate::set::Set;
use crate::workload::Workload;

pub(super) const RULE: Rule = Rule {
    id: "image-pull-secret",
    explains: "each imagePullSecret exists, and registry credentials reach every pod of their namespace that pulls our images",
    check,
};

const KEY: &str = ".dockerconfigjson";
/// Images that may stand in a registry with credentials.
const OURS: &str = "vlinders";

fn check(set: &Set, report: &mut Report) {
    let pods = set.workloads();
    for pod in &pods {
        for name in pulled_with(set, pod) {
            let keys = set.secret_keys(pod.namespace(), name).unwrap_or_default();
            if !keys.contains(&KEY) {
                let what = format!("image pull secret {name} is not in {}", pod.namespace());
                report.at(pod.object, what, format!("make a secret with the key {KEY}"));
            }
        }
    }
    let declared = set.secrets.secrets.iter().filter(|entry| entry.keys.iter().any(|key| key == KEY));
    let declared = declared.map(|entry| (entry.namespace.as_str(), entry.name.as_str()));
    let written =
        set.of_kind("Secret").filter(|secret| secret.value.text("type") == "kubernetes.io/dockerconfigjson");
    let written = written.map(|secret| (secret.namespace(), secret.name()));
    for (namespace, name) in declared.chain(written) {
        let ours = pods.iter().filter(|pod| {
            pod.namespace() == namespace
                && pod.containers().iter().any(|container| container.image().starts_with(OURS))
        });
        for pod in ours.filter(|pod| !pulled_with(set, pod).contains(&name)) {
            report.at(pod.object, format!("it does not pull with {name}"), "name it in its ServiceAccount");
        }
        let nobody =
            !pods.iter().any(|pod| pod.namespace() == namespace && pulled_with(set, pod).contains(&name));
        if nobody && let Some(secret) = set.find("Secret", namespace, name) {
            report.at(secret, "no pod pulls with it", "name it in the imagePullSecrets of ServiceAccounts");
        }
    }
}

fn pulled_with<'a>(set: &'a Set, pod: &Workload<'a>) -> Vec<&'a str> {
    let account = set.find("ServiceAccount", pod.namespace(), pod.service_account());
    let of_account = account.map(|account| account.value.items("imagePullSecrets")).unwrap_or_default();
    of_account.iter().chain(pod.spec().items("imagePullSecrets")).map(|secret| secret.text("name")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{deployment, found, found_in, set_with};

    const TABLE: &str = "secrets: [{name: r, namespace: a, keys: [.dockerconfigjson]}]";
    const ACCOUNT: &str =
        "\n---\nkind: ServiceAccount\nmetadata: {name: s, namespace: a}\nimagePullSecrets: [{name: r}]";

    #[test]
    fn our_images_are_pulled_with_the_credentials_that_exist() {
        let pod = deployment("serviceAccountName: s\ncontainers:\n- {name: c, image: vlinders/vlinders:1}");
        assert_eq!(found_in(&RULE, &set_with(&(pod.clone() + ACCOUNT), TABLE, "")), [""; 0]);
        assert_eq!(found_in(&RULE, &set_with(&pod, TABLE, "")), ["Deployment a/d: it does not pull with r"]);
        assert_eq!(found(&RULE, &(pod + ACCOUNT)), ["Deployment a/d: image pull secret r is not in a"]);
    }

    #[test]
    fn a_written_secret_that_nobody_pulls_with_is_found() {
        let secret = "kind: Secret\nmetadata: {name: r, namespace: a}\ntype: kubernetes.io/dockerconfigjson\ndata: {.dockerconfigjson: e30=}";
        assert_eq!(found(&RULE, secret), ["Secret a/r: no pod pulls with it"]);
    }
}
