//! The TLS handshake: both ends show certificates that are signed by their libp2p identities.

use std::io::{self, Read, Write};
use std::sync::Arc;

use datamesh_core::id::NodeId;
use libp2p::identity::Keypair;
use libp2p::tls::certificate;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::cipher_suite::{TLS13_AES_128_GCM_SHA256, TLS13_CHACHA20_POLY1305_SHA256};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, Connection, DigitallySignedStruct, DistinguishedName,
    ServerConfig, ServerConnection, SignatureScheme, version::TLS13,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::identity::node_of;
use crate::mesh_key::{End, MeshKey, PROOF_SIZE};
use crate::plane::record::{Opening, RecordError, Sealing, record_size};
use crate::plane::{PRIVATE_PROTOCOL, PROTOCOL};

/// A name must be given to rustls; nothing is decided by it.
const SERVER_NAME: &str = "datamesh";
/// What separates the bytes that a connection exports for the proof from any others it may export (RFC 8446, section 7.5).
const EXPORT_LABEL: &[u8] = b"EXPERIMENTAL datamesh private mesh";
/// A congestion control that sets no timers between packets: where nothing is ever full these cost a get an eighth of its
/// processor time.
const UNPACED: &str = "cubic";

/// Why there is no secure connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error("{0}")]
    Socket(#[from] io::Error),
    #[error("{0}")]
    Tls(#[from] rustls::Error),
    #[error("{0}")]
    Record(#[from] RecordError),
    #[error("peer has no identity that is known here")]
    Identity,
    #[error("peer does not know the secret of this private mesh")]
    Stranger,
}

/// A connection whose other end is known, and what of its data has arrived already.
pub(crate) struct Secured {
    pub(crate) node: NodeId,
    pub(crate) socket: TcpStream,
    pub(crate) sealing: Sealing,
    pub(crate) opening: Opening,
    pub(crate) arrived: Vec<u8>,
}

/// What this participant shakes hands with.
#[derive(Clone)]
pub(crate) struct Credentials {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    congestion: Option<Arc<str>>,
    key: Option<MeshKey>,
}

impl Credentials {
    /// # Errors
    /// Why there is no certificate.
    pub(crate) fn new(
        keypair: &Keypair,
        key: Option<MeshKey>,
        congestion: Option<String>,
    ) -> Result<Self, String> {
        let protocol = if key.is_some() { PRIVATE_PROTOCOL } else { PROTOCOL };
        let (certificate, private) = certificate::generate(keypair).map_err(|error| error.to_string())?;
        let why = |error: rustls::Error| error.to_string();
        let (provider, verifier) = (Arc::new(provider()), Arc::new(Libp2pVerifier));
        // Given to rustls as a resolver, because it reads no certificate with an extension that it doesn't know.
        let signing = provider.key_provider.load_private_key(private).map_err(why)?;
        let own = Arc::new(SingleCertAndKey::from(CertifiedKey::new(vec![certificate], signing)));
        let client = ClientConfig::builder_with_provider(Arc::clone(&provider));
        let client = client.with_protocol_versions(&[&TLS13]).map_err(why)?.dangerous();
        let client = client.with_custom_certificate_verifier(verifier.clone());
        let mut client = client.with_client_cert_resolver(own.clone());
        client.alpn_protocols = vec![protocol.to_vec()];
        client.enable_secret_extraction = true;
        client.resumption = rustls::client::Resumption::disabled();
        let server = ServerConfig::builder_with_provider(provider);
        let server = server.with_protocol_versions(&[&TLS13]).map_err(why)?;
        let mut server = server.with_client_cert_verifier(verifier).with_cert_resolver(own);
        server.alpn_protocols = vec![protocol.to_vec()];
        server.enable_secret_extraction = true;
        // Sessions aren't resumed, and only data may follow the handshake.
        server.send_tls13_tickets = 0;
        Ok(Self {
            client: Arc::new(client),
            server: Arc::new(server),
            congestion: congestion.map(Into::into),
            key,
        })
    }

    /// Shakes hands with whom this participant has dialled. The caller compares the node with whom it wanted.
    pub(crate) async fn greet(&self, socket: TcpStream) -> Result<Secured, HandshakeError> {
        self.prepare(&socket)?;
        let name = ServerName::try_from(SERVER_NAME).expect("it is a name");
        let connection = ClientConnection::new(Arc::clone(&self.client), name)?;
        shake_hands(socket, connection.into(), self.key.as_ref()).await
    }

    /// Shakes hands with who has dialled.
    pub(crate) async fn welcome(&self, socket: TcpStream) -> Result<Secured, HandshakeError> {
        self.prepare(&socket)?;
        let connection = ServerConnection::new(Arc::clone(&self.server))?;
        shake_hands(socket, connection.into(), self.key.as_ref()).await
    }

    /// Sets what both ends set on their sockets: no waiting for more to send, and, unless it is left to the system, congestion
    /// control: on the way to other machines one that a lost packet doesn't stop, within this one one that sends at once.
    fn prepare(&self, socket: &TcpStream) -> io::Result<()> {
        socket.set_nodelay(true)?;
        if let Some(congestion) = &self.congestion {
            let loopback = socket.peer_addr()?.ip().is_loopback();
            choose_congestion(socket, if loopback { UNPACED } else { congestion });
        }
        Ok(())
    }
}

#[cfg(target_os = "linux")]
fn choose_congestion(socket: &TcpStream, name: &str) {
    if let Err(error) = socket2::SockRef::from(socket).set_tcp_congestion(name.as_bytes()) {
        tracing::debug!(%error, name, "the kernel keeps its own congestion control");
    }
}

#[cfg(not(target_os = "linux"))]
fn choose_congestion(_: &TcpStream, _: &str) {}

/// The fastest cipher of this processor first. The end that dials decides.
fn provider() -> CryptoProvider {
    let mut suites = vec![TLS13_AES_128_GCM_SHA256, TLS13_CHACHA20_POLY1305_SHA256];
    if !encrypts_aes() {
        suites.reverse();
    }
    CryptoProvider { cipher_suites: suites, ..rustls::crypto::aws_lc_rs::default_provider() }
}

#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
fn encrypts_aes() -> bool {
    std::arch::is_x86_feature_detected!("aes")
}

#[cfg(target_arch = "aarch64")]
fn encrypts_aes() -> bool {
    std::arch::is_aarch64_feature_detected!("aes")
}

#[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
fn encrypts_aes() -> bool {
    false
}

async fn shake_hands(
    mut socket: TcpStream,
    mut connection: Connection,
    key: Option<&MeshKey>,
) -> Result<Secured, HandshakeError> {
    let mut arrived = Vec::new();
    loop {
        send_pending(&mut socket, &mut connection).await?;
        if !connection.is_handshaking() {
            break;
        }
        take_record(&mut socket, &mut connection, &mut arrived).await?;
    }
    let certificate = connection.peer_certificates().and_then(|chain| chain.first());
    let certificate = certificate.ok_or(HandshakeError::Identity)?;
    let parsed = certificate::parse(certificate).map_err(|_| HandshakeError::Identity)?;
    let node = node_of(&parsed.peer_id()).ok_or(HandshakeError::Identity)?;
    if let Some(key) = key {
        prove(&mut socket, &mut connection, &mut arrived, key).await?;
    }
    let secrets = connection.dangerous_extract_secrets()?;
    let sealing = Sealing::new(secrets.tx).ok_or(HandshakeError::Identity)?;
    let opening = Opening::new(secrets.rx).ok_or(HandshakeError::Identity)?;
    Ok(Secured { node, socket, sealing, opening, arrived })
}

/// Shows the other end that this one knows the mesh secret, and has it show the same, before anything else is said. What is shown
/// holds for this connection alone: whoever sits between two has another connection with each.
async fn prove(
    socket: &mut TcpStream,
    connection: &mut Connection,
    arrived: &mut Vec<u8>,
    key: &MeshKey,
) -> Result<(), HandshakeError> {
    let end = match connection {
        Connection::Client(_) => End::Dialler,
        Connection::Server(_) => End::Acceptor,
    };
    let exported = connection.export_keying_material([0; PROOF_SIZE], EXPORT_LABEL, None)?;
    connection.writer().write_all(key.proof(&exported, end).as_bytes())?;
    send_pending(socket, connection).await?;
    take_record(socket, connection, arrived).await?;
    let mut shown = [0; PROOF_SIZE];
    let whole = connection.reader().read_exact(&mut shown).is_ok();
    // Compared in constant time, as hashes are.
    let known = whole && key.proof(&exported, end.other()) == shown;
    if known { Ok(()) } else { Err(HandshakeError::Stranger) }
}

/// Gives rustls one record of the peer's, so that nothing behind the handshake is taken by it.
async fn take_record(
    socket: &mut TcpStream,
    connection: &mut Connection,
    arrived: &mut Vec<u8>,
) -> Result<(), HandshakeError> {
    let size = whole_record(socket, arrived).await?;
    let mut record = &arrived[..size];
    while !record.is_empty() {
        connection.read_tls(&mut record)?;
        if let Err(error) = connection.process_new_packets() {
            // The peer is told why; whether it still listens doesn't matter.
            let _ = send_pending(socket, connection).await;
            return Err(error.into());
        }
    }
    arrived.drain(..size);
    Ok(())
}

async fn send_pending(socket: &mut TcpStream, connection: &mut Connection) -> io::Result<()> {
    let mut out = Vec::new();
    while connection.wants_write() {
        connection.write_tls(&mut out)?;
    }
    socket.write_all(&out).await
}

/// Reads until a whole record is there and says how long it is. What is kept never exceeds two records.
async fn whole_record(socket: &mut TcpStream, arrived: &mut Vec<u8>) -> Result<usize, HandshakeError> {
    loop {
        match record_size(arrived)? {
            Some(size) if size <= arrived.len() => return Ok(size),
            _ => {}
        }
        if socket.read_buf(arrived).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    }
}

/// Accepts whoever proves to hold the key of a libp2p identity, as the libp2p TLS specification says.
#[derive(Debug)]
struct Libp2pVerifier;

fn check_chain(own: &CertificateDer<'_>, others: &[CertificateDer<'_>]) -> Result<(), rustls::Error> {
    if !others.is_empty() {
        return Err(CertificateError::BadEncoding.into());
    }
    certificate::parse(own).map(|_| ()).map_err(|_| CertificateError::BadSignature.into())
}

fn check_signature(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, rustls::Error> {
    let bad = || rustls::Error::from(CertificateError::BadSignature);
    let parsed = certificate::parse(certificate).map_err(|_| bad())?;
    parsed.verify_signature(signed.scheme, message, signed.signature()).map_err(|_| bad())?;
    Ok(HandshakeSignatureValid::assertion())
}

const SCHEMES: [SignatureScheme; 3] = [
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::ED25519,
];

impl ServerCertVerifier for Libp2pVerifier {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        check_chain(own, others).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("only TLS 1.3 is spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        check_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        SCHEMES.to_vec()
    }
}

impl ClientCertVerifier for Libp2pVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        check_chain(own, others).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("only TLS 1.3 is spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        check_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        SCHEMES.to_vec()
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpStream};

    use super::{Credentials, HandshakeError, Secured};
    use crate::identity::Identity;
    use crate::mesh_key::MeshKey;

    type Shaken = Result<Secured, HandshakeError>;

    /// Both ends of one connection, whose ends know these secrets.
    async fn shake(dialler: Option<u8>, acceptor: Option<u8>) -> (Shaken, Shaken) {
        let credentials = |secret: Option<u8>| {
            let key = secret.map(|byte| MeshKey::of_secret(&[byte; 32]));
            let identity = Identity::generate().expect("entropy");
            Credentials::new(&identity.keypair(), key, None).expect("a certificate")
        };
        let (dialler, acceptor) = (credentials(dialler), credentials(acceptor));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let accepting = async { acceptor.welcome(listener.accept().await.expect("accepted").0).await };
        let dialling = async { dialler.greet(TcpStream::connect(address).await.expect("connected")).await };
        tokio::join!(dialling, accepting)
    }

    #[tokio::test]
    async fn both_ends_of_a_private_mesh_must_know_its_secret() {
        for (dialler, acceptor) in [(None, None), (Some(1), Some(1))] {
            let (dialled, accepted) = shake(dialler, acceptor).await;
            assert!(dialled.is_ok() && accepted.is_ok(), "{dialler:?} {acceptor:?}");
        }
        for (dialler, acceptor) in [(Some(1), None), (None, Some(1))] {
            let (dialled, accepted) = shake(dialler, acceptor).await;
            assert!(dialled.is_err() && accepted.is_err(), "{dialler:?} {acceptor:?}");
        }
        let (dialled, accepted) = shake(Some(1), Some(2)).await;
        assert!(matches!(dialled, Err(HandshakeError::Stranger)), "whoever dials learns who answers");
        assert!(matches!(accepted, Err(HandshakeError::Stranger)), "whoever answers learns who dials");
    }
}
