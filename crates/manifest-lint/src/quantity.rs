//! Amounts of Kubernetes (`16Gi`, `500m`) as numbers.

use serde_json::Value;

/// Bytes, cores or pieces; nothing where it is no amount.
pub(crate) fn parse(value: &Value) -> Option<f64> {
    let text = match value {
        Value::Number(number) => return number.as_f64(),
        other => other.as_str()?.trim(),
    };
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit {
        "" => 1.0,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "Ki" => 1024.0,
        "Mi" => 1024.0 * 1024.0,
        "Gi" => 1024.0 * 1024.0 * 1024.0,
        "Ti" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    };
    number.parse::<f64>().ok().map(|number| number * factor)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn amounts_have_units() {
        assert_eq!(parse(&json!("1.5Gi")), Some(1.5 * 1024.0 * 1024.0 * 1024.0));
        assert_eq!(parse(&json!("250m")), Some(0.25));
        assert_eq!(parse(&json!(4)), Some(4.0));
        assert_eq!(parse(&json!("12Potatoes")), None);
        assert_eq!(parse(&json!("")), None);
    }
}
