//! Frequencies against those that Hugging Face transformers computes for published models.

use serde::Deserialize;
use serde_json::{Value, json};

use super::frequencies::frequencies;
use super::{Rope, RopeConfig, RopeKind};
use crate::Place;

#[derive(Deserialize)]
struct Case {
    name: String,
    head_dim: usize,
    rope_theta: f64,
    max_position_embeddings: usize,
    rope_scaling: Value,
    seq_len: Option<usize>,
    attention_factor: f64,
    inv_freq: Vec<f32>,
}

fn cases() -> Vec<Case> {
    let text = std::fs::read(vlinders_testkit::golden_root().join("rope.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

fn parse(config: &Value) -> Result<RopeConfig, String> {
    let max = config["max_position_embeddings"].as_u64().unwrap_or(2048) as usize;
    RopeConfig::parse(config.to_string().as_bytes(), max).map_err(|e| e.to_string())
}

#[test]
fn frequencies_agree_with_the_reference_in_both_spellings() {
    for case in cases() {
        let mut parameters = case.rope_scaling.clone();
        parameters["rope_theta"] = json!(case.rope_theta);
        let mut oldest = case.rope_scaling.clone();
        let map = oldest.as_object_mut().unwrap();
        let kind = map.remove("rope_type").unwrap();
        map.insert("type".into(), kind);
        let max = case.max_position_embeddings;
        let spellings = [
            json!({"max_position_embeddings": max, "rope_theta": case.rope_theta, "rope_scaling": case.rope_scaling}),
            json!({"max_position_embeddings": max, "rope_theta": case.rope_theta, "rope_scaling": oldest}),
            json!({"max_position_embeddings": max, "rope_parameters": parameters, "rope_scaling": null}),
        ];
        for spelling in spellings {
            let config = parse(&spelling).unwrap();
            let got = frequencies(&config, case.head_dim, case.seq_len.unwrap_or(1));
            assert_eq!(got.len(), case.inv_freq.len(), "{}", case.name);
            for (i, (got, expected)) in got.iter().zip(&case.inv_freq).enumerate() {
                let relative = ((got - expected) / expected).abs();
                assert!(relative < 1e-6, "{} [{i}]: {got} is not {expected}", case.name);
            }
            assert!((config.attention_factor() - case.attention_factor).abs() < 1e-9, "{}", case.name);
        }
    }
}

#[test]
fn dynamic_frequencies_depend_on_the_position_alone() {
    let config = RopeConfig {
        theta: 10_000.0,
        partial_rotary_factor: 1.0,
        max_position_embeddings: 8,
        kind: RopeKind::Dynamic { factor: 2.0 },
    };
    let short = Rope::new(&config, 8, 10, &Place::Cpu).unwrap();
    let long = Rope::new(&config, 8, 40, &Place::Cpu).unwrap();
    let rows = |rope: &Rope| rope.cos.to_cpu().unwrap().narrow(0, 0, 10).unwrap().to_vec2::<f32>().unwrap();
    assert_eq!(rows(&short), rows(&long));
    let last = frequencies(&config, 8, 10);
    assert_eq!(rows(&short)[9][1], (9.0 * last[1]).cos());
    assert_ne!(last, frequencies(&config, 8, 8));
}

#[test]
fn errors_name_the_field_and_the_known_kinds() {
    let error = |scaling: Value| parse(&json!({"rope_scaling": scaling})).unwrap_err();
    assert_eq!(
        error(json!({"rope_type": "longrope", "factor": 2.0})),
        "config.json: rope_scaling.rope_type: \"longrope\" is not known; known: default, linear, dynamic, llama3, yarn"
    );
    assert_eq!(error(json!({"type": "linear"})), "config.json: rope_scaling.factor: is missing");
    assert_eq!(
        error(json!({"type": "linear", "factor": "2"})),
        "config.json: rope_scaling.factor: must be a number, is \"2\""
    );
    assert!(error(json!({"type": "dynamic", "factor": -1})).contains("must be above 0"));
    let nested = json!({"rope_parameters": {"full_attention": {"rope_type": "default"}}});
    assert!(parse(&nested).unwrap_err().contains("for each layer type"));
    assert!(parse(&json!({"rope_theta": 0})).unwrap_err().contains("must be above 1"));
    assert!(parse(&json!({"partial_rotary_factor": 1.5})).unwrap_err().contains("at most 1"));
}

#[test]
fn part_of_a_head_may_be_rotated() {
    let config = parse(&json!({"partial_rotary_factor": 0.5})).unwrap();
    assert_eq!(config.rotated(16).unwrap(), 8);
    assert!(config.rotated(6).is_err());
}

#[test]
fn frequencies_may_be_divided_one_by_one() {
    let config = |factors: Value| json!({"rope_scaling": {"rope_type": "divided", "factors": factors}});
    let plain = frequencies(&parse(&json!({})).unwrap(), 8, 1);
    let divided = parse(&config(json!([1.0, 2.0, 4.0, 8.0]))).unwrap();
    let expected: Vec<f32> = plain.iter().zip([1.0, 2.0, 4.0, 8.0]).map(|(f, by)| f / by).collect();
    assert_eq!(frequencies(&divided, 8, 1), expected);
    assert!(divided.rotated(16).unwrap_err().to_string().contains("has 4 factors for 8 frequencies"));
    assert!(parse(&config(json!([1.0, 0.0]))).unwrap_err().contains("must be numbers above 0"));
}
