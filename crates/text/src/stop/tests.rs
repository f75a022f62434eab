//! Stop strings against a plain search over the whole text.

use proptest::prelude::*;

use super::StopStrings;

/// The text of the answer and the string that ended it, found by looking at every end position in turn.
fn plain_search(text: &str, stops: &[String], include: bool) -> (String, Option<usize>) {
    for end in 0..=text.len() {
        let best = stops
            .iter()
            .enumerate()
            .filter(|(_, stop)| !stop.is_empty() && text.as_bytes()[..end].ends_with(stop.as_bytes()))
            .max_by_key(|(index, stop)| (stop.len(), usize::MAX - index));
        if let Some((index, stop)) = best {
            let keep = if include { end } else { end - stop.len() };
            return (text[..keep].to_owned(), Some(index));
        }
    }
    (text.to_owned(), None)
}

/// Pushes `text` in pieces that end at the given fractions of it.
fn in_pieces(text: &str, cuts: &[usize]) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (chars.len() + 1)).collect();
    cuts.extend([0, chars.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|pair| chars[pair[0]..pair[1]].iter().collect()).collect()
}

#[test]
fn a_stop_string_over_three_pieces_never_leaks() {
    let mut stops = StopStrings::new(vec!["</answer>".into()], false);
    assert_eq!(stops.push("42 </an").text, "42 ");
    assert_eq!(stops.push("sw").text, "");
    let last = stops.push("er> and more");
    assert_eq!((last.text.as_str(), last.stopped), ("", Some(0)));
    assert_eq!(stops.push("later").text, "");
    assert_eq!(stops.finish(), "");
}

#[test]
fn what_was_held_back_comes_out_when_it_does_not_match() {
    let mut stops = StopStrings::new(vec!["abcabd".into()], false);
    assert_eq!(stops.push("abcab").text, "");
    assert_eq!(stops.push("c").text, "abc");
    assert_eq!(stops.finish(), "abc");
}

#[test]
fn the_stop_string_is_kept_on_request() {
    let mut stops = StopStrings::new(vec!["\n\n".into()], true);
    assert_eq!(stops.push("one\n").text, "one");
    let step = stops.push("\ntwo");
    assert_eq!((step.text.as_str(), step.stopped), ("\n\n", Some(0)));
}

#[test]
fn passed_text_is_not_searched_and_starts_no_match() {
    let mut stops = StopStrings::new(vec!["ab".into()], false);
    assert_eq!(stops.pass("ab a"), "ab a");
    let step = stops.push("b ab");
    assert_eq!((step.text.as_str(), step.stopped), ("b ", Some(0)));
}

#[test]
fn a_match_that_begins_inside_a_failed_one_is_found() {
    let mut stops = StopStrings::new(vec!["aabaaac".into()], false);
    let step = stops.push("aabaaabaaac");
    assert_eq!((step.text.as_str(), step.stopped), ("aaba", Some(0)));
}

#[test]
fn a_long_run_that_almost_matches_costs_linear_work() {
    let mut stops = StopStrings::new(vec!["a".repeat(1000) + "b"], false);
    let mut length = 0;
    for _ in 0..20_000 {
        length += stops.push("aaaaaaaaaa").text.len();
    }
    assert_eq!(length + stops.finish().len(), 200_000);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_chunking_gives_what_a_plain_search_gives(
        // Few letters make long overlaps, several bytes per letter make the others.
        (text, stops) in prop_oneof![
            ("[abé🦋]{0,40}", prop::collection::vec("[abé🦋]{0,4}", 0..4)),
            ("[ab]{0,80}", prop::collection::vec("[ab]{4,9}", 1..3)),
        ],
        cuts in prop::collection::vec(any::<usize>(), 0..12),
        include in any::<bool>(),
    ) {
        let mut stream = StopStrings::new(stops.clone(), include);
        let mut answer = String::new();
        for piece in in_pieces(&text, &cuts) {
            let step = stream.push(&piece);
            answer.push_str(&step.text);
            // Nothing that came out so far may have to be taken back.
            let (expected, _) = plain_search(&text, &stops, include);
            prop_assert!(expected.starts_with(&answer), "{answer:?} is no prefix of {expected:?}");
        }
        answer.push_str(&stream.finish());
        prop_assert_eq!((answer, stream.stopped()), plain_search(&text, &stops, include));
    }
}
