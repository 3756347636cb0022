//! An emulated link: two network namespaces whose packets pass through this program, which delays, limits and loses them.

use std::collections::VecDeque;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{ChildStdin, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tun_rs::{DeviceBuilder, SyncDevice};

use super::process::{Running, command, output, wait_until};
use super::route::{Route, Side};
use super::stream::Stream;
use crate::needs::{is_root, on_search_path};

/// The programs that make namespaces and addresses.
const PROGRAMS: [&str; 4] = ["unshare", "nsenter", "ip", "cat"];
const TUN: &str = "/dev/net/tun";
const MTU: usize = 1500;
/// Packets that the kernel keeps for this program before it drops some: so many that this program alone drops.
const DEVICE_QUEUE: u32 = 10_000;
/// Packets are sent on so much early at most: fewer wake-ups, and no more bytes per second.
const EARLY: Duration = Duration::from_micros(250);
const NAMESPACE_DEADLINE: Duration = Duration::from_secs(5);
const HOLDERS: Ipv4Addr = Ipv4Addr::new(10, 201, 77, 1);
const READER: Ipv4Addr = Ipv4Addr::new(10, 201, 77, 2);
const SUBNET: &str = "10.201.77.0/24";
const LOSS_SEED: u64 = 3;

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
}

/// The link. When it is dropped, or this program ends in whatever way, its namespaces and devices vanish.
pub(super) struct Link {
    route: Route,
    devices: [(Ipv4Addr, String); 2],
    namespaces: [Namespace; 2],
}

impl Link {
    /// Why there can be no link here; `None` if there can.
    pub(super) fn obstacle() -> Option<String> {
        if let Some(lacking) = PROGRAMS.iter().find(|program| !on_search_path(program)) {
            return Some(format!("{lacking} is not installed"));
        }
        if !is_root() {
            return Some("network namespaces need root".to_owned());
        }
        let made = Namespace::new();
        let obstacle = made.err().map(|why| format!("no network namespace can be made: {why}"));
        obstacle.or_else(|| (!Path::new(TUN).exists()).then(|| format!("there is no {TUN}")))
    }

    /// Makes a link.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn new(shape: Shape) -> Result<Self, String> {
        let namespaces = [Namespace::new()?, Namespace::new()?];
        let mut devices = Vec::new();
        for (namespace, (address, side)) in namespaces.iter().zip([(HOLDERS, "h"), (READER, "r")]) {
            let name = format!("dm{}{side}", namespace.pid());
            let device = DeviceBuilder::new().name(&name).enable(false).build_sync();
            let device = device.map_err(|error| format!("a TUN device can't be made: {error}"))?;
            let pid = namespace.pid().to_string();
            output(command("ip").args(["link", "set", &name, "netns", &pid]))?;
            namespace.ip(&["address", "add", &format!("{address}/24"), "dev", &name])?;
            let (mtu, queue) = (MTU.to_string(), DEVICE_QUEUE.to_string());
            namespace.ip(&["link", "set", &name, "mtu", &mtu, "txqueuelen", &queue, "up"])?;
            devices.push((Arc::new(device), (address, name)));
        }
        let [(holders, first), (reader, second)]: [_; 2] = devices.try_into().ok().expect("there are two");
        carry(shape, Arc::clone(&holders), Arc::clone(&reader), LOSS_SEED);
        carry(shape, reader, holders, LOSS_SEED + 1);
        let side = |namespace: &Namespace, address| Side { namespace: Some(namespace.pid()), address };
        let route = Route { holders: side(&namespaces[0], HOLDERS), reader: side(&namespaces[1], READER) };
        Ok(Self { route, devices: [first, second], namespaces })
    }

    /// Its two ends.
    pub(super) fn route(&self) -> &Route {
        &self.route
    }

    /// Makes every TCP connection over the link use this congestion control, whatever a program asks for.
    ///
    /// # Errors
    /// When the kernel lacks it.
    pub(super) fn control_congestion(&self, algorithm: &str) -> Result<(), String> {
        for (namespace, (address, device)) in self.namespaces.iter().zip(&self.devices) {
            // By the route: a namespace's own default may only be what the whole system allows.
            let source = address.to_string();
            let route =
                ["route", "replace", SUBNET, "dev", device, "src", &source, "congctl", "lock", algorithm];
            namespace.ip(&route)?;
        }
        Ok(())
    }

    /// Bytes of packets that reached the reader so far, headers of IP and TCP included.
    ///
    /// # Errors
    /// When the kernel doesn't say.
    pub(super) fn received_by_reader(&self) -> Result<u64, String> {
        received(self.namespaces[1].pid(), &self.devices[1].1)
    }
}

/// Bytes that a device of a process's network namespace has received so far.
pub(super) fn received(pid: u32, device: &str) -> Result<u64, String> {
    let path = format!("/proc/{pid}/net/dev");
    let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix(device)?.strip_prefix(':'));
    let count = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    count.ok_or_else(|| format!("{path} does not say what {device} received"))
}

