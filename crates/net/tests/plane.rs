//! Calls take the data plane where a node serves it, streams where it doesn't, and whoever breaks its rules is dropped.

mod common;

use std::sync::Arc;
use std::time::Duration;

use datamesh_core::encode::{decode, encode};
use datamesh_core::limits::{MIB, SHARD_SIZE_MAX};
use datamesh_core::sign::Signed;
use datamesh_core::topology::NodeRecord;
use datamesh_core::wire::{FetchRequest, Message, Request, Response};
use datamesh_engine::world::Peers;
use datamesh_net::{DataPlane, Identity, Multiaddr, Network};
use futures::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use common::{
    Memory, PATIENCE, client_settings, converged, launch, launch_with, mesh, node_settings, patterned, until,
};

async fn joined_client(node: &Network) -> Network {
    let (client, _) = launch(client_settings(node.listen_addresses())).await;
    client.joined(PATIENCE).await.expect("joined");
    client
}

fn fetch(item: datamesh_core::id::ItemId, size: usize) -> Message<Request> {
    let size = Some(u32::try_from(size).expect("fits"));
    Message::bare(Request::Fetch(FetchRequest::whole(item, size)))
}

fn record(network: &Network) -> NodeRecord {
    network.topology().record(&network.node()).expect("a node knows itself").clone()
}

