//! A private mesh: who knows its secret is in it, and nobody else learns anything of it.

mod common;

use std::time::{Duration, Instant};

use datamesh_core::wire::{FetchRequest, Message, Request};
use datamesh_engine::world::Peers;
use datamesh_net::{JoinError, MeshKey, Multiaddr, NetworkSettings, StartError, start};

use common::{Answerer, PATIENCE, client_settings, converged, launch, node_settings, patterned};

fn key(byte: u8) -> MeshKey {
    MeshKey::of_secret(&[byte; 32])
}

fn with_key(settings: NetworkSettings, key: Option<MeshKey>) -> NetworkSettings {
    NetworkSettings { key, ..settings }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_knows_the_secret_is_in_and_is_served_over_both_carriers() {
    let (first, memory) = launch(with_key(node_settings("a", vec![]), Some(key(1)))).await;
    let second = with_key(node_settings("b", first.listen_addresses()), Some(key(1)));
    let (second, _) = launch(second).await;
    converged(&[&first, &second], 2).await;
    let (client, _) = launch(with_key(client_settings(first.listen_addresses()), Some(key(1)))).await;
    client.joined(PATIENCE).await.expect("joined");
    let item = memory.keep(patterned(100_000));
    let fetch = Message::bare(Request::Fetch(FetchRequest::whole(item, None)));
    let answer = client.call(first.node(), fetch).await.expect("answered");
    assert_eq!(answer.payload, patterned(100_000));
    let counters = client.counters();
    assert!(counters.calls_by_link >= 1, "the data plane: {counters:?}");
    assert!(counters.calls_answered > counters.calls_by_link, "libp2p streams: {counters:?}");
}

/// Whom a participant with one secret, or none, meets where another one is in force.
async fn meets(node: Option<MeshKey>, client: Option<MeshKey>) {
    let (node, _) = launch(with_key(node_settings("a", vec![]), node)).await;
    let (client, _) = launch(with_key(client_settings(node.listen_addresses()), client)).await;
    let begun = Instant::now();
    let error = client.joined(PATIENCE).await.expect_err("it is another mesh");
    assert!(matches!(error, JoinError::OtherMesh { .. }), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(5), "it is said at once, after {:?}", begun.elapsed());
    assert!(error.to_string().contains("secret"), "{error}");
    assert!(client.topology().is_empty(), "it learns of no node");
    assert!(client.peers().await.is_empty() && node.peers().await.is_empty(), "nobody is connected");
    let called = client.call(node.node(), Message::bare(Request::Records { after: None })).await;
    assert!(called.is_err(), "nothing is answered: {called:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_know_the_secret_learns_nothing_and_is_told_why() {
    meets(Some(key(1)), None).await;
    meets(Some(key(1)), Some(key(2))).await;
    meets(None, Some(key(1))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_as_node_gets_no_record_in() {
    let (first, _) = launch(with_key(node_settings("a", vec![]), Some(key(1)))).await;
    let (stranger, _) = launch(with_key(node_settings("b", first.listen_addresses()), Some(key(2)))).await;
    assert!(stranger.joined(PATIENCE).await.is_err());
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((first.topology().len(), stranger.topology().len()), (1, 1), "each knows itself alone");
}

#[tokio::test]
async fn a_private_mesh_refuses_to_listen_where_its_secret_does_not_hold() {
    let mut settings = with_key(node_settings("a", vec![]), Some(key(1)));
    let quic: Multiaddr = "/ip4/127.0.0.1/udp/0/quic-v1".parse().expect("an address");
    settings.listen.push(quic.clone());
    let answerer = std::sync::Arc::new(Answerer(std::sync::Arc::default(), settings.identity.node()));
    let Err(error) = start(settings, answerer).await else { panic!("it started") };
    assert!(matches!(&error, StartError::Listen { address, .. } if *address == quic), "{error}");
}
