//! gRPC's share of a call: five bytes in front of each message, a few headers, a status at the end.
//!
//! Nothing here does I/O. Whatever comes from a server is checked and becomes a value or an error;
//! a declared length is never allocated for on trust.

use std::fmt;
use std::time::Duration;

use anatase_core::GrpcStatus;
use anatase_core::wire::Request;
use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, StatusCode};

/// One byte «compressed», four bytes of length.
pub(crate) const PREFIX: usize = 5;
/// From this many bytes on a body is sent as a buffer of its own instead of being copied behind its
/// head.
const COPY_BELOW: usize = 8 << 10;
/// What is allocated for a message of many frames when its first frame comes; from there the buffer
/// grows with what arrives.
const FIRST_ROOM: usize = 256 << 10;
/// A status message is for a person; a server that sends a novel is cut short.
const MAX_STATUS_TEXT: usize = 4 << 10;

/// A framed message in one or two pieces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Framed {
    pub(crate) first: Bytes,
    /// Empty if everything is in the first.
    pub(crate) second: Bytes,
}

/// Frames a request. A small body is copied behind its head, a large one is shared.
///
/// # Errors
/// Hands back the length if it does not fit in the prefix's 32 bits.
pub(crate) fn frame_request(request: Request) -> Result<Framed, usize> {
    let len = request.encoded_len();
    let Ok(declared) = u32::try_from(len) else {
        return Err(len);
    };
    let (whole, second) = if request.body.len() < COPY_BELOW {
        (request, Bytes::new())
    } else {
        let body = request.body.clone();
        (Request { body: Bytes::new(), ..request }, body)
    };
    let mut first = BytesMut::with_capacity(PREFIX + len - second.len());
    put_prefix(&mut first, declared);
    whole.encode(&mut first);
    Ok(Framed { first: first.freeze(), second })
}

/// Frames an encoded message.
pub(crate) fn frame_message(message: &impl prost::Message) -> Bytes {
    let len = message.encoded_len();
    let mut framed = BytesMut::with_capacity(PREFIX + len);
    // Messages framed this way are a few bytes long.
    put_prefix(&mut framed, u32::try_from(len).unwrap_or(u32::MAX));
    // A `BytesMut` has room for whatever fits in memory.
    let _ = message.encode(&mut framed);
    framed.freeze()
}

fn put_prefix(buf: &mut BytesMut, len: u32) {
    buf.extend_from_slice(&[0]);
    buf.extend_from_slice(&len.to_be_bytes());
}

/// What is wrong with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameError {
    /// The flag byte is not zero; no compression was offered.
    Compressed(u8),
    /// The message is longer than the client accepts.
    TooLarge { declared: usize, limit: usize },
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Compressed(flag) => {
                write!(f, "the answer is compressed (flag {flag}), which was not asked for")
            }
            // The words of gRPC's implementations, by which the core knows that it is not the
            // connection's fault and that asking again would not help.
            Self::TooLarge { declared, limit } => {
                write!(f, "received message larger than max ({declared} vs. {limit} bytes)")
            }
        }
    }
}

/// Cuts messages out of the chunks of a body.
///
/// A message that lies in one chunk is a slice of it; one that does not is copied together once.
#[derive(Debug)]
pub(crate) struct Deframer {
    limit: usize,
    /// What has arrived and was not looked at.
    front: Bytes,
    /// The beginning of a message that goes on in chunks to come, prefix included.
    partial: BytesMut,
}

