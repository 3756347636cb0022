//! An emulated link: two network namespaces whose packets pass through this program, which delays, limits and loses them.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tun_rs::{DeviceBuilder, SyncDevice};

use super::packet::Framing;
use super::process::{Running, command, output, wait_until};
use super::route::{Route, Side};
use super::wire::{Shape, carry};
use crate::needs::{is_root, on_search_path};

/// The programs that make namespaces and addresses.
const PROGRAMS: [&str; 4] = ["unshare", "nsenter", "ip", "cat"];
const TUN: &str = "/dev/net/tun";
const MTU: usize = 1500;
/// Packets that the kernel keeps for this program before it drops some: so many that this program alone drops.
const DEVICE_QUEUE: u32 = 10_000;
/// Bytes of a super-packet: a quarter of a millisecond at 1 Gbit/s, little beside the round trips that are emulated.
const MERGED_SIZE_MAX: usize = 32 << 10;
const NAMESPACE_DEADLINE: Duration = Duration::from_secs(5);
const HOLDERS: Ipv4Addr = Ipv4Addr::new(10, 201, 77, 1);
const READER: Ipv4Addr = Ipv4Addr::new(10, 201, 77, 2);
const SUBNET: &str = "10.201.77.0/24";
const LOSS_SEED: u64 = 3;

/// The link. When it is dropped, or this program ends in whatever way, its namespaces and devices vanish.
pub(super) struct Link {
    route: Route,
    devices: [(Ipv4Addr, String); 2],
    received_by_reader: Arc<AtomicU64>,
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
        let ends = [(&namespaces[0], HOLDERS, "h"), (&namespaces[1], READER, "r")];
        let mut devices = Vec::new();
        for (namespace, address, side) in ends {
            let name = format!("dm{}{side}", namespace.pid());
            devices.push((device(namespace, address, &name, shape.framing())?, (address, name)));
        }
        let [(holders, first), (reader, second)]: [_; 2] = devices.try_into().ok().expect("there are two");
        let received_by_reader = carry(shape, Arc::clone(&holders), Arc::clone(&reader), LOSS_SEED);
        carry(shape, reader, holders, LOSS_SEED + 1);
        let side = |namespace: &Namespace, address| Side { namespace: Some(namespace.pid()), address };
        let route = Route { holders: side(&namespaces[0], HOLDERS), reader: side(&namespaces[1], READER) };
        Ok(Self { route, devices: [first, second], received_by_reader, namespaces })
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

    /// Bytes of packets that reached the reader so far, headers of IP and TCP included. The device itself would count the
    /// headers of a super-packet once.
    pub(super) fn received_by_reader(&self) -> u64 {
        self.received_by_reader.load(Ordering::Relaxed)
    }
}

/// Makes a device in a namespace.
fn device(
    namespace: &Namespace,
    address: Ipv4Addr,
    name: &str,
    framing: Framing,
) -> Result<Arc<SyncDevice>, String> {
    let builder = DeviceBuilder::new().name(name).enable(false);
    let device = builder.with(|options| _ = options.offload(framing == Framing::Merged)).build_sync();
    let device = device.map_err(|error| format!("a TUN device can't be made: {error}"))?;
    let pid = namespace.pid().to_string();
    output(command("ip").args(["link", "set", name, "netns", &pid]))?;
    namespace.ip(&["address", "add", &format!("{address}/24"), "dev", name])?;
    let (mtu, queue, merged) = (MTU.to_string(), DEVICE_QUEUE.to_string(), MERGED_SIZE_MAX.to_string());
    namespace.ip(&["link", "set", name, "mtu", &mtu, "txqueuelen", &queue, "gso_max_size", &merged, "up"])?;
    Ok(Arc::new(device))
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
pub(crate) struct Namespace {
    holder: Running,
    _lifeline: ChildStdin,
}

impl Namespace {
    /// Makes one, with its loopback device up.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn new() -> Result<Self, String> {
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

    /// Its loopback, as a side of a route.
    pub(super) fn side(&self) -> Side {
        Side { namespace: Some(self.pid()), address: Ipv4Addr::LOCALHOST }
    }

    /// A command that runs in it.
    pub(crate) fn command(&self, program: &str) -> Command {
        self.side().command(program)
    }

    fn ip(&self, arguments: &[&str]) -> Result<(), String> {
        output(self.command("ip").args(arguments)).map(drop)
    }
}
