//! Two network namespaces with a router between them, which can stop passing anything on. Making them needs root.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use super::disks::tool;

/// Pairs that this process has made: tests run beside each other.
static MADE: AtomicU32 = AtomicU32::new(0);

/// Two network namespaces, each on a cable of its own to a router, which is a third one.
pub(crate) struct Sides {
    names: [String; 2],
    router: String,
}

impl Sides {
    /// Makes them. Each side has one address: [`Sides::address`].
    pub(crate) fn new() -> Self {
        let name = format!("datamesh-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        // Dropped where making one of them fails.
        let sides = Self { names: ["left", "right"].map(|side| format!("{name}-{side}")), router: name };
        let router = &sides.router;
        tool("ip", &["netns", "add", router]);
        for (side, name) in sides.names.iter().enumerate() {
            let port = format!("port{side}");
            tool("ip", &["netns", "add", name]);
            let cable = ["link", "add", "cable", "netns", name, "type", "veth", "peer", "name", &port];
            tool("ip", &[&cable[..], &["netns", router]].concat());
            tool(
                "ip",
                &["-n", name, "address", "add", &format!("{}/24", Self::address(side)), "dev", "cable"],
            );
            tool("ip", &["-n", router, "address", "add", &format!("10.77.{side}.1/24"), "dev", &port]);
            for (at, link) in [(name, "lo"), (name, "cable"), (router, &port)] {
                tool("ip", &["-n", at, "link", "set", link, "up"]);
            }
            tool("ip", &["-n", name, "route", "add", "default", "via", &format!("10.77.{side}.1")]);
        }
        sides.join();
        sides
    }

    /// The address of a side, 0 or 1.
    pub(crate) fn address(side: usize) -> String {
        format!("10.77.{side}.2")
    }

    /// What starts a program on one side.
    pub(crate) fn on(&self, side: usize) -> Vec<String> {
        ["ip", "netns", "exec", &self.names[side]].map(ToOwned::to_owned).to_vec()
    }

    /// Has packets from one side to the other vanish: nobody is told that they did.
    pub(crate) fn cut(&self) {
        self.forward("0");
    }

    /// Has packets pass again.
    pub(crate) fn join(&self) {
        self.forward("1");
    }

    fn forward(&self, value: &str) {
        let set = format!("echo {value} > /proc/sys/net/ipv4/ip_forward");
        tool("ip", &["netns", "exec", &self.router, "sh", "-c", &set]);
    }
}

impl Drop for Sides {
    fn drop(&mut self) {
        for name in self.names.iter().chain([&self.router]) {
            // A namespace lives as long as its last process.
            let running = Command::new("ip").args(["netns", "pids", name]).output();
            for pid in
                super::text(&running.map(|output| output.stdout).unwrap_or_default()).split_whitespace()
            {
                let _ = Command::new("kill").args(["-KILL", pid]).stderr(Stdio::null()).status();
            }
            let _ = Command::new("ip").args(["netns", "delete", name]).output();
        }
    }
}
