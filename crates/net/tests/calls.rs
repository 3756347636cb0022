//! Calls are answered, fail fast and typed where nobody answers, and stay within their budget.

mod common;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use datamesh_core::limits::{MIB, SHARD_SIZE_MAX};
use datamesh_core::wire::{FetchRequest, Message, Refusal, Request, Response};
use datamesh_engine::world::{CallError, Peers};
use datamesh_net::Network;
use futures::future::join_all;
use futures::stream::{self, StreamExt};

use common::{
    Memory, PATIENCE, client_settings, converged, launch, launch_with, mesh, node_settings, patterned, until,
};

async fn joined_client(node: &Network) -> Network {
    let (client, _) = launch(client_settings(node.listen_addresses())).await;
    client.joined(PATIENCE).await.expect("joined");
    client
}

fn fetch(item: datamesh_core::id::ItemId, size: Option<u32>) -> Message<Request> {
    Message::bare(Request::Fetch(FetchRequest::whole(item, size)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_longest_payload_arrives_as_it_was() {
    let (node, memory) = launch(node_settings("a", vec![])).await;
    let client = joined_client(&node).await;
    let bytes = patterned(SHARD_SIZE_MAX);
    let item = memory.keep(bytes.clone());
    let answer = client.call(node.node(), fetch(item, None)).await.expect("answered");
    assert_eq!(answer.header, Response::Found);
    assert!(answer.payload == bytes);
    let part = client.call(node.node(), fetch(item, Some(1000))).await.expect("answered");
    assert_eq!(part.payload, bytes[..1000]);
    let itself = node.call(node.node(), fetch(item, Some(10))).await.expect("a node answers itself");
    assert_eq!(itself.payload, bytes[..10]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_requests_sixty_four_at_a_time_are_all_answered() {
    let (node, memory) = launch(node_settings("a", vec![])).await;
    let client = joined_client(&node).await;
    let bytes = patterned(256 * 1024);
    let item = memory.keep(bytes.clone());
    let begun = Instant::now();
    let calls = stream::iter(0..1000).map(|_| client.call(node.node(), fetch(item, Some(256 * 1024))));
    let answered = calls
        .buffer_unordered(64)
        .map(|answer| assert!(answer.expect("answered").payload == bytes))
        .count()
        .await;
    let took = begun.elapsed();
    println!("{answered} fetches of 256 KiB took {took:?}");
    assert_eq!(answered, 1000);
    assert_eq!(client.counters().calls_unanswered, 0);
    assert_eq!(node.counters().violations, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_node_is_reported_fast_and_typed() {
    let nodes = mesh(3).await;
    let networks: Vec<&Network> = nodes.iter().map(|(network, _)| network).collect();
    converged(&networks, 3).await;
    let dead = networks[2].node();
    networks[0].call(dead, Message::bare(Request::Status)).await.expect("alive");
    networks[2].shutdown().await;
    for attempt in 0..5 {
        let begun = Instant::now();
        let error = networks[0].call(dead, Message::bare(Request::Status)).await.expect_err("dead");
        assert!(matches!(error, CallError::Unreachable { node, .. } if node == dead), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(1), "{attempt}: {:?}", begun.elapsed());
    }
    // It is not dialled anew for each call.
    let dials = networks[0].counters().dials_unanswered;
    for _ in 0..50 {
        networks[0].call(dead, Message::bare(Request::Status)).await.expect_err("dead");
    }
    assert!(networks[0].counters().dials_unanswered <= dials + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_comes_back_is_reached_again() {
    let settings = node_settings("back", vec![]);
    let (before, _) = launch(settings.clone()).await;
    let client = joined_client(&before).await;
    let mut settings = settings;
    let mut address = before.listen_addresses().remove(0);
    address.pop();
    settings.listen = vec![address];
    before.shutdown().await;
    client.call(before.node(), Message::bare(Request::Status)).await.expect_err("gone");
    let (after, _) = launch(settings).await;
    until("it answers again", async || {
        client.call(after.node(), Message::bare(Request::Status)).await.is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_node_and_a_client_itself_are_unreachable() {
    let (node, _) = launch(node_settings("a", vec![])).await;
    let client = joined_client(&node).await;
    let nobody = datamesh_net::Identity::generate().expect("entropy").node();
    let status = || Message::bare(Request::Status);
    assert!(matches!(client.call(nobody, status()).await, Err(CallError::Unreachable { .. })));
    assert!(matches!(client.call(client.node(), status()).await, Err(CallError::Unreachable { .. })));
    assert!(matches!(node.call(client.node(), status()).await, Err(CallError::Unreachable { .. })));
    client.shutdown().await;
    assert_eq!(client.call(node.node(), status()).await, Err(CallError::Closed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outstanding_calls_stay_within_the_budget() {
    let memory = Memory::slow(Duration::from_millis(300));
    let (node, _) = launch_with(node_settings("a", vec![]), Arc::clone(&memory)).await;
    let mut settings = client_settings(node.listen_addresses());
    settings.limits.outbound_bytes = 8 * MIB;
    let (client, _) = launch(settings).await;
    client.joined(PATIENCE).await.expect("joined");
    assert_eq!(client.outbound_bytes_free(), 8 * MIB);
    let item = memory.keep(patterned(MIB));
    let size = u32::try_from(MIB).expect("fits");
    let calls = join_all((0..40).map(|_| client.call(node.node(), fetch(item, Some(size)))));
    let answers = tokio::select! {
        answers = calls => answers,
        () = async {
            loop {
                tokio::time::sleep(Duration::from_millis(5)).await;
                assert!(client.outbound_bytes_free() <= 8 * MIB);
            }
        } => unreachable!("watches for ever"),
    };
    assert!(answers.iter().all(Result::is_ok));
    let under_way = memory.answering_max.load(Ordering::SeqCst);
    assert!((2..=7).contains(&under_way), "{under_way} of 1 MiB in 8 MiB, with what a call takes besides");
    assert_eq!(client.outbound_bytes_free(), 8 * MIB, "all is given back");
    until("the node gives back all too", async || node.inbound_bytes_free() == 32 * MIB).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_overloaded_node_says_that_it_is_busy() {
    let memory = Memory::slow(Duration::from_millis(500));
    let mut settings = node_settings("a", vec![]);
    settings.limits.answers = 4;
    let (node, _) = launch_with(settings, memory).await;
    let clients = join_all((0..6).map(|_| joined_client(&node))).await;
    let calls = clients.iter().map(|client| client.call(node.node(), Message::bare(Request::Status)));
    let answers = join_all(calls).await;
    let busy = |answer: &&Result<Message<Response>, CallError>| {
        matches!(answer, Ok(Message { header: Response::Refused(Refusal::Busy), .. }))
    };
    let refused = answers.iter().filter(busy).count();
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert_eq!(refused, 2);
    let after = clients[0].call(node.node(), Message::bare(Request::Status)).await;
    assert!(!busy(&&after), "answered after the rush");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_greedy_peer_waits_for_itself_and_others_are_answered() {
    let memory = Memory::slow(Duration::from_millis(200));
    let mut settings = node_settings("a", vec![]);
    settings.limits.answers = 8;
    let (node, _) = launch_with(settings, Arc::clone(&memory)).await;
    let (greedy, other) = (joined_client(&node).await, joined_client(&node).await);
    let status = |client: &Network| {
        let client = client.clone();
        let to = node.node();
        async move { client.call(to, Message::bare(Request::Status)).await.expect("answered").header }
    };
    let rush = join_all((0..20).map(|_| status(&greedy)));
    let amid = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        status(&other).await
    };
    let (rushed, answer) = tokio::join!(rush, amid);
    assert!(matches!(answer, Response::Status(_)), "{answer:?}");
    assert!(rushed.iter().all(|answer| matches!(answer, Response::Status(_))), "{rushed:?}");
    assert!(memory.answering_max.load(Ordering::SeqCst) <= 3, "two of the greedy one, one of the other");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_given_up_gives_back_what_it_had_reserved() {
    let memory = Memory::slow(Duration::from_secs(60));
    let (node, _) = launch_with(node_settings("a", vec![]), memory).await;
    let client = joined_client(&node).await;
    let free = client.outbound_bytes_free();
    let call = client.call(node.node(), Message::bare(Request::Status));
    tokio::time::timeout(Duration::from_millis(200), call).await.expect_err("it takes a minute");
    assert_eq!(client.outbound_bytes_free(), free);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_under_way_has_room_for_the_headers_too() {
    let memory = Memory::slow(Duration::from_millis(500));
    let (node, _) = launch_with(node_settings("a", vec![]), memory).await;
    let client = joined_client(&node).await;
    let call = client.call(node.node(), Message::bare(Request::Status));
    let amid = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        32 * MIB - node.inbound_bytes_free()
    };
    let (answer, reserved) = tokio::join!(call, amid);
    answer.expect("answered");
    assert!(
        (4 * 1024..MIB).contains(&reserved),
        "{reserved} bytes for a request and an answer without payload"
    );
}
