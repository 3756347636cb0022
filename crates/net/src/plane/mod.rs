//! The data plane: the exchange over TLS 1.3 on TCP, bound to libp2p identities, for peers that can be dialled directly.
//!
//! It carries the same requests and answers as libp2p streams do, for half the processor time, and many at once over one
//! connection: each message stands behind the number of its call, so that answers come as they are ready. Where a node's
//! data address can't be reached, or it has none, calls take libp2p streams.
//!
//! rustls shakes hands with the certificates of the [libp2p TLS specification][spec]; the traffic secrets are then taken out,
//! as for the kernel's TLS, and records are protected here (RFC 8446, section 5), many to a buffer and a buffer to a system
//! call, without an allocation for each.
//!
//! [spec]: https://github.com/libp2p/specs/blob/master/tls/tls.md

pub(crate) mod accept;
pub(crate) mod address;
pub(crate) mod dial;
pub(crate) mod half;
pub(crate) mod handshake;
pub(crate) mod link;
pub(crate) mod record;
pub(crate) mod width;

/// The name of the protocol in the TLS handshake (ALPN).
pub(crate) const PROTOCOL: &[u8] = b"datamesh/exchange/5";
/// Its name in private meshes, where each end proves first that it knows the mesh secret.
pub(crate) const PRIVATE_PROTOCOL: &[u8] = b"datamesh/exchange/5/private";

/// Calls that one connection may have under way.
pub(crate) const CALLS_PER_LINK: usize = 256;
