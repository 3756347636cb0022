//! A cached chunk is there at once: from the own disk, and from a cache node.

use std::time::Duration;

use datamesh_node::measure::cached_requests;

#[tokio::test(flavor = "multi_thread")]
async fn a_cached_chunk_is_there_within_twenty_milliseconds() {
    let place = tempfile::tempdir().expect("a directory");
    let measured = Box::pin(cached_requests(place.path(), 1000)).await.expect("measured");
    for latencies in &measured {
        let (half, most) = (latencies.percentile(50), latencies.percentile(99));
        println!("{}, {} times: p50 {half:?}, p99 {most:?}", latencies.name, latencies.times.len());
    }
    // Tests run beside others, on processors that are busy: half of the requests say how long one takes.
    assert!(measured.iter().all(|latencies| latencies.percentile(50) < Duration::from_millis(20)));
}
