//! Encodes rows for `COPY … FROM STDIN (FORMAT binary)` into a few buffers that are used again.
//!
//! A stream is: the header, rows (each its number of fields, then each field's length and bytes,
//! length −1 for null), the trailer. Every number is big-endian.

use super::timestamp::Timestamp;
use bytes::{BufMut, Bytes, BytesMut};
use std::borrow::Cow;
use std::collections::VecDeque;

const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";
const TRAILER: i16 = -1;
/// How many of those that were taken are remembered, until the first of them is used again. The connection has two that
/// wait and one that it writes.
const TAKEN_MAX: usize = 3;
/// Largest buffer that is used again: one that held a large record is let go of. Unit: bytes.
const REUSED_BYTES_MAX: usize = 1 << 20;

/// Gives a text that PostgreSQL can hold: each U+0000 becomes U+FFFD.
pub(super) fn clean(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "\u{fffd}").into() } else { text.into() }
}

/// Appends fields to a COPY stream.
///
/// State: what was encoded since the last [`take`](Self::take), and the memory of what was taken last.
#[derive(Debug, Default)]
pub struct CopyEncoder {
    buffer: BytesMut,
    taken: VecDeque<Bytes>,
}

impl CopyEncoder {
    /// Starts a stream. No flags, no header extension.
    pub fn header(&mut self) {
        self.buffer.put_slice(SIGNATURE);
        self.buffer.put_i32(0);
        self.buffer.put_i32(0);
    }

    /// Starts a row of `fields` fields; exactly that many must follow.
    pub fn row(&mut self, fields: i16) {
        self.buffer.put_i16(fields);
    }

    /// Ends a stream.
    pub fn trailer(&mut self) {
        self.buffer.put_i16(TRAILER);
    }

    /// Appends a null of any type.
    pub fn null(&mut self) {
        self.buffer.put_i32(-1);
    }

    /// Appends a `smallint`.
    pub fn int2(&mut self, value: i16) {
        self.buffer.put_i32(2);
        self.buffer.put_i16(value);
    }

    /// Appends an `int`.
    pub fn int4(&mut self, value: i32) {
        self.buffer.put_i32(4);
        self.buffer.put_i32(value);
    }

    /// Appends a `bigint`.
    pub fn int8(&mut self, value: i64) {
        self.eight(value.to_be_bytes());
    }

    /// Appends a `float8`.
    pub fn float8(&mut self, value: f64) {
        self.eight(value.to_be_bytes());
    }

    /// Appends a field of eight bytes at once with its length: most fields are such.
    fn eight(&mut self, value: [u8; 8]) {
        let mut field = [0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0];
        field[4..].copy_from_slice(&value);
        self.buffer.put_slice(&field);
    }

    /// Appends a `timestamptz`.
    pub fn timestamp(&mut self, value: Timestamp) {
        self.int8(value.to_wire());
    }

    /// Appends a `text`. PostgreSQL cannot hold U+0000: each becomes U+FFFD.
    ///
    /// Panics: as [`bytea`](Self::bytea).
    pub fn text(&mut self, value: &str) {
        self.bytea(clean(value).as_bytes());
    }

    /// Appends a `bytea`.
    ///
    /// Panics: over 2 GiB, which no record of the log can reach.
    pub fn bytea(&mut self, value: &[u8]) {
        let len = i32::try_from(value.len()).expect("a field comes from one record of the log, which is far below 2 GiB");
        self.buffer.put_i32(len);
        self.buffer.put_slice(value);
    }

    /// Appends a value, or a null where there is none.
    pub fn optional<T>(&mut self, value: Option<T>, encode: impl FnOnce(&mut Self, T)) {
        match value {
            Some(value) => encode(self, value),
            None => self.null(),
        }
    }

    /// Bytes encoded since the last [`take`](Self::take).
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Whether nothing was encoded since the last [`take`](Self::take).
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Takes what was encoded. Its memory is used again if the taker has let go of it some takes later: fresh memory
    /// would cost as much as the encoding.
    pub fn take(&mut self) -> Bytes {
        if self.is_empty() {
            return Bytes::new();
        }
        let taken = std::mem::take(&mut self.buffer).freeze();
        if taken.len() <= REUSED_BYTES_MAX {
            self.taken.push_back(taken.clone());
        }
        if self.taken.len() > TAKEN_MAX
            && let Some(Ok(mut free)) = self.taken.pop_front().map(Bytes::try_into_mut)
        {
            free.clear();
            self.buffer = free;
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(encode: impl FnOnce(&mut CopyEncoder), expected: &[u8]) {
        let mut encoder = CopyEncoder::default();
        encode(&mut encoder);
        assert_eq!(encoder.len(), expected.len());
        assert_eq!(encoder.take(), expected);
        assert!(encoder.is_empty());
    }

    #[test]
    fn a_stream_is_header_rows_and_trailer() {
        check(
            |e| {
                e.header();
                e.row(2);
                e.int2(-2);
                e.null();
                e.trailer();
            },
            b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\0\x02\0\0\0\x02\xff\xfe\xff\xff\xff\xff\xff\xff",
        );
    }

    #[test]
    fn memory_is_used_again_when_its_taker_has_let_go_of_it_and_never_before() {
        let mut encoder = CopyEncoder::default();
        let take = |encoder: &mut CopyEncoder, value: i32| {
            encoder.int4(value);
            encoder.take()
        };
        let held: Vec<Bytes> = (0..20).map(|value| take(&mut encoder, value)).collect();
        for (value, bytes) in (0i32..).zip(&held) {
            assert_eq!(bytes[4..], value.to_be_bytes());
        }
        assert_eq!(encoder.buffer.capacity(), 0, "all of it is held");
        drop(held);
        take(&mut encoder, 20);
        assert!(encoder.buffer.capacity() > 0, "it was let go of");

        encoder.bytea(&vec![0; REUSED_BYTES_MAX]);
        encoder.take();
        (0..5).for_each(|_| encoder.row(0));
        assert!(encoder.buffer.capacity() < REUSED_BYTES_MAX, "what is large is let go of");
        assert!(encoder.taken.iter().all(|taken| taken.len() < REUSED_BYTES_MAX));
    }

    #[test]
    fn fields_are_their_length_and_their_bytes() {
        check(|e| e.int4(i32::MIN), b"\0\0\0\x04\x80\0\0\0");
        check(|e| e.int8(i64::MAX), b"\0\0\0\x08\x7f\xff\xff\xff\xff\xff\xff\xff");
        check(|e| e.float8(-0.0), b"\0\0\0\x08\x80\0\0\0\0\0\0\0");
        check(|e| e.float8(1.5), b"\0\0\0\x08\x3f\xf8\0\0\0\0\0\0");
        check(|e| e.timestamp(Timestamp(946_684_800_000_001)), b"\0\0\0\x08\0\0\0\0\0\0\0\x01");
        check(|e| e.timestamp(Timestamp(i64::MAX)), b"\0\0\0\x08\x7f\xff\xff\xff\xff\xff\xff\xff");
        check(|e| e.text(""), b"\0\0\0\0");
        check(|e| e.text("a\0b"), "\0\0\0\x05a\u{fffd}b".as_bytes());
        check(|e| e.bytea(b"\0\xff"), b"\0\0\0\x02\0\xff");
        check(|e| e.optional(Some("x"), CopyEncoder::text), b"\0\0\0\x01x");
        check(|e| e.optional(None, CopyEncoder::text), b"\xff\xff\xff\xff");
    }
}