impl Deframer {
    /// Accepts messages of up to `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, front: Bytes::new(), partial: BytesMut::new() }
    }

    /// Takes a chunk. Call [`Deframer::next`] until it gives nothing before the next one.
    pub(crate) fn push(&mut self, chunk: Bytes) {
        if self.front.is_empty() {
            self.front = chunk;
        } else {
            let mut both = BytesMut::with_capacity(self.front.len() + chunk.len());
            both.extend_from_slice(&self.front);
            both.extend_from_slice(&chunk);
            self.front = both.freeze();
        }
    }

    /// The next whole message.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, FrameError> {
        if self.partial.is_empty() {
            let Some(len) = self.length(&self.front)? else {
                self.take_front(self.front.len());
                return Ok(None);
            };
            if self.front.len() - PREFIX >= len {
                self.front.advance(PREFIX);
                return Ok(Some(self.front.split_to(len)));
            }
            self.partial.reserve((PREFIX + len).min(FIRST_ROOM).max(self.front.len()));
            self.take_front(self.front.len());
            return Ok(None);
        }
        if self.partial.len() < PREFIX {
            self.take_front(PREFIX - self.partial.len());
        }
        let Some(len) = self.length(&self.partial)? else {
            return Ok(None);
        };
        self.take_front(PREFIX + len - self.partial.len());
        if self.partial.len() < PREFIX + len {
            return Ok(None);
        }
        let mut message = std::mem::take(&mut self.partial).freeze();
        message.advance(PREFIX);
        Ok(Some(message))
    }

    /// Whether every byte so far belonged to a message that was given out.
    pub(crate) fn is_empty(&self) -> bool {
        self.front.is_empty() && self.partial.is_empty()
    }

    fn take_front(&mut self, at_most: usize) {
        let taken = self.front.split_to(at_most.min(self.front.len()));
        self.partial.extend_from_slice(&taken);
    }

    /// The length that a prefix declares, if all of the prefix is there.
    fn length(&self, bytes: &[u8]) -> Result<Option<usize>, FrameError> {
        let &[flag, a, b, c, d, ..] = bytes else {
            return match bytes.first() {
                Some(&flag) if flag != 0 => Err(FrameError::Compressed(flag)),
                _ => Ok(None),
            };
        };
        if flag != 0 {
            return Err(FrameError::Compressed(flag));
        }
        let declared = u32::from_be_bytes([a, b, c, d]) as usize;
        if declared > self.limit {
            return Err(FrameError::TooLarge { declared, limit: self.limit });
        }
        Ok(Some(declared))
    }
}

/// How a server says that a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) code: GrpcStatus,
    pub(crate) message: String,
}

impl Status {
    /// The status in `headers`, which are a response's trailers, or its headers if it has nothing
    /// else. `None` if there is no `grpc-status`; one that is not a number counts as UNKNOWN.
    pub(crate) fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let status = headers.get("grpc-status")?;
        let message =
            headers.get("grpc-message").map(|m| percent_decode(m.as_bytes())).unwrap_or_default();
        let code = status.to_str().ok().filter(|s| s.bytes().all(|b| b.is_ascii_digit()));
        Some(match code.and_then(|s| s.parse().ok()) {
            Some(code) => Self { code: GrpcStatus(code), message },
            None => Self {
                code: GrpcStatus::UNKNOWN,
                message: format!("malformed status {status:?} {message}").trim_end().to_owned(),
            },
        })
    }

    /// What an HTTP status other than 200 means, by gRPC's table («HTTP to gRPC Status Code Mapping»).
    pub(crate) fn from_http(status: StatusCode) -> Self {
        const UNAUTHENTICATED: GrpcStatus = GrpcStatus(16);
        const PERMISSION_DENIED: GrpcStatus = GrpcStatus(7);
        let code = match status.as_u16() {
            400 => GrpcStatus::INTERNAL,
            401 => UNAUTHENTICATED,
            403 => PERMISSION_DENIED,
            404 => GrpcStatus::UNIMPLEMENTED,
            429 | 502 | 503 | 504 => GrpcStatus::UNAVAILABLE,
            _ => GrpcStatus::UNKNOWN,
        };
        Self { code, message: format!("HTTP status {status} instead of a gRPC answer") }
    }
}

/// Whether a response claims to be gRPC.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(http::header::CONTENT_TYPE) else {
        return false;
    };
    let Some(rest) = value.as_bytes().strip_prefix(b"application/grpc") else {
        return false;
    };
    matches!(rest.first(), None | Some(b'+' | b';'))
}

