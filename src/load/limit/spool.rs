//! Owns the rows as they will be copied: encoded, sorted, in batches, in files.
//!
//! State: one batch in memory at a time.

use super::LimitError;
use crate::store::{CopiedChunk, CopiedTable, Store, Timestamp, copied_tables};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::{TryStreamExt as _, pin_mut};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use tokio_postgres::Client;

/// What a binary COPY stream begins with: signature, no flags, no extension.
const HEADER: &[u8; 19] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const TRAILER: [u8; 2] = (-1i16).to_be_bytes();

/// All rows, in files.
pub(super) struct Spool {
    pub(super) tables: Vec<Spooled>,
    /// How many transactions they go in; each takes a batch of every table.
    pub(super) batches: usize,
    pub(super) rows: u64,
    /// The smallest and largest time of all rows. Unit: microseconds.
    pub(super) first_us: i64,
    pub(super) last_us: i64,
}

/// The rows of one table, one batch behind the other.
pub(super) struct Spooled {
    pub(super) table: CopiedTable,
    file: File,
    batches: Vec<Vec<Piece>>,
}

/// The rows of one batch that are of one chunk, or of none that is known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Piece {
    /// The times of the chunk, its end exclusive. Unit: microseconds.
    pub(super) chunk: Option<(i64, i64)>,
    pub(super) rows: usize,
    /// Where they stand in the file.
    bytes: Range<u64>,
}

impl Spooled {
    /// Gives the pieces of a batch; none where the table has no rows left for it.
    pub(super) fn pieces(&self, nth: usize) -> &[Piece] {
        self.batches.get(nth).map_or(&[], Vec::as_slice)
    }

    /// Reads some pieces as one COPY stream.
    pub(super) fn stream<'a>(&self, pieces: impl IntoIterator<Item = &'a Piece>) -> std::io::Result<Bytes> {
        let mut stream = BytesMut::from(HEADER.as_slice());
        for Piece { bytes, .. } in pieces {
            let start = stream.len();
            stream.put_bytes(0, (bytes.end - bytes.start) as usize);
            self.file.read_exact_at(&mut stream[start..], bytes.start)?;
        }
        stream.put_slice(&TRAILER);
        Ok(stream.freeze())
    }
}

impl Spool {
    /// Reads all rows of the standard class's tables into files in `dir`, in batches of `rows_a_commit` rows of
    /// all tables together.
    pub(super) async fn fill(store: &Store, client: &Client, dir: &Path, rows_a_commit: f64) -> Result<Self, LimitError> {
        // In the order in which they lie there, not in that in which parallel workers come by.
        client.batch_execute("SET max_parallel_workers_per_gather = 0; SET statement_timeout = 0").await?;
        let mut counts = Vec::new();
        for CopiedTable { name, .. } in copied_tables() {
            counts.push(client.query_one(&format!("SELECT count(*) FROM {name}"), &[]).await?.get::<_, i64>(0).cast_unsigned());
        }
        let rows: u64 = counts.iter().sum();
        let batches = (rows as f64 / rows_a_commit.max(1.0)).ceil() as usize;
        let mut spool = Self { tables: Vec::new(), batches, rows, first_us: i64::MAX, last_us: i64::MIN };
        for (table, rows) in copied_tables().into_iter().zip(counts) {
            if rows > 0 {
                let rows_a_batch = rows.div_ceil(batches as u64) as usize;
                let chunks = table.chunks(store, client).await?;
                spool.fill_table(client, dir, (table, &chunks), rows_a_batch).await?;
            }
        }
        Ok(spool)
    }

    async fn fill_table(
        &mut self,
        client: &Client,
        dir: &Path,
        (table, chunks): (CopiedTable, &[CopiedChunk]),
        rows_a_batch: usize,
    ) -> Result<(), LimitError> {
        let CopiedTable { name, columns, .. } = table;
        let path = dir.join(name);
        let mut file = BufWriter::new(File::create(&path)?);
        let (mut batches, mut end) = (Vec::new(), 0);
        let stream = client.copy_out(&format!("COPY (SELECT {columns} FROM {name}) TO STDOUT (FORMAT binary)")).await?;
        pin_mut!(stream);
        let mut unread = BytesMut::new();
        let mut batch = Batch::default();
        let mut header_left = HEADER.len();
        while let Some(bytes) = stream.try_next().await? {
            unread.extend_from_slice(&bytes);
            let skipped = header_left.min(unread.len());
            unread.advance(skipped);
            header_left -= skipped;
            while let Some(len) = row_len(&unread)? {
                let row = unread.split_to(len).freeze();
                let at_us = batch.push(row)?;
                (self.first_us, self.last_us) = (self.first_us.min(at_us), self.last_us.max(at_us));
                if batch.rows.len() == rows_a_batch {
                    batches.push(batch.write(chunks, &mut end, &mut file)?);
                }
            }
        }
        if !batch.rows.is_empty() {
            batches.push(batch.write(chunks, &mut end, &mut file)?);
        }
        file.flush()?;
        self.tables.push(Spooled { table, file: File::open(path)?, batches });
        Ok(())
    }
}

