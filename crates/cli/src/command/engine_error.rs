//! What the engine's and the node's errors mean to a user: exit code and next step.

use std::collections::BTreeMap;

use datamesh_core::id::NodeId;
use datamesh_core::scheme::Redundancy;
use datamesh_core::wire::Refusal;
use datamesh_engine::WalkError;
use datamesh_engine::buckets::{ChangeError, OpenError};
use datamesh_engine::get::GetError;
use datamesh_engine::journal::JournalError;
use datamesh_engine::put::PutError;
use datamesh_engine::renew::RenewError;
use datamesh_engine::repair::RepairError;
use datamesh_engine::transfer::{Failure, GatherError};
use datamesh_node::assemble::{AssembleError, JoinError};
use datamesh_node::buckets::OpenBucketsError;
use datamesh_node::home::CatalogError;
use datamesh_node::latency_file::LatencyFileError;
use datamesh_node::scheme::SchemeError;
use datamesh_node::tier::{OpenBackendError, RemoteError, TierError};

use crate::command::{CommandError, exit_of};
use crate::exit::Exit;

impl From<AssembleError> for CommandError {
    fn from(error: AssembleError) -> Self {
        match error {
            AssembleError::Home(error) => error.into(),
            AssembleError::Charter(error) => error.into(),
            AssembleError::Join(JoinError::NotAdmitted { node }) => Self::from_error(Exit::Denied, error)
                .hint(format!("have an authority of the mesh run datamesh admit node {node}, then start it again")),
            AssembleError::Join(JoinError::OtherMesh { .. }) => Self::from_error(Exit::Denied, error).hint(
                "a private mesh is entered with its secret, a restricted one with its authorities: get them from who runs \
                 the mesh, and name them with --mesh-secret-file FILE and --authority OWNER",
            ),
            AssembleError::Join(_) => Self::from_error(Exit::Unreachable, error).hint(
                "is the mesh running, and is this its address? datamesh networks shows what was joined",
            ),
            AssembleError::LatencyMap(LatencyFileError::File { ref source, .. }) => {
                Self::from_error(exit_of(source), error)
            }
            AssembleError::LatencyMap(_) => Self::from_error(Exit::Usage, error),
            AssembleError::Directory { ref source, .. } => Self::from_error(exit_of(source), error),
            AssembleError::Tier(TierError::Open(OpenBackendError::Remote(RemoteError::Refused(_)))) => {
                Self::from_error(Exit::Denied, error)
            }
            AssembleError::Tier(TierError::Open(OpenBackendError::Remote(_))) => {
                Self::from_error(Exit::Unreachable, error)
            }
            AssembleError::Tier(TierError::Open(_)) => Self::from_error(Exit::Failed, error),
            AssembleError::Tier(_) => Self::from_error(Exit::Usage, error),
            AssembleError::Store { .. } | AssembleError::Start(_) | AssembleError::Identity(_) => {
                Self::from_error(Exit::Failed, error)
            }
        }
    }
}

impl From<SchemeError> for CommandError {
    fn from(error: SchemeError) -> Self {
        let hint = match error {
            SchemeError::TooFewDomains { .. } => "start more nodes with datamesh service",
            SchemeError::TooFewNodes { .. } => "choose a smaller --scheme",
        };
        Self::from_error(Exit::NotEnough, error).hint(hint)
    }
}

impl From<OpenBucketsError> for CommandError {
    fn from(error: OpenBucketsError) -> Self {
        match error {
            OpenBucketsError::Directory { path, source } => {
                Self::io(format!("directory {} can't be made", path.display()), source)
            }
            OpenBucketsError::Map(_) => Self::from_error(Exit::Failed, error),
            OpenBucketsError::Open(OpenError::Silent { .. } | OpenError::Unreadable(_)) => {
                Self::from_error(Exit::NotEnough, error)
                    .hint("bring nodes back that are silent, then start it again")
            }
            OpenBucketsError::Open(OpenError::Scheme(_)) => {
                Self::from_error(Exit::NotEnough, error).hint("start more nodes with datamesh service")
            }
            OpenBucketsError::Open(OpenError::Index(_)) => Self::from_error(Exit::Failed, error),
        }
    }
}

impl From<ChangeError> for CommandError {
    fn from(error: ChangeError) -> Self {
        match &error {
            ChangeError::Refused(_) => Self::from_error(Exit::NotFound, error),
            ChangeError::NotEnoughNodes { failures, .. } => {
                let (exit, hint) = blame(failures);
                Self::from_error(exit, error).hint(hint)
            }
            ChangeError::Scheme(_) => {
                Self::from_error(Exit::NotEnough, error).hint("start more nodes with datamesh service")
            }
            ChangeError::Index(_) | ChangeError::TooLarge(_) | ChangeError::Closed => {
                Self::from_error(Exit::Failed, error)
            }
        }
    }
}

