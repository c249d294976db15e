//! Request bodies: their bytes, within limits, and what they are compressed with.
//!
//! Invariant: no body takes more than `body_bytes_max` before or after decompression, and all bodies being read take no
//! more than the budget together, so that neither one request nor many at once can use up the memory.
//! Not here: what the bytes mean.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_stream::StreamExt;

use crate::config::Limits;
use crate::error::{Error, Kind};
use crate::server::Doors;
use crate::server::reply::Failure;

/// A body as it came in. It counts against the budget for as long as it lives.
pub struct Body {
    bytes: Bytes,
    encoding: Encoding,
    budget: Budget,
    held: Held,
    bytes_max: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Identity,
    Gzip,
    Deflate,
    Zstd,
    Snappy,
}

/// Memory of all bodies that are being read.
#[derive(Clone)]
pub struct Budget {
    kibibytes: Arc<Semaphore>,
    bytes_max: usize,
}

/// Permits of the budget, and the bytes they stand for.
#[derive(Default)]
struct Held {
    permit: Option<OwnedSemaphorePermit>,
    kibibytes: usize,
}

/// A client that sends nothing for this long is gone, or means to hold the connection.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// RFC 9659: what a zstd body over HTTP may ask a reader to keep, 8 MiB.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// Decompressed; more than one request of a Prometheus or a Telegraf.
const SMALL_BYTES: usize = 512 << 10;

/// Bytes decompressed at a time, and so the grain of the budget.
const PIECE_BYTES: usize = 64 << 10;

/// Reads the body of a request, still compressed as its `Content-Encoding` says.
pub(super) async fn read(request: Request, doors: &Doors) -> Result<Body, Failure> {
    let encoding = Encoding::of(request.headers())?;
    read_as(encoding, request, doors).await
}

/// Reads the body of a request that is always snappy's, in one block.
pub(super) async fn read_snappy(request: Request, doors: &Doors) -> Result<Body, Failure> {
    read_as(Encoding::Snappy, request, doors).await
}

async fn read_as(encoding: Encoding, request: Request, doors: &Doors) -> Result<Body, Failure> {
    let bytes_max = doors.db.config().limits.body_bytes_max;
    let announced = request.headers().get(header::CONTENT_LENGTH);
    let announced: Option<usize> = announced.and_then(|value| value.to_str().ok()?.parse().ok());
    if announced.is_some_and(|len| len > bytes_max) {
        return Err(too_large(bytes_max, "has"));
    }
    let budget = doors.body_budget.clone();
    let mut held = Held::default();
    let mut pieces: Vec<Bytes> = Vec::new();
    let mut len = 0;
    let mut stream = request.into_body().into_data_stream();
    while let Some(piece) = tokio::time::timeout(SILENCE_MAX, stream.next()).await.map_err(|_| silent())? {
        let piece = piece.map_err(|error| {
            Failure::new(StatusCode::BAD_REQUEST, "broken_body", format!("the body broke off: {error}"))
        })?;
        len += piece.len();
        if len > bytes_max {
            return Err(too_large(bytes_max, "has"));
        }
        budget.grow(&mut held, len)?;
        pieces.push(piece);
    }
    let bytes = match pieces.len() {
        1 => pieces.remove(0),
        _ => pieces.concat().into(),
    };
    Ok(Body { bytes, encoding, budget, held, bytes_max })
}

impl Body {
    /// A whole body with its `Content-Encoding`, for whoever has no request: it has a budget of its own.
    pub fn new(bytes: Bytes, encoding: &str, limits: &Limits) -> Result<Body, Failure> {
        Ok(Body {
            bytes,
            encoding: Encoding::named(encoding)?,
            budget: Budget::new(limits),
            held: Held::default(),
            bytes_max: limits.body_bytes_max,
        })
    }

    /// Whether it is decoded and parsed in a millisecond or two.
    pub fn is_small(&self) -> bool {
        let len = match self.encoding {
            Encoding::Identity => self.bytes.len(),
            // What is broken is so at once.
            Encoding::Snappy => snap::raw::decompress_len(&self.bytes).unwrap_or(0),
            // Only decompressing them tells.
            Encoding::Gzip | Encoding::Deflate | Encoding::Zstd => return false,
        };
        len <= SMALL_BYTES
    }

