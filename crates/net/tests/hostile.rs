//! A peer that breaks the protocol is disconnected, then denied, and costs no memory.
//!
//! The hostile peer is libp2p's own request-response behaviour with a codec that sends whatever bytes it is given, which
//! also shows that a stock request-response peer is understood.

mod common;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use datamesh_core::encode::{decode, encode};
use datamesh_core::id::{OwnerId, ShardId};
use datamesh_core::lease::{Lease, LeaseTag};
use datamesh_core::limits::{MIB, WIRE_HEADER_SIZE_MAX, WIRE_PAYLOAD_SIZE_MAX};
use datamesh_core::manifest::Stripe;
use datamesh_core::sign::Signed;
use datamesh_core::time::Epoch;
use datamesh_core::topology::{FailureDomain, NodeRecord, NodeState, Role};
use datamesh_core::wire::{Message, PROTOCOL, Request, Response, StoreRequest, StoredItem};
use datamesh_engine::world::{CallError, Peers};
use datamesh_net::{Identity, Multiaddr, Network, peer_of};
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt};
use libp2p::request_response::{self, Codec, OutboundFailure, ProtocolSupport};
use libp2p::swarm::SwarmEvent;
use libp2p::{PeerId, StreamProtocol, Swarm, SwarmBuilder, noise, tcp, yamux};
use tokio::time::timeout;

use common::{Memory, PATIENCE, client_settings, launch, launch_with, node_settings, resident, until};

/// Held by each test: those that measure memory must be alone in the process.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// What the hostile peer sends: bytes, and whether it then waits with the stream open.
#[derive(Debug, Clone)]
enum Raw {
    Ended(Vec<u8>),
    Open(Vec<u8>),
}

#[derive(Clone, Default)]
struct RawCodec;

impl Codec for RawCodec {
    type Protocol = StreamProtocol;
    type Request = Raw;
    type Response = Vec<u8>;

    async fn read_request<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        _: &mut T,
    ) -> io::Result<Raw> {
        // Whatever is asked, it answers at once.
        Ok(Raw::Ended(Vec::new()))
    }

    async fn read_response<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        stream: &mut T,
    ) -> io::Result<Vec<u8>> {
        let mut answer = Vec::new();
        stream.take(1 << 20).read_to_end(&mut answer).await?;
        if answer.is_empty() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(answer) }
    }

    async fn write_request<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        stream: &mut T,
        request: Raw,
    ) -> io::Result<()> {
        match request {
            Raw::Ended(bytes) => stream.write_all(&bytes).await,
            Raw::Open(bytes) => {
                stream.write_all(&bytes).await?;
                stream.flush().await?;
                futures::future::pending().await
            }
        }
    }

    async fn write_response<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        stream: &mut T,
        answer: Vec<u8>,
    ) -> io::Result<()> {
        stream.write_all(&answer).await
    }
}

struct Hostile {
    swarm: Swarm<request_response::Behaviour<RawCodec>>,
    target: PeerId,
    address: Multiaddr,
}

fn raw_swarm() -> Swarm<request_response::Behaviour<RawCodec>> {
    let behaviour = request_response::Behaviour::with_codec(
        RawCodec,
        [(StreamProtocol::new(PROTOCOL), ProtocolSupport::Full)],
        request_response::Config::default().with_request_timeout(Duration::from_secs(60)),
    );
    SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .expect("a transport")
        .with_behaviour(|_| behaviour)
        .expect("a behaviour")
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(60)))
        .build()
}

/// A node that gives this answer to everything. Returns where it listens.
async fn lying_node(answer: Vec<u8>) -> (Multiaddr, PeerId) {
    let mut swarm = raw_swarm();
    let own = *swarm.local_peer_id();
    swarm.listen_on(common::loopback()).expect("listens");
    let address = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            break address;
        }
    };
    tokio::spawn(async move {
        loop {
            if let SwarmEvent::Behaviour(request_response::Event::Message { message, .. }) =
                swarm.select_next_some().await
                && let request_response::Message::Request { channel, .. } = message
            {
                // Whoever asked may have gone.
                let _ = swarm.behaviour_mut().send_response(channel, answer.clone());
            }
        }
    });
    (address, own)
}

impl Hostile {
    fn against(node: &Network) -> Self {
        let swarm = raw_swarm();
        let target = peer_of(&node.node());
        Self { swarm, target, address: node.listen_addresses().remove(0) }
    }

    fn begin(&mut self, request: Raw) {
        let addresses = vec![self.address.clone()];
        self.swarm.behaviour_mut().send_request_with_addresses(&self.target, request, addresses);
    }