/// A network namespace. It lives as long as a process in it, and that one until its input ends.
pub(super) struct Namespace {
    holder: Running,
    _lifeline: ChildStdin,
}

impl Namespace {
    /// Makes one, with its loopback device up.
    pub(super) fn new() -> Result<Self, String> {
        let mut command = command("unshare");
        let mut holder = Running::start(command.args(["--net", "cat"]).stdin(Stdio::piped()))?;
        let lifeline = holder.child().stdin.take().expect("its input is piped");
        let own = fs::read_link("/proc/self/ns/net").map_err(|error| format!("/proc: {error}"))?;
        let theirs = format!("/proc/{}/ns/net", holder.pid());
        wait_until("a namespace", NAMESPACE_DEADLINE, || {
            fs::read_link(&theirs).is_ok_and(|link| link != own)
        })?;
        let namespace = Self { holder, _lifeline: lifeline };
        namespace.ip(&["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// A process in it.
    pub(super) fn pid(&self) -> u32 {
        self.holder.pid()
    }

    fn ip(&self, arguments: &[&str]) -> Result<(), String> {
        let side = Side { namespace: Some(self.pid()), address: Ipv4Addr::LOCALHOST };
        output(side.command("ip").args(arguments)).map(drop)
    }
}

/// Packets on their way, each with when it arrives; `None` once no more come.
type Wire = Arc<(Mutex<Option<VecDeque<(Instant, Vec<u8>)>>>, Condvar)>;

/// Carries packets one way until a device vanishes: one thread takes them, one delivers them.
fn carry(shape: Shape, from: Arc<SyncDevice>, to: Arc<SyncDevice>, seed: u64) {
    let wire: Wire = Arc::new((Mutex::new(Some(VecDeque::new())), Condvar::new()));
    let taken = Arc::clone(&wire);
    thread::spawn(move || {
        take(shape, &from, &taken, seed);
        *taken.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
        taken.1.notify_one();
    });
    thread::spawn(move || deliver(&to, &wire));
}

/// Takes packets from a device as they come; drops those that are lost, or find the queue full.
fn take(shape: Shape, from: &SyncDevice, wire: &Wire, seed: u64) {
    let mut gate = Gate { shape, chance: Stream::new(seed), free_at: Instant::now() };
    let mut buffer = vec![0; MTU];
    while let Ok(size) = from.recv(&mut buffer) {
        let Some(due) = gate.admit(Instant::now(), size) else { continue };
        let mut packets = wire.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(packets) = packets.as_mut() {
            packets.push_back((due, buffer[..size].to_vec()));
            if packets.len() == 1 {
                wire.1.notify_one();
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
    /// When a packet arrives that is sent now; `None` if it is lost, or finds the queue full.
    fn admit(&mut self, now: Instant, size: usize) -> Option<Instant> {
        let Shape { bits_per_second, round_trip, lost_per_mille } = self.shape;
        self.free_at = self.free_at.max(now);
        // The queue holds what the link carries in one round trip.
        let full = self.free_at - now > round_trip;
        if full || self.chance.below(1000) < u64::from(lost_per_mille) {
            return None;
        }
        let bits = u64::try_from(size).expect("a packet is short") * 8;
        self.free_at += Duration::from_nanos(bits * 1_000_000_000 / u64::from(bits_per_second));
        Some(self.free_at + round_trip / 2)
    }
}

/// Delivers packets when they are due.
fn deliver(to: &SyncDevice, wire: &Wire) {
    let mut ready = Vec::new();
    loop {
        {
            let packets = wire.0.lock().unwrap_or_else(PoisonError::into_inner);
            let is_empty =
                |packets: &mut Option<VecDeque<_>>| packets.as_ref().is_some_and(VecDeque::is_empty);
            let mut packets = wire.1.wait_while(packets, is_empty).unwrap_or_else(PoisonError::into_inner);
            let Some(packets) = packets.as_mut() else { return };
            let soon = Instant::now() + EARLY;
            let count = packets.iter().take_while(|(due, _)| *due <= soon).count();
            ready.extend(packets.drain(..count));
        }
        if ready.is_empty() {
            thread::sleep(EARLY);
            continue;
        }
        for (_, packet) in ready.drain(..) {
            // A device whose queue is full drops it, as a network card would.
            let _ = to.send(&packet);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Gate, Shape};
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
        // 100 µs each: 200 of them are a round trip, and the last one finds exactly that before it.
        assert_eq!(due.len(), 201);
        assert!(due.windows(2).all(|pair| pair[1] - pair[0] == Duration::from_micros(100)));
        let later = now + Duration::from_micros(200);
        assert!(gate.admit(later, SIZE).is_some(), "room comes back as packets leave");
    }

    #[test]
    fn as_many_packets_are_lost_as_the_shape_says() {
        let (mut gate, now) = gate(10);
        let sent = (0..100_000_u32).map(|count| gate.admit(now + Duration::from_millis(1) * count, SIZE));
        let lost = sent.filter(Option::is_none).count();
        assert!((900..1100).contains(&lost), "{lost} of 100,000");
    }
}
