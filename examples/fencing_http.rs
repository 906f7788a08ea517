//! An HTTP service that takes writes of the latest holder only. The fencing token comes in a
//! header, `Fencing-Token: N`; an older one than was seen is answered with 412 Precondition
//! Failed, a write without one with 428 Precondition Required.
//!
//! Starts a server for the locks, or uses the one that is named:
//!
//! ```text
//! cargo run --example fencing_http --features server -- memcached://127.0.0.1:11211
//! ```

#![allow(
    clippy::print_stdout,
    clippy::std_instead_of_core,
    reason = "a program that shows what it does, in the words that programs use"
)]

#[path = "fencing/paused.rs"]
mod paused;

use memlatch::fencing::Fenced;
use std::error::Error;
use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

/// The most that a request or an answer may have. A body is at most 64 KiB.
const LIMIT: u64 = 128 * 1024;

const PATIENCE: Duration = Duration::from_secs(5);

/// The service: one document, which `PUT` writes and `GET` reads. Requests are served one after
/// the other; with a thread for each, the document would be a `Mutex<Fenced<String>>`.
fn serve(listener: &TcpListener, mut document: Fenced<String>) {
    for stream in listener.incoming().flatten() {
        if let Err(error) = answer(stream, &mut document) {
            println!("    the service: {error}");
        }
    }
}

fn answer(mut stream: TcpStream, document: &mut Fenced<String>) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new((&stream).take(LIMIT));
    let (method, token, body) = read_request(&mut reader)?;
    let (status, body) = match (method.as_str(), token) {
        ("GET", _) => ("200 OK", document.get().clone()),
        ("PUT", None) => ("428 Precondition Required", "no Fencing-Token\n".into()),
        // Check and write are one step: the document is borrowed over both.
        ("PUT", Some(token)) => match document.access(token) {
            Ok(document) => {
                *document = body;
                ("204 No Content", String::new())
            }
            Err(stale) => ("412 Precondition Failed", format!("{stale}\n")),
        },
        _ => ("405 Method Not Allowed", String::new()),
    };
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

/// The method, the token and the body.
fn read_request(reader: &mut impl BufRead) -> io::Result<(String, Option<u64>, String)> {
    let (mut token, mut length) = (None, 0_u16);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let method = line.split(' ').next().unwrap_or_default().to_owned();
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        let value = value.trim();
        if name.eq_ignore_ascii_case("Fencing-Token") {
            token = Some(value.parse().map_err(io::Error::other)?);
        } else if name.eq_ignore_ascii_case("Content-Length") {
            length = value.parse().map_err(io::Error::other)?;
        }
    }
    let mut body = vec![0; usize::from(length)];
    reader.read_exact(&mut body)?;
    let body = String::from_utf8(body).map_err(io::Error::other)?;
    Ok((method, token, body))
}

#[derive(Debug)]
enum Refused {
    /// The service said no: its status.
    Status(u16, String),
    Io(io::Error),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status, text) => write!(f, "{status}, {}", text.trim_end()),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl Error for Refused {}

/// The client: one request, its status and its body.
fn request(service: SocketAddr, head: &str, body: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&service, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let length = body.len();
    write!(
        stream,
        "{head}\r\nHost: {service}\r\nContent-Length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.take(LIMIT).read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|word| word.parse().ok());
    let (status, (_, body)) = status
        .zip(answer.split_once("\r\n\r\n"))
        .ok_or_else(|| io::Error::other(format!("no HTTP answer: {answer:?}")))?;
    Ok((status, body.to_owned()))
}

fn put(service: SocketAddr, token: u64, body: &str) -> Result<(), Refused> {
    let head = format!("PUT /report HTTP/1.1\r\nFencing-Token: {token}");
    match request(service, &head, body).map_err(Refused::Io)? {
        (200..=299, _) => Ok(()),
        (status, text) => Err(Refused::Status(status, text)),
    }
}

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let service = listener.local_addr()?;
    // It ends with the program.
    thread::spawn(move || serve(&listener, Fenced::default()));

    let late = paused::holder("examples/fencing_http", |who, token| {
        let outcome = put(service, token, &format!("written by {who}\n"));
        match &outcome {
            Ok(()) => println!("    the service takes the write of {who}"),
            Err(refused) => println!("    the service answers {who}: {refused}"),
        }
        outcome
    })?;

    assert!(
        matches!(late, Err(Refused::Status(412, _))),
        "the late writer must be refused: {late:?}"
    );
    let (status, _) = request(service, "PUT /report HTTP/1.1", "by nobody in particular\n")?;
    println!("a write without a token: {status}");
    assert_eq!(status, 428);
    let (_, document) = request(service, "GET /report HTTP/1.1", "")?;
    print!("the document: {document}");
    assert_eq!(document, "written by the second worker\n");
    Ok(())
}
