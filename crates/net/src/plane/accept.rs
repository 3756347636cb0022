//! The serving side of the data plane: accepts connections and answers the calls on them, within the server's budgets.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use datamesh_core::id::NodeId;
use datamesh_core::limits::WIRE_HEADER_SIZE_MAX;
use datamesh_core::wire::{Message, Refusal, Request, Response};
use futures::AsyncWriteExt;
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::exchange::frame::{self, FrameError};
use crate::exchange::serve::{IDLE, Room, Server, Share};
use crate::identity::peer_of;
use crate::peers::Denied;
use crate::plane::CALLS_PER_LINK;
use crate::plane::half::{ReceiveHalf, SendHalf, halves};
use crate::plane::handshake::Credentials;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;
/// How often another free port is tried where the first one is taken on a second address.
const PORTS_TRIED_MAX: usize = 8;
/// How long accepting rests after the system refused, as it does when there are too many open files.
const REST: std::time::Duration = std::time::Duration::from_millis(100);

/// Accepts connections.
pub(crate) struct Acceptor {
    pub(crate) credentials: Credentials,
    pub(crate) server: Arc<Server>,
    pub(crate) denied: Denied,
    /// Connections that there may be.
    pub(crate) places: Arc<Semaphore>,
    pub(crate) dial: std::time::Duration,
    pub(crate) closing: CancellationToken,
}

/// An answer on its way out, and the room that it takes.
struct Answered {
    head: Vec<u8>,
    answer: Message<Response>,
    _room: Option<Room>,
    _place: Option<OwnedSemaphorePermit>,
}

/// Listens on one port of every IP address that libp2p listens on by TCP; 0 takes a free one. No listeners where there is no
/// such address.
///
/// # Errors
/// What the system says of the port.
pub(crate) fn listen(addresses: &[Multiaddr], port: u16) -> io::Result<Vec<TcpListener>> {
    let ips: BTreeSet<IpAddr> = addresses.iter().filter_map(tcp_ip).collect();
    let mut tried = 0;
    loop {
        tried += 1;
        match listen_on_all(&ips, port) {
            Err(error)
                if port == 0 && error.kind() == io::ErrorKind::AddrInUse && tried < PORTS_TRIED_MAX => {}
            outcome => return outcome,
        }
    }
}

fn listen_on_all(ips: &BTreeSet<IpAddr>, mut port: u16) -> io::Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    for ip in ips {
        let listener = listen_on(SocketAddr::new(*ip, port))?;
        port = listener.local_addr()?.port();
        listeners.push(listener);
    }
    Ok(listeners)
}

fn listen_on(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket.into())
}

fn tcp_ip(address: &Multiaddr) -> Option<IpAddr> {
    let mut parts = address.iter();
    let ip = match parts.next()? {
        Protocol::Ip4(ip) => ip.into(),
        Protocol::Ip6(ip) => ip.into(),
        _ => return None,
    };
    matches!(parts.next()?, Protocol::Tcp(_)).then_some(ip)
}

impl Acceptor {
    /// Accepts until the network closes.
    pub(crate) async fn run(self: Arc<Self>, listener: TcpListener) {
        let closing = self.closing.clone();
        closing.run_until_cancelled(self.accept(listener)).await;
    }

