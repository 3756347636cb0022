//! Every maximum in the system, in one file.

/// Bytes in a kibibyte.
pub const KIB: usize = 1024;
/// Bytes in a mebibyte.
pub const MIB: usize = 1024 * KIB;

/// The plaintext of a fixed-size chunk, bytes.
pub const FIXED_CHUNK_SIZE: usize = MIB;
/// The shortest content-defined chunk, bytes (the last one of an object may be shorter).
pub const DEFINED_CHUNK_SIZE_MIN: usize = 256 * KIB;
/// The mean content-defined chunk, bytes.
pub const DEFINED_CHUNK_SIZE_MEAN: usize = MIB;
/// The longest chunk of any kind, bytes.
pub const CHUNK_SIZE_MAX: usize = 4 * MIB;
/// What packing and sealing may add to a chunk, bytes: one trailer byte and one authentication tag.
pub const SEAL_OVERHEAD_MAX: usize = 32;
/// The longest sealed chunk, bytes.
pub const SEALED_CHUNK_SIZE_MAX: usize = CHUNK_SIZE_MAX + SEAL_OVERHEAD_MAX;

/// Most data shards of a stripe.
pub const DATA_SHARDS_MAX: usize = 128;
/// Most parity shards of a stripe.
pub const PARITY_SHARDS_MAX: usize = 128;
/// Most shards of a stripe, data and parity: the field GF(2^8) has no more points.
pub const STRIPE_SHARDS_MAX: usize = 255;
/// Shards are padded to a multiple of this, bytes, so that coding runs on whole vector registers.
pub const SHARD_ALIGNMENT: usize = 64;
/// The longest shard, bytes.
pub const SHARD_SIZE_MAX: usize = SEALED_CHUNK_SIZE_MAX.next_multiple_of(SHARD_ALIGNMENT);

/// The largest sealed object that travels inside its manifest block, bytes.
pub const INLINE_SIZE_MAX: usize = 64 * KIB;
/// The largest manifest block, bytes.
pub const BLOCK_SIZE_MAX: usize = 512 * KIB;
/// Shard ids that a leaf block aims to hold: its stripe count follows from it and from k + m.
pub const LEAF_SHARD_IDS_TARGET: usize = 3072;
/// Most stripes of one leaf block.
pub const LEAF_STRIPES_MAX: usize = 256;
/// Most children of one branch block.
pub const BRANCH_CHILDREN_MAX: usize = 1024;
/// Most levels of branch blocks above the leaves.
pub const MANIFEST_DEPTH_MAX: u8 = 4;
/// Most recipients of an object.
pub const RECIPIENTS_MAX: usize = 64;
/// Longest name, media type, or metadata key or value, bytes.
pub const DETAIL_TEXT_SIZE_MAX: usize = 4 * KIB;
/// Most metadata entries of an object.
pub const METADATA_ENTRIES_MAX: usize = 64;
/// Most bytes of all metadata keys and values of an object together.
pub const METADATA_SIZE_MAX: usize = 64 * KIB;

/// Most memory that opening a locked identity may take, KiB.
pub const PASSWORD_MEMORY_KIB_MAX: u32 = 256 * 1024;
/// Most passes over that memory.
pub const PASSWORD_PASSES_MAX: u32 = 16;
/// Most lanes of it.
pub const PASSWORD_LANES_MAX: u32 = 16;

/// Placement groups: a stripe's group is the prefix of its id.
pub const PLACEMENT_GROUPS: u16 = 16_384;
/// Points on the ring of a node of mean capacity.
pub const RING_POINTS_PER_NODE: u32 = 150;
/// The ring's load factor, in hundredths: no node holds more than this over its fair share.
pub const RING_LOAD_FACTOR_PERCENT: u32 = 125;
/// Holders per group that the ring balances; beyond them a group's order is the plain walk of the ring.
pub const RING_BALANCED_RANKS: usize = 32;
/// Most rings that a process keeps of the mesh as it was, beside the one of the mesh as it is.
pub const RINGS_KEPT: usize = 4;
/// Most pairs of places in a latency map.
pub const LATENCY_PAIRS_MAX: usize = 16_384;
/// The largest latency map, encoded, bytes.
pub const LATENCY_MAP_SIZE_MAX: usize = 4 * MIB;
/// The longest latency in a map, milliseconds.
pub const LATENCY_MS_MAX: u32 = 60_000;
/// Most batches that one set of workers shares.
pub const WORKER_BATCHES_MAX: usize = 1 << 24;
/// Most weight of the workers that share batches, together: so many workers of weight 1, or fewer heavier ones.
pub const WORKERS_WEIGHT_MAX: u32 = 65_536;
/// Longest id of a worker or a batch, bytes.
pub const WORKER_TEXT_SIZE_MAX: usize = 256;

