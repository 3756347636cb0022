//! Raw TCP on the same route, as iperf3 measures it.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::figures::GIB;
use super::process::{Running, output, wait_until};
use super::route::{Route, free_port};

const START_DEADLINE: Duration = Duration::from_secs(5);

/// Which way the bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// As in a get.
    ToReader,
    /// As in a put.
    ToHolders,
}

/// What raw TCP does.
#[derive(Debug, Clone, Copy)]
pub(super) struct Raw {
    /// Bytes per second.
    pub(super) rate: f64,
    /// Processor seconds per GiB, both ends.
    pub(super) cpu_per_gib: f64,
}

/// Measures raw TCP.
///
/// # Errors
/// When iperf3 can't be run, or ends with an error.
pub(super) fn measure(
    route: &Route,
    direction: Direction,
    connections: usize,
    duration: Duration,
) -> Result<Raw, String> {
    let (address, port) = (route.holders.address.to_string(), free_port()?.to_string());
    let mut server = route.holders.bound("iperf3");
    server.args(["--server", "--one-off", "--bind", &address, "--port", &port]);
    let server = Running::start(&mut server)?;
    let begun = Instant::now();
    let number: u16 = port.parse().expect("it is the port from above");
    wait_until("iperf3 listens", START_DEADLINE, || route.holders.listens(number))?;

    let (seconds, connections) = (duration.as_secs().max(1).to_string(), connections.to_string());
    let mut client = route.reader.command("iperf3");
    client.args([
        "--client",
        &address,
        "--port",
        &port,
        "--time",
        &seconds,
        "--parallel",
        &connections,
        "--json",
    ]);
    if direction == Direction::ToReader {
        client.arg("--reverse");
    }
    let text = output(client.stderr(Stdio::null()))?;
    let server = server.finish(begun, || ())?;
    let report: Value = serde_json::from_str(&text).map_err(|error| format!("iperf3's report: {error}"))?;
    let end = |path: &str| {
        let value = report.pointer(&format!("/end/{path}")).and_then(Value::as_f64);
        value.ok_or_else(|| format!("iperf3's report has no {path}"))
    };
    let (bits, bytes) = (end("sum_received/bits_per_second")?, end("sum_received/bytes")?);
    // The client tells its own use as a share of one core.
    let client = end("cpu_utilization_percent/host_total")? / 100.0 * end("sum_received/seconds")?;
    let cpu_per_gib = (client + server.usage.cpu.as_secs_f64()) * GIB / bytes.max(1.0);
    Ok(Raw { rate: bits / 8.0, cpu_per_gib })
}
