//! The files of the built-in model.

use std::{borrow::Cow, fs, path::PathBuf};

use serde_json::json;
use vlinders_text::{RenderInput, TextModel, TextOptions};

#[test]
fn the_demo_model_speaks() {
    let assets = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../demo/assets");
    let read = |name: &str| match fs::read(assets.join(name)) {
        Ok(bytes) => Ok(Some(Cow::Owned(bytes))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    };
    let model = TextModel::load(read, TextOptions::default()).unwrap();
    let messages = vec![json!({"role": "user", "content": "Where do brimstones live? 🦋"})];
    let input = RenderInput { messages, add_generation_prompt: true, ..RenderInput::default() };
    let prompt = model.render(&input).unwrap();
    let ids = model.encode(&prompt, false).unwrap();
    assert_eq!(model.decode(&ids, false).unwrap(), prompt);
    assert_eq!(model.decode(&ids, true).unwrap().matches("<|").count(), 0);
    assert!(!model.eos_token_ids().is_empty());
    assert!(model.eos_token_ids().iter().all(|&id| model.is_special(id)));
}
