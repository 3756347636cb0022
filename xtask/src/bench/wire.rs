//! One direction of an emulated link: takes packets from a device, and delivers those that arrive, when they do.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tun_rs::{SyncDevice, VIRTIO_NET_HDR_LEN};

use super::packet::Framing;
use super::stream::Stream;

/// Bytes of the longest frame: IP knows no longer packet.
const FRAME_SIZE_MAX: usize = VIRTIO_NET_HDR_LEN + (1 << 16);
/// Packets are sent on so much early at most: fewer wake-ups, and no more bytes per second.
const EARLY: Duration = Duration::from_micros(250);

/// How a link behaves, each way alike.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    /// Bits per second, headers of IP and TCP included.
    pub(super) bits_per_second: u32,
    /// From one end to the other and back, without queueing.
    pub(super) round_trip: Duration,
    /// Packets lost, of a thousand.
    pub(super) lost_per_mille: u16,
}

impl Shape {
    /// Its rate in bytes.
    pub(super) fn bytes_per_second(&self) -> f64 {
        f64::from(self.bits_per_second) / 8.0
    }

    /// How its devices hand packets over: where some are lost, each is lost by itself.
    pub(super) fn framing(&self) -> Framing {
        if self.lost_per_mille == 0 { Framing::Merged } else { Framing::Single }
    }
}

/// What is on its way, each with when it arrives and its size on a real link; `None` once no more comes.
type Queue = Option<VecDeque<(Instant, usize, Vec<u8>)>>;

/// What both threads of a direction share.
#[derive(Default)]
struct Wire {
    queue: Mutex<Queue>,
    came: Condvar,
    /// Bytes that arrived, as a real link would have carried them.
    arrived: Arc<AtomicU64>,
}

/// Carries packets one way until a device vanishes: one thread takes them, one delivers them. Returns the count of bytes
/// that arrived, as a real link would have carried them, which goes on.
pub(super) fn carry(shape: Shape, from: Arc<SyncDevice>, to: Arc<SyncDevice>, seed: u64) -> Arc<AtomicU64> {
    let wire = Arc::new(Wire { queue: Mutex::new(Some(VecDeque::new())), ..Wire::default() });
    let (taken, arrived) = (Arc::clone(&wire), Arc::clone(&wire.arrived));
    thread::spawn(move || {
        take(shape, &from, &taken, seed);
        *taken.queue.lock().unwrap_or_else(PoisonError::into_inner) = None;
        taken.came.notify_one();
    });
    thread::spawn(move || deliver(&to, &wire));
    arrived
}

/// Takes packets from a device as they come; drops those that are lost, or find no room in the queue.
fn take(shape: Shape, from: &SyncDevice, wire: &Wire, seed: u64) {
    let mut gate = Gate { shape, chance: Stream::new(seed), free_at: Instant::now() };
    let framing = shape.framing();
    let mut buffer = vec![0; FRAME_SIZE_MAX];
    while let Ok(size) = from.recv(&mut buffer) {
        let frame = &buffer[..size];
        let wire_size = framing.wire_size(frame);
        let Some(due) = gate.admit(Instant::now(), wire_size) else { continue };
        let mut queue = wire.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = queue.as_mut() {
            queue.push_back((due, wire_size, frame.to_vec()));
            if queue.len() == 1 {
                wire.came.notify_one();
            }
        }
    }
}

/// Decides what becomes of each packet.
struct Gate {
    shape: Shape,
    chance: Stream,
    /// When the last bit of what is queued will have left.
    free_at: Instant,
}

impl Gate {
    /// When a packet of so many bytes on the wire arrives that is sent now; `None` if it is lost, or finds no room in the
    /// queue. A super-packet arrives with its last byte, and finds room as a whole or not at all: a real link delivers
    /// its packets one by one, and drops only those at its end.
    fn admit(&mut self, now: Instant, wire_size: usize) -> Option<Instant> {
        let Shape { bits_per_second, round_trip, lost_per_mille } = self.shape;
        let bits = u64::try_from(wire_size).expect("a packet is short") * 8;
        let left =
            self.free_at.max(now) + Duration::from_nanos(bits * 1_000_000_000 / u64::from(bits_per_second));
        // The queue holds what the link carries in one round trip.
        let full = left - now > round_trip;
        if full || self.chance.below(1000) < u64::from(lost_per_mille) {
            return None;
        }
        self.free_at = left;
        Some(left + round_trip / 2)
    }
}

