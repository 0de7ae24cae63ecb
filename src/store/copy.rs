//! Encodes rows for `COPY … FROM STDIN (FORMAT binary)` into one buffer that is used again.
//!
//! A stream is: the header, rows (each its number of fields, then each field's length and bytes,
//! length −1 for null), the trailer. Every number is big-endian.

use super::timestamp::Timestamp;
use bytes::{BufMut, Bytes, BytesMut};
use std::borrow::Cow;

const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";
const TRAILER: i16 = -1;

/// Gives a text that PostgreSQL can hold: each U+0000 becomes U+FFFD.
pub(super) fn clean(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "\u{fffd}").into() } else { text.into() }
}

/// Appends fields to a COPY stream.
///
/// State: what was encoded since the last [`take`](Self::take).
#[derive(Debug, Default)]
pub struct CopyEncoder {
    buffer: BytesMut,
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

    /// Takes what was encoded. The memory comes back to the buffer when the taker lets go of it.
    pub fn take(&mut self) -> Bytes {
        self.buffer.split().freeze()
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
