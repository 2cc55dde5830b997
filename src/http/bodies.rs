//! How much of what is sent is in memory at a time.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::problem::{Kind, Problem};

/// Most bytes of requests that are read or wait for their answers at a time, unless told.
const BYTES_MAX: usize = 128 << 20;

/// Room for the bodies of all requests. One that does not fit is refused at once: whoever publishes
/// faster than the disk takes it is told so, and memory stays bounded.
#[derive(Debug)]
pub(super) struct Bodies {
    room: Arc<Semaphore>,
    bytes_max: usize,
}

impl Default for Bodies {
    fn default() -> Self {
        Self::of(BYTES_MAX)
    }
}

impl Bodies {
    /// Room for so many bytes.
    pub(super) fn of(bytes_max: usize) -> Self {
        let bytes_max = bytes_max.min(Semaphore::MAX_PERMITS);
        Self {
            room: Arc::new(Semaphore::new(bytes_max)),
            bytes_max,
        }
    }

    /// A body that grows to at most so many bytes.
    pub(super) fn begin(&self, bytes_max: usize) -> Body<'_> {
        Body {
            bodies: self,
            bytes_max,
            bytes: BytesMut::new(),
            held: None,
        }
    }
}

/// A body that is being read.
pub(super) struct Body<'a> {
    bodies: &'a Bodies,
    bytes_max: usize,
    bytes: BytesMut,
    held: Option<OwnedSemaphorePermit>,
}

/// The room that a body takes until this is dropped.
pub(super) struct Held(
    #[expect(dead_code, reason = "given back when dropped")] Option<OwnedSemaphorePermit>,
);

impl Body<'_> {
    /// Takes in what came.
    pub(super) fn push(&mut self, chunk: &[u8]) -> Result<(), Problem> {
        let Self {
            bodies, bytes_max, ..
        } = *self;
        if self.bytes.len() + chunk.len() > bytes_max {
            let detail = format!("send at most {bytes_max} bytes");
            return Err(Problem::new(Kind::TooLarge, detail));
        }
        let bytes = u32::try_from(chunk.len()).unwrap_or(u32::MAX);
        let room = Arc::clone(&bodies.room).try_acquire_many_owned(bytes);
        let room = room.map_err(|_| {
            let detail = format!(
                "requests of up to {} bytes wait for their answers already; send it again in a moment",
                bodies.bytes_max
            );
            Problem::new(Kind::Unavailable, detail)
        })?;
        match &mut self.held {
            Some(held) => held.merge(room),
            None => self.held = Some(room),
        }
        self.bytes.extend_from_slice(chunk);
        Ok(())
    }

    /// All of it, and the room it takes for as long as it is needed.
    pub(super) fn end(self) -> (Bytes, Held) {
        (self.bytes.freeze(), Held(self.held))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_does_not_fit_beside_others_is_refused_until_one_is_done() {
        let bodies = Bodies::of(100);
        let mut first = bodies.begin(80);
        first.push(&[1; 30]).unwrap();
        first.push(&[2; 30]).unwrap();
        let (bytes, held) = first.end();
        assert_eq!((bytes[0], bytes[59], bytes.len()), (1, 2, 60));
        let mut second = bodies.begin(80);
        second.push(&[3; 40]).unwrap();
        assert_eq!(second.push(&[3]).unwrap_err().kind(), Kind::Unavailable);
        drop(second);
        let mut third = bodies.begin(80);
        assert_eq!(third.push(&[4; 41]).unwrap_err().kind(), Kind::Unavailable);
        drop(held);
        third.push(&[4; 80]).unwrap();
        assert_eq!(third.push(&[4]).unwrap_err().kind(), Kind::TooLarge);
    }
}