/// Delivers packets when they are due.
fn deliver(to: &SyncDevice, wire: &Wire) {
    let mut ready = Vec::new();
    loop {
        let next_due = {
            let queue = wire.queue.lock().unwrap_or_else(PoisonError::into_inner);
            let is_empty = |queue: &mut Queue| queue.as_ref().is_some_and(VecDeque::is_empty);
            let mut queue = wire.came.wait_while(queue, is_empty).unwrap_or_else(PoisonError::into_inner);
            let Some(queue) = queue.as_mut() else { return };
            let soon = Instant::now() + EARLY;
            let count = queue.iter().take_while(|(due, ..)| *due <= soon).count();
            ready.extend(queue.drain(..count));
            queue.front().map(|(due, ..)| *due)
        };
        for (_, wire_size, frame) in ready.drain(..) {
            // A device whose queue is full drops it, as a network card would.
            if to.send(&frame).is_ok() {
                wire.arrived.fetch_add(wire_size as u64, Ordering::Relaxed);
            }
        }
        if let Some(due) = next_due {
            // Not sooner, even if more comes: it would be due later.
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Framing, Gate, Shape};
    use crate::bench::stream::Stream;

    const SIZE: usize = 1250;

    fn gate(lost_per_mille: u16) -> (Gate, Instant) {
        let round_trip = Duration::from_millis(20);
        let shape = Shape { bits_per_second: 100_000_000, round_trip, lost_per_mille };
        let now = Instant::now();
        (Gate { shape, chance: Stream::new(1), free_at: now }, now)
    }

    #[test]
    fn a_lone_packet_takes_half_a_round_trip_and_its_own_length() {
        let (mut gate, now) = gate(0);
        let due = gate.admit(now, SIZE).expect("the queue is empty");
        assert_eq!(due - now, Duration::from_micros(10_000 + 100));
    }

    #[test]
    fn packets_arrive_no_faster_than_the_rate_and_the_queue_holds_one_round_trip() {
        let (mut gate, now) = gate(0);
        let due: Vec<Instant> = (0..1000).map_while(|_| gate.admit(now, SIZE)).collect();
        // 100 µs each: 200 of them are a round trip.
        assert_eq!(due.len(), 200);
        assert!(due.windows(2).all(|pair| pair[1] - pair[0] == Duration::from_micros(100)));
        let later = now + Duration::from_micros(100);
        assert!(gate.admit(later, SIZE).is_some(), "room comes back as packets leave");
        assert!(gate.admit(later, SIZE).is_none(), "and no more of it");
    }

    #[test]
    fn a_super_packet_takes_as_long_as_its_packets_and_finds_room_for_all_or_none() {
        let (mut gate, now) = gate(0);
        let due = gate.admit(now, 150 * SIZE).expect("the queue is empty");
        assert_eq!(due - now, Duration::from_micros(10_000 + 150 * 100));
        assert!(gate.admit(now, 51 * SIZE).is_none(), "room for fifty is left");
        let due = gate.admit(now, 50 * SIZE).expect("what found no room has taken none");
        assert_eq!(due - now, Duration::from_micros(10_000 + 200 * 100));
    }

    #[test]
    fn as_many_packets_are_lost_as_the_shape_says_each_by_itself() {
        let (mut gate, now) = gate(10);
        assert_eq!(gate.shape.framing(), Framing::Single);
        let sent = (0..100_000_u32).map(|count| gate.admit(now + Duration::from_millis(1) * count, SIZE));
        let lost = sent.filter(Option::is_none).count();
        assert!((900..1100).contains(&lost), "{lost} of 100,000");
    }
}