/// The port of a node's data address.
fn data_port(network: &Network) -> u16 {
    let record = record(network);
    let address = record.addresses.iter().find(|text| text.ends_with("/tls")).expect("it serves data");
    let parts: Vec<&str> = address.split('/').collect();
    parts[4].parse().expect("a port")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_take_the_data_plane_where_there_is_one() {
    let (node, memory) = launch(node_settings("a", vec![])).await;
    let client = joined_client(&node).await;
    let bytes = patterned(SHARD_SIZE_MAX);
    let item = memory.keep(bytes.clone());
    for size in [0, 1, 16 * 1024, 16 * 1024 + 1, MIB, SHARD_SIZE_MAX] {
        let answer = client.call(node.node(), fetch(item, size)).await.expect("answered");
        assert!(answer.payload == bytes[..size], "{size} bytes");
    }
    assert!(client.counters().calls_by_link >= 6, "each of them");
    assert!(
        client.listen_addresses().is_empty() && record(&node).addresses.len() == 2,
        "one address of each kind"
    );
    assert!(node.listen_addresses().iter().all(|address| !address.to_string().contains("/tls")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_fetches_at_once_are_answered_over_a_few_connections() {
    let (node, memory) = launch(node_settings("a", vec![])).await;
    let client = joined_client(&node).await;
    let bytes = patterned(64 * 1024);
    let item = memory.keep(bytes.clone());
    let answers = join_all((0..1000).map(|_| client.call(node.node(), fetch(item, bytes.len())))).await;
    assert!(answers.into_iter().all(|answer| answer.expect("answered").payload == bytes));
    let counters = client.counters();
    assert!(counters.calls_by_link >= 1000);
    assert_eq!(counters.calls_unanswered, 0);
    assert!((1..=3).contains(&counters.links_established), "{} connections", counters.links_established);
    until("all room is given back", async || node.inbound_bytes_free() == 32 * MIB).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_data_port_is_called_over_streams() {
    let mut settings = node_settings("a", vec![]);
    settings.data_plane = DataPlane::Off;
    let (node, memory) = launch(settings).await;
    let client = joined_client(&node).await;
    let item = memory.keep(patterned(MIB));
    client.call(node.node(), fetch(item, MIB)).await.expect("answered");
    assert_eq!(client.counters().calls_by_link, 0);
    assert!(client.counters().calls_answered >= 1);
}

/// A node whose record names this data port, though it serves none there.
async fn pretender(port: u16) -> (Network, Arc<Memory>) {
    let mut settings = node_settings("p", vec![]);
    settings.data_plane = DataPlane::Off;
    let data: Multiaddr = format!("/ip4/127.0.0.1/tcp/{port}/tls").parse().expect("an address");
    settings.external = vec![data];
    launch(settings).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreachable_data_port_costs_one_attempt_and_no_call() {
    let closed = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = closed.local_addr().expect("bound").port();
    drop(closed);
    let (node, _) = pretender(port).await;
    let client = joined_client(&node).await;
    until("its addresses are known", async || record_known(&client, &node)).await;
    for _ in 0..20 {
        client.call(node.node(), Message::bare(Request::Status)).await.expect("answered by stream");
    }
    assert_eq!(client.counters().calls_by_link, 0);
}

/// Accepts connections and says nothing on them. Its second part is its port.
async fn silent_listener() -> (tokio::task::JoinHandle<()>, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let listening = tokio::spawn(async move {
        let mut sockets = Vec::new();
        loop {
            sockets.push(listener.accept().await.expect("accepted"));
        }
    });
    (listening, port)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_says_nothing_holds_up_no_other() {
    let (_listening, port) = silent_listener().await;
    let mut settings = node_settings("a", vec![]);
    let silent: Multiaddr = format!("/ip4/127.0.0.1/tcp/{port}/tls").parse().expect("an address");
    settings.external = vec![silent];
    let (node, _) = launch(settings).await;
    let client = joined_client(&node).await;
    until("its addresses are known", async || record_known(&client, &node)).await;
    until("the data plane is taken", async || {
        let begun = std::time::Instant::now();
        client.call(node.node(), Message::bare(Request::Status)).await.expect("answered");
        assert!(begun.elapsed() < Duration::from_secs(3), "a dial may take five: {:?}", begun.elapsed());
        client.counters().calls_by_link > 0
    })
    .await;
}

fn record_known(client: &Network, node: &Network) -> bool {
    client.topology().record(&node.node()).is_some_and(|record| !record.addresses.is_empty())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_called_at_an_address_where_somebody_else_answers() {
    let (other, other_memory) = launch(node_settings("o", vec![])).await;
    let (node, memory) = pretender(data_port(&other)).await;
    let client = joined_client(&node).await;
    until("its addresses are known", async || record_known(&client, &node)).await;
    let item = memory.keep(patterned(1000));
    let answer = client.call(node.node(), fetch(item, 1000)).await.expect("answered by stream");
    assert_eq!(answer.header, Response::Found, "by the node itself, since the other one has no such item");
    assert_eq!(client.counters().calls_by_link, 0);
    assert!(other_memory.items.lock().expect("not poisoned").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_restarted_is_dialled_anew() {
    let settings = node_settings("back", vec![]);
    let (before, _) = launch(settings.clone()).await;
    let client = joined_client(&before).await;
    client.call(before.node(), Message::bare(Request::Status)).await.expect("answered");
    assert!(client.counters().calls_by_link >= 1);
    let mut again = settings;
    let mut address = before.listen_addresses().remove(0);
    address.pop();
    again.listen = vec![address];
    again.data_plane = DataPlane::On { port: data_port(&before), congestion: None };
    before.shutdown().await;
    let (after, _) = launch(again).await;
    let by_link = client.counters().calls_by_link;
    until("the data plane is taken again", async || {
        client.call(after.node(), Message::bare(Request::Status)).await.is_ok()
            && client.counters().calls_by_link > by_link
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_given_up_leaves_the_others_on_its_connection_alone() {
    let memory = Memory::slow(Duration::from_millis(200));
    let (node, _) = launch_with(node_settings("a", vec![]), Arc::clone(&memory)).await;
    let client = joined_client(&node).await;
    let bytes = patterned(MIB);
    let item = memory.keep(bytes.clone());
    let (kept, _) = tokio::join!(
        join_all((0..4).map(|_| client.call(node.node(), fetch(item, MIB)))),
        tokio::time::timeout(
            Duration::from_millis(100),
            join_all((0..4).map(|_| client.call(node.node(), fetch(item, MIB)))),
        ),
    );
    assert!(kept.into_iter().all(|answer| answer.expect("answered").payload == bytes));
    let answer = client.call(node.node(), fetch(item, MIB)).await.expect("the connection is still good");
    assert!(answer.payload == bytes);
    assert!(client.counters().calls_by_link >= 5);
    assert_eq!(node.counters().violations, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_on_the_data_port_is_dropped_and_others_are_served() {
    let (node, _) = launch(node_settings("a", vec![])).await;
    let port = data_port(&node);
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[22, 3, 1, 0xff, 0xff, 0, 0], &[0; 4096]] {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).await.expect("connects");
        socket.write_all(garbage).await.expect("taken");
        let mut answer = Vec::new();
        // An alert or a reset: nothing else, and soon.
        let ended = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut answer)).await;
        assert!(ended.is_ok() && answer.len() < 64, "{} bytes", answer.len());
    }
    // Whoever says nothing holds its place only as long as a handshake may take.
    let silent = TcpStream::connect(("127.0.0.1", port)).await.expect("connects");
    let client = joined_client(&node).await;
    client.call(node.node(), Message::bare(Request::Status)).await.expect("answered");
    assert!(client.counters().calls_by_link >= 1);
    drop(silent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_of_a_mesh_reach_each_other_over_the_data_plane() {
    let nodes = mesh(3).await;
    let networks: Vec<&Network> = nodes.iter().map(|(network, _)| network).collect();
    converged(&networks, 3).await;
    for from in &networks {
        for to in networks.iter().filter(|to| to.node() != from.node()) {
            from.call(to.node(), Message::bare(Request::Status)).await.expect("answered");
        }
        assert!(from.counters().calls_by_link >= 2);
    }
}

/// Announces a record that was changed after it was signed.
fn forged_announcement(node: &Network) -> Request {
    let identity = Identity::generate().expect("entropy");
    let record = NodeRecord { node: identity.node(), software: "honest".to_owned(), ..record(node) };
    let mut bytes = encode(&Request::Announce(vec![Signed::sign(record, identity.signing_key())]));
    let at = bytes.windows(6).position(|window| window == b"honest").expect("the software");
    bytes[at] = b'H';
    decode(&bytes).expect("a request")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_denied_is_disconnected_from_the_data_plane_too() {
    let mut settings = node_settings("a", vec![]);
    settings.limits.violations = 1;
    let (node, _) = launch_with(settings, Memory::slow(Duration::from_secs(60))).await;
    let client = joined_client(&node).await;
    let calls = async {
        tokio::join!(
            client.call(node.node(), Message::bare(Request::Status)),
            client.call(node.node(), Message::bare(forged_announcement(&node))),
        )
    };
    let (waiting, refused) = tokio::time::timeout(PATIENCE, calls).await.expect("neither waits for long");
    assert!(waiting.is_err() && refused.is_err(), "{waiting:?} {refused:?}");
    assert!(client.counters().links_established >= 1, "they took the data plane");
    assert_eq!(node.counters().denials, 1);
}
