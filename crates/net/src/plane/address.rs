//! Addresses of the data plane: like `/ip4/192.0.2.1/tcp/40872/tls`, beside a node's libp2p addresses.

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

/// A host, by name or number, and a port.
pub(crate) type HostPort = (String, u16);

/// Whether this is an address of the data plane.
pub(crate) fn is_data(address: &Multiaddr) -> bool {
    matches!(address.iter().last(), Some(Protocol::Tls))
}

/// The data addresses of whoever has these TCP addresses and serves data on this port.
pub(crate) fn beside(addresses: &[Multiaddr], port: u16) -> Vec<Multiaddr> {
    let mut found: Vec<Multiaddr> = Vec::new();
    for address in addresses {
        let mut parts = address.iter();
        let (Some(host), Some(Protocol::Tcp(_))) = (parts.next(), parts.next()) else { continue };
        let data = Multiaddr::from(host).with(Protocol::Tcp(port)).with(Protocol::Tls);
        if !found.contains(&data) {
            found.push(data);
        }
    }
    found
}

/// What to dial for a data address; `None` for any other address.
pub(crate) fn host_and_port(address: &Multiaddr) -> Option<HostPort> {
    let mut parts = address.iter();
    let host = match parts.next()? {
        Protocol::Ip4(ip) => ip.to_string(),
        Protocol::Ip6(ip) => ip.to_string(),
        Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name) => name.into_owned(),
        _ => return None,
    };
    match (parts.next()?, parts.next()?, parts.next()) {
        (Protocol::Tcp(port), Protocol::Tls, None) => Some((host, port)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use libp2p::Multiaddr;

    use super::{beside, host_and_port, is_data};

    fn addresses(texts: &[&str]) -> Vec<Multiaddr> {
        texts.iter().map(|text| text.parse().expect("an address")).collect()
    }

    #[test]
    fn each_host_with_a_tcp_address_has_one_data_address() {
        let listened = addresses(&[
            "/ip4/10.0.0.1/tcp/1",
            "/ip4/10.0.0.1/udp/1/quic-v1",
            "/ip4/10.0.0.1/tcp/2",
            "/dns4/mesh.example/tcp/3",
        ]);
        let expected = addresses(&["/ip4/10.0.0.1/tcp/9/tls", "/dns4/mesh.example/tcp/9/tls"]);
        assert_eq!(beside(&listened, 9), expected);
        assert!(expected.iter().all(is_data));
        assert!(!listened.iter().any(is_data));
    }

    #[test]
    fn a_data_address_names_host_and_port() {
        let parsed: Vec<_> =
            addresses(&["/ip6/::1/tcp/9/tls", "/dns/a.example/tcp/8/tls", "/ip4/1.2.3.4/tcp/9"])
                .iter()
                .map(host_and_port)
                .collect();
        assert_eq!(parsed, [Some(("::1".to_owned(), 9)), Some(("a.example".to_owned(), 8)), None]);
    }
}
