//! The gateway process that is asked, and what it uses meanwhile.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::request::Request;
use super::scene::dm;
use super::wire::{Ending, Patience, exchange};
use crate::bench::process::{Running, command, output, wait_until, with_log};

/// How long it may take to start, and to end once it is told to.
const START_PATIENCE: Duration = Duration::from_secs(60);
const STOP_PATIENCE: Duration = Duration::from_secs(60);
/// How long `/healthz` may take at worst, on a machine that has other things to do.
pub(super) const HEALTH_MAX: Duration = Duration::from_secs(2);
/// How often it is asked.
const HEALTH_EVERY: Duration = Duration::from_millis(100);
/// How long connections that nobody uses may stay open.
const CLOSE_PATIENCE: Duration = Duration::from_secs(90);
/// Connections that may be left over: those that are asked for how it is.
const CONNECTIONS_LEFT_MAX: usize = 2;
/// The most memory that it may ever have had resident, bytes.
pub(super) const MEMORY_MAX: u64 = 256 << 20;

/// A gateway of its own process, with the mesh in its home, killed with this program.
pub(super) struct Gateway {
    running: Running,
    log: PathBuf,
    pub(super) address: SocketAddr,
}

impl Gateway {
    /// Starts it.
    pub(super) fn start(program: &Path, home: &Path, folder: &Path) -> Result<Self, String> {
        let create = |path: &Path| File::create(path).map_err(|error| format!("{}: {error}", path.display()));
        let (printed, log) = (folder.join("printed"), folder.join("log"));
        let mut command = dm(program, home);
        command.args(["gateway", "--listen", "127.0.0.1:0"]).stdout(create(&printed)?).stderr(create(&log)?);
        let running = Running::start(&mut command)?;
        let mut address = None;
        let started = wait_until("the gateway listens", START_PATIENCE, || {
            address = listening(&printed);
            address.is_some()
        });
        started.map_err(|why| with_log(&why, &log))?;
        Ok(Self { running, log, address: address.ok_or("a gateway without an address")? })
    }

    /// Sockets that it has open.
    pub(super) fn socket_count(&self) -> usize {
        let entries = fs::read_dir(format!("/proc/{}/fd", self.running.pid()));
        let links =
            entries.into_iter().flatten().flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
        links.filter(|link| link.to_string_lossy().starts_with("socket:")).count()
    }

    /// The most memory that was resident at once, bytes.
    pub(super) fn memory_peak(&self) -> u64 {
        self.running.usage().memory_peak
    }

    /// Whether it still runs.
    pub(super) fn runs(&mut self) -> bool {
        matches!(self.running.child().try_wait(), Ok(None))
    }

    /// Waits until connections are closed that nobody uses any more.
    pub(super) fn wait_until_idle(&self, socket_count: usize) -> Result<(), String> {
        let what = format!("{} connections are closed", self.socket_count());
        wait_until(&what, CLOSE_PATIENCE, || self.socket_count() <= socket_count + CONNECTIONS_LEFT_MAX)
    }

    /// Tells it to end, and waits until it has.
    pub(super) fn stop(&mut self) -> Result<(), String> {
        output(command("kill").args(["-TERM", &self.running.pid().to_string()]))?;
        let begun = Instant::now();
        while begun.elapsed() < STOP_PATIENCE {
            match self.running.child().try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => {
                    return Err(with_log(&format!("the gateway ended with {status}"), &self.log));
                }
                _ => thread::sleep(HEALTH_EVERY),
            }
        }
        Err("the gateway does not end when it is told to".to_owned())
    }

    /// The first line of its log that tells of a panic.
    pub(super) fn panic(&self) -> Option<String> {
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log).into_owned();
        log.lines().find(|line| line.contains("panicked")).map(str::to_owned)
    }
}

fn listening(printed: &Path) -> Option<SocketAddr> {
    let said: Value = serde_json::from_str(fs::read_to_string(printed).ok()?.lines().next()?).ok()?;
    said["endpoint"].as_str()?.strip_prefix("http://")?.parse().ok()
}

/// Asks `/healthz` again and again until it is told to stop; says how long it took at worst.
///
/// # Errors
/// When it took too long once, or was not what it should be.
pub(super) fn watch_health(address: SocketAddr, stop: &AtomicBool) -> Result<Duration, String> {
    let mut slowest = Duration::ZERO;
    let bytes = Request::new("GET", "/healthz", &address.to_string()).bytes();
    let patience = Patience { answer: HEALTH_MAX, surplus: Duration::ZERO, ..Patience::USUAL };
    while !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let said = exchange(address, &bytes, Ending::Answered, patience)?;
        let taken = begun.elapsed();
        slowest = slowest.max(taken);
        if said.answers.first().is_none_or(|answer| answer.status != 200) || taken > HEALTH_MAX {
            return Err(format!("/healthz did not answer within {} s", HEALTH_MAX.as_secs()));
        }
        thread::sleep(HEALTH_EVERY);
    }
    Ok(slowest)
}
