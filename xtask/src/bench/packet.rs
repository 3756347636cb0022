//! What a packet of an emulated link's device would be on a real link: how many bytes, headers included.

use tun_rs::{
    VIRTIO_NET_HDR_GSO_TCPV4, VIRTIO_NET_HDR_GSO_TCPV6, VIRTIO_NET_HDR_GSO_UDP_L4, VIRTIO_NET_HDR_LEN,
    VirtioNetHdr,
};

/// What the kernel adds to the kind of a super-packet whose first segment alone reports congestion.
const CONGESTION_FLAG: u8 = 0x80;
/// Bytes of a header of UDP, and where in one of TCP its length stands.
const UDP_HEADER_SIZE: usize = 8;
const TCP_LENGTH_AT: usize = 12;

/// In what form a device hands packets out and takes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// Each by itself, as it would be on a real link.
    Single,
    /// Neighbours of one connection as one super-packet, as a network card that segments is given them, after a header
    /// that says where to cut.
    Merged,
}

impl Framing {
    /// Bytes that what a device handed out takes on a real link, where each packet has headers of its own.
    pub(super) fn wire_size(self, frame: &[u8]) -> usize {
        match self {
            Self::Single => frame.len(),
            // What can't be cut goes as it is.
            Self::Merged => cut_size(frame).unwrap_or_else(|| frame.len().saturating_sub(VIRTIO_NET_HDR_LEN)),
        }
    }
}

/// Bytes of a super-packet after it was cut; `None` if it is no super-packet.
fn cut_size(frame: &[u8]) -> Option<usize> {
    let (header, packet) = frame.split_at_checked(VIRTIO_NET_HDR_LEN)?;
    let header = VirtioNetHdr::decode(header).ok()?;
    // Where IP's header ends: what is to be summed begins there.
    let transport_at = usize::from(header.csum_start);
    let header_size = match header.gso_type & !CONGESTION_FLAG {
        VIRTIO_NET_HDR_GSO_TCPV4 | VIRTIO_NET_HDR_GSO_TCPV6 => {
            // The upper half of the byte counts words of four bytes.
            transport_at + usize::from(packet.get(transport_at + TCP_LENGTH_AT)? >> 4) * 4
        }
        VIRTIO_NET_HDR_GSO_UDP_L4 => transport_at + UDP_HEADER_SIZE,
        _ => return None,
    };
    let payload_size = packet.len().checked_sub(header_size)?;
    let segment_size = Some(usize::from(header.gso_size)).filter(|size| *size > 0)?;
    Some(payload_size + header_size * payload_size.div_ceil(segment_size))
}

#[cfg(test)]
mod tests {
    use tun_rs::{VIRTIO_NET_HDR_GSO_TCPV4, VIRTIO_NET_HDR_GSO_UDP_L4, VIRTIO_NET_HDR_LEN, VirtioNetHdr};

    use super::{CONGESTION_FLAG, Framing};

    const IP_SIZE: u16 = 20;
    const TCP_SIZE: usize = 32;
    const SEGMENT_SIZE: u16 = 1448;

    /// A frame of TCP over IPv4 with so many bytes after its headers.
    fn frame(gso_type: u8, gso_size: u16, payload_size: usize) -> Vec<u8> {
        let header = VirtioNetHdr { gso_type, gso_size, csum_start: IP_SIZE, ..VirtioNetHdr::default() };
        let transport_at = VIRTIO_NET_HDR_LEN + usize::from(IP_SIZE);
        let mut frame = vec![0; transport_at + TCP_SIZE + payload_size];
        header.encode(&mut frame).expect("there is room");
        frame[transport_at + 12] = 8 << 4;
        frame
    }

    #[test]
    fn a_super_packet_has_the_headers_of_all_its_segments() {
        let size =
            |gso_type, payload_size| Framing::Merged.wire_size(&frame(gso_type, SEGMENT_SIZE, payload_size));
        let full = usize::from(SEGMENT_SIZE);
        assert_eq!(size(VIRTIO_NET_HDR_GSO_TCPV4, 2 * full), 2 * 1500);
        assert_eq!(size(VIRTIO_NET_HDR_GSO_TCPV4, 2 * full + 1), 2 * 1500 + 53);
        assert_eq!(size(VIRTIO_NET_HDR_GSO_TCPV4 | CONGESTION_FLAG, 22 * full), 22 * 1500);
        // What is TCP's header above is payload to UDP, whose own is 8 bytes.
        assert_eq!(size(VIRTIO_NET_HDR_GSO_UDP_L4, 2 * full - 24), 2 * (20 + 8 + full));
    }

    #[test]
    fn any_other_packet_is_as_long_as_it_is() {
        let plain = frame(0, 0, 100);
        assert_eq!(Framing::Merged.wire_size(&plain), plain.len() - VIRTIO_NET_HDR_LEN);
        assert_eq!(Framing::Single.wire_size(&plain), plain.len());
        let strange = frame(VIRTIO_NET_HDR_GSO_TCPV4, 0, 100);
        assert_eq!(Framing::Merged.wire_size(&strange), plain.len() - VIRTIO_NET_HDR_LEN);
        let short = frame(VIRTIO_NET_HDR_GSO_TCPV4, SEGMENT_SIZE, 0);
        for size in 0..short.len() {
            let wire_size = Framing::Merged.wire_size(&short[..size]);
            assert_eq!(wire_size, size.saturating_sub(VIRTIO_NET_HDR_LEN), "it has no whole header");
        }
    }
}