impl From<CatalogError> for CommandError {
    fn from(error: CatalogError) -> Self {
        Self::from_error(Exit::Failed, error)
    }
}

impl From<PutError> for CommandError {
    fn from(error: PutError) -> Self {
        match error {
            PutError::Source(source) => Self::io("the input can't be read", source),
            PutError::Recipients(_) | PutError::Details(_) => Self::from_error(Exit::Usage, error),
            PutError::Manifest(_) | PutError::Changed => Self::from_error(Exit::Failed, error),
            PutError::Journal(JournalError::Disk(ref source)) => Self::from_error(exit_of(source), error),
            PutError::Journal(_) => {
                Self::from_error(Exit::Failed, error).hint("datamesh put --restart begins anew")
            }
            PutError::NotEnoughNodes { ref failures, .. } => {
                let (exit, hint) = blame(failures);
                Self::from_error(exit, error).hint(hint)
            }
        }
    }
}

/// What it means that these nodes failed a put.
fn blame(failures: &BTreeMap<NodeId, Failure>) -> (Exit, &'static str) {
    let over_quota =
        |failure: &Failure| matches!(failure, Failure::Refused { refusal: Refusal::OverQuota { .. }, .. });
    let silent = |failure: &Failure| matches!(failure, Failure::Call(_));
    let not_admitted =
        |failure: &Failure| matches!(failure, Failure::Refused { refusal: Refusal::NotAdmitted, .. });
    if failures.values().any(not_admitted) {
        (
            Exit::Denied,
            "have an authority of the mesh run datamesh admit owner KEY; datamesh keys list shows the key",
        )
    } else if failures.values().any(over_quota) {
        (Exit::NoSpace, "delete something, or have whoever runs the nodes raise storage.owner_quota")
    } else if failures.values().any(Failure::is_for_space) {
        (Exit::NoSpace, "add nodes or capacity (storage.capacity), or delete something")
    } else if !failures.is_empty() && failures.values().all(silent) {
        (Exit::NotEnough, "bring these nodes back, add others, or choose a smaller --scheme")
    } else {
        (Exit::NotEnough, "datamesh health shows what is wrong")
    }
}

impl From<GetError> for CommandError {
    fn from(error: GetError) -> Self {
        match error {
            GetError::NotFound { ref source, .. } => {
                let (exit, hint) = missing(source);
                Self::from_error(exit, error).hint(hint)
            }
            GetError::NoKey(_) => Self::from_error(Exit::Denied, error)
                .hint("datamesh keys import brings the key it was put with"),
            GetError::TooFewShards { .. } | GetError::MissingBlock { .. } => {
                Self::from_error(Exit::NotEnough, error).hint("bring nodes that hold it back")
            }
            GetError::Range { .. } => Self::from_error(Exit::Usage, error),
            GetError::Sink(source) => Self::io("the output can't be written", source),
            _ => Self::from_error(Exit::Failed, error),
        }
    }
}

/// What it means that nobody has the root of an object: there is none, or too many nodes that may have it don't answer.
fn missing(asked: &GatherError) -> (Exit, &'static str) {
    let silent_count = asked.failures.len();
    // What was put whole has a root on more nodes than its scheme may lose.
    let bearable = Redundancy::largest_for(asked.asked.len()).map_or(0, Redundancy::parity_count);
    if silent_count == asked.asked.len() {
        (Exit::Unreachable, "none of the nodes answers; datamesh peers shows them")
    } else if silent_count > bearable {
        (Exit::NotEnough, "bring the nodes back that do not answer: they may have it")
    } else {
        (Exit::NotFound, "is it on another network? datamesh list shows where things were put")
    }
}

impl From<WalkError> for CommandError {
    fn from(error: WalkError) -> Self {
        match &error {
            WalkError::Missing { source, .. } => {
                let (exit, hint) = missing(source);
                Self::from_error(exit, error).hint(hint)
            }
            WalkError::Manifest(_) => Self::from_error(Exit::Failed, error),
        }
    }
}

impl From<RenewError> for CommandError {
    fn from(error: RenewError) -> Self {
        match error {
            RenewError::Walk(error) => error.into(),
            RenewError::Released(_) => Self::from_error(Exit::NotFound, error).hint("put it again"),
            RenewError::NotEnough { ref failures, .. } => {
                let (exit, hint) = blame(failures);
                Self::from_error(exit, error).hint(hint)
            }
        }
    }
}

impl From<RepairError> for CommandError {
    fn from(error: RepairError) -> Self {
        match error {
            RepairError::Walk(error) => error.into(),
            RepairError::TooFewShards { .. } => {
                Self::from_error(Exit::NotEnough, error).hint("bring nodes that hold its shards back")
            }
            RepairError::Rebuild { .. } | RepairError::NoLease { .. } => {
                Self::from_error(Exit::Failed, error)
            }
        }
    }
}