    /// The bytes themselves. Takes a processor's time: not for async tasks.
    pub fn decode(self) -> Result<Decoded, Failure> {
        let Body { bytes, encoding, budget, mut held, bytes_max } = self;
        let raw: &[u8] = &bytes;
        let mut sink =
            Sink { out: Vec::new(), compressed: raw.len(), budget: &budget, held: &mut held, bytes_max };
        match encoding {
            Encoding::Identity => return Ok(Decoded { bytes, budget, held }),
            Encoding::Gzip => sink.drain("gzip", flate2::read::MultiGzDecoder::new(raw))?,
            Encoding::Deflate => sink.drain("deflate (zlib)", flate2::read::ZlibDecoder::new(raw))?,
            Encoding::Zstd => {
                let mut decoder =
                    zstd::stream::read::Decoder::with_buffer(raw).map_err(|error| broken("zstd", &error))?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(|error| broken("zstd", &error))?;
                sink.drain("zstd", decoder)?;
            }
            Encoding::Snappy => {
                let len = snap::raw::decompress_len(raw).map_err(|error| broken("snappy", &error))?;
                sink.expect(len)?;
                let out = snap::raw::Decoder::new().decompress_vec(raw);
                sink.out = out.map_err(|error| broken("snappy", &error))?;
            }
        }
        let out = sink.out;
        Ok(Decoded { bytes: out.into(), budget, held })
    }
}

/// A body's bytes after decompression.
pub struct Decoded {
    pub bytes: Bytes,
    budget: Budget,
    held: Held,
}

/// What is parsed from a line takes about this many times its length: a short point of one field with all its tags left
/// out is the worst case.
const PARSED_TIMES: usize = 2;

/// What a body of the largest size may take: as it came, decompressed, and parsed.
const BODY_TIMES: usize = 2 + PARSED_TIMES;

impl Decoded {
    /// Counts what will be parsed from it.
    pub fn make_room_to_parse(&mut self) -> Result<(), Failure> {
        let bytes = (self.held.kibibytes << 10) + PARSED_TIMES * self.bytes.len();
        self.budget.grow(&mut self.held, bytes)
    }

    pub fn text(&self) -> Result<&str, Failure> {
        simdutf8::compat::from_utf8(&self.bytes).map_err(|error| {
            let message =
                format!("byte {} of the body is not UTF-8; send the text as UTF-8", error.valid_up_to() + 1);
            Failure::new(StatusCode::BAD_REQUEST, "not_utf8", message)
        })
    }
}

/// Where decompressed bytes go, within limits.
struct Sink<'a> {
    out: Vec<u8>,
    /// Still held beside what comes out.
    compressed: usize,
    budget: &'a Budget,
    held: &'a mut Held,
    bytes_max: usize,
}

impl Sink<'_> {
    fn drain(&mut self, encoding: &str, mut from: impl Read) -> Result<(), Failure> {
        loop {
            let piece = PIECE_BYTES.min(self.bytes_max + 1 - self.out.len().min(self.bytes_max)) as u64;
            let read = from.by_ref().take(piece).read_to_end(&mut self.out);
            if read.map_err(|error| broken(encoding, &error))? == 0 {
                return Ok(());
            }
            self.expect(self.out.len())?;
        }
    }

    /// Room for this many bytes in all.
    fn expect(&mut self, len: usize) -> Result<(), Failure> {
        if len > self.bytes_max {
            return Err(too_large(self.bytes_max, "decompresses to"));
        }
        self.budget.grow(self.held, self.compressed + len)
    }
}

impl Encoding {
    fn of(headers: &HeaderMap) -> Result<Encoding, Failure> {
        let Some(value) = headers.get(header::CONTENT_ENCODING) else { return Ok(Encoding::Identity) };
        Encoding::named(value.to_str().unwrap_or("?"))
    }

    fn named(name: &str) -> Result<Encoding, Failure> {
        match name.trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Ok(Encoding::Identity),
            "gzip" | "x-gzip" => Ok(Encoding::Gzip),
            "deflate" => Ok(Encoding::Deflate),
            "zstd" => Ok(Encoding::Zstd),
            "snappy" => Ok(Encoding::Snappy),
            other => {
                let shown: String = other.chars().take(64).collect();
                Err(Failure::new(
                    StatusCode::UNSUPPORTED_MEDIA_TYPE,
                    "unknown_encoding",
                    format!(
                        "the Content-Encoding {shown:?} is not known; use gzip, deflate, zstd, snappy or identity"
                    ),
                ))
            }
        }
    }
}

impl Budget {
    pub fn new(limits: &Limits) -> Budget {
        // One body of the largest size passes always.
        let bytes_max = limits.ingest_waiting_bytes_max.max(limits.body_bytes_max.saturating_mul(BODY_TIMES));
        let kibibytes = kibibytes(bytes_max).min(u32::MAX as usize);
        Budget { kibibytes: Arc::new(Semaphore::new(kibibytes)), bytes_max }
    }

