//! A restricted mesh: its authorities say which nodes are part of it, and every node holds to that.

mod common;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use datamesh_core::admission::{Admission, Admitted, Authorities, Roll};
use datamesh_core::encode::{decode, encode};
use datamesh_core::id::{NodeId, OwnerId};
use datamesh_core::limits::ROLL_ADMISSIONS_MAX;
use datamesh_core::sign::Signed;
use datamesh_core::time::{Epoch, Timestamp};
use datamesh_core::wire::{Message, Refusal, Request, Response};
use datamesh_engine::world::Peers;
use datamesh_net::{Identity, JoinError, MeshKey, NetworkSettings};

use common::{PATIENCE, client_settings, converged, launch, node_settings, until};

fn authority() -> Identity {
    Identity::from_secret(&[7; 32])
}

fn owner(identity: &Identity) -> OwnerId {
    OwnerId::from_bytes(*identity.node().as_bytes())
}

fn roll(signer: &Identity, sequence: u64, nodes: &[NodeId]) -> Signed<Roll> {
    let mut roll = Roll { authority: owner(signer), sequence, admissions: Vec::new() };
    for node in nodes {
        let admission = Admission { who: Admitted::Node(*node), until: Epoch::NEVER, quota: None };
        roll = roll.with(admission).expect("there is room");
    }
    Signed::sign(roll, signer.signing_key())
}

