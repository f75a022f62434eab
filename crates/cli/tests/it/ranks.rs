//! One model on two processes: it answers as one does, and when a rank is killed, stopped or cut off, all end and the next start
//! serves again.

mod group;
mod net;

use std::time::{Duration, Instant};

use futures::StreamExt as _;
use serde_json::{Value, json};

use self::group::Group;
use self::net::Net;
use crate::process::http;

/// What a rank suffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Kill,
    Stop,
    Cut,
}

/// The rank timeout of groups that lose a rank.
const NOTICED_AFTER: Duration = Duration::from_secs(2);

/// A slow machine may need so much longer than the rank timeout to notice a fault.
const SLACK: Duration = Duration::from_secs(20);

async fn answer(url: &str, question: &str) -> String {
    let body = json!({
        "model": vlinders_demo::MODEL_NAME, "temperature": 0,
        "messages": [{"role": "user", "content": question}],
    });
    let response = http().post(format!("{url}/v1/chat/completions")).json(&body).send().await.unwrap();
    let answer: Value = response.json().await.unwrap();
    answer["choices"][0]["message"]["content"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

async fn is_ready(url: &str) -> bool {
    let response = http().get(format!("{url}/ready")).timeout(Duration::from_secs(2)).send().await;
    response.is_ok_and(|response| response.status().is_success())
}

/// A stream that goes on for long; gives what it had sent when it ended.
async fn long_stream(url: &str) -> tokio::task::JoinHandle<String> {
    let body = json!({
        "model": vlinders_demo::MODEL_NAME, "prompt": "butterflies", "max_tokens": 2000, "ignore_eos": true,
        "stream": true,
    });
    let request = http().post(format!("{url}/v1/completions")).json(&body);
    let mut stream = request.send().await.unwrap().bytes_stream();
    let first = stream.next().await.unwrap().unwrap().to_vec();
    tokio::spawn(async move {
        let mut received = first;
        while let Some(Ok(bytes)) = stream.next().await {
            received.extend_from_slice(&bytes);
        }
        String::from_utf8_lossy(&received).into_owned()
    })
}

#[tokio::test]
async fn two_processes_answer_as_one_does() {
    let exact = ["--dtype", "float32"];
    let mut alone = Group::start(1, &Net::loopback(), &exact);
    let mut threads =
        Group::start(1, &Net::loopback(), &["--dtype", "float32", "--tensor-parallel-size", "8"]);
    let mut group = Group::start(3, &Net::loopback(), &[]);
    assert!(group.fails().contains("3 does not go with"), "eight heads can not be split among three");
    let mut group = Group::start(2, &Net::loopback(), &exact);
    let mut several = Group::start_several(2, 4, &Net::loopback(), &exact);
    for question in ["What do caterpillars eat?", "How long does a butterfly live?", "Count to five."] {
        let expected = answer(&alone.url(), question).await;
        assert!(!expected.is_empty());
        assert_eq!(answer(&group.url(), question).await, expected, "two processes");
        assert_eq!(answer(&threads.url(), question).await, expected, "eight threads");
        assert_eq!(answer(&several.url(), question).await, expected, "four ranks in each of two processes");
    }
    for group in [&mut alone, &mut threads, &mut group, &mut several] {
        group.signal_all("TERM");
        assert_eq!(group.wait_all(), vec![Some(0); group.size()], "{}", group.log());
    }
}

/// As when a node is drained: whichever rank hears of it, all end once the answers are there.
#[tokio::test]
async fn running_answers_are_finished_whichever_rank_gets_a_signal() {
    for ranks in [&[0, 1][..], &[0], &[1]] {
        let mut group = Group::start(2, &Net::loopback(), &[]);
        let body = json!({
            "model": vlinders_demo::MODEL_NAME, "prompt": "butterflies", "max_tokens": 150, "ignore_eos": true,
        });
        let request = http().post(format!("{}/v1/completions", group.url())).json(&body);
        let answer =
            tokio::spawn(async move { request.send().await.unwrap().json::<Value>().await.unwrap() });
        group.wait_for_running().await;
        ranks.iter().for_each(|rank| group.signal(*rank, "TERM"));
        let answer = answer.await.unwrap();
        assert_eq!(answer["usage"]["completion_tokens"], 150, "{answer}");
        assert_eq!(group.wait_all(), [Some(0), Some(0)], "{ranks:?}:\n{}", group.log());
    }
}

/// The fault comes while an answer is being streamed. Afterwards all ranks are started again, at the same addresses.
async fn survives(net: Net, fault: Fault) {
    let timeout = format!("{}s", NOTICED_AFTER.as_secs());
    let mut group = Group::start(2, &net, &["--rank-timeout", &timeout]);
    assert!(is_ready(&group.url()).await);
    let stream = long_stream(&group.url()).await;
    let began = Instant::now();
    match fault {
        Fault::Kill => group.signal(1, "KILL"),
        Fault::Stop => group.signal(1, "STOP"),
        Fault::Cut => net.cut(),
    }
    let received = stream.await.unwrap();
    let told = began.elapsed();
    assert!(!is_ready(&group.url()).await, "ready after a rank is lost");
    let unready = began.elapsed();
    let event =
        received.trim_end().strip_suffix("data: [DONE]").map(str::trim_end).and_then(|s| s.lines().last());
    let event = event.unwrap_or_else(|| panic!("the stream was cut off: {received}"));
    assert!(event.contains("no longer work together") && event.contains("rank 1"), "{event}");
    let leader = group.wait(0);
    let ended = began.elapsed();
    if fault == Fault::Stop {
        group.signal(1, "CONT");
    }
    let follower = group.wait(1);
    println!(
        "{fault:?} {net:?}: error event after {told:.1?}, not ready after {unready:.1?}, rank 0 ended after {ended:.1?}, \
         all after {:.1?}; ranks are given {NOTICED_AFTER:?}",
        began.elapsed()
    );
    assert_eq!(leader, Some(1), "{}", group.log());
    assert_ne!(follower, Some(0), "{}", group.log());
    assert!(told < NOTICED_AFTER + SLACK, "{told:?}");
    net.mend();
    group.restart(&net);
    assert_eq!(
        answer(&group.url(), "What do caterpillars eat?").await,
        "Most caterpillars eat the leaves of their host plant."
    );
}

#[tokio::test]
async fn a_process_of_several_ranks_that_is_killed() {
    let mut group = Group::start_several(2, 2, &Net::loopback(), &["--rank-timeout", "2s"]);
    let stream = long_stream(&group.url()).await;
    group.signal(1, "KILL");
    assert_eq!(group.wait(0), Some(1), "{}", group.log());
    assert!(stream.await.unwrap().contains("\"error\""), "a running answer ends with an error event");
    assert_eq!(group.wait(1), None);
}

#[tokio::test]
async fn a_rank_that_is_killed() {
    survives(Net::separate(), Fault::Kill).await;
}

#[tokio::test]
async fn a_rank_that_is_stopped() {
    survives(Net::separate(), Fault::Stop).await;
}

#[tokio::test]
async fn a_rank_that_is_cut_off() {
    survives(Net::separate(), Fault::Cut).await;
    survives(Net::loopback(), Fault::Cut).await;
}

#[tokio::test]
async fn a_rank_that_is_lost_while_nobody_asks() {
    let mut group = Group::start(2, &Net::loopback(), &[]);
    group.signal(1, "KILL");
    assert_eq!(group.wait(0), Some(1), "{}", group.log());
    assert!(group.log().contains("rank 1 is gone"), "{}", group.log());
}

#[tokio::test]
async fn the_first_rank_that_is_lost() {
    let mut group = Group::start(2, &Net::loopback(), &[]);
    group.signal(0, "KILL");
    assert_eq!(group.wait(1), Some(1), "{}", group.log());
    assert!(group.log().contains("rank 0 is gone"), "{}", group.log());
}

/// A rank that waits for the others holds nothing that is worth a grace time.
#[test]
fn a_rank_that_waits_for_the_others_ends_at_once() {
    let mut group = Group::alone(&Net::loopback(), 1, 2);
    group.signal_all("TERM");
    assert_eq!(group.wait_all(), [Some(0)], "{}", group.log());
    assert!(group.log().contains("stopped before the model was loaded"), "{}", group.log());
}

#[test]
fn ranks_that_do_not_belong_together() {
    let mut group = Group::start_each(&Net::loopback(), &[&["--dtype", "float32"], &["--dtype", "bfloat16"]]);
    let log = group.fails();
    assert!(log.contains("rank 1 has another model than rank 0"), "{log}");
}

#[test]
fn a_rank_that_can_not_load_ends_all_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    for (file, bytes) in vlinders_demo::FILES {
        let end = if *file == "model.safetensors" { bytes.len() / 2 } else { bytes.len() };
        std::fs::write(folder.path().join(file), &bytes[..end]).unwrap();
    }
    let broken = folder.path().to_str().unwrap();
    let name = ["--name", vlinders_demo::MODEL_NAME];
    let mut group = Group::start_each(&Net::loopback(), &[&[], &[&[broken][..], &name].concat()]);
    let log = group.fails();
    assert!(log.matches("is truncated").count() >= 2, "both ranks say why:\n{log}");
}
