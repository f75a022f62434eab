//! Streams coalesce, keep alive, expire and give their permit back.

use futures::StreamExt;
use tokio::sync::mpsc;

use super::*;
use crate::admission::Admission;

struct Numbers(mpsc::Receiver<u32>);

impl SseSource for Numbers {
    fn poll_write(&mut self, cx: &mut Context<'_>, out: &mut SseWriter) -> Poll<Progress> {
        match std::task::ready!(self.0.poll_recv(cx)) {
            Some(number) => {
                out.event(&number);
                Poll::Ready(Progress::More)
            }
            None => Poll::Ready(Progress::End),
        }
    }

    fn expire(&mut self) -> ApiError {
        ApiError::deadline_exceeded(Duration::from_secs(3))
    }
}

fn stream(
    keep_alive: u64,
    deadline: Option<u64>,
) -> (mpsc::Sender<u32>, Admission, axum::body::BodyDataStream) {
    let (sender, receiver) = mpsc::channel(10_000);
    let admission = Admission::new(1, Duration::from_secs(1));
    let permit = admission.try_admit().expect("room");
    let options = SseOptions {
        keep_alive: Duration::from_millis(keep_alive),
        deadline: deadline.map(|millis| Instant::now() + Duration::from_millis(millis)),
    };
    let body = SseBody::new(Numbers(receiver), permit, options);
    (sender, admission, Body::new(body).into_data_stream())
}

async fn next(stream: &mut axum::body::BodyDataStream) -> Option<String> {
    let chunk = stream.next().await?.expect("infallible");
    Some(String::from_utf8(chunk.to_vec()).expect("text"))
}

#[tokio::test]
async fn what_is_ready_goes_out_in_one_write() {
    let (sender, admission, mut stream) = stream(60_000, None);
    for number in 1..=3 {
        sender.send(number).await.expect("room");
    }
    assert_eq!(next(&mut stream).await.as_deref(), Some("data: 1\n\ndata: 2\n\ndata: 3\n\n"));
    sender.send(4).await.expect("room");
    drop(sender);
    assert_eq!(next(&mut stream).await.as_deref(), Some("data: 4\n\ndata: [DONE]\n\n"));
    assert_eq!(admission.in_flight(), 0, "the permit comes back with the last event");
    assert_eq!(next(&mut stream).await, None);
}

#[tokio::test]
async fn a_write_has_a_bounded_size() {
    let (sender, _admission, mut stream) = stream(60_000, None);
    for number in 0..5000 {
        sender.send(number).await.expect("room");
    }
    drop(sender);
    let mut writes = Vec::new();
    while let Some(chunk) = next(&mut stream).await {
        assert!(chunk.len() < WRITE_SIZE + 64);
        writes.push(chunk);
    }
    let expected: String = (0..5000).map(|number| format!("data: {number}\n\n")).collect();
    assert_eq!(writes.concat(), expected + "data: [DONE]\n\n");
    // tokio lets a task take 128 values from a channel before others have their turn.
    assert!(writes.len() <= 5000 / 128 + 2, "{} writes", writes.len());
}

#[tokio::test]
async fn silence_is_filled_with_comments() {
    let (sender, _admission, mut stream) = stream(5, None);
    assert_eq!(next(&mut stream).await.as_deref(), Some(": keep-alive\n\n"));
    assert_eq!(next(&mut stream).await.as_deref(), Some(": keep-alive\n\n"));
    sender.send(1).await.expect("room");
    assert_eq!(next(&mut stream).await.as_deref(), Some("data: 1\n\n"));
    assert_eq!(next(&mut stream).await.as_deref(), Some(": keep-alive\n\n"));
}

#[tokio::test]
async fn the_deadline_ends_the_stream_with_an_error_event() {
    let (_sender, admission, mut stream) = stream(60_000, Some(5));
    let last = next(&mut stream).await.expect("an event");
    let (error, done) = last.split_once("\n\n").expect("two events");
    let error: serde_json::Value = serde_json::from_str(error.trim_start_matches("data: ")).expect("json");
    assert_eq!(error["error"]["code"], "deadline_exceeded");
    assert_eq!(done, "data: [DONE]\n\n");
    assert_eq!(next(&mut stream).await, None);
    assert_eq!(admission.in_flight(), 0);
}

#[tokio::test]
async fn a_dropped_body_drops_its_source_and_permit() {
    let (sender, admission, stream) = stream(60_000, None);
    drop(stream);
    assert!(sender.is_closed());
    assert_eq!(admission.in_flight(), 0);
}