fn restricted(settings: NetworkSettings, rolls: Vec<Signed<Roll>>) -> NetworkSettings {
    let authorities = Authorities::new([owner(&authority())]).expect("one");
    NetworkSettings { key: Some(MeshKey::of_charter(None, &authorities)), authorities, rolls, ..settings }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_admitted_is_in_and_who_is_revoked_is_out_everywhere() {
    let first = node_settings("a", vec![]);
    let second = node_settings("b", vec![]);
    let (one, other) = (first.identity.node(), second.identity.node());
    let (first, _) = launch(restricted(first, vec![roll(&authority(), 1, &[one])])).await;
    let second = NetworkSettings { bootstrap: first.listen_addresses(), ..second };

    // Not admitted: it is told, and nobody knows it.
    let (stranger, _) = launch(restricted(second.clone(), vec![])).await;
    let begun = Instant::now();
    let error = stranger.joined(PATIENCE).await.expect_err("it is not admitted");
    assert_eq!(error, JoinError::NotAdmitted { node: other });
    assert!(begun.elapsed() < Duration::from_secs(10), "it is said soon, after {:?}", begun.elapsed());
    assert_eq!(first.topology().len(), 1);
    stranger.shutdown().await;

    // An authority tells one node; the others learn it from that one.
    let (client, _) = launch(restricted(client_settings(first.listen_addresses()), vec![])).await;
    client.joined(PATIENCE).await.expect("a client may come and ask");
    let enrol = |roll: Signed<Roll>| client.call(one, Message::bare(Request::Enrol(roll)));
    let forged = enrol(roll(&Identity::from_secret(&[8; 32]), 2, &[one, other])).await.expect("answered");
    assert_eq!(forged.header, Response::Refused(Refusal::Denied), "it is no authority");
    let learned = enrol(roll(&authority(), 2, &[one, other])).await.expect("answered");
    assert_eq!(learned.header, Response::Learned { record_count: 1 });
    let (second, _) = launch(restricted(second, vec![])).await;
    second.joined(PATIENCE).await.expect("it is admitted");
    converged(&[&first, &second], 2).await;

    let learned = enrol(roll(&authority(), 3, &[one])).await.expect("answered");
    assert_eq!(learned.header, Response::Learned { record_count: 1 });
    until("the revoked node is forgotten", async || first.topology().record(&other).is_none()).await;
    until("the second learns of it", async || second.rolls().sequences() == [(owner(&authority()), 3)]).await;
    let replayed = enrol(roll(&authority(), 2, &[one, other])).await.expect("answered");
    assert_eq!(replayed.header, Response::Learned { record_count: 0 }, "an old roll is no news");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(first.topology().record(&other).is_none(), "it does not come back by itself");
}

/// Why a roll of the authority, or one that says so, does not let a node in.
#[derive(Debug, Clone, Copy)]
enum Flaw {
    ByAnother,
    ForAnother,
    Expired,
    FromTheFuture,
    TooLong,
    Twice,
}

fn flawed(flaw: Flaw, stranger: NodeId) -> Signed<Roll> {
    let admission = |node, until| Admission { who: Admitted::Node(node), until, quota: None };
    let fake = |number: u16| {
        let mut id = [0; 32];
        id[..2].copy_from_slice(&number.to_be_bytes());
        admission(NodeId::from_bytes(id), Epoch::NEVER)
    };
    let wanted = admission(stranger, Epoch::NEVER);
    let admissions = match flaw {
        Flaw::ByAnother | Flaw::FromTheFuture => vec![wanted],
        Flaw::ForAnother => vec![fake(7)],
        Flaw::Expired => vec![admission(stranger, now().epoch())],
        Flaw::TooLong => {
            let many = u16::try_from(ROLL_ADMISSIONS_MAX).expect("few");
            (0..many).map(fake).chain([admission(NodeId::from_bytes([255; 32]), Epoch::NEVER)]).collect()
        }
        Flaw::Twice => vec![wanted, wanted],
    };
    let hour = 60 * 60 * 1000;
    let sequence = now().as_ms() + if matches!(flaw, Flaw::FromTheFuture) { hour } else { 0 };
    let by = |signer: &Identity, admissions| {
        Signed::sign(Roll { authority: owner(signer), sequence, admissions }, signer.signing_key())
    };
    if !matches!(flaw, Flaw::ByAnother) {
        return by(&authority(), admissions);
    }
    // A sound roll of somebody, with the authority's key in place of theirs.
    let somebody = Identity::from_secret(&[8; 32]);
    let (theirs, key) = (somebody.node(), authority().node());
    let sound = encode(&by(&somebody, admissions));
    let at = sound.windows(32).position(|bytes| bytes == theirs.as_bytes()).expect("it names them");
    decode(&[&sound[..at], key.as_bytes(), &sound[at + 32..]].concat()).expect("still a roll")
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    Timestamp::from_ms(u64::try_from(since.as_millis()).expect("before the year 500 million"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_roll_that_is_forged_or_not_for_it_lets_no_node_in() {
    use Flaw::{ByAnother, Expired, ForAnother, FromTheFuture, TooLong, Twice};
    for flaw in [ByAnother, ForAnother, Expired, FromTheFuture, TooLong, Twice] {
        let first = node_settings("a", vec![]);
        let one = first.identity.node();
        let (first, _) = launch(restricted(first, vec![])).await;
        let stranger = node_settings("b", first.listen_addresses());
        let other = stranger.identity.node();
        let roll = flawed(flaw, other);
        let (client, _) = launch(restricted(client_settings(first.listen_addresses()), vec![])).await;
        client.joined(PATIENCE).await.expect("a client may come and ask");
        let answer = client.call(one, Message::bare(Request::Enrol(roll.clone()))).await;
        let taken = matches!(flaw, ForAnother | Expired);
        let learned = matches!(&answer, Ok(Message { header: Response::Learned { record_count: 1 }, .. }));
        assert_eq!(learned, taken, "{flaw:?}: {answer:?}");
        // It may bring the roll itself.
        let (stranger, _) = launch(restricted(stranger, vec![roll])).await;
        let error = stranger.joined(PATIENCE).await.expect_err("it is not admitted");
        assert_eq!(error, JoinError::NotAdmitted { node: other }, "{flaw:?}");
        assert!(first.topology().record(&other).is_none(), "{flaw:?}");
    }
    // The control: where nobody admits, it is in.
    let (first, _) = launch(node_settings("a", vec![])).await;
    let (stranger, _) = launch(node_settings("b", first.listen_addresses())).await;
    stranger.joined(PATIENCE).await.expect("the mesh is open");
    converged(&[&first, &stranger], 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_restarted_knows_who_was_revoked() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (first, second) = (node_settings("a", vec![]), node_settings("b", vec![]));
    let (one, other) = (first.identity.node(), second.identity.node());
    let first = NetworkSettings { state_directory: Some(directory.path().to_owned()), ..first };
    let founding = roll(&authority(), 0, &[one, other]);
    let (network, _) = launch(restricted(first.clone(), vec![founding.clone()])).await;
    let (client, _) = launch(restricted(client_settings(network.listen_addresses()), vec![])).await;
    client.joined(PATIENCE).await.expect("a client may come and ask");
    let revoking = Message::bare(Request::Enrol(roll(&authority(), 1, &[one])));
    client.call(one, revoking).await.expect("answered");
    network.shutdown().await;

    // It is told again of the roll that it was founded with.
    let (network, _) = launch(restricted(first, vec![founding])).await;
    let second = NetworkSettings { bootstrap: network.listen_addresses(), ..second };
    let (second, _) = launch(restricted(second, vec![])).await;
    let error = second.joined(PATIENCE).await.expect_err("it was revoked");
    assert_eq!(error, JoinError::NotAdmitted { node: other });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_names_other_authorities_is_of_another_mesh() {
    let first = node_settings("a", vec![]);
    let one = first.identity.node();
    let (first, _) = launch(restricted(first, vec![roll(&authority(), 1, &[one])])).await;
    let (client, _) = launch(client_settings(first.listen_addresses())).await;
    let error = client.joined(PATIENCE).await.expect_err("it names none");
    assert!(matches!(error, JoinError::OtherMesh { .. }), "{error}");
}
