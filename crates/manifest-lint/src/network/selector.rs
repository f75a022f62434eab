//! Label selectors: `matchLabels` and `matchExpressions`, all of which must hold.

use serde_json::Value;

use crate::look::Look as _;
use crate::workload::Labels;

/// An empty selector selects everything, one that is not there nothing.
pub(crate) fn selects(selector: &Value, labels: &Labels) -> bool {
    selector.is_object()
        && selector
            .entries("matchLabels")
            .all(|(key, value)| labels.get(key).map(String::as_str) == value.as_str())
        && selector.items("matchExpressions").iter().all(|expression| holds(expression, labels))
}

fn holds(expression: &Value, labels: &Labels) -> bool {
    let label = labels.get(expression.text("key"));
    let listed =
        || expression.items("values").iter().any(|value| value.as_str() == label.map(String::as_str));
    match expression.text("operator") {
        "In" => label.is_some() && listed(),
        // Also true where there is no such label.
        "NotIn" => label.is_none() || !listed(),
        "Exists" => label.is_some(),
        "DoesNotExist" => label.is_none(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn all_requirements_must_hold() {
        let selector = json!({
            "matchLabels": {"app": "a"},
            "matchExpressions": [{"key": "tier", "operator": "In", "values": ["x", "y"]}],
        });
        assert!(selects(&selector, &labels(&[("app", "a"), ("tier", "y")])));
        assert!(!selects(&selector, &labels(&[("app", "a")])));
        assert!(!selects(&selector, &labels(&[("app", "b"), ("tier", "y")])));
    }

    #[test]
    fn a_label_that_is_missing_is_not_in_any_list() {
        let not_in = json!({"matchExpressions": [{"key": "k", "operator": "NotIn", "values": ["v"]}]});
        assert!(selects(&not_in, &labels(&[])));
        assert!(selects(&not_in, &labels(&[("k", "w")])));
        assert!(!selects(&not_in, &labels(&[("k", "v")])));
    }

    #[test]
    fn existence_is_asked_for_by_itself() {
        let exists = json!({"matchExpressions": [{"key": "k", "operator": "Exists"}]});
        let missing = json!({"matchExpressions": [{"key": "k", "operator": "DoesNotExist"}]});
        for (selector, with, without) in [(exists, true, false), (missing, false, true)] {
            assert_eq!(selects(&selector, &labels(&[("k", "")])), with);
            assert_eq!(selects(&selector, &labels(&[])), without);
        }
    }

    #[test]
    fn empty_selects_all_and_absent_selects_none() {
        assert!(selects(&json!({}), &labels(&[])));
        assert!(!selects(&Value::Null, &labels(&[])));
    }
}