    async fn accept(self: &Arc<Self>, listener: TcpListener) {
        loop {
            // A place first, so that who comes when all are taken waits in the system's queue.
            let place = Arc::clone(&self.places).acquire_owned().await.expect("places are never closed");
            match listener.accept().await {
                Ok((socket, _)) => {
                    let acceptor = Arc::clone(self);
                    self.server.spawn(async move {
                        Box::pin(acceptor.welcome(socket)).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::debug!(%error, "no connection accepted");
                    tokio::time::sleep(REST).await;
                }
            }
        }
    }

    async fn welcome(&self, socket: TcpStream) {
        let secured = match timeout(self.dial, self.credentials.welcome(socket)).await {
            Ok(Ok(secured)) => secured,
            Err(_) => return,
            Ok(Err(error)) => {
                tracing::debug!(%error, "no handshake");
                return;
            }
        };
        let node = secured.node;
        let share = self.server.share(node);
        let Some(_place) = share.link_place() else { return };
        let closing = share.links_end().child_token();
        // After the token is there, so that who is denied from now on is disconnected by it.
        if self.denied.contains(&node) {
            return;
        }
        let (send, receive) = halves(secured);
        let (answers, waiting) = mpsc::channel(CALLS_PER_LINK);
        let sending = async {
            let sent = closing.run_until_cancelled(self.send(send, waiting)).await;
            closing.cancel();
            sent.unwrap_or(Ok(()))
        };
        let receiving = async {
            let served = closing.run_until_cancelled(self.serve(node, &share, receive, answers)).await;
            // What was asked is still answered, unless the connection is of no more use.
            if !matches!(served, Some(Ok(()))) {
                closing.cancel();
            }
            served.unwrap_or(Ok(()))
        };
        let (_, served) = tokio::join!(sending, receiving);
        if let Err(FrameError::Violation(violation)) = served {
            self.server.report(peer_of(&node), &violation);
        }
    }

    /// Reads calls until the peer ends the connection.
    async fn serve(
        &self,
        from: NodeId,
        share: &Share,
        mut half: ReceiveHalf,
        answers: mpsc::Sender<Answered>,
    ) -> Result<(), FrameError> {
        let stall = self.server.stall();
        let calls = Arc::new(Semaphore::new(CALLS_PER_LINK));
        loop {
            // It is not idle while calls are answered, however long that takes.
            let answering = || calls.available_permits() < CALLS_PER_LINK;
            let Some(number) = frame::await_number(&mut half, IDLE, answering).await? else {
                return Ok(());
            };
            let size = frame::read_header_size(&mut half, WIRE_HEADER_SIZE_MAX, stall).await?;
            let size = size.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
            let Some(header_room) = self.server.room(share, size).await else {
                // What follows can't even be skipped without its header.
                return Err(FrameError::Stalled);
            };
            let (header, payload_size) = frame::read_header::<Request>(&mut half, size, stall).await?;
            drop(header_room);
            let place = Arc::clone(&calls).try_acquire_owned().ok();
            let room = match &place {
                Some(_) => self.server.message_room(share, &header, size + payload_size).await,
                None => None,
            };
            let (Some(room), Some(place)) = (room, place) else {
                frame::skip_payload(&mut half, payload_size, stall).await?;
                self.server.count_refusal();
                let busy = Message::bare(Response::Refused(Refusal::Busy));
                deliver(&answers, number, busy, None, None).await;
                continue;
            };
            let payload = frame::read_payload(&mut half, payload_size, self.server.buffers(), stall).await?;
            self.server.count_request(size + payload_size);
            let (server, answers, closing) =
                (Arc::clone(&self.server), answers.clone(), self.closing.clone());
            let answering = async move {
                match server.answer(from, Message { header, payload }).await {
                    Ok(answer) => deliver(&answers, number, answer, Some(room), Some(place)).await,
                    Err(violation) => server.report(peer_of(&from), &violation),
                }
            };
            self.server.spawn(async move {
                closing.run_until_cancelled(answering).await;
            });
        }
    }

    /// Sends answers as they are ready. What is ready while others are being sent leaves together with them.
    async fn send(
        &self,
        mut half: SendHalf,
        mut answers: mpsc::Receiver<Answered>,
    ) -> Result<(), FrameError> {
        let stall = self.server.stall();
        while let Some(first) = answers.recv().await {
            let mut next = Some(first);
            while let Some(answered) = next {
                let size = frame::push(&mut half, &answered.head, &answered.answer.payload, stall).await?;
                self.server.count_answer(size);
                drop(answered);
                next = answers.try_recv().ok();
            }
            frame::flush(&mut half, stall).await?;
            half.rest();
        }
        half.close().await?;
        Ok(())
    }
}

async fn deliver(
    answers: &mpsc::Sender<Answered>,
    number: u32,
    answer: Message<Response>,
    room: Option<Room>,
    place: Option<OwnedSemaphorePermit>,
) {
    let head = frame::head(&number.to_le_bytes(), &answer);
    // When the connection has ended, nobody waits for the answer.
    let _ = answers.send(Answered { head, answer, _room: room, _place: place }).await;
}
