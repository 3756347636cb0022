//! How bytes reach peers: TCP with Noise and Yamux, and QUIC, under names that DNS resolves.

use std::time::Duration;

use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{Boxed, OrTransport};
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::{PeerId, Transport, dns, noise, quic, tcp, yamux};

/// Streams of one connection, by either side and of all protocols.
const STREAMS_PER_CONNECTION: usize = 512;

pub(crate) type Carrier = Boxed<(PeerId, StreamMuxerBox)>;

/// # Errors
/// Why there is no Noise key.
pub(crate) fn carrier(keypair: &Keypair, dial: Duration) -> Result<Carrier, noise::Error> {
    match dns::tokio::Transport::system(direct(keypair, dial)?) {
        Ok(named) => Ok(named.boxed()),
        Err(error) => {
            tracing::warn!(%error, "names are not resolved: the system's DNS settings can't be read");
            Ok(direct(keypair, dial)?.boxed())
        }
    }
}

/// The carriers that dial IP addresses.
fn direct(keypair: &Keypair, dial: Duration) -> Result<Carrier, noise::Error> {
    let mut yamux = yamux::Config::default();
    yamux.set_max_num_streams(STREAMS_PER_CONNECTION);
    let tcp = tcp::tokio::Transport::new(tcp::Config::new().nodelay(true))
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(keypair)?)
        .multiplex(yamux)
        .timeout(dial)
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    let mut settings = quic::Config::new(keypair);
    settings.handshake_timeout = dial;
    let quic =
        quic::tokio::Transport::new(settings).map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    Ok(OrTransport::new(quic, tcp).map(|either, _| either.into_inner()).boxed())
}
