//! The URL of PostgreSQL names the user and the database that its server makes.

use super::Rule;
use crate::finding::Report;
use crate::look::strings;
use crate::set::Set;

pub(super) const RULE: Rule = Rule {
    id: "database-url",
    explains: "a PostgreSQL URL names the user that the server of this set makes",
    check,
};

fn check(set: &Set, report: &mut Report) {
    let pods = set.workloads();
    let containers = pods.iter().flat_map(|pod| pod.containers());
    let users: Vec<&str> = containers.filter_map(|container| container.variable("POSTGRES_USER")).collect();
    if users.is_empty() {
        return;
    }
    for object in &set.objects {
        strings("", &object.value, &mut |key, text| {
            for user in users_of(text) {
                if !users.contains(&user) {
                    report.at(
                        object,
                        format!("`{key}` names the user `{user}`, the server has {}", users.join(", ")),
                        "build the URL from the secret of the server",
                    );
                }
            }
        });
    }
}

fn users_of(text: &str) -> Vec<&str> {
    let schemes = ["postgresql://", "postgres://"];
    let urls = schemes.iter().flat_map(|scheme| text.split(scheme).skip(1));
    urls.filter_map(|url| url.split_once('@')?.0.split(':').next()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{deployment, found};

    #[test]
    fn another_user_than_the_servers_is_found() {
        let server = deployment("containers:\n- {name: c, env: [{name: POSTGRES_USER, value: vlinders}]}");
        let url = |user: &str| {
            format!(
                "\n---\nkind: Secret\nmetadata: {{name: s, namespace: a}}\nstringData: {{url: 'postgresql://{user}:x@postgres/d'}}"
            )
        };
        assert_eq!(found(&RULE, &(server.clone() + &url("vlinders"))), [""; 0]);
        assert_eq!(
            found(&RULE, &(server + &url("user"))),
            ["Secret a/s: `url` names the user `user`, the server has vlinders"]
        );
    }
}