/// The longest header of a wire message, bytes.
pub const WIRE_HEADER_SIZE_MAX: usize = 256 * KIB;
/// The longest payload of a wire message, bytes.
pub const WIRE_PAYLOAD_SIZE_MAX: usize = SHARD_SIZE_MAX;
/// Most items one `Has` request may ask about.
pub const WIRE_ITEMS_MAX: usize = 1024;
/// Most leases in one message.
pub const WIRE_LEASES_MAX: usize = 256;
/// Most items that one receipt of what a node keeps lists.
pub const RECEIPT_ITEMS_MAX: usize = 64;
/// Most items that one acknowledgment of what was served lists.
pub const SERVICE_ITEMS_MAX: usize = 256;
/// Most placement groups that one request for summaries names.
pub const WIRE_GROUPS_MAX: usize = 512;
/// Most classes of all summaries in one message.
pub const WIRE_CLASSES_MAX: usize = 2048;
/// Most classes of one summary.
pub const SUMMARY_CLASSES_MAX: usize = 64;
/// Most parts in one message.
pub const WIRE_PARTS_MAX: usize = 512;
/// Most puts that one request for releases names.
pub const WIRE_PUTS_MAX: usize = 256;
/// Most node records in one message.
pub const WIRE_RECORDS_MAX: usize = 256;
/// Most redundancies that one standing counts apart.
pub const STANDING_COUNTS_MAX: usize = 12;
/// Most silent first holders whose groups a node tells apart.
pub const HEALTH_STAND_INS_MAX: usize = 6;
/// Most alerts that a node has and tells.
pub const HEALTH_ALERTS_MAX: usize = 64;
/// The longest text that a node answers a question for its metrics with, bytes.
pub const METRICS_SIZE_MAX: usize = 256 * KIB;
/// Most authorities of a restricted mesh.
pub const AUTHORITIES_MAX: usize = 8;
/// Most admissions on the roll of one authority: so that a roll fits a message.
pub const ROLL_ADMISSIONS_MAX: usize = 1024;
/// Most addresses in a node record.
pub const NODE_ADDRESSES_MAX: usize = 16;
/// Longest address, domain label, or version text in a node record, bytes.
pub const NODE_TEXT_SIZE_MAX: usize = 256;
/// The longest time that a node may ask to be waited for when it is silent, seconds.
pub const NODE_GRACE_S_MAX: u32 = 30 * 24 * 60 * 60;
/// Most nodes a topology keeps.
pub const TOPOLOGY_NODES_MAX: usize = 65_536;
/// How far a node record's sequence may lie ahead of the reader's clock, milliseconds.
pub const NODE_RECORD_AHEAD_MS_MAX: u64 = 10 * 60 * 1000;

/// Longest segment file of a store, bytes: a new one is begun past it.
pub const SEGMENT_SIZE_MAX: u64 = 256 * MIB as u64;
/// Most leases one item may be kept under.
pub const ITEM_LEASES_MAX: usize = 1024;

/// Most items that a node has served one peer and that are neither acknowledged nor forgotten.
pub const UNACKNOWLEDGED_ITEMS_MAX: usize = 4096;
/// Most peers of which a node knows what it has served them.
pub const SERVED_PEERS_MAX: usize = 256;
/// Most sessions of one peer in which it may acknowledge what it was served.
pub const SESSIONS_PER_PEER_MAX: usize = 16;
/// Longest file of receipts, bytes: a new one is begun past it, and the one before the last is given up.
pub const RECEIPTS_FILE_SIZE_MAX: u64 = 64 * MIB as u64;

/// Longest record of a journal, bytes.
pub const JOURNAL_RECORD_SIZE_MAX: usize = 64 * KIB;

/// Shortest name of a bucket, bytes.
pub const BUCKET_NAME_SIZE_MIN: usize = 3;
/// Longest name of a bucket, bytes.
pub const BUCKET_NAME_SIZE_MAX: usize = 63;
/// Longest key in a bucket, bytes.
pub const KEY_SIZE_MAX: usize = 1024;
/// Most parts of an upload.
pub const UPLOAD_PARTS_MAX: u16 = 10_000;
/// Most extents that a version lists itself; where there are more, they are the parts of an upload.
pub const EXTENTS_LISTED_MAX: usize = 64;
/// Most blocks of one chapter of a bucket log.
pub const CHAPTER_BLOCKS_MAX: u32 = 256;
/// The longest encoded changes of one log block, bytes: what is sealed fits a block of the mesh.
pub const LOG_BLOCK_SIZE_MAX: usize = BLOCK_SIZE_MAX - 4 * KIB;
/// Most puts that one question for the blocks under them names.
pub const WIRE_BLOCKS_PUTS_MAX: usize = 256;
/// Most blocks that one answer to it lists: those of several chapters.
pub const WIRE_BLOCKS_MAX: usize = 4096;
