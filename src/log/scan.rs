//! Owns reading the log through once, for all partitions together: what a start needs. Reading partition by
//! partition would read every block as often as there are partitions.

use super::ScannedRecord;
use super::catalogue::Segment;
use super::error::ReadError;
use super::frame::{self, Kind};
use super::index::Check;
use super::position::Position;
use super::read::Unreadable;
use super::shared::Shared;
use dataflows::model::{Offset, Partition};

impl Shared {
    /// See [`super::Log::scan`].
    pub(super) fn scan(&self, from: &[Offset], mut visit: impl FnMut(ScannedRecord<'_>)) -> Result<(), ReadError> {
        assert_eq!(from.len(), usize::from(self.identity.partitions), "one offset for each partition");
        let (segments, end) = {
            let catalogue = self.catalogue();
            (Vec::from_iter(catalogue.segments.iter().cloned()), catalogue.end.clone())
        };
        for (i, segment) in segments.iter().enumerate() {
            let end = segments.get(i + 1).map_or(&end, |next| &next.base);
            let Some((partition, first)) = wanted(from, segment, end) else { continue };
            let scanned = self.scan_segment(segment, end, from, &mut visit);
            scanned.map_err(|unreadable| self.explained(unreadable, partition, first))?;
        }
        Ok(())
    }

    fn scan_segment(
        &self,
        segment: &Segment,
        end: &Position,
        from: &[Offset],
        visit: &mut impl FnMut(ScannedRecord<'_>),
    ) -> Result<(), Unreadable> {
        self.walk_segment(segment, end, Check::Bodies, |_, head, bytes, _| {
            if head.kind == Kind::Lost {
                return;
            }
            for (part, place) in head.placed_parts() {
                let (partition, log_time) = (Partition(part.partition), head.log_time);
                let wanted = from[usize::from(part.partition)];
                let records = frame::records(&bytes[place]);
                (part.first..).map(Offset).zip(records).filter(|(offset, _)| *offset >= wanted).for_each(|(offset, body)| {
                    visit(ScannedRecord { partition, offset, log_time, body });
                });
            }
        })
    }
}

/// Gives the first record of a segment, which ends at `end`, that is wanted; none if none is.
fn wanted(from: &[Offset], segment: &Segment, end: &Position) -> Option<(Partition, u64)> {
    let firsts = from.iter().zip(&segment.base.next).map(|(from, base)| from.0.max(*base));
    (0..).map(Partition).zip(firsts).zip(&end.next).find_map(|(first, end)| (first.1 < *end).then_some(first))
}