/// `%XX` to bytes; what is no escape stays as it is, what is no UTF-8 is replaced.
fn percent_decode(bytes: &[u8]) -> String {
    let bytes = &bytes[..bytes.len().min(MAX_STATUS_TEXT)];
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [first, tail @ ..] = rest {
        let escape = match (first, tail) {
            (b'%', &[high, low, ..]) => hex(high).zip(hex(low)).map(|(h, l)| h << 4 | l),
            _ => None,
        };
        match escape {
            Some(byte) => {
                decoded.push(byte);
                rest = &tail[2..];
            }
            None => {
                decoded.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|d| u8::try_from(d).ok())
}

/// The `grpc-timeout` header: at most eight digits and a unit, rounded up.
pub(crate) fn timeout_header(left: Duration) -> HeaderValue {
    const MOST: u128 = 99_999_999;
    let millis = left.as_nanos().div_ceil(1_000_000).max(1);
    let (value, unit) = if millis <= MOST {
        (millis, 'm')
    } else if millis.div_ceil(1000) <= MOST {
        (millis.div_ceil(1000), 'S')
    } else {
        (millis.div_ceil(3_600_000).min(MOST), 'H')
    };
    let text = format!("{value}{unit}");
    let mut header =
        HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("99999999H"));
    // Hardly ever the same twice: as a «sensitive» header it stays out of HPACK's table, where it
    // would push out the headers that do repeat.
    header.set_sensitive(true);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(payload: &[u8]) -> Vec<u8> {
        let mut out = vec![0];
        out.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_be_bytes());
        out.extend_from_slice(payload);
        out
    }

    fn messages(deframer: &mut Deframer) -> Vec<Bytes> {
        std::iter::from_fn(|| deframer.next().unwrap()).collect()
    }

    #[test]
    fn messages_survive_every_way_to_cut_them() {
        let payloads: [&[u8]; 4] = [b"hello", b"", b"x", &[7; 300]];
        let wire: Vec<u8> = payloads.iter().flat_map(|p| framed(p)).collect();
        for size in 1..=wire.len() {
            let mut deframer = Deframer::new(usize::MAX);
            let mut got = Vec::new();
            for chunk in wire.chunks(size) {
                deframer.push(Bytes::copy_from_slice(chunk));
                got.extend(messages(&mut deframer));
            }
            assert_eq!(got, payloads, "in pieces of {size}");
            assert!(deframer.is_empty());
        }
    }

    #[test]
    fn a_message_within_one_chunk_is_not_copied() {
        let wire = Bytes::from(framed(b"value"));
        let mut deframer = Deframer::new(usize::MAX);
        deframer.push(wire.clone());
        let message = deframer.next().unwrap().unwrap();
        assert_eq!(message.as_ptr(), wire[PREFIX..].as_ptr());
    }

    #[test]
    fn a_chunk_pushed_too_early_is_not_lost() {
        let mut deframer = Deframer::new(usize::MAX);
        deframer.push(framed(b"a").into());
        deframer.push(framed(b"b").into());
        assert_eq!(messages(&mut deframer), ["a", "b"]);
    }

    #[test]
    fn what_is_missing_is_noticed() {
        let mut deframer = Deframer::new(usize::MAX);
        deframer.push(Bytes::from_static(&[0, 0, 0]));
        assert_eq!(deframer.next(), Ok(None));
        assert!(!deframer.is_empty());
    }

    #[test]
    fn a_declared_length_is_not_allocated_for() {
        let mut deframer = Deframer::new(usize::MAX);
        deframer.push(Bytes::from_static(&[0, 0xff, 0xff, 0xff, 0xff, 1, 2, 3]));
        assert_eq!(deframer.next(), Ok(None));
        assert!(deframer.partial.capacity() <= 2 * FIRST_ROOM);
    }

    #[test]
    fn a_length_above_the_limit_is_an_error_before_it_arrives() {
        let mut deframer = Deframer::new(4);
        deframer.push(framed(b"four").into());
        assert_eq!(deframer.next().unwrap().unwrap(), "four");
        deframer.push(Bytes::from_static(&[0, 0, 0, 0, 5]));
        let error = deframer.next().unwrap_err();
        assert_eq!(error, FrameError::TooLarge { declared: 5, limit: 4 });
    }

    #[test]
    fn compression_was_never_offered() {
        for wire in [&[1, 0, 0, 0, 0][..], &[255]] {
            let mut deframer = Deframer::new(usize::MAX);
            deframer.push(Bytes::copy_from_slice(wire));
            assert_eq!(deframer.next(), Err(FrameError::Compressed(wire[0])));
        }
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|&(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_status_is_read_or_unknown_or_missing() {
        let status = |pairs: &[(&'static str, &str)]| Status::from_headers(&headers(pairs));
        assert_eq!(status(&[("content-type", "application/grpc")]), None);
        let ok = status(&[("grpc-status", "0")]).unwrap();
        assert_eq!(ok, Status { code: GrpcStatus::OK, message: String::new() });
        let busy =
            status(&[("grpc-status", "14"), ("grpc-message", "no leader%2C 50%25")]).unwrap();
        assert_eq!(
            busy,
            Status { code: GrpcStatus::UNAVAILABLE, message: "no leader, 50%".into() }
        );
        for malformed in ["", "x", "-1", "1.0", "99999999999", "+5", " 3"] {
            let status = status(&[("grpc-status", malformed)]).unwrap();
            assert_eq!(status.code, GrpcStatus::UNKNOWN, "{malformed:?}");
        }
    }

    #[test]
    fn bad_percent_encoding_is_kept_as_it_is() {
        for (encoded, decoded) in [
            ("plain", "plain"),
            ("%", "%"),
            ("%4", "%4"),
            ("%zz%41", "%zzA"),
            ("%e4%bd%a0", "你"),
            ("%ff", "\u{fffd}"),
            ("%%41", "%A"),
        ] {
            assert_eq!(percent_decode(encoded.as_bytes()), decoded);
        }
        assert_eq!(percent_decode(&[b'a'; 1 << 20]).len(), MAX_STATUS_TEXT);
    }

    #[test]
    fn http_statuses_map_by_grpcs_table() {
        let code = |status| Status::from_http(StatusCode::from_u16(status).unwrap()).code;
        assert_eq!(code(404), GrpcStatus::UNIMPLEMENTED);
        assert_eq!(code(503), GrpcStatus::UNAVAILABLE);
        assert_eq!(code(400), GrpcStatus::INTERNAL);
        assert_eq!(code(302), GrpcStatus::UNKNOWN);
    }

    #[test]
    fn content_types() {
        for (value, grpc) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;charset=utf-8", true),
            ("application/grpcx", false),
            ("text/html", false),
        ] {
            assert_eq!(is_grpc(&headers(&[("content-type", value)])), grpc, "{value}");
        }
        assert!(!is_grpc(&HeaderMap::new()));
    }

    #[test]
    fn timeouts_have_at_most_eight_digits_and_are_never_zero() {
        for (left, text) in [
            (Duration::ZERO, "1m"),
            (Duration::from_nanos(1), "1m"),
            (Duration::from_micros(1500), "2m"),
            (Duration::from_secs(30), "30000m"),
            (Duration::from_secs(99_999), "99999000m"),
            (Duration::from_secs(100_000), "100000S"),
            (Duration::MAX, "99999999H"),
        ] {
            assert_eq!(timeout_header(left), text);
        }
    }

    #[test]
    fn a_large_body_is_shared_and_a_small_one_follows_its_head() {
        use anatase_core::wire::Head;
        use anatase_proto::rpc::Rpc;
        let request = |body: Bytes| Request { rpc: Rpc::RawPut, head: Head::None, body };
        let small = frame_request(request("abc".into())).unwrap();
        assert_eq!((&small.first[..], &small.second[..]), (&framed(b"abc")[..], &b""[..]));
        let body = Bytes::from(vec![9; COPY_BELOW]);
        let large = frame_request(request(body.clone())).unwrap();
        assert_eq!(large.second.as_ptr(), body.as_ptr());
        assert_eq!([large.first, large.second].concat(), framed(&body));
    }
}
