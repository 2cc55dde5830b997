//! How much of what is sent is in memory at a time.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::{Bytes, BytesMut};

use super::problem::{Kind, Problem};
use crate::model::TokenId;

/// Most bytes of large bodies that are read or wait for their answers at a time, unless told.
const BYTES_MAX: usize = 256 << 20;
/// The part of that which one token may have.
const SHARE: usize = 4;
/// Bodies up to this are not counted: the number of connections bounds them.
pub(super) const SMALL_BYTES_MAX: usize = 16 << 10;

/// Room for the large bodies of all requests. One that does not fit is refused at once: whoever
/// publishes faster than the disk takes it is told so, nobody takes the room of all, and memory stays
/// bounded.
#[derive(Debug)]
pub(super) struct Bodies(Arc<Room>);

#[derive(Debug)]
struct Room {
    bytes_max: usize,
    held: Mutex<Shares>,
}

/// Bytes that are held, in all and by who sent them.
#[derive(Debug, Default)]
struct Shares {
    bytes: usize,
    of: HashMap<Option<TokenId>, usize>,
}

impl Default for Bodies {
    fn default() -> Self {
        Self::of(BYTES_MAX)
    }
}

impl Bodies {
    /// Room for so many bytes.
    pub(super) fn of(bytes_max: usize) -> Self {
        Self(Arc::new(Room {
            bytes_max,
            held: Mutex::default(),
        }))
    }

    /// A body of who has this token that grows to at most so many bytes.
    pub(super) fn begin(&self, sender: Option<TokenId>, bytes_max: usize) -> Body {
        Body {
            held: Held {
                room: Arc::clone(&self.0),
                sender,
                bytes: 0,
            },
            bytes_max: bytes_max.min((self.0.bytes_max / SHARE).max(SMALL_BYTES_MAX)),
            bytes: BytesMut::new(),
        }
    }
}

/// A body that is being read.
pub(super) struct Body {
    held: Held,
    bytes_max: usize,
    bytes: BytesMut,
}

/// The room that a body takes until this is dropped.
pub(super) struct Held {
    room: Arc<Room>,
    sender: Option<TokenId>,
    bytes: usize,
}

impl Body {
    /// Takes in what came.
    pub(super) fn push(&mut self, chunk: &[u8]) -> Result<(), Problem> {
        let bytes = self.bytes.len() + chunk.len();
        if bytes > self.bytes_max {
            let detail = format!("send at most {} bytes", self.bytes_max);
            return Err(Problem::new(Kind::TooLarge, detail));
        }
        if bytes > SMALL_BYTES_MAX {
            self.held.grow(bytes)?;
        }
        self.bytes.extend_from_slice(chunk);
        Ok(())
    }

    /// All of it, and the room it takes for as long as it is needed.
    pub(super) fn end(self) -> (Bytes, Held) {
        (self.bytes.freeze(), self.held)
    }
}

impl Held {
    fn grow(&mut self, bytes: usize) -> Result<(), Problem> {
        let more = bytes - self.bytes;
        let mut shares = self.room.shares();
        let own = shares.of.get(&self.sender).copied().unwrap_or_default();
        let bytes_max = self.room.bytes_max;
        if shares.bytes + more > bytes_max || own + more > bytes_max / SHARE {
            let detail =
                "too much that was sent before waits for its answer; send it again in a moment";
            return Err(Problem::new(Kind::Unavailable, detail));
        }
        shares.bytes += more;
        *shares.of.entry(self.sender).or_default() += more;
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.bytes == 0 {
            return;
        }
        let mut shares = self.room.shares();
        shares.bytes -= self.bytes;
        if let Entry::Occupied(mut own) = shares.of.entry(self.sender) {
            *own.get_mut() -= self.bytes;
            if *own.get() == 0 {
                own.remove();
            }
        }
    }
}

impl Room {
    fn shares(&self) -> std::sync::MutexGuard<'_, Shares> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const KIB: usize = 1 << 10;

    fn sender(number: u128) -> TokenId {
        TokenId::from_uuid(Uuid::from_u128(number))
    }

    fn read(bodies: &Bodies, from: u128, bytes: usize) -> Result<Held, Kind> {
        let mut body = bodies.begin(Some(sender(from)), usize::MAX);
        let mut left = bytes;
        while left > 0 {
            let chunk = left.min(10 * KIB);
            body.push(&vec![1; chunk])
                .map_err(|problem| problem.kind())?;
            left -= chunk;
        }
        let (all, held) = body.end();
        assert_eq!(all.len(), bytes);
        Ok(held)
    }

    #[test]
    fn one_sender_has_a_quarter_and_all_together_the_whole() {
        let bodies = Bodies::of(400 * KIB);
        let first = read(&bodies, 1, 60 * KIB).unwrap();
        assert_eq!(read(&bodies, 1, 41 * KIB).err(), Some(Kind::Unavailable));
        let _rest = read(&bodies, 1, 40 * KIB).unwrap();
        // Little ones pass, and what was refused left nothing behind.
        let _small = read(&bodies, 1, SMALL_BYTES_MAX).unwrap();
        let _others: Vec<_> = (2..5)
            .map(|other| read(&bodies, other, 100 * KIB).unwrap())
            .collect();
        assert_eq!(read(&bodies, 5, 20 * KIB).err(), Some(Kind::Unavailable));
        drop(first);
        drop(read(&bodies, 5, 60 * KIB).unwrap());
        drop(read(&bodies, 1, 60 * KIB).unwrap());
    }

    #[test]
    fn a_body_that_never_fits_is_too_large() {
        let bodies = Bodies::of(400 * KIB);
        assert_eq!(read(&bodies, 1, 101 * KIB).err(), Some(Kind::TooLarge));
        let mut body = bodies.begin(Some(sender(1)), 30);
        body.push(&[1; 30]).unwrap();
        assert_eq!(body.push(&[1]).unwrap_err().kind(), Kind::TooLarge);
        let room = bodies.0.shares();
        assert_eq!((room.bytes, room.of.len()), (0, 0));
    }
}
