//! What an alert means, in words, and what can be done about it.

use core::fmt::Write;

use datamesh_core::health::{Cause, Level, Sign};

/// What is to be done, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The mesh repairs it by itself; somebody should see to it that it can.
    ScheduleRepair,
    /// What is short must be made whole before anything else fails.
    ImmediateRepair,
    /// Nodes that are silent must come back.
    BringNodesBack,
    /// There must be more room.
    AddRoom,
    /// A disk or a machine must be looked at, or replaced.
    CheckMachine,
    /// A connection or a clock must be put right.
    CheckNetwork,
}

impl Action {
    /// How programs read it.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::ScheduleRepair => "schedule_repair",
            Self::ImmediateRepair => "immediate_repair_required",
            Self::BringNodesBack => "bring_nodes_back",
            Self::AddRoom => "add_room",
            Self::CheckMachine => "check_machine",
            Self::CheckNetwork => "check_network",
        }
    }
}

/// What is to be done about something of this level.
#[must_use]
pub const fn action(level: Level, cause: &Cause) -> Action {
    match (cause, level) {
        (Cause::Availability { .. }, Level::Warning) => Action::ScheduleRepair,
        (Cause::Availability { .. }, Level::Critical) => Action::ImmediateRepair,
        (Cause::Availability { .. }, Level::Lost) | (Cause::Silent { .. }, _) => Action::BringNodesBack,
        (Cause::DiskFull, _) => Action::AddRoom,
        (Cause::RepairsFail { .. }, _) => Action::ImmediateRepair,
        (Cause::Rot { .. } | Cause::DiskErrors { .. } | Cause::Failing { .. }, _) => Action::CheckMachine,
        (Cause::CutOff | Cause::ClockSkew { .. }, _) => Action::CheckNetwork,
    }
}

/// What a person can do about something of this level.
#[must_use]
pub const fn advice(level: Level, cause: &Cause) -> &'static str {
    match (cause, level) {
        (Cause::Availability { .. }, Level::Warning) => {
            "nothing, if nodes were restarted: silent ones are made up for once their grace is over; else start them again"
        }
        (Cause::Availability { .. }, Level::Critical) => {
            "start silent nodes again now; `datamesh repair ID` repairs single objects before the grace is over"
        }
        (Cause::Availability { .. }, Level::Lost) => {
            "bring nodes back that are silent, or their disks: without them this can't be read"
        }
        (Cause::RepairsFail { .. }, _) => {
            "see the log of the node for why; most often there are too few nodes, or they are full: start more"
        }
        (Cause::DiskFull, _) => {
            "start more nodes, raise storage.capacity, or delete objects; what is stored stays readable"
        }
        (Cause::Rot { .. }, _) => "nothing now: it is made again from others; if more rots, replace the disk",
        (Cause::DiskErrors { .. }, _) => {
            "look at the disk and the system's log; `datamesh node drain` empties the node before it is replaced"
        }
        (Cause::CutOff, _) => "look at the connection of the node, and at its clock",
        (Cause::ClockSkew { .. }, _) => "set the clock of the node, best by NTP",
        (Cause::Silent { .. }, _) => {
            "start the node again; once its grace is over what it held is made again elsewhere"
        }
        (Cause::Failing { .. }, _) => {
            "`datamesh node drain` empties it while it still answers; then replace its disk or machine"
        }
    }
}

/// What is wrong, in words.
#[must_use]
pub fn message(level: Level, cause: &Cause) -> String {
    match cause {
        Cause::Availability { short, endangered, lost, doubtful } => {
            let mut text = match level {
                Level::Lost => format!("{lost} stripes or blocks can't be read"),
                Level::Critical => format!("{endangered} stripes or blocks can lose no more parts"),
                Level::Warning => format!("{short} stripes or blocks lack many of their parts"),
            };
            if level == Level::Lost && *endangered > 0 {
                write!(text, ", {endangered} can lose no more parts").expect("a string takes any text");
            }
            if level > Level::Warning && *short > 0 {
                write!(text, ", {short} lack many").expect("a string takes any text");
            }
            if *doubtful > 0 {
                write!(text, "; of {doubtful} parts may be at nodes that are silent")
                    .expect("a string takes any text");
            }
            text
        }
        Cause::RepairsFail { failed, tried } => format!("{failed} of {tried} repairs failed"),
        Cause::DiskFull => "the node is full and takes no more items".to_owned(),
        Cause::Rot { item_count } => format!("{item_count} items have rotted on the node's disk"),
        Cause::DiskErrors { error_count } => format!("the node's disk refused {error_count} reads or writes"),
        Cause::CutOff => {
            "every other node seems to be absent: the node is cut off, or its clock is wrong".to_owned()
        }
        Cause::ClockSkew { ahead_ms } => {
            let way = if *ahead_ms < 0 { "behind" } else { "ahead of" };
            format!("the node's clock is {} s {way} those of the others", ahead_ms.unsigned_abs() / 1000)
        }
        Cause::Silent { node } => format!("node {node} does not answer"),
        Cause::Failing { node, sign } => match sign {
            Sign::Rot | Sign::Errors | Sign::SlowWrites => {
                format!("node {node} is about to fail: more and more {sign}")
            }
            Sign::Latency | Sign::Absences => {
                format!("node {node} may be about to fail: more and more {sign}")
            }
        },
    }
}
