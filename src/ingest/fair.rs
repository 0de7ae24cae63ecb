//! Room that tenants share fairly: whoever floods it fills his own part, and whoever comes next finds some.
//!
//! Invariant: a tenant with several things in the room never holds more than is left free, so one that floods ends at a half
//! of it, and of several each at the same part. A single thing may take all that is free: it is no flood.

use dataflows::model::TenantNo;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A room of so many bytes.
///
/// State: an entry for each tenant that has something in it.
#[derive(Clone)]
pub struct FairRoom(Arc<Mutex<Room>>);

struct Room {
    free: usize,
    tenants: HashMap<TenantNo, Held>,
}

/// What one tenant has in the room.
#[derive(Default)]
struct Held {
    things: usize,
    bytes: usize,
}

/// Why there is no room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoRoom {
    /// For nobody.
    Full,
    /// For this tenant, which holds its share.
    AboveShare,
}

/// One thing in the room. Dropping it makes its room free again.
pub struct Place {
    room: FairRoom,
    tenant: TenantNo,
    bytes: usize,
}

impl FairRoom {
    /// Makes a room. Unit: bytes.
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(Mutex::new(Room { free: bytes, tenants: HashMap::new() })))
    }

    /// Brings in something of a tenant, of no size yet.
    pub fn enter(&self, tenant: TenantNo) -> Place {
        self.room().tenants.entry(tenant).or_default().things += 1;
        Place { room: self.clone(), tenant, bytes: 0 }
    }

    fn room(&self) -> MutexGuard<'_, Room> {
        // A panic elsewhere leaves no half-made change: nothing here panics between two.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Takes more room. Unit: bytes.
    ///
    /// Errors: there is none; what it has, it keeps.
    pub fn grow(&mut self, bytes: usize) -> Result<(), NoRoom> {
        let mut room = self.room.room();
        let Room { free, tenants } = &mut *room;
        let held = tenants.get_mut(&self.tenant).expect("who has a place is in the room");
        let left = free.checked_sub(bytes);
        if held.things > 1 && left.is_none_or(|left| held.bytes + bytes > left) {
            return Err(NoRoom::AboveShare);
        }
        *free = left.ok_or(NoRoom::Full)?;
        held.bytes += bytes;
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut room = self.room.room();
        room.free += self.bytes;
        let held = room.tenants.get_mut(&self.tenant).expect("who has a place is in the room");
        held.things -= 1;
        held.bytes -= self.bytes;
        if held.things == 0 {
            room.tenants.remove(&self.tenant);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: TenantNo = TenantNo(1);
    const B: TenantNo = TenantNo(2);
    const C: TenantNo = TenantNo(3);

    /// Brings in things of ten bytes until there is no room, and tells how many found some.
    fn flood(room: &FairRoom, tenant: TenantNo, places: &mut Vec<Place>) -> (usize, NoRoom) {
        for count in 0.. {
            let mut place = room.enter(tenant);
            if let Err(no_room) = place.grow(10) {
                return (count, no_room);
            }
            places.push(place);
        }
        unreachable!("the room has an end")
    }

    #[test]
    fn who_floods_leaves_room_for_those_who_come_next() {
        let room = FairRoom::new(1000);
        let (mut of_a, mut of_others) = (Vec::new(), Vec::new());
        assert_eq!(flood(&room, A, &mut of_a), (50, NoRoom::AboveShare), "a half");
        assert_eq!(flood(&room, B, &mut of_others), (25, NoRoom::AboveShare), "a half of the rest");
        assert_eq!(room.enter(C).grow(200), Ok(()), "whoever comes next");
        // As the first one's things go, it gets no more than the others.
        of_a.truncate(30);
        assert_eq!(flood(&room, B, &mut of_others), (10, NoRoom::AboveShare));
        assert_eq!(flood(&room, A, &mut of_a), (2, NoRoom::AboveShare), "a third each, and a third is free");
        drop((of_a, of_others));
        assert_eq!(room.room().free, 1000);
        assert!(room.room().tenants.is_empty(), "nobody is remembered");
    }

    #[test]
    fn a_single_thing_may_take_all_and_grows_as_it_comes() {
        let room = FairRoom::new(100);
        let mut place = room.enter(A);
        for _ in 0..10 {
            place.grow(10).unwrap();
        }
        assert_eq!(place.grow(1), Err(NoRoom::Full));
        assert_eq!(room.enter(B).grow(1), Err(NoRoom::Full), "nobody's flood");
        assert_eq!(room.enter(A).grow(1), Err(NoRoom::AboveShare), "its own");
        drop(place);
        assert_eq!(room.enter(B).grow(100), Ok(()));
    }
}