    /// Sends bytes and returns what comes back, or why nothing does.
    async fn send(&mut self, bytes: Vec<u8>) -> Result<Vec<u8>, OutboundFailure> {
        self.begin(Raw::Ended(bytes));
        timeout(PATIENCE, self.outcome()).await.expect("an outcome in time")
    }

    async fn outcome(&mut self) -> Result<Vec<u8>, OutboundFailure> {
        loop {
            match self.swarm.select_next_some().await {
                SwarmEvent::Behaviour(request_response::Event::Message { message, .. }) => match message {
                    request_response::Message::Response { response, .. } => return Ok(response),
                    request_response::Message::Request { .. } => panic!("nobody asks the hostile peer"),
                },
                SwarmEvent::Behaviour(request_response::Event::OutboundFailure { error, .. }) => {
                    return Err(error);
                }
                _ => {}
            }
        }
    }

    /// Lets the hostile peer act for a while.
    async fn act(&mut self, duration: Duration) {
        let _ = timeout(duration, async {
            loop {
                self.swarm.select_next_some().await;
            }
        })
        .await;
    }
}

fn framed(header: &[u8], payload_size: usize) -> Vec<u8> {
    let length = |size: usize| u32::try_from(size).expect("fits").to_le_bytes();
    [&length(header.len())[..], header, &length(payload_size)].concat()
}

fn store_header() -> Vec<u8> {
    let key = ed25519_dalek::SigningKey::from_bytes(&[3; 32]);
    let shards = vec![ShardId::of(b"shard"); 2];
    let redundancy = (1, 1).try_into().expect("a redundancy");
    let stripe = Stripe { redundancy, sealed_size: 4 << 20, shards };
    let item = StoredItem::Shard { index: 0, stripe };
    let lease = Lease {
        owner: OwnerId::from_bytes(key.verifying_key().to_bytes()),
        tag: LeaseTag::from_bytes([0; 16]),
        subject: item.subject(),
        until: Epoch::NEVER,
    };
    encode(&Request::Store(StoreRequest { item, lease: Signed::sign(lease, &key) }))
}

