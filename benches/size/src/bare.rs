//! The requests of a lock and its release on `std::net`, without anything that makes it a lock.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

const ACQUIRE: &[u8] = b"ms bench:lock:size 16 ME T30 c\r\n0123456789abcdef\r\n";

/// Sends a request and reads the line that answers it.
fn exchange<'b>(
    stream: &mut (impl Read + Write),
    request: &[u8],
    reply: &'b mut [u8; 512],
) -> io::Result<&'b [u8]> {
    stream.write_all(request)?;
    let mut length = 0;
    loop {
        let read = stream.read(&mut reply[length..])?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        length += read;
        if let Some(line) = reply[..length].strip_suffix(b"\r\n") {
            // Borrowed anew, for the compiler does not see that the loop ends here.
            let end = line.len();
            return Ok(&reply[..end]);
        }
    }
}

fn lock_and_release(mut stream: impl Read + Write) -> io::Result<()> {
    let mut reply = [0; 512];
    let granted = exchange(&mut stream, ACQUIRE, &mut reply)?;
    let Some(cas) = granted.strip_prefix(b"HD c") else {
        return Err(io::ErrorKind::AlreadyExists.into());
    };
    let mut release = Vec::with_capacity(64);
    release.extend_from_slice(b"md bench:lock:size C");
    release.extend_from_slice(cas);
    release.extend_from_slice(b"\r\n");
    match exchange(&mut stream, &release, &mut reply)? {
        b"HD" => Ok(()),
        _ => Err(io::ErrorKind::NotFound.into()),
    }
}

fn run(server: &str) -> io::Result<()> {
    match server.strip_prefix("unix://") {
        Some(path) => lock_and_release(UnixStream::connect(path)?),
        None => {
            let stream = TcpStream::connect(server)?;
            stream.set_nodelay(true)?;
            lock_and_release(stream)
        }
    }
}

fn main() -> ExitCode {
    match std::env::args().nth(1).map(|server| run(&server)) {
        Some(Ok(())) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}
