//! What is measured: every row of the table.

use super::{Chosen, Row};

mod cached;
mod link;
mod load;
mod loopback;
mod memory;
mod s3;

/// All of them, in the order of the table.
pub(super) const ROWS: [Row; 13] = [
    Row {
        name: "one-holder",
        about: "one file from the only node that holds it, on loopback, beside other programs",
        chosen: Chosen::ByDefault,
        measure: loopback::one_holder,
    },
    Row {
        name: "put",
        about: "a file into six node processes, 4+2, every shard synced, on loopback",
        chosen: Chosen::ByDefault,
        measure: loopback::put,
    },
    Row {
        name: "get",
        about: "the file back, and again with two of the six dead",
        chosen: Chosen::ByDefault,
        measure: loopback::get,
    },
    Row {
        name: "link-1g",
        about: "gets over an emulated link of 1 Gbit/s and 20 ms, from one node and from six",
        chosen: Chosen::ByDefault,
        measure: link::gigabit,
    },
    Row {
        name: "loss",
        about: "gets over an emulated link of 200 Mbit/s and 20 ms that loses 1 % of the packets",
        chosen: Chosen::ByDefault,
        measure: link::loss,
    },
    Row {
        name: "memory",
        about: "peak memory of a put and a get, at 1 GiB and at 20 GiB",
        chosen: Chosen::ByDefault,
        measure: memory::memory,
    },
    Row {
        name: "concurrent",
        about: "1,000 chunks at once from one node, to many clients",
        chosen: Chosen::ByDefault,
        measure: load::concurrent,
    },
    Row {
        name: "cached",
        about: "a chunk from a cache node, nothing else asked for, on loopback and over a link of 20 ms",
        chosen: Chosen::ByDefault,
        measure: cached::cached,
    },
    Row {
        name: "second-version",
        about: "what is sent of a file that is put again after a little of it changed",
        chosen: Chosen::ByDefault,
        measure: load::second_version,
    },
    Row {
        name: "s3",
        about: "1 GiB and 2,000 objects of 4 KiB through the gateway, beside Garage",
        chosen: Chosen::ByDefault,
        measure: s3::beside,
    },
    Row {
        name: "s3-stalled",
        about: "small puts through the gateway beside clients that stall",
        chosen: Chosen::ByDefault,
        measure: s3::stalled,
    },
    Row {
        name: "s3-memory",
        about: "the gateway's memory with 64 uploads of 1 GiB at once; takes a quarter of an hour",
        chosen: Chosen::ByName,
        measure: s3::memory,
    },
    Row {
        name: "terabyte",
        about: "peak memory of a put of 1 TB; takes hours",
        chosen: Chosen::ByName,
        measure: memory::terabyte,
    },
];
