//! What config.json may say of quantisation, and that the rest is refused in words.

use serde_json::json;

use super::*;

fn parse(config: &Value) -> Result<Method, String> {
    let config = json!({"hidden_size": 8, "quantization_config": config});
    Method::parse(config.to_string().as_bytes()).map_err(|error| error.to_string())
}

fn compressed(weights: Value) -> Value {
    json!({
        "quant_method": "compressed-tensors", "format": "float-quantized",
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}}, "ignore": ["lm_head"],
    })
}

fn weights(strategy: &str) -> Value {
    json!({"num_bits": 8, "type": "float", "strategy": strategy, "symmetric": true, "dynamic": false})
}

#[test]
fn models_without_a_word_of_it_and_our_own_folders_are_plain() {
    assert_eq!(Method::parse(b"{}").unwrap(), Method::Plain);
    assert_eq!(parse(&Value::Null), Ok(Method::Plain));
    assert_eq!(parse(&json!({"quant_method": "vlinders", "bits": 8})), Ok(Method::Plain));
    assert_eq!(parse(&json!({"quant_method": "vlinders-packed", "format": "q8"})), Ok(Method::Plain));
}

#[test]
fn floats_of_eight_bits_are_known_by_both_names() {
    let of_rows = Method::Fp8 { block: None, rows: true };
    let rows = Ok(of_rows);
    assert_eq!(parse(&json!({"quant_method": "fp8", "activation_scheme": "static"})), rows);
    assert_eq!(parse(&json!({"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": null})), rows);
    let blocks = json!({"quant_method": "fp8", "weight_block_size": [128, 64]});
    assert_eq!(parse(&blocks), Ok(Method::Fp8 { block: Some([128, 64]), rows: false }));
    for strategy in ["tensor", "channel"] {
        assert_eq!(parse(&compressed(weights(strategy))), rows);
    }
    assert_eq!(parse(&compressed(Value::Null)), rows, "the cache alone is quantised");
    let mut block = weights("block");
    block["block_structure"] = json!([128, 128]);
    let mut both = compressed(block.clone());
    assert_eq!(parse(&both), Ok(Method::Fp8 { block: Some([128, 128]), rows: false }));
    both["config_groups"]["group_1"] = json!({"targets": ["re:.*down_proj"], "weights": weights("channel")});
    assert_eq!(parse(&both), Ok(Method::Fp8 { block: Some([128, 128]), rows: true }));
    let older = json!({"compression_config": compressed(weights("tensor"))});
    assert_eq!(Method::parse(older.to_string().as_bytes()).unwrap(), of_rows);
}

#[test]
fn everything_else_is_refused_with_what_is_supported() {
    let mut integers = weights("channel");
    integers["type"] = json!("int");
    let mut four = weights("group");
    four["num_bits"] = json!(4);
    let mut offset = weights("channel");
    offset["symmetric"] = json!(false);
    let mut nibbles = compressed(four.clone());
    nibbles["format"] = json!("nvfp4-pack-quantized");
    let mut own_format = compressed(weights("channel"));
    own_format["config_groups"]["group_0"]["format"] = json!("int-quantized");
    let mut sparse = compressed(weights("channel"));
    sparse["sparsity_config"] = json!({"format": "sparse-24-bitmask"});
    let mut turned = compressed(weights("channel"));
    turned["transform_config"] = json!({"config_groups": {"u": {}}});
    for (config, what) in [
        (json!({"quant_method": "gptq", "bits": 4}), "quant_method \"gptq\""),
        (json!({"quant_method": "awq", "bits": 4}), "quant_method \"awq\""),
        (json!({"quant_method": "bitsandbytes", "load_in_4bit": true}), "quant_method \"bitsandbytes\""),
        (json!({"bits": 4}), "no quant_method"),
        (json!({"quant_method": "fp8", "fmt": "e5m2"}), "fmt \"e5m2\""),
        (compressed(integers), "weights of 8 bits of type \"int\""),
        (compressed(four), "weights of 4 bits of type \"float\""),
        (compressed(offset), "weights of 8 bits of type \"float\" and an offset"),
        (compressed(weights("group")), "weights with scales by \"group\""),
        (compressed(weights("block")), "blocks of no size, or of several"),
        (nibbles, "the format \"nvfp4-pack-quantized\" of compressed-tensors"),
        (own_format, "the format \"int-quantized\" of compressed-tensors"),
        (sparse, "sparse weights (sparse-24-bitmask)"),
        (turned, "transform_config"),
    ] {
        let error = parse(&config).unwrap_err();
        let start = format!(
            "config.json: quantization_config: {what} is not supported: weights in F8_E4M3 of the methods"
        );
        assert!(error.starts_with(&start), "{error}");
    }
}

#[test]
fn fields_that_can_not_be_read_are_named() {
    let mut odd = weights("channel");
    odd["num_bits"] = json!("eight");
    assert_eq!(
        parse(&compressed(odd)).unwrap_err(),
        "config.json: quantization_config.config_groups.group_0.weights.num_bits: invalid type: string \"eight\", expected u32"
    );
    let empty = json!({"quant_method": "fp8", "weight_block_size": [128, 0]});
    assert_eq!(
        parse(&empty).unwrap_err(),
        "config.json: quantization_config: blocks of [128, 0] hold nothing"
    );
    assert!(parse(&json!("fp8")).unwrap_err().starts_with("config.json: quantization_config: "));
}

#[test]
fn made_up_weights_are_encoded_as_those_of_the_files_are_kept() {
    let of = |config: Value| {
        linear_encoding(json!({"quantization_config": config}).to_string().as_bytes())
            .map_err(|e| e.to_string())
    };
    assert_eq!(of(Value::Null), Ok(Stored::BF16));
    assert_eq!(of(json!({"quant_method": "fp8"})), Ok(Stored::F8_E4M3));
    assert_eq!(of(json!({"quant_method": "fp8", "weight_block_size": [128, 128]})), Ok(Stored::Q8_0));
    assert!(of(json!({"quant_method": "gptq"})).is_err());
}
