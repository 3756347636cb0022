//! A peer's address: where it can be dialled and who must answer there.

use std::fmt;
use std::str::FromStr;

use datamesh_core::id::NodeId;
use multiaddr::{Multiaddr, Protocol};

/// A node's address together with who answers there: a multiaddress that ends in `/p2p/PEER_ID`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerAddress {
    node: NodeId,
    address: Multiaddr,
}

/// Why a text is no peer's address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParsePeerAddressError {
    /// Not a multiaddress at all.
    #[error("`{text}` is no multiaddress: {why}")]
    Malformed {
        /// What was given.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// It doesn't say who answers there.
    #[error("`{0}` does not end in /p2p/ and a peer id")]
    Anonymous(String),
    /// It names a peer whose key is of a kind that no node has, or two peers that differ.
    #[error("`{text}` names no node: {why}")]
    Stranger {
        /// What was given.
        text: String,
        /// What is wrong with it.
        why: String,
    },
}

impl PeerAddress {
    /// This node at this address, whose own `/p2p/` ending, if it has one, must be the node's.
    ///
    /// # Errors
    /// [`ParsePeerAddressError::Stranger`] if the address names another node.
    pub fn new(node: NodeId, address: Multiaddr) -> Result<Self, ParsePeerAddressError> {
        let named = match address.iter().last() {
            Some(Protocol::P2p(_)) => Self::from_multiaddr(address.clone())?,
            _ => {
                let text = format!("{address}/p2p/{node}");
                return text.parse();
            }
        };
        if named.node == node {
            return Ok(named);
        }
        let why = format!("it should be {node}");
        Err(ParsePeerAddressError::Stranger { text: address.to_string(), why })
    }

    fn from_multiaddr(address: Multiaddr) -> Result<Self, ParsePeerAddressError> {
        let text = address.to_string();
        let Some(Protocol::P2p(peer)) = address.iter().last() else {
            return Err(ParsePeerAddressError::Anonymous(text));
        };
        match peer.to_string().parse() {
            Ok(node) => Ok(Self { node, address }),
            Err(error) => Err(ParsePeerAddressError::Stranger { text, why: format!("{error}") }),
        }
    }

    /// Who answers there.
    #[must_use]
    pub const fn node(&self) -> NodeId {
        self.node
    }

    /// The whole address, with `/p2p/` at its end.
    #[must_use]
    pub const fn address(&self) -> &Multiaddr {
        &self.address
    }
}

impl FromStr for PeerAddress {
    type Err = ParsePeerAddressError;

    fn from_str(text: &str) -> Result<Self, ParsePeerAddressError> {
        let malformed = |why| ParsePeerAddressError::Malformed { text: text.to_owned(), why };
        let address: Multiaddr =
            text.parse().map_err(|error: multiaddr::Error| malformed(error.to_string()))?;
        Self::from_multiaddr(address)
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use datamesh_core::id::NodeId;

    use super::{ParsePeerAddressError, PeerAddress};

    #[test]
    fn a_peer_address_says_who_answers() {
        let node = NodeId::from_bytes([7; 32]);
        let text = format!("/ip4/10.0.0.1/tcp/40871/p2p/{node}");
        let whole: PeerAddress = text.parse().expect("valid");
        assert_eq!((whole.node(), whole.to_string()), (node, text));

        let bare = || "/ip4/10.0.0.1/tcp/40871".parse().expect("valid");
        assert_eq!(PeerAddress::new(node, bare()), Ok(whole.clone()));
        assert_eq!(PeerAddress::new(node, whole.address().clone()), Ok(whole.clone()));
        let other = PeerAddress::new(NodeId::from_bytes([8; 32]), whole.address().clone());
        assert!(matches!(other, Err(ParsePeerAddressError::Stranger { .. })), "{other:?}");

        let anonymous = bare().to_string().parse::<PeerAddress>();
        assert!(matches!(anonymous, Err(ParsePeerAddressError::Anonymous(_))), "{anonymous:?}");
        assert!("10.0.0.1:40871".parse::<PeerAddress>().is_err());
    }
}
