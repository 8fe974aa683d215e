//! The first words of a server.
//!
//! hyper calls a connection open as soon as it has *written* its half of HTTP/2's preface. But a
//! frozen process accepts connections too (its kernel does), and so does a web server on the wrong
//! port; a request written to either may have been executed as far as the client can tell, and a
//! commit would be in doubt for nothing. So a link is open only when the other side has said what
//! every HTTP/2 server must say first: a SETTINGS frame. Until then nothing leaves, and whatever
//! goes wrong is certainly [not sent](anatase_core::Failure::NotSent).

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};

use crate::signal::Signal;

const FRAME_HEAD: usize = 9;
const SETTINGS: u8 = 4;

/// What the connection's reader learns and whoever opened it waits for.
#[derive(Debug, Default)]
pub(crate) struct Greeting {
    /// Raised when the server has greeted, or has said something else.
    pub(crate) heard: Signal,
    wrong: Mutex<Option<String>>,
}

impl Greeting {
    /// What the server said instead of a greeting, if it did, or why it could not be read.
    pub(crate) fn wrong(&self) -> Option<String> {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn refuse(&self, what: String) -> io::Error {
        *self.wrong.lock().unwrap_or_else(PoisonError::into_inner) = Some(what.clone());
        self.heard.raise();
        io::Error::new(io::ErrorKind::InvalidData, what)
    }
}

/// A byte stream whose first nine bytes are looked at.
pub(crate) struct Greeted<Io> {
    io: Io,
    /// Present until the server has greeted.
    listening: Option<Listening>,
}

struct Listening {
    greeting: Arc<Greeting>,
    seen: [u8; FRAME_HEAD],
    len: usize,
}

impl<Io> Greeted<Io> {
    pub(crate) fn new(io: Io) -> (Self, Arc<Greeting>) {
        let greeting = Arc::new(Greeting::default());
        let listening =
            Some(Listening { greeting: greeting.clone(), seen: [0; FRAME_HEAD], len: 0 });
        (Self { io, listening }, greeting)
    }
}

impl Listening {
    /// Takes more bytes; true when the greeting is complete.
    fn hear(&mut self, bytes: &[u8]) -> io::Result<bool> {
        for &byte in bytes.iter().take(FRAME_HEAD - self.len) {
            self.seen[self.len] = byte;
            self.len += 1;
        }
        let seen = &self.seen[..self.len];
        if seen.starts_with(b"HTTP/1") {
            return Err(self.greeting.refuse("the server speaks HTTP/1, not gRPC".into()));
        }
        if seen.starts_with(&[0x15, 0x03]) {
            return Err(self.greeting.refuse("the server expects TLS".into()));
        }
        if self.len < FRAME_HEAD {
            return Ok(false);
        }
        let length = u32::from_be_bytes([0, seen[0], seen[1], seen[2]]);
        let stream = u32::from_be_bytes([seen[5], seen[6], seen[7], seen[8]]) & 0x7fff_ffff;
        if seen[3] != SETTINGS || seen[4] & 1 != 0 || stream != 0 || !length.is_multiple_of(6) {
            let what = format!("the server does not speak HTTP/2: it began with {:?}", Text(seen));
            return Err(self.greeting.refuse(what));
        }
        self.greeting.heard.raise();
        Ok(true)
    }

    fn ended(&self) -> io::Error {
        self.greeting.refuse("the server closed the connection without a word".into())
    }
}

/// Bytes for a person.
struct Text<'a>(&'a [u8]);

impl std::fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

impl<Io: Read + Unpin> Read for Greeted<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let Some(listening) = &mut this.listening else {
            return Pin::new(&mut this.io).poll_read(cx, buf);
        };
        // A small buffer of our own, because the caller's is not ours to look into.
        let mut room = [0; 256];
        let len = room.len().min(buf.remaining());
        let mut mine = ReadBuf::new(&mut room[..len]);
        match Pin::new(&mut this.io).poll_read(cx, mine.unfilled()) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(error)) => {
                let _ = listening.greeting.refuse(format!("the connection broke: {error}"));
                return Poll::Ready(Err(error));
            }
            Poll::Ready(Ok(())) => {}
        }
        let bytes = mine.filled();
        if bytes.is_empty() && len > 0 {
            return Poll::Ready(Err(listening.ended()));
        }
        if listening.hear(bytes)? {
            this.listening = None;
        }
        buf.put_slice(bytes);
        Poll::Ready(Ok(()))
    }
}

impl<Io: Write + Unpin> Write for Greeted<Io> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hear(pieces: &[&[u8]]) -> Result<bool, String> {
        let greeting = Arc::new(Greeting::default());
        let mut listening = Listening { greeting: greeting.clone(), seen: [0; FRAME_HEAD], len: 0 };
        for piece in pieces {
            match listening.hear(piece) {
                Ok(true) => {
                    assert!(greeting.heard.is_raised());
                    return Ok(true);
                }
                Ok(false) => assert!(!greeting.heard.is_raised()),
                Err(_) => {
                    assert!(greeting.heard.is_raised());
                    return Err(greeting.wrong().unwrap());
                }
            }
        }
        Ok(false)
    }

    #[test]
    fn a_settings_frame_in_any_pieces_is_a_greeting() {
        let empty = [0, 0, 0, 4, 0, 0, 0, 0, 0];
        assert_eq!(hear(&[&empty]), Ok(true));
        let long = [0, 0, 12, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 100, 0, 4];
        assert_eq!(hear(&[&long]), Ok(true));
        let bytes: Vec<&[u8]> = long.chunks(1).collect();
        assert_eq!(hear(&bytes), Ok(true));
        assert_eq!(hear(&bytes[..8]), Ok(false));
    }

    #[test]
    fn anything_else_is_named() {
        assert!(hear(&[b"HTT", b"P/1.1 400 Bad Request"]).unwrap_err().contains("HTTP/1"));
        assert!(hear(&[&[0x15, 3, 3, 0, 2]]).unwrap_err().contains("TLS"));
        assert!(hear(&[b"SSH-2.0-OpenSSH"]).unwrap_err().contains("SSH-2.0-O"));
        for wrong in [
            [0, 0, 0, 4, 1, 0, 0, 0, 0],
            [0, 0, 5, 4, 0, 0, 0, 0, 0],
            [0, 0, 6, 4, 0, 0, 0, 0, 1],
            [0, 0, 8, 7, 0, 0, 0, 0, 0],
        ] {
            assert!(hear(&[&wrong]).is_err(), "{wrong:?}");
        }
    }
}
