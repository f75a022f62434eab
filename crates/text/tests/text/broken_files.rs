//! Folders that can not be used: the error names the file and says what to do.

use crate::folder::{Folder, golden};

fn error(folder: Folder) -> String {
    folder.load().expect_err("the folder is broken").to_string()
}

#[test]
fn a_folder_without_tokenizer() {
    assert!(error(Folder::default()).starts_with("tokenizer.json is missing from the model folder"));
}

#[test]
fn files_that_are_no_json() {
    let tokenizer = golden("tokenizers/byte-bpe.tokenizer.json");
    let cut = Folder::default().with("tokenizer.json", &tokenizer.as_bytes()[..500]);
    assert!(error(cut).starts_with("tokenizer.json is broken: "));
    let empty = Folder::default().with("tokenizer.json", "{}");
    assert!(error(empty).starts_with("tokenizer.json is broken: "));
    for name in ["tokenizer_config.json", "special_tokens_map.json", "generation_config.json", "config.json"]
    {
        let folder = Folder::with_tokenizer("byte-bpe").with(name, "{\n  \"eos_token_id\": [1,,2]\n}");
        let error = error(folder);
        assert!(error.starts_with(&format!("{name} is broken: ")) && error.contains("line 2"), "{error}");
    }
}

#[test]
fn fields_of_the_wrong_type() {
    let folder =
        Folder::with_tokenizer("byte-bpe").with("generation_config.json", r#"{"eos_token_id": "x"}"#);
    assert!(error(folder).starts_with("generation_config.json is broken: `eos_token_id`"));
    let folder = Folder::with_tokenizer("byte-bpe").with("tokenizer_config.json", r#"{"chat_template": 3}"#);
    assert!(error(folder).starts_with("tokenizer_config.json is broken: `chat_template`"));
}

#[test]
fn a_template_that_does_not_compile() {
    let folder = Folder::with_tokenizer("byte-bpe")
        .with("chat_template.jinja", "line one\n{% for m in messages %}\n{{ m.");
    let error = error(folder);
    assert!(error.starts_with("the chat template chat_template.jinja does not compile, line 3: "), "{error}");
    let folder = Folder::with_tokenizer("byte-bpe").with("chat_template.jinja", [0xff, 0xfe]);
    assert!(self::error(folder).starts_with("chat_template.jinja is broken: "));
}
