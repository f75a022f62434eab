//! What the command line means.

use super::*;
use clap::CommandFactory as _;

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

fn parse(line: &[&str]) -> Args {
    Args::try_parse_from(with_default_command(words(line))).unwrap()
}

#[test]
fn the_definition_is_consistent() {
    Args::command().debug_assert();
}

#[test]
fn without_a_command_it_serves() {
    assert_eq!(with_default_command(words(&["vlinders"])), words(&["vlinders", "serve"]));
    let Command::Serve(serve) = parse(&["vlinders", "--port", "9000"]).command else { panic!() };
    assert_eq!(serve.server.port, Some(9000));
}

#[test]
fn help_and_commands_are_left_alone() {
    for line in [&["vlinders", "--help"], &["vlinders", "-V"], &["vlinders", "chat"]] {
        assert_eq!(with_default_command(words(line)), words(line));
    }
}

#[test]
fn options_left_out_stay_open() {
    let Command::Serve(serve) = parse(&["vlinders", "serve", "/models/a"]).command else { panic!() };
    assert_eq!(serve.model.folder.as_deref(), Some("/models/a"));
    assert!(serve.server.host.is_none() && serve.model.max_model_len.is_none());
}

#[test]
fn a_folder_and_a_models_file_exclude_each_other() {
    let line = words(&["vlinders", "serve", "/models/a", "--models", "models.yaml"]);
    assert!(Args::try_parse_from(line).unwrap_err().to_string().contains("cannot be used with"));
}

#[test]
fn length_ranges() {
    assert_eq!("128".parse(), Ok(LengthRange { min: 128, max: 128 }));
    assert_eq!("100-2000".parse(), Ok(LengthRange { min: 100, max: 2000 }));
    for wrong in ["0", "", "5-", "9-3", "-4", "many"] {
        assert!(wrong.parse::<LengthRange>().is_err(), "{wrong}");
    }
}

/// What a user reads first must not change unnoticed.
#[test]
fn the_first_help_page() {
    insta::assert_snapshot!(Args::command().term_width(100).render_help().to_string());
}