fn status_request() -> Vec<u8> {
    framed(&encode(&Request::Status), 0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stock_request_response_peer_is_answered() {
    let _alone = ALONE.lock().await;
    let (node, _) = launch(node_settings("a", vec![])).await;
    let mut peer = Hostile::against(&node);
    for _ in 0..3 {
        let answer = peer.send(status_request()).await.expect("answered");
        let header = &answer[4..answer.len() - 4];
        let status: Response = decode(header).expect("a response");
        assert!(matches!(status, Response::Status(status) if status.node == node.node()));
    }
    assert_eq!(node.counters().violations, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_and_oversized_frames_end_the_connection_and_cost_no_memory() {
    let _alone = ALONE.lock().await;
    let too_long = u32::try_from(WIRE_HEADER_SIZE_MAX + 1).expect("fits").to_le_bytes().to_vec();
    let frames = [
        ("a header of 4 GiB", u32::MAX.to_le_bytes().to_vec()),
        ("a header one byte too long", too_long),
        (
            "a payload of 4 GiB",
            [&framed(&store_header(), 0)[..store_header().len() + 4], &[0xff; 4]].concat(),
        ),
        ("a payload one byte too long", framed(&store_header(), WIRE_PAYLOAD_SIZE_MAX + 1)),
        ("a payload where none belongs", framed(&encode(&Request::Status), 1)),
        ("a header that is none", framed(b"\xff\xff\xff", 0)),
        ("an answer for a request", framed(&encode(&Response::Found), 0)),
    ];
    let (node, _) = launch(node_settings("a", vec![])).await;
    // What a connection costs at all is taken before the measurement.
    Hostile::against(&node).send(status_request()).await.expect("answered");
    let before = resident();
    for (number, (what, bytes)) in frames.into_iter().enumerate() {
        let mut hostile = Hostile::against(&node);
        let outcome = hostile.send(bytes).await;
        assert!(outcome.is_err(), "{what}: {outcome:?}");
        let count = u64::try_from(number + 1).expect("fits");
        until(what, async || node.counters().violations == count).await;
        until("disconnected", async || {
            hostile.act(Duration::from_millis(20)).await;
            !hostile.swarm.is_connected(&hostile.target)
        })
        .await;
    }
    let grown = resident().saturating_sub(before);
    println!("resident memory grew by {grown} bytes");
    assert!(grown < 8 * MIB, "{grown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_goes_on_is_denied_for_a_while() {
    let _alone = ALONE.lock().await;
    let mut settings = node_settings("a", vec![]);
    settings.limits.violations = 3;
    settings.limits.denial = Duration::from_secs(2);
    let (node, _) = launch(settings).await;
    let mut hostile = Hostile::against(&node);
    for count in 1..=3 {
        hostile.send(u32::MAX.to_le_bytes().to_vec()).await.expect_err("broken");
        until("noticed", async || node.counters().violations == count).await;
        until("disconnected", async || {
            hostile.act(Duration::from_millis(20)).await;
            !hostile.swarm.is_connected(&hostile.target)
        })
        .await;
    }
    assert_eq!(node.counters().denials, 1);
    hostile.send(status_request()).await.expect_err("denied");
    let mut other = Hostile::against(&node);
    other.send(status_request()).await.expect("others are answered");
    tokio::time::sleep(Duration::from_secs(2)).await;
    until("pardoned", async || hostile.send(status_request()).await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promised_payloads_that_never_come_starve_nobody_else() {
    let _alone = ALONE.lock().await;
    let memory = Arc::new(Memory::default());
    let (node, _) = launch_with(node_settings("a", vec![]), memory).await;
    let (honest, _) = launch(client_settings(node.listen_addresses())).await;
    honest.joined(PATIENCE).await.expect("joined");
    let mut hostile = Hostile::against(&node);
    hostile.send(status_request()).await.expect("answered");
    let before = resident();
    for _ in 0..64 {
        hostile.begin(Raw::Open(framed(&store_header(), WIRE_PAYLOAD_SIZE_MAX)));
    }
    hostile.act(Duration::from_secs(1)).await;
    let reserved = 32 * MIB - node.inbound_bytes_free();
    println!("{reserved} bytes are reserved for payloads of 256 MiB that never come");
    assert!((WIRE_PAYLOAD_SIZE_MAX..=16 * MIB).contains(&reserved), "its share and no more: {reserved}");
    let grown = resident().saturating_sub(before);
    assert!(grown < 32 * MIB, "{grown}");
    let answer = honest.call(node.node(), Message::bare(Request::Status)).await.expect("answered");
    assert!(matches!(answer.header, Response::Status(_)));

    drop(hostile);
    until("all is given back", async || node.inbound_bytes_free() == 32 * MIB).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_node_record_is_refused() {
    let _alone = ALONE.lock().await;
    let (node, _) = launch(node_settings("a", vec![])).await;
    let identity = Identity::generate().expect("entropy");
    let record = NodeRecord {
        node: identity.node(),
        sequence: 1,
        addresses: vec![],
        role: Role::Storage,
        state: NodeState::Active,
        domain: FailureDomain::alone("honest"),
        capacity: 1,
        grace_s: 14_400,
        software: "test".into(),
    };
    let genuine = encode(&Request::Announce(vec![Signed::sign(record, identity.signing_key())]));
    let mut forged = genuine.clone();
    let at = forged.windows(6).position(|window| window == b"honest").expect("the host");
    forged[at] = b'H';

    let mut hostile = Hostile::against(&node);
    hostile.send(framed(&forged, 0)).await.expect_err("refused");
    until("noticed", async || node.counters().violations == 1).await;
    assert_eq!(node.topology().len(), 1);

    let answer = Hostile::against(&node).send(framed(&genuine, 0)).await.expect("the genuine one is learned");
    assert_eq!(decode::<Response>(&answer[4..answer.len() - 4]), Ok(Response::Learned { record_count: 1 }));
    assert_eq!(node.topology().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_answers_with_what_is_no_answer_is_found_out() {
    let _alone = ALONE.lock().await;
    let found = framed(&encode(&Response::Found), 0).len() - 4;
    let answers = [
        ("a header of 4 GiB", u32::MAX.to_le_bytes().to_vec()),
        ("a payload of 4 GiB", [&framed(&encode(&Response::Found), 0)[..found], &[0xff; 4]].concat()),
        ("an answer to another question", framed(&encode(&Response::Absent), 0)),
        ("a payload where none belongs", framed(&encode(&Response::Absent), 9)),
        ("garbage", framed(b"\xff\xff", 0)),
    ];
    for (what, answer) in answers {
        let (address, liar) = lying_node(answer).await;
        let (client, _) = launch(client_settings(vec![address])).await;
        let error = client.joined(Duration::from_secs(1)).await.expect_err("it is no node");
        assert!(error.to_string().contains("broke the protocol"), "{what}: {error}");
        until(what, async || client.counters().denials == 1).await;
        let liar = datamesh_net::node_of(&liar).expect("a key");
        let call = client.call(liar, Message::bare(Request::Status)).await;
        assert!(matches!(call, Err(CallError::Unreachable { .. })), "{what}: {call:?}");
    }
}
