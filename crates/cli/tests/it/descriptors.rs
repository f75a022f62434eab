//! The limit of open files.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::process::{Server, http};

#[test]
fn the_soft_limit_is_raised_to_the_hard_one() {
    let server = Server::start_limited("-Sn 256");
    let (soft, hard) = server.limit("Max open files");
    assert_ne!(hard, "256", "this machine has no hard limit above the soft one of this test");
    assert_eq!(soft, hard);
}

fn ask(stream: &mut TcpStream) {
    stream.write_all(b"GET /version HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    // The rest of the answer, which ends with its only brace.
    while stream.read_exact(&mut answer[..1]).is_ok() && answer[0] != b'}' {}
}

#[tokio::test]
async fn too_low_a_limit_is_told_and_kept() {
    let server = Server::start_limited("-n 200");
    let address = server.url.strip_prefix("http://").unwrap();
    let mut open: Vec<_> = (0..200).map(|_| TcpStream::connect(address).unwrap()).collect();
    // Those that are accepted are answered, and again while the others wait.
    for _ in 0..3 {
        open[..136].iter_mut().for_each(ask);
    }
    drop(open);
    let response = http().get(format!("{}/health", server.url)).send().await.unwrap();
    assert_eq!(response.status(), 200);
    server.signal("TERM");
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0));
    let warning = log.iter().find(|line| line.contains("the limit of open files allows fewer connections"));
    let warning: serde_json::Value = serde_json::from_str(warning.unwrap()).unwrap();
    assert_eq!((&warning["open_files"], &warning["possible"]), (&200.into(), &136.into()), "{warning}");
    assert!(!log.iter().any(|line| line.contains("could not be accepted")), "{log:?}");
}
