//! Every metric there is: its name, its kind, its labels, and what it says.
//!
//! Names follow Prometheus' conventions: base units, and `_total` behind what only grows. `docs/metrics.md` is made from this table.

/// How the values of a metric behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// It only grows, until its process ends.
    Counter,
    /// It goes up and down.
    Gauge,
}

impl Kind {
    /// What OpenMetrics calls it.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
        }
    }
}

/// One metric.
#[derive(Debug)]
pub struct Definition {
    /// Its name. In the text a counter has `_total` behind it.
    pub name: &'static str,
    /// How its values behave.
    pub kind: Kind,
    /// The labels of its samples.
    pub labels: &'static [&'static str],
    about: &'static str,
}

impl Definition {
    /// What it says.
    #[must_use]
    pub fn about(&self) -> &'static str {
        self.about.trim()
    }

    /// The name of its samples.
    #[must_use]
    pub fn sample_name(&self) -> String {
        match self.kind {
            Kind::Counter => format!("{}_total", self.name),
            Kind::Gauge => self.name.to_owned(),
        }
    }
}

macro_rules! metrics {
    ($($(#[doc = $about:literal])+ $constant:ident = $kind:ident $name:literal [$($label:literal),*];)+) => {
        $(
            $(#[doc = $about])+
            pub const $constant: Definition = Definition {
                name: $name,
                kind: Kind::$kind,
                labels: &[$($label),*],
                about: concat!($($about),+),
            };
        )+

        /// Every metric, in the order of the page.
        pub const DEFINITIONS: &[Definition] = &[$($constant),+];
    };
}

metrics! {
    /// 1; the version of the program is a label.
    BUILD = Gauge "datamesh_build_info" ["version"];
    /// 1; the digest of the latency map that is placed by is a label, or `none`: it must be the same in the whole mesh.
    PLACEMENT = Gauge "datamesh_placement_info" ["latency_map"];
    /// Seconds since the node started.
    UPTIME_SECONDS = Gauge "datamesh_uptime_seconds" [];

    /// Bytes of messages, requests and answers, since the process started.
    NETWORK_BYTES = Counter "datamesh_network_bytes" ["direction"];
    /// Bytes of messages a second, over the last ten seconds.
    NETWORK_RATE = Gauge "datamesh_network_rate_bytes_per_second" ["direction"];
    /// The highest of those rates so far.
    NETWORK_BEST_RATE = Gauge "datamesh_network_best_rate_bytes_per_second" ["direction"];
    /// Bytes a second that may be moved; absent where there is no limit.
    NETWORK_RATE_LIMIT = Gauge "datamesh_network_rate_limit_bytes_per_second" ["direction"];
    /// The rate over the limit; where there is none, over the best rate so far.
    NETWORK_UTILIZATION = Gauge "datamesh_network_utilization_ratio" ["direction"];
    /// Calls to other nodes: `answered` or `unanswered`.
    NETWORK_CALLS = Counter "datamesh_network_calls" ["outcome"];
    /// Requests of others: `answered`, or `refused` because too many were being answered.
    NETWORK_REQUESTS = Counter "datamesh_network_requests" ["outcome"];
    /// Dials that reached nobody.
    NETWORK_DIALS_UNANSWERED = Counter "datamesh_network_dials_unanswered" [];
    /// Connections established, by either side.
    NETWORK_CONNECTIONS = Counter "datamesh_network_connections_established" [];
    /// Times a peer broke the protocol.
    NETWORK_VIOLATIONS = Counter "datamesh_network_violations" [];
    /// Times a peer was denied.
    NETWORK_DENIALS = Counter "datamesh_network_denials" [];
    /// Node records that were news.
    NETWORK_RECORDS = Counter "datamesh_network_records_learned" [];
    /// Nodes known, the own one included.
    NODES_KNOWN = Gauge "datamesh_nodes_known" [];

    /// Requests that the node answered: `answered` or `refused`.
    REQUESTS = Counter "datamesh_requests" ["request", "outcome"];
    /// Bytes of items that others sent to the node (`received`) or got from it (`sent`).
    REQUEST_BYTES = Counter "datamesh_request_item_bytes" ["direction"];
    /// Acknowledgments of what was served that both ends have signed.
    RECEIPTS = Counter "datamesh_receipts" [];
    /// Bytes of items that they are for.
    RECEIPT_BYTES = Counter "datamesh_receipt_item_bytes" [];
    /// Items that the node holds.
    STORE_ITEMS = Gauge "datamesh_store_items" [];
    /// Bytes that its items take.
    STORE_USED_BYTES = Gauge "datamesh_store_used_bytes" [];
    /// Bytes that it offers.
    STORE_CAPACITY_BYTES = Gauge "datamesh_store_capacity_bytes" [];
    /// 1 if it takes no more items because it is full, else 0.
    STORE_FULL = Gauge "datamesh_store_full" [];
    /// Indexes that were damaged and made anew from the segments, the one that the node found when it started among them.
    STORE_INDEXES_REBUILT = Counter "datamesh_store_indexes_rebuilt" [];
    /// Headers of segments that were damaged and are written anew.
    STORE_HEADERS_MENDED = Counter "datamesh_store_headers_mended" [];
    /// Releases that were rotten and are written anew.
    STORE_RELEASES_MENDED = Counter "datamesh_store_releases_mended" [];
    /// Segments that can't be read at all and were given another name; what they held is missed and made again by the mesh.
    STORE_SEGMENTS_SET_ASIDE = Counter "datamesh_store_segments_set_aside" [];
    /// Items that were rotten and are held no more, whoever noticed: the scrub, a reader, or a collection.
    STORE_ROTTEN = Counter "datamesh_store_rotten" [];

    /// 1 if the node's backend did not answer when it was last asked, else 0.
    BACKEND_AWAY = Gauge "datamesh_backend_away" [];
    /// Segments of a node with a backend that lie at the `backend`, or are `local`.
    BACKEND_SEGMENTS = Gauge "datamesh_backend_segments" ["place"];
    /// Bytes of them.
    BACKEND_SEGMENT_BYTES = Gauge "datamesh_backend_segment_bytes" ["place"];
    /// Segments that are to be removed from the backend and still lie there.
    BACKEND_REMOVALS_WAITING = Gauge "datamesh_backend_removals_waiting" [];
    /// Bytes of segments that were `sent` to the backend, and bytes that were `received` from it.
    BACKEND_BYTES = Counter "datamesh_backend_bytes" ["direction"];
    /// Reads from the backend.
    BACKEND_READS = Counter "datamesh_backend_reads" [];
    /// Segments that came back from the backend because so much of them was wanted.
    BACKEND_RECALLS = Counter "datamesh_backend_recalls" [];
    /// Requests that the backend did not answer as it should, each after its retries.
    BACKEND_FAILURES = Counter "datamesh_backend_failures" [];

    /// Times that the node looked at all its placement groups.
    KEEP_ROUNDS = Counter "datamesh_keep_rounds" [];
    /// Stripes and manifest blocks that were short of parts when it last looked, in the groups that it leads.
    KEEP_SHORT = Gauge "datamesh_keep_short" [];
    /// Of these, those of which fewer parts are left than make the whole.
    KEEP_LOST = Gauge "datamesh_keep_lost" [];
    /// Parts that belong to other nodes and could not be given to them when it last looked.
    KEEP_MISPLACED = Gauge "datamesh_keep_misplaced" [];
    /// Parts that it made again: `succeeded`, or `failed` because too few were left or nobody took them.
    KEEP_REPAIRS = Counter "datamesh_keep_repairs" ["outcome"];
    /// Parts that it gave to the nodes that they belong to.
    KEEP_HANDED_OVER = Counter "datamesh_keep_handed_over" [];
    /// Parts that it dropped because their nodes have them.
    KEEP_DISCARDED = Counter "datamesh_keep_discarded" [];

    /// Placement groups that the node led when it last looked; absent while it has not, or seems to be cut off.
    STANDING_GROUPS = Gauge "datamesh_standing_groups" [];
    /// Stripes and manifest blocks in them that survive the loss of so many more parts and no more, or are `lost`.
    STANDING_SUBJECTS = Gauge "datamesh_standing_subjects" ["survives"];
    /// Of those that lack parts, those whose other parts may be at nodes that are silent.
    STANDING_DOUBTFUL = Gauge "datamesh_standing_doubtful" [];
    /// The least availability score of them: 1 whole, a half where no part can be lost any more.
    STANDING_LEAST_SCORE = Gauge "datamesh_standing_least_score_ratio" [];
    /// Alerts that are on, by level: `warning`, `critical` or `lost`. docs/health.md says what they mean.
    ALERTS = Gauge "datamesh_alerts" ["level"];
    /// What became of notices of alerts to the `command` or the `webhook`: `told`, `failed`, or `dropped` because too many waited.
    ALERT_NOTICES = Counter "datamesh_alert_notices" ["way", "outcome"];
    /// Items that the node wrote and synced.
    DISK_WRITES = Counter "datamesh_disk_item_writes" [];
    /// Seconds that those took, their time in the queue included, all together.
    DISK_WRITE_SECONDS = Counter "datamesh_disk_item_write_seconds" [];
    /// Reads, writes and syncs that the node's disk refused.
    DISK_ERRORS = Counter "datamesh_disk_errors" [];
    /// Items that were found rotten, by a scrub or by who asked for them.
    DISK_ROTTEN = Counter "datamesh_disk_rotten_items" [];
    /// Items that were read again to see whether they have rotted.
    SCRUB_ITEMS = Counter "datamesh_scrub_items" [];
    /// Bytes of them.
    SCRUB_BYTES = Counter "datamesh_scrub_item_bytes" [];
    /// Of these, items that had rotted: they are held no more, and made again from others.
    SCRUB_ROTTEN = Counter "datamesh_scrub_rotten" [];
    /// Of these, items that the disk did not give.
    SCRUB_UNREADABLE = Counter "datamesh_scrub_unreadable" [];
    /// Times that all items were read.
    SCRUB_PASSES = Counter "datamesh_scrub_passes" [];

    /// Bytes of items that puts, gets and repairs sent to nodes or received from them.
    ITEM_BYTES = Counter "datamesh_item_bytes" ["direction"];
    /// Items that puts, gets and repairs asked of nodes: `succeeded` or `failed`.
    ITEM_TRANSFERS = Counter "datamesh_item_transfers" ["outcome"];
    /// The share of those that succeeded.
    ITEM_SUCCESS = Gauge "datamesh_item_success_ratio" [];
    /// Bytes of items that were sent to a peer or received from it.
    PEER_BYTES = Counter "datamesh_peer_item_bytes" ["peer", "direction"];
    /// Items asked of a peer: `succeeded` or `failed`.
    PEER_TRANSFERS = Counter "datamesh_peer_item_transfers" ["peer", "outcome"];
    /// How far a peer can be relied on, 0 to 1: (succeeded + 1) / (succeeded + failed + 1) unless something better is known.
    PEER_RELIABILITY = Gauge "datamesh_peer_reliability_ratio" ["peer"];
    /// Bytes a second that a peer was last seen to move; absent where nothing was measured.
    PEER_RATE = Gauge "datamesh_peer_rate_bytes_per_second" ["peer"];
    /// Seconds that a peer takes to answer, without the time that bytes take; absent where nothing was measured.
    PEER_LATENCY = Gauge "datamesh_peer_latency_seconds" ["peer"];

    /// Look-ups in the cache: `hit` or `miss`.
    CACHE_LOOKUPS = Counter "datamesh_cache_lookups" ["outcome"];
    /// The share of look-ups that were hits.
    CACHE_HIT_RATIO = Gauge "datamesh_cache_hit_ratio" [];
    /// Bytes that were found in the cache and so never moved.
    CACHE_HIT_BYTES = Counter "datamesh_cache_hit_bytes" [];
    /// What the cache was offered: `admitted`, `declined` because it was asked for once only, or `dropped` because too much was
    /// waiting to be written.
    CACHE_OFFERS = Counter "datamesh_cache_offers" ["outcome"];
    /// Stripes that a cache node was asked for again and got from their holders: `succeeded`, `failed`, or `dropped` because too many
    /// were waiting.
    CACHE_PULLS = Counter "datamesh_cache_pulls" ["outcome"];
    /// Entries that left the cache: `evicted` for room, `expired` unused, or `rotten`.
    CACHE_REMOVALS = Counter "datamesh_cache_removals" ["reason"];
    /// Bytes that the cache takes on disk.
    CACHE_BYTES = Gauge "datamesh_cache_used_bytes" [];
    /// Bytes that it may take.
    CACHE_CAPACITY_BYTES = Gauge "datamesh_cache_capacity_bytes" [];
    /// Entries of the cache.
    CACHE_ENTRIES = Gauge "datamesh_cache_entries" [];

    /// Objects in the catalog.
    CATALOG_OBJECTS = Gauge "datamesh_catalog_objects" [];
    /// Their bytes of plaintext.
    CATALOG_PLAINTEXT_BYTES = Gauge "datamesh_catalog_plaintext_bytes" [];
    /// Bytes that they take on nodes, all copies together.
    CATALOG_STORED_BYTES = Gauge "datamesh_catalog_stored_bytes" [];
    /// Bytes of plaintext for each byte of them without redundancy: what compression and deduplication saved, less manifests.
    CATALOG_COMPRESSION_RATIO = Gauge "datamesh_catalog_compression_ratio" [];
    /// Bytes stored for each byte of them without redundancy.
    CATALOG_REDUNDANCY_RATIO = Gauge "datamesh_catalog_redundancy_ratio" [];
}