    fn grow(&self, held: &mut Held, bytes: usize) -> Result<(), Failure> {
        let more = kibibytes(bytes).saturating_sub(held.kibibytes);
        if more == 0 {
            return Ok(());
        }
        let permit = u32::try_from(more)
            .ok()
            .and_then(|more| Arc::clone(&self.kibibytes).try_acquire_many_owned(more).ok());
        let Some(permit) = permit else {
            return Err(Failure::from(Error::rejected(
                Kind::Unavailable,
                "ingest_overloaded",
                format!(
                    "the requests being read take more than {} MiB together, the limit (ingest_waiting_bytes_max); send it again a little later",
                    self.bytes_max >> 20
                ),
            )));
        };
        held.kibibytes += more;
        match &mut held.permit {
            Some(known) => known.merge(permit),
            none => *none = Some(permit),
        }
        Ok(())
    }
}

fn kibibytes(bytes: usize) -> usize {
    bytes.div_ceil(1 << 10)
}

fn too_large(bytes_max: usize, verb: &str) -> Failure {
    Failure::from(Error::rejected(
        Kind::TooLarge,
        "body_too_large",
        format!(
            "the body {verb} more than {bytes_max} bytes, the limit (body_bytes_max); send it in several requests, or raise the limit"
        ),
    ))
}

fn broken(encoding: &str, error: &dyn std::fmt::Display) -> Failure {
    let message = format!(
        "the body is not whole {encoding}, as its Content-Encoding says ({error}); send it again, or without compression"
    );
    Failure::new(StatusCode::BAD_REQUEST, "bad_compression", message)
}

fn silent() -> Failure {
    let message = format!("no more of the body came for {SILENCE_MAX:?}; send it again");
    Failure::new(StatusCode::REQUEST_TIMEOUT, "body_too_slow", message)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn decode(encoding: &str, bytes: Vec<u8>, bytes_max: usize) -> Result<Vec<u8>, Failure> {
        let limits = Limits {
            body_bytes_max: bytes_max,
            ingest_waiting_bytes_max: 1,
            ..crate::config::Config::default().limits
        };
        Body::new(bytes.into(), encoding, &limits)?.decode().map(|decoded| decoded.bytes.to_vec())
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn packed(bytes: &[u8]) -> [(&'static str, Vec<u8>); 4] {
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        zlib.write_all(bytes).unwrap();
        [
            ("gzip", gzip(bytes)),
            ("deflate", zlib.finish().unwrap()),
            ("zstd", zstd::encode_all(bytes, 1).unwrap()),
            ("snappy", snap::raw::Encoder::new().compress_vec(bytes).unwrap()),
        ]
    }

    #[test]
    fn every_encoding_gives_its_bytes() {
        let text = "cpu,host=a usage=1 1\n".repeat(10_000).into_bytes();
        for (encoding, bytes) in packed(&text) {
            assert_eq!(decode(encoding, bytes.clone(), text.len()).unwrap(), text, "{encoding}");
            let cut = decode(encoding, bytes[..bytes.len() - 9].to_vec(), text.len()).unwrap_err();
            assert_eq!((cut.status, cut.code), (StatusCode::BAD_REQUEST, "bad_compression"), "{encoding}");
        }
        let two = [gzip(b"a x=1 1\n"), gzip(b"a x=2 2\n")].concat();
        assert_eq!(decode("gzip", two, 100).unwrap(), b"a x=1 1\na x=2 2\n", "members follow each other");
    }

    #[test]
    fn a_small_body_that_grows_large_is_refused() {
        let zeros = vec![0; 10 << 20];
        for (encoding, bytes) in packed(&zeros) {
            let refused = decode(encoding, bytes, 1 << 20).unwrap_err();
            assert_eq!(refused.status, StatusCode::PAYLOAD_TOO_LARGE, "{encoding}");
        }
    }

    #[test]
    fn the_budget_is_shared_and_given_back() {
        let limits = Limits {
            body_bytes_max: 1 << 10,
            ingest_waiting_bytes_max: 4 << 10,
            ..crate::config::Config::default().limits
        };
        let budget = Budget::new(&limits);
        let (mut a, mut b) = (Held::default(), Held::default());
        budget.grow(&mut a, 3 << 10).unwrap();
        budget.grow(&mut b, 1).unwrap();
        assert_eq!(budget.grow(&mut b, 2 << 10).unwrap_err().status, StatusCode::SERVICE_UNAVAILABLE);
        drop(a);
        budget.grow(&mut b, 2 << 10).unwrap();
    }
}
