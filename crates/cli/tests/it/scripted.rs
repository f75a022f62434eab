//! A server whose answers the question decides, for what a real model can not be told to do.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use serde_json::{Value, json};

/// A running server. It ends with the process.
pub(crate) struct Scripted {
    pub(crate) url: String,
    /// What it hears.
    heard: Receiver<Heard>,
}

/// What clients do.
#[derive(Debug, PartialEq)]
enum Heard {
    /// Ask, with this conversation.
    Messages(Value),
    /// Leave in the middle of an answer.
    Gone,
}

impl Scripted {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (tell, heard) = sync_channel(64);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let tell = tell.clone();
                // A client may leave at any time.
                std::thread::spawn(move || serve(stream, &tell).unwrap_or_default());
            }
        });
        Self { url, heard }
    }

    /// The conversation of the next request.
    pub(crate) fn messages(&self) -> Value {
        match self.hears() {
            Heard::Messages(messages) => messages,
            Heard::Gone => panic!("a client left"),
        }
    }

    /// A client leaves in the middle of an answer.
    pub(crate) fn hears_of_leaving(&self) {
        assert_eq!(self.hears(), Heard::Gone);
    }

    fn hears(&self) -> Heard {
        self.heard.recv_timeout(Duration::from_secs(10)).expect("nothing was heard")
    }
}

fn serve(stream: TcpStream, tell: &SyncSender<Heard>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut first, mut length) = (String::new(), 0);
    reader.read_line(&mut first)?;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    if first.starts_with("GET") {
        head(&stream, "application/json")?;
        return (&stream).write_all(json!({ "data": [{ "id": "scripted" }] }).to_string().as_bytes());
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let messages = serde_json::from_slice::<Value>(&body).unwrap()["messages"].take();
    let question = messages.as_array().unwrap().last().unwrap()["content"].as_str().unwrap().to_owned();
    tell.send(Heard::Messages(messages)).unwrap();
    head(&stream, "text/event-stream")?;
    let send = |text: &str| (&stream).write_all(text.as_bytes());
    match question.as_str() {
        "for ever" => {
            let outcome = (0..).try_for_each(|_| {
                std::thread::sleep(Duration::from_millis(5));
                send(&chunk("on and "))
            });
            tell.send(Heard::Gone).unwrap();
            outcome
        }
        "break off" => send(&chunk("half an ans")),
        "colours" => send(&(chunk("\u{1b}[31mred\u{7}!") + "data: [DONE]\n\n")),
        _ => {
            let said: Vec<String> = question.chars().map(|c| chunk(&c.to_string())).collect();
            let text = format!("{}{}data: [DONE]\n\n", chunk("you said: "), said.concat());
            send(&text)
        }
    }
}

fn chunk(text: &str) -> String {
    format!("data: {}\n\n", json!({ "choices": [{ "index": 0, "delta": { "content": text } }] }))
}

fn head(mut stream: &TcpStream, content_type: &str) -> std::io::Result<()> {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes())
}
