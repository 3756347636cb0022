//! How bytes reach peers: TCP with Noise and Yamux, and QUIC, under names that DNS resolves.
//!
//! In a private or restricted mesh there is no QUIC: nothing of the mesh's own can be bound to the handshake that libp2p does there.

use std::time::Duration;

use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{Boxed, OrTransport};
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId, Transport, dns, noise, quic, tcp, yamux};

use crate::mesh_key::MeshKey;
use crate::network::StartError;

/// Streams of one connection, by either side and of all protocols.
const STREAMS_PER_CONNECTION: usize = 512;

pub(crate) type Carrier = Boxed<(PeerId, StreamMuxerBox)>;

/// # Errors
/// Why there is no Noise key.
pub(crate) fn carrier(
    keypair: &Keypair,
    key: Option<&MeshKey>,
    dial: Duration,
) -> Result<Carrier, noise::Error> {
    match dns::tokio::Transport::system(direct(keypair, key, dial)?) {
        Ok(named) => Ok(named.boxed()),
        Err(error) => {
            tracing::warn!(%error, "names are not resolved: the system's DNS settings can't be read");
            Ok(direct(keypair, key, dial)?.boxed())
        }
    }
}

/// The carriers that dial IP addresses.
fn direct(keypair: &Keypair, key: Option<&MeshKey>, dial: Duration) -> Result<Carrier, noise::Error> {
    let mut yamux = yamux::Config::default();
    yamux.set_max_num_streams(STREAMS_PER_CONNECTION);
    // Whoever hashes something else into the handshake fails it, and learns that first where it was the one who dialled.
    let noise = noise::Config::new(keypair)?.with_prologue(key.map(MeshKey::prologue).unwrap_or_default());
    let tcp = tcp::tokio::Transport::new(tcp::Config::new().nodelay(true))
        .upgrade(Version::V1Lazy)
        .authenticate(noise)
        .multiplex(yamux)
        .timeout(dial)
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    if key.is_some() {
        return Ok(tcp.boxed());
    }
    let mut settings = quic::Config::new(keypair);
    settings.handshake_timeout = dial;
    let quic =
        quic::tokio::Transport::new(settings).map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    Ok(OrTransport::new(quic, tcp).map(|either, _| either.into_inner()).boxed())
}

/// A private or restricted mesh listens on TCP alone: nothing of its charter can be bound to the handshake of QUIC.
///
/// # Errors
/// [`StartError::Listen`] for the first address that is of QUIC.
pub(crate) fn refuse_quic(addresses: &[Multiaddr]) -> Result<(), StartError> {
    let is_quic =
        |address: &&Multiaddr| address.iter().any(|part| matches!(part, Protocol::Quic | Protocol::QuicV1));
    match addresses.iter().find(is_quic) {
        Some(address) => {
            let why = "a private or restricted mesh speaks no QUIC: name a TCP address".to_owned();
            Err(StartError::Listen { address: address.clone(), why })
        }
        None => Ok(()),
    }
}
