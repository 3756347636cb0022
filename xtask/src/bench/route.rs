//! The route between those who hold and those who read: loopback, or a link between two network namespaces.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;

use super::process::{bound, command};

/// The state of a listening and of an established socket, as `/proc/net/tcp` writes them.
const LISTENING: &str = "0A";
const ESTABLISHED: &str = "01";

/// One end of a route.
#[derive(Debug, Clone)]
pub(super) struct Side {
    /// A process in its network namespace; `None` for this program's own.
    pub(super) namespace: Option<u32>,
    /// Its address.
    pub(super) address: Ipv4Addr,
}

/// A TCP socket, its addresses as `/proc/net/tcp` writes them: each ends in a colon and the port in hexadecimal digits.
struct Socket {
    local: String,
    remote: String,
}

impl Side {
    /// A command that runs on this side.
    pub(super) fn command(&self, program: &str) -> Command {
        self.entered(program, |program| command(program))
    }

    /// The same, killed when this program ends in whatever way, where the system can do that.
    pub(super) fn bound(&self, program: &str) -> Command {
        self.entered(program, bound)
    }

    fn entered(&self, program: &str, make: impl Fn(&str) -> Command) -> Command {
        let Some(pid) = self.namespace else { return make(program) };
        let mut command = make("nsenter");
        command.arg(format!("--net=/proc/{pid}/ns/net")).arg("--").arg(program);
        command
    }

    /// Whether anything listens on this port here.
    pub(super) fn listens(&self, port: u16) -> bool {
        let wanted = format!(":{port:04X}");
        self.sockets(LISTENING).any(|socket| socket.local.ends_with(&wanted))
    }

    /// How many TCP connections lead out of this side or into it, to others than these ports.
    pub(super) fn connection_count_but(&self, ports: &[u16]) -> usize {
        let others: Vec<String> = ports.iter().map(|port| format!(":{port:04X}")).collect();
        let counts = |socket: &Socket| !others.iter().any(|port| socket.remote.ends_with(port));
        self.sockets(ESTABLISHED).filter(counts).count()
    }

    /// The sockets in this state.
    fn sockets(&self, state: &str) -> impl Iterator<Item = Socket> {
        let process = self.namespace.map_or_else(|| "self".to_owned(), |pid| pid.to_string());
        let table =
            |name: &str| fs::read_to_string(format!("/proc/{process}/net/{name}")).unwrap_or_default();
        let lines = format!("{}\n{}", table("tcp"), table("tcp6"));
        let socket = |line: &str| {
            let mut fields = line.split_whitespace().skip(1);
            let (local, remote, found) = (fields.next()?, fields.next()?, fields.next()?);
            (found == state).then(|| Socket { local: local.to_owned(), remote: remote.to_owned() })
        };
        lines.lines().filter_map(socket).collect::<Vec<_>>().into_iter()
    }
}

/// Both ends.
#[derive(Debug, Clone)]
pub(super) struct Route {
    /// Where nodes and servers run.
    pub(super) holders: Side,
    /// Where clients run.
    pub(super) reader: Side,
}

impl Route {
    /// Both on this machine as it is.
    pub(super) fn loopback() -> Self {
        let side = Side { namespace: None, address: Ipv4Addr::LOCALHOST };
        Self { holders: side.clone(), reader: side }
    }
}

/// A TCP port that nothing listened on a moment ago.
pub(super) fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let address = listener.and_then(|listener| listener.local_addr());
    address.map(|address| address.port()).map_err(|error| format!("no free port: {error}"))
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener, TcpStream};

    use super::{ESTABLISHED, Route, free_port};

    #[test]
    fn a_port_listens_and_is_connected_only_while_somebody_does_and_is() {
        let side = Route::loopback().reader;
        let port = free_port().expect("there is one");
        // Others connect and listen meanwhile, so only this port is looked at.
        let connected = || {
            let wanted = format!(":{port:04X}");
            side.sockets(ESTABLISHED).any(|socket| socket.local.ends_with(&wanted))
        };
        assert!(!side.listens(port) && !connected());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("it is free");
        assert!(side.listens(port) && !connected());
        let _stream = TcpStream::connect(listener.local_addr().expect("it has one")).expect("it listens");
        assert!(connected() && side.connection_count_but(&[]) > 0);
    }
}
