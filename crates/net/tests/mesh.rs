//! Nodes find each other, stay found, and are told of those that leave.

mod common;

use std::time::{Duration, Instant};

use datamesh_core::id::{BlockId, ObjectId};
use datamesh_core::topology::NodeState;
use datamesh_core::wire::{Message, Request, Response};
use datamesh_engine::world::Peers;
use datamesh_net::{Identity, JoinError, Multiaddr, Network, NetworkSettings, StartError};

use common::{PATIENCE, client_settings, converged, launch, loopback, mesh, node_settings, offer, until};

const QUICK: Duration = Duration::from_secs(5);

async fn converge(count: usize) {
    let begun = Instant::now();
    let nodes = mesh(count).await;
    let networks: Vec<&Network> = nodes.iter().map(|(network, _)| network).collect();
    converged(&networks, count).await;
    println!("{count} nodes know each other after {:?}", begun.elapsed());
    for network in &networks {
        network.joined(PATIENCE).await.expect("joined");
    }
    assert!(begun.elapsed() < QUICK, "took {:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seven_nodes_find_each_other_from_one_address() {
    converge(7).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seventeen_nodes_find_each_other_from_one_address() {
    converge(17).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_learns_the_mesh_and_is_no_part_of_it() {
    let nodes = mesh(4).await;
    let networks: Vec<&Network> = nodes.iter().map(|(network, _)| network).collect();
    converged(&networks, 4).await;
    let (client, _) = launch(client_settings(networks[1].listen_addresses())).await;
    client.joined(PATIENCE).await.expect("joined");
    assert_eq!(client.topology().len(), 4, "all nodes are known once joined");
    assert!(client.topology().record(&client.node()).is_none());
    for network in networks {
        let answer = client.call(network.node(), Message::bare(Request::Status)).await.expect("answered");
        assert!(matches!(answer.header, Response::Status(status) if status.node == network.node()));
        assert!(network.topology().record(&client.node()).is_none());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bootstrap_address_needs_no_peer_id_and_may_be_quic() {
    let quic: Multiaddr = "/ip4/127.0.0.1/udp/0/quic-v1".parse().expect("an address");
    let identity = Identity::generate().expect("entropy");
    let settings = NetworkSettings::node(identity, vec![loopback(), quic], vec![], offer("a"));
    let (node, memory) = launch(settings).await;
    let addresses = node.listen_addresses();
    assert_eq!(addresses.len(), 2);
    let item = memory.keep(common::patterned(1 << 20));
    for mut address in addresses {
        address.pop();
        let (client, _) = launch(client_settings(vec![address.clone()])).await;
        client.joined(PATIENCE).await.expect("joined");
        let peers = client.peers().await;
        let udp = |address: &Multiaddr| address.to_string().contains("/udp/");
        assert!(peers.iter().any(|peer| udp(&peer.address) == udp(&address)), "{address}: {peers:?}");
        let fetch = Request::Fetch(datamesh_core::wire::FetchRequest::whole(item, None));
        let answer = client.call(node.node(), Message::bare(fetch)).await.expect("answered");
        assert_eq!(answer.payload, common::patterned(1 << 20));
        client.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_node_rejoins_without_its_bootstrap_address() {
    let directory = tempfile::tempdir().expect("a directory");
    let nodes = mesh(3).await;
    let bootstrap = nodes[0].0.listen_addresses();
    let mut settings = node_settings("restarted", bootstrap);
    settings.state_directory = Some(directory.path().join("state"));
    let (before, _) = launch(settings.clone()).await;
    let networks = [&nodes[0].0, &nodes[1].0, &nodes[2].0, &before];
    converged(&networks, 4).await;
    let sequence = before.topology().record(&before.node()).expect("its own").sequence;
    before.shutdown().await;

    settings.bootstrap = vec![];
    let (after, _) = launch(settings.clone()).await;
    assert_eq!(after.topology().len(), 4, "known from disk");
    after.joined(PATIENCE).await.expect("rejoined");
    let newer = after.topology().record(&after.node()).expect("its own").sequence;
    assert!(newer > sequence);
    converged(&[&nodes[0].0, &nodes[1].0, &nodes[2].0, &after], 4).await;
    after.shutdown().await;

    // The control: without the directory there is nobody to rejoin.
    settings.state_directory = None;
    let (stranger, _) = launch(settings).await;
    assert_eq!(stranger.topology().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_meshes_become_one_when_a_node_joins_both() {
    let (left, right) = (mesh(3).await, mesh(3).await);
    let networks: Vec<&Network> = left.iter().chain(&right).map(|(network, _)| network).collect();
    converged(&networks[..3], 3).await;
    converged(&networks[3..], 3).await;
    let bootstrap = [networks[1].listen_addresses(), networks[4].listen_addresses()].concat();
    let (bridge, _) = launch(node_settings("bridge", bootstrap)).await;
    let all: Vec<&Network> = networks.into_iter().chain([&bridge]).collect();
    println!("two meshes became one in {:?}", converged(&all, 7).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_its_own_bootstrap_address_is_the_first_of_its_mesh() {
    let free =
        std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").port();
    let address: Multiaddr = format!("/ip4/127.0.0.1/tcp/{free}").parse().expect("an address");
    let mut settings = node_settings("own", vec![address.clone()]);
    settings.listen = vec![address];
    let (node, _) = launch(settings).await;
    node.joined(PATIENCE).await.expect("there is nobody else");
    assert_eq!(node.topology().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_ends_when_its_last_handle_is_dropped() {
    let (node, _) = launch(node_settings("a", vec![])).await;
    let address = node.listen_addresses().remove(0);
    let (client, _) = launch(client_settings(vec![address])).await;
    client.joined(PATIENCE).await.expect("joined");
    let id = node.node();
    drop(node);
    until("it is gone", async || {
        client.call(id, Message::bare(Request::Status)).await.is_err() && client.peers().await.is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joining_nobody_fails_in_time_and_says_whom_it_tried() {
    let closed =
        std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").port();
    let address: Multiaddr = format!("/ip4/127.0.0.1/tcp/{closed}").parse().expect("an address");
    let (client, _) = launch(client_settings(vec![address.clone()])).await;
    let error = client.joined(Duration::from_millis(500)).await.expect_err("nobody is there");
    let JoinError::Unreachable { failures, .. } = &error else { panic!("{error}") };
    assert_eq!(failures[0].0, address.to_string());
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_in_use_can_not_be_listened_on() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("bound").port();
    let address: Multiaddr = format!("/ip4/127.0.0.1/tcp/{port}").parse().expect("an address");
    let identity = Identity::generate().expect("entropy");
    let settings = NetworkSettings::node(identity, vec![address.clone()], vec![], offer("a"));
    let answerer = common::Answerer(std::sync::Arc::default(), settings.identity.node());
    let error = datamesh_net::start(settings, std::sync::Arc::new(answerer)).await.err().expect("taken");
    assert!(matches!(&error, StartError::Listen { address: wrong, .. } if *wrong == address), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_says_it_leaves_is_known_to_have_left() {
    let nodes = mesh(4).await;
    let networks: Vec<&Network> = nodes.iter().map(|(network, _)| network).collect();
    converged(&networks, 4).await;
    let leaving = networks[3];
    let told = leaving.announce(NodeState::Gone, QUICK).await.expect("told");
    assert!(told > 0);
    leaving.shutdown().await;
    let took = until("all know that it left", async || {
        networks[..3].iter().all(|network| {
            network.topology().record(&leaving.node()).is_some_and(|record| record.state == NodeState::Gone)
        })
    })
    .await;
    assert!(took < QUICK, "took {took:?}");
    assert_eq!(networks[0].topology().holders().count(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_dies_stays_in_the_topology() {
    let nodes = mesh(3).await;
    let networks: Vec<&Network> = nodes.iter().map(|(network, _)| network).collect();
    converged(&networks, 3).await;
    networks[2].shutdown().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(networks[0].topology().holders().count(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_finds_who_provides_an_object() {
    let nodes = mesh(7).await;
    let networks: Vec<&Network> = nodes.iter().map(|(network, _)| network).collect();
    converged(&networks, 7).await;
    let object = ObjectId::of_root(BlockId::of(b"a manifest"));
    let unknown = ObjectId::of_root(BlockId::of(b"another manifest"));
    networks[2].provide(object).await.expect("provided");
    let (stranger, _) = launch(client_settings(networks[5].listen_addresses())).await;
    stranger.joined(PATIENCE).await.expect("joined");
    until("the provider is found", async || {
        stranger.find_providers(object).await.expect("answered") == [networks[2].node()]
    })
    .await;
    assert!(stranger.find_providers(unknown).await.expect("answered").is_empty());

    let found = stranger.find_node(networks[3].node()).await.expect("answered").expect("found");
    assert!(!found.addresses.is_empty());
    assert!(stranger.discover().await.expect("answered").len() >= 6);
    networks[2].withdraw(object).await.expect("withdrawn");
}
