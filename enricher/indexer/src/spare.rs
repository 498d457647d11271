//! Lanes without a layer of their own hash for those that still read: the content of a long layer goes over to one of them
//! on the way, so that the last layer of an image, or its only one, takes less than all of its work takes one core.
//!
//! No thread is made for it, and none is waited for: who finds no lane spare goes on alone.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};

use driftline_schemas::Sha256;
use sha2::{Digest as _, Sha256 as Hasher};

use crate::limits::{BUFFER_BYTES, SPARE_BUFFERS, SPARE_EVERY_BYTES};

type Work = Box<dyn FnOnce() + Send>;

/// Leads to the lanes that are spare. When the last of these is dropped, they end.
#[derive(Debug, Clone)]
pub(crate) struct Spares(SyncSender<Work>);

/// Where lanes wait for work.
pub(crate) struct Waiting(Mutex<Receiver<Work>>);

pub(crate) fn spares() -> (Spares, Waiting) {
    // Without room in between: work is given only to a lane that waits for it at this moment.
    let (give, take) = sync_channel(0);
    (Spares(give), Waiting(Mutex::new(take)))
}

impl Waiting {
    /// Does what is given, until nobody is left who could give anything.
    pub(crate) fn serve(&self) {
        while let Some(work) = self.next() {
            work();
        }
    }

    fn next(&self) -> Option<Work> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
    }
}

/// Digest of a stream, computed here until a lane is spare, and there from then on.
pub(crate) struct Digester<'a> {
    at: At,
    spares: Option<&'a Spares>,
    /// Since a spare lane was looked for.
    bytes: usize,
}

enum At {
    Here(Hasher),
    There(There),
}

struct There {
    /// What was not sent yet, at most [`BUFFER_BYTES`].
    buffer: Vec<u8>,
    full: SyncSender<Vec<u8>>,
    /// Buffers to use again.
    used: Receiver<Vec<u8>>,
    hash: Receiver<Hasher>,
}

impl<'a> Digester<'a> {
    pub(crate) fn new(spares: Option<&'a Spares>) -> Self {
        Self { at: At::Here(Hasher::new()), spares, bytes: 0 }
    }

    /// Fails only when the other lane has.
    pub(crate) fn update(&mut self, content: &[u8]) -> io::Result<()> {
        match &mut self.at {
            At::There(there) => return there.update(content),
            At::Here(hash) => hash.update(content),
        }
        self.bytes = self.bytes.saturating_add(content.len());
        if self.bytes >= SPARE_EVERY_BYTES {
            self.bytes = 0;
            self.hand_over();
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> io::Result<Sha256> {
        let hash = match self.at {
            At::Here(hash) => hash,
            At::There(there) => there.finish()?,
        };
        Ok(Sha256(hash.finalize().into()))
    }

    fn hand_over(&mut self) {
        let (At::Here(hash), Some(spares)) = (&self.at, self.spares) else { return };
        let (full, filled) = sync_channel::<Vec<u8>>(SPARE_BUFFERS);
        let (emptied, used) = sync_channel(SPARE_BUFFERS);
        let (done, finished) = sync_channel(1);
        let mut hash = hash.clone();
        let work = move || {
            for buffer in filled {
                hash.update(&buffer);
                let _ = emptied.try_send(buffer);
            }
            // Nobody wants it of a layer that was given up.
            let _ = done.send(hash);
        };
        if spares.0.try_send(Box::new(work)).is_ok() {
            self.at = At::There(There { buffer: Vec::with_capacity(BUFFER_BYTES), full, used, hash: finished });
        }
    }
}

impl There {
    fn update(&mut self, mut content: &[u8]) -> io::Result<()> {
        while !content.is_empty() {
            let room = BUFFER_BYTES.saturating_sub(self.buffer.len());
            let (now, later) = content.split_at(room.min(content.len()));
            self.buffer.extend_from_slice(now);
            content = later;
            if self.buffer.len() >= BUFFER_BYTES {
                let mut empty = self.used.try_recv().unwrap_or_else(|_| Vec::with_capacity(BUFFER_BYTES));
                empty.clear();
                self.full.send(std::mem::replace(&mut self.buffer, empty)).map_err(|_| ended())?;
            }
        }
        Ok(())
    }

    fn finish(self) -> io::Result<Hasher> {
        self.full.send(self.buffer).map_err(|_| ended())?;
        drop(self.full);
        self.hash.recv().map_err(|_| ended())
    }
}

fn ended() -> io::Error {
    io::Error::other("the lane that hashes has ended")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Content of which no two buffers are alike.
    fn content(bytes: usize) -> Vec<u8> {
        (0_u32..).flat_map(u32::to_le_bytes).take(bytes).collect()
    }

    #[test]
    fn a_digest_is_the_same_wherever_it_is_computed() {
        let (spares, waiting) = spares();
        std::thread::scope(|threads| {
            threads.spawn(|| waiting.serve());
            let spares = spares;
            for length in [0, 1, BUFFER_BYTES - 1, BUFFER_BYTES, BUFFER_BYTES + 1, 20 * BUFFER_BYTES + 7] {
                let mut digester = Digester::new(Some(&spares));
                let before = content(SPARE_EVERY_BYTES);
                let mut expected = Hasher::new();
                let mut tried = 0;
                while matches!(digester.at, At::Here(_)) {
                    assert!(tried < 10_000, "no lane takes it");
                    tried += 1;
                    digester.update(&before).unwrap();
                    expected.update(&before);
                    std::thread::yield_now();
                }
                let after = content(length);
                // In pieces as decompressors give them: of any length.
                after.chunks(3 * BUFFER_BYTES / 2 + 1).for_each(|piece| digester.update(piece).unwrap());
                expected.update(&after);
                assert_eq!(digester.finish().unwrap(), Sha256(expected.finalize().into()), "{length}");
            }
        });
    }

    #[test]
    fn without_a_lane_that_waits_it_is_computed_here() {
        let (spares, _waiting) = spares();
        let content = content(3 * SPARE_EVERY_BYTES);
        let mut digester = Digester::new(Some(&spares));
        digester.update(&content).unwrap();
        assert!(matches!(digester.at, At::Here(_)));
        assert_eq!(digester.finish().unwrap(), Sha256::of(&content));
    }

    #[test]
    fn a_layer_that_is_given_up_leaves_the_lane_for_the_next() {
        let (spares, waiting) = spares();
        std::thread::scope(|threads| {
            threads.spawn(|| waiting.serve());
            let spares = spares;
            let content = content(SPARE_EVERY_BYTES);
            for _ in 0..3 {
                let mut digester = Digester::new(Some(&spares));
                while matches!(digester.at, At::Here(_)) {
                    digester.update(&content).unwrap();
                    std::thread::yield_now();
                }
                digester.update(&content).unwrap();
            }
        });
    }
}