/// The rows of one table and transaction, as bytes of the stream, by series and time.
#[derive(Default)]
struct Batch {
    rows: Vec<((i64, i64), Bytes)>,
}

impl Batch {
    /// Takes a row, and gives its time. Unit: microseconds.
    fn push(&mut self, row: Bytes) -> Result<i64, LimitError> {
        // The number of fields, then a time and a series, each behind its length.
        let eight = |at: usize| row.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map(i64::from_be_bytes);
        let (time, series) = eight(6).zip(eight(18)).ok_or(LimitError::Stream("a row has no time and series"))?;
        let at_us = Timestamp::from_wire(time).0;
        self.rows.push(((series, at_us), row));
        Ok(at_us)
    }

    /// Writes the rows behind `end`, which it moves, by chunk and sorted.
    fn write(&mut self, chunks: &[CopiedChunk], end: &mut u64, file: &mut impl Write) -> std::io::Result<Vec<Piece>> {
        let chunk = |at_us| {
            let takes = |chunk: &&CopiedChunk| (chunk.start_us..chunk.end_us).contains(&at_us);
            chunks.iter().find(takes).map(|chunk| (chunk.start_us, chunk.end_us))
        };
        // Rows of one series and time stay in their order.
        self.rows.sort_by_cached_key(|&((series, at_us), _)| (chunk(at_us), series, at_us));
        let mut pieces = Vec::new();
        for rows in self.rows.chunk_by(|((_, one), _), ((_, next), _)| chunk(*one) == chunk(*next)) {
            let start = *end;
            for (_, row) in rows {
                file.write_all(row)?;
                *end += row.len() as u64;
            }
            pieces.push(Piece { chunk: chunk(rows[0].0.1), rows: rows.len(), bytes: start..*end });
        }
        self.rows.clear();
        Ok(pieces)
    }
}

/// Gives the length of the row that the bytes begin with; none where it is not whole yet or the stream ends here.
fn row_len(bytes: &[u8]) -> Result<Option<usize>, LimitError> {
    let Some(fields) = bytes.first_chunk().map(|fields| i16::from_be_bytes(*fields)) else { return Ok(None) };
    let mut len = 2;
    for _ in 0..fields {
        let Some(field) = bytes.get(len..).and_then(|rest| rest.first_chunk()).map(|field| i32::from_be_bytes(*field)) else {
            return Ok(None);
        };
        len += 4 + match field {
            -1 => 0,
            field => usize::try_from(field).map_err(|_| LimitError::Stream("a field has a negative length"))?,
        };
    }
    Ok((fields >= 0 && len <= bytes.len()).then_some(len))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A row of three fields, the last of them null where there is no value.
    fn row(time: i64, series: i64, value: Option<f64>) -> Vec<u8> {
        let mut row = 3i16.to_be_bytes().to_vec();
        for field in [time, series] {
            row.extend(8i32.to_be_bytes());
            row.extend(field.to_be_bytes());
        }
        match value {
            Some(value) => {
                row.extend(8i32.to_be_bytes());
                row.extend(value.to_be_bytes());
            }
            None => row.extend((-1i32).to_be_bytes()),
        }
        row
    }

    #[test]
    fn rows_are_cut_out_of_a_stream() {
        let whole = row(1, 2, Some(0.5));
        let check = |bytes: &[u8], expected: Option<usize>| assert_eq!(row_len(bytes).unwrap(), expected);
        check(&whole, Some(38));
        check(&[whole.clone(), vec![0, 3]].concat(), Some(38));
        check(&row(1, 2, None), Some(30));
        check(&whole[..37], None);
        check(&whole[..3], None);
        check(&[], None);
        check(&TRAILER, None);
        assert!(row_len(&[0, 1, 0xff, 0xff, 0xff, 0xfe]).is_err());
    }

    #[test]
    fn a_batch_is_sorted_by_chunk_series_and_time() {
        let mut batch = Batch::default();
        let wire = |at_us: i64| Timestamp(at_us).to_wire();
        for (at_us, series) in [(5, 2), (12, 1), (1, 3), (4, 2), (30, 1)] {
            batch.push(row(wire(at_us), series, Some(1.0)).into()).unwrap();
        }
        let chunks = [(0, 10), (10, 20)].map(|(start_us, end_us)| CopiedChunk { name: String::new(), start_us, end_us });
        let (mut written, mut end) = (Vec::new(), 100);
        let pieces = batch.write(&chunks, &mut end, &mut written).unwrap();
        let rows = [(30, 1), (4, 2), (5, 2), (1, 3), (12, 1)].map(|(at_us, series)| row(wire(at_us), series, Some(1.0)));
        assert_eq!(written, rows.concat());
        let piece = |chunk, rows, bytes| Piece { chunk, rows, bytes };
        let expected = [piece(None, 1, 100..138), piece(Some((0, 10)), 3, 138..252), piece(Some((10, 20)), 1, 252..290)];
        assert_eq!((pieces.as_slice(), end), (expected.as_slice(), 290));
        assert!(batch.rows.is_empty() && batch.push(Bytes::from_static(&[0, 1])).is_err());
    }
}
