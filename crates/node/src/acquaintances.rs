//! Nodes of a mesh that a client has met, so that it finds the mesh when those are gone through which it joined.
//!
//! It is knowledge and no record: where it is lost or damaged, the mesh is found by its entries. So it is not synced to disk.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use datamesh_core::topology::{NodeState, Topology};
use datamesh_net::Multiaddr;

use crate::settings::PeerAddress;

/// Nodes that are remembered of one mesh: one after the other of the ring's circle of ids, so that clients remember different ones.
const REMEMBERED_MAX: usize = 8;
/// The longest file that is read, bytes.
const FILE_SIZE_MAX: u64 = 64 * 1024;

/// The file in which the nodes of one mesh are remembered.
#[derive(Debug, Clone)]
pub(crate) struct Acquaintances {
    path: PathBuf,
}

impl Acquaintances {
    /// Of the mesh that was joined through these nodes, kept in this directory.
    pub(crate) fn of(directory: &Path, entries: &[PeerAddress]) -> Option<Self> {
        let entry = entries.first()?;
        Some(Self { path: directory.join(format!("{}.nodes", entry.node())) })
    }

    /// The nodes that were met.
    pub(crate) fn load(&self) -> Vec<PeerAddress> {
        let size = fs::metadata(&self.path).map_or(0, |metadata| metadata.len());
        if size > FILE_SIZE_MAX {
            return Vec::new();
        }
        match fs::read_to_string(&self.path) {
            Ok(text) => text.lines().filter_map(|line| line.parse().ok()).take(REMEMBERED_MAX).collect(),
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::debug!(%error, "nodes that were met are forgotten");
                }
                Vec::new()
            }
        }
    }

    /// Remembers nodes of a mesh: those that were known and are still there first. `draw` chooses where the others begin.
    ///
    /// # Errors
    /// When they can't be written. The file is as it was then.
    pub(crate) fn save(&self, topology: &Topology, draw: u64) -> io::Result<()> {
        let known = self.load();
        let met = choose(topology, &known, draw);
        if met == known || met.is_empty() {
            return Ok(());
        }
        if let Some(directory) = self.path.parent() {
            fs::create_dir_all(directory)?;
        }
        let beside = self.path.with_extension(format!("{}.new", std::process::id()));
        let text: String = met.iter().map(|address| format!("{address}\n")).collect();
        fs::write(&beside, text).and_then(|()| fs::rename(&beside, &self.path)).inspect_err(|_| {
            // Where it is gone already, nothing is left to remove.
            let _ = fs::remove_file(&beside);
        })
    }
}

fn choose(topology: &Topology, known: &[PeerAddress], draw: u64) -> Vec<PeerAddress> {
    let present: Vec<PeerAddress> = topology
        .records()
        .filter(|record| record.state != NodeState::Gone && !topology.is_absent(&record.node))
        .filter_map(|record| {
            let mut addresses = record.addresses.iter().filter_map(|text| text.parse::<Multiaddr>().ok());
            PeerAddress::new(record.node, addresses.next()?).ok()
        })
        .collect();
    let mut chosen: Vec<PeerAddress> =
        known.iter().filter(|address| present.contains(address)).cloned().collect();
    let count = u64::try_from(present.len()).unwrap_or(u64::MAX);
    let begin = usize::try_from(draw.checked_rem(count).unwrap_or_default()).unwrap_or_default();
    for address in present.iter().cycle().skip(begin).take(present.len()) {
        if chosen.len() >= REMEMBERED_MAX {
            break;
        }
        if !chosen.contains(address) {
            chosen.push(address.clone());
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use datamesh_core::id::NodeId;
    use datamesh_core::time::Timestamp;
    use datamesh_core::topology::{FailureDomain, NodeRecord, NodeState, Role, Topology};

    use super::{Acquaintances, REMEMBERED_MAX};

    fn record(number: u8, sequence: u64) -> NodeRecord {
        let key = ed25519_dalek::SigningKey::from_bytes(&[number; 32]);
        NodeRecord {
            node: NodeId::from_bytes(key.verifying_key().to_bytes()),
            sequence,
            addresses: vec![format!("/ip4/192.0.2.{number}/tcp/4001")],
            role: Role::Storage,
            state: NodeState::Active,
            domain: FailureDomain::alone("host"),
            capacity: 1,
            grace_s: 10,
            software: "test".into(),
        }
    }

    #[test]
    fn nodes_that_are_there_are_remembered_and_those_that_are_gone_replaced() {
        let directory = tempfile::tempdir().expect("a directory");
        let entry = record(1, 0);
        let address = format!("/ip4/192.0.2.1/tcp/4001/p2p/{}", entry.node).parse().expect("an address");
        let met = Acquaintances::of(&directory.path().join("met"), &[address]).expect("one entry");
        assert!(met.load().is_empty());
        let mut topology = Topology::new((1..=12).map(|number| record(number, 20_000)));
        met.save(&topology, 5).expect("written");
        let first = met.load();
        assert_eq!(first.len(), REMEMBERED_MAX);
        met.save(&topology, 9).expect("written");
        assert_eq!(met.load(), first, "who is known stays");

        for record in
            (2..=12).map(|number| record(number, 20_000)).filter(|record| record.node != first[0].node())
        {
            topology.learn(NodeRecord { sequence: 40_000, ..record });
        }
        topology.judge(None, Timestamp::from_ms(40_000));
        met.save(&topology, 0).expect("written");
        let second = met.load();
        assert!(second.len() == REMEMBERED_MAX && !second.contains(&first[0]), "{second:?}");
        assert!(first[1..].iter().filter(|address| second.contains(address)).count() >= REMEMBERED_MAX - 2);
    }
}
