//! The three forms, letter by letter.

use super::*;

fn rows() -> Vec<UsageRow> {
    let day = NaiveDate::from_ymd_opt(2026, 3, 1);
    vec![
        UsageRow {
            day,
            consumer: Some("anna, \"the\" admin".to_owned()),
            model: Some("llama".to_owned()),
            requests: 12,
            aborted: 1,
            failed: 2,
            refused: 3,
            prompt_tokens: 123_456,
            cached_tokens: 7,
            completion_tokens: 890,
        },
        UsageRow {
            day,
            consumer: Some("zoë\n".to_owned()),
            model: Some("m".to_owned()),
            requests: 1,
            prompt_tokens: 10,
            completion_tokens: 10,
            ..UsageRow::default()
        },
    ]
}

#[test]
fn a_table_aligns_numbers_to_the_right_and_adds_them_up() {
    let expected = "\
day         consumer           model  requests  aborted  failed  refused  prompt tokens  cached tokens  completion tokens
-------------------------------------------------------------------------------------------------------------------------
2026-03-01  anna, \"the\" admin  llama        12        1       2        3         123456              7                890
2026-03-01  zoë\u{fffd}               m             1        0       0        0             10              0                 10
-------------------------------------------------------------------------------------------------------------------------
total                                       13        1       2        3         123466              7                900
";
    assert_eq!(render(&rows(), UsageFormat::Table), expected);
    assert_eq!(render(&[], UsageFormat::Table), "no requests\n");
}

#[test]
fn a_table_leaves_out_what_was_not_asked_for() {
    let row = UsageRow { consumer: Some("a".to_owned()), requests: 5, ..UsageRow::default() };
    let text = render(&[row], UsageFormat::Table);
    assert!(text.starts_with("consumer  requests  aborted"), "{text}");
    let all = render(&[UsageRow { requests: 5, ..UsageRow::default() }], UsageFormat::Table);
    assert!(all.starts_with("requests  aborted"), "{all}");
}

#[test]
fn csv_quotes_what_it_must() {
    let expected = "day,consumer,model,requests,aborted,failed,refused,prompt_tokens,cached_tokens,completion_tokens\r\n\
        2026-03-01,\"anna, \"\"the\"\" admin\",llama,12,1,2,3,123456,7,890\r\n\
        2026-03-01,\"zoë\n\",m,1,0,0,0,10,0,10\r\n";
    assert_eq!(render(&rows(), UsageFormat::Csv), expected);
}

#[test]
fn json_is_an_array_of_objects() {
    let expected = r#"[
  {
    "day": "2026-03-01",
    "consumer": "zoë\n",
    "model": null,
    "requests": 1,
    "aborted": 0,
    "failed": 0,
    "refused": 0,
    "prompt_tokens": 10,
    "cached_tokens": 0,
    "completion_tokens": 10
  }
]
"#;
    let row = UsageRow { model: None, ..rows().remove(1) };
    assert_eq!(render(&[row], UsageFormat::Json), expected);
    assert_eq!(render(&[], UsageFormat::Json), "[]\n");
}
