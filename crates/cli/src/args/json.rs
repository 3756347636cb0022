//! One example of each command's JSON result, as its help shows it and as tests hold the program to it.

/// Sets an example apart in the help; the reference and the tests find it behind this line.
pub const HEAD: &str = "JSON result, one a line:";

macro_rules! examples {
    ($($name:ident = $example:literal;)+) => {
        $(pub(super) const $name: &str = concat!("JSON result, one a line:\n  ", $example);)+
    };
}

examples! {
    PUT = r#"{"object":"bafyr4i…","name":"file","size":1000,"packed_size":1016,"stored_size":1536,"reused_size":0,"sent_size":1536,"scheme":"4+2","policy":"scheme=4+2","mode":"sealed","stripe_count":1,"stripes_reused":0,"stripes_resumed":0,"acknowledged":"whole","until":null,"seconds":0.1}"#;
    GET = r#"{"object":"bafyr4i…","name":"file","size":1000,"resumed_size":0,"out":"file","seconds":0.1}"#;
    ENTRY = r#"{"object":"bafyr4i…","name":"file","size":1000,"stored_size":1536,"mode":"sealed","scheme":"4+2","created":"2026-03-01T12:00:00Z","network":"embedded","acknowledged":"whole","until":null}"#;
    STATS = r#"{"object_count":1,"degraded_count":0,"size":1000,"stored_size":1536,"overhead":1.5,"unique_size":1024,"redundancy":1.5,"compression":0.97,"objects_by_mode":{"sealed":1},"modes":[{"mode":"sealed","object_count":1,"size":1000,"stored_size":1536}],"networks":[{"network":"embedded","object_count":1,"size":1000,"stored_size":1536}],"cache":{"used":0,"capacity":10000000000,"hits":0,"misses":0,"hit_ratio":null}}"#;
    INFO = r#"{"object":"bafyr4i…","mode":"sealed","scheme":"4+2","score":1.0,"survives":"…","survives_domains":2,"alert":null,"advice":null,"stripe_count":1,"shards_found":6,"shards_expected":6,"replicas_found":3,"replicas_expected":3,"name":"file","kind":"file","media_type":"text/plain","metadata":{"key":"value"},"size":1000,"created":"2026-03-01T12:00:00Z","until":null,"stripes":[{"index":0,"sealed_size":1016,"shards":[{"shard":"4bf5…","node":"12D3KooW…"}]}],"manifest":[{"block":"bafyr4i…","nodes":["12D3KooW…"]}]}"#;
    HEALTH_OF_OBJECT = r#"{"object":"bafyr4i…","mode":"sealed","scheme":"4+2","score":1.0,"survives":"…","survives_domains":2,"alert":null,"advice":null,"stripe_count":1,"shards_found":6,"shards_expected":6,"replicas_found":3,"replicas_expected":3}"#;
    REPAIR = r#"{"object":"bafyr4i…","shards_repaired":2,"replicas_repaired":1,"unplaced":0}"#;
    GATEWAY = r#"{"endpoint":"http://127.0.0.1:9000","dashboard":"http://127.0.0.1:9000/dashboard","region":"us-east-1","network":"mesh","owner":"9263…","access_keys":1}"#;
    ACCESS = r#"{"id":"DM7XKQ…","name":"backup","grants":["photos=read"],"created":"2026-03-01T12:00:00Z"}"#;
    ACCESS_SECRET = r#"{"id":"DM7XKQ…","name":"backup","grants":["photos=read"],"created":"2026-03-01T12:00:00Z","secret":"K4M…"}"#;
    GC = r#"{"leases_expired":0,"items_dropped":0,"segments_removed":1,"size":1048576}"#;
    DELETE = r#"{"object":"bafyr4i…","lease_count":9,"nodes_told":6}"#;
    ADMISSION = r#"{"kind":"owner","key":"9263…","authority":"9263…","until":null,"quota":500000000000}"#;
    ADMITTED = r#"{"kind":"owner","key":"9263…","authority":"9263…","until":null,"quota":500000000000,"nodes_told":6}"#;
    ENROLLED = r#"{"authority":"9263…","admissions":3,"nodes_told":6}"#;
    REVOCATION = r#"{"key":"9263…","revoked":true,"nodes_told":6}"#;
    RENEW = r#"{"object":"bafyr4i…","until":"2027-03-01T12:00:00Z","lease_count":9,"missed_count":0}"#;
    PEER = r#"{"peer_id":"12D3KooW…","domain":"-/-/host","role":"storage","state":"active","reachable":true,"capacity":100000000000,"used":1536,"item_count":9,"full":false,"software":"0.1.0","latency_s":0.001,"addresses":["/ip4/10.0.0.1/tcp/40871"],"error":null}"#;
    HEALTH = r#"{"nodes_known":6,"nodes_reachable":6,"nodes_full":0,"failure_domains":6,"scheme":"4+2","capacity":600000000000,"used":9216,"standing":{"subjects":9,"whole":8,"lost":0,"doubtful":0,"survive":[{"parts":1,"subjects":1}],"least_score":0.75,"groups_unknown":0,"groups_doubled":0,"age_s":12,"words":"…"},"alerts":[{"level":"WARNING","cause":"availability","message":"…","action":"schedule_repair","advice":"…","since":"2026-03-01T12:00:00Z","nodes":["12D3KooW…"]}]}"#;
    SAMPLE = r#"{"node":"12D3KooW…","metric":"datamesh_store_items","kind":"gauge","labels":{"direction":"sent"},"value":9}"#;
    BANDWIDTH = r#"{"peer_id":"12D3KooW…","up_bytes_per_second":0.0,"down_bytes_per_second":0.0,"up_limit":null,"down_limit":null,"up_utilization":0.5,"down_utilization":0.5,"sent":1536,"received":0,"reliability":1.0,"latency_s":null}"#;
    UP = r#"{"peer_id":"12D3KooW…","address":"/ip4/127.0.0.1/tcp/40001/p2p/12D3KooW…","pid":4711,"home":"up/node-0"}"#;
    DEMO = r#"{"step":"put","seconds":1.2}"#;
    STAGE = r#"{"stage":"seal","size":1073741824,"seconds":0.5,"cpu_seconds":0.5,"mib_per_second":2048.0,"cpu_seconds_per_gib":0.5,"client_memory_peak":null,"node_memory_peak":null,"p50_s":null,"p99_s":null}"#;
    LOAD = r#"{"transfer_count":1000,"failure_count":0,"size":1048592000,"seconds":10.0,"latency_p50_s":0.1,"latency_p99_s":0.2}"#;
    IDENTITY = r#"{"name":"main","recipient":"datamesh-recipient-1…","owner":"9263…","created":"2026-03-01T12:00:00Z","retired":null,"locked":false,"current":true}"#;
    SECRET = r#"{"name":"main","secret":"datamesh-secret-1…"}"#;
    NODE_STATE = r#"{"state":"draining"}"#;
    NETWORK = r#"{"name":"mesh","current":true,"kind":"open","addresses":["/ip4/10.0.0.1/tcp/40871/p2p/12D3KooW…"]}"#;
    NODE = r#"{"peer_id":"12D3KooW…","addresses":["/ip4/10.0.0.1/tcp/40871/p2p/12D3KooW…"],"kind":"open","secret_file":null,"authorities":[],"latency_map":null,"gateway":{"endpoint":"http://127.0.0.1:9000","dashboard":"http://127.0.0.1:9000/dashboard","region":"us-east-1"}}"#;
    SETTING = r#"{"key":"put.mode","value":"sealed","source":"default"}"#;
    CHECK = r#"{"valid":false,"problems":["config.toml:3: unknown setting `put.mod`; did you mean `put.mode`?"]}"#;
    COMPLETIONS = r#"{"shell":"bash","script":"…"}"#;
    MAN = r#"{"directory":"man","pages":["datamesh.1"]}"#;
}
