//! What a participant believes of what others tell it.

use std::sync::Arc;

use datamesh_core::admission::Rolls;
use datamesh_core::limits::{NODE_RECORD_AHEAD_MS_MAX, NODE_TEXT_SIZE_MAX};
use datamesh_core::sign::Signed;
use datamesh_core::topology::{NodeRecord, NodeState};
use datamesh_core::wire::Response;
use tokio::sync::mpsc;

use crate::counters::Tally;
use crate::exchange::frame::Violation;
use crate::identity::Identity;
use crate::membership::book::tests::signed;
use crate::membership::{Membership, NEWS_WAITING_MAX, dialable, now_ms};

type News = mpsc::Receiver<Vec<Signed<NodeRecord>>>;

fn client(saved: Vec<Signed<NodeRecord>>) -> (Membership, News) {
    let (news, waiting) = mpsc::channel(NEWS_WAITING_MAX);
    (Membership::new(None, saved, Rolls::default(), news, Arc::new(Tally::default())), waiting)
}

/// A record whose signature is that of another.
fn forged(number: u16) -> Signed<NodeRecord> {
    let genuine = datamesh_core::encode::encode(&signed(number, 1, |_| ()));
    let marker = b"test";
    let at = genuine.windows(marker.len()).position(|window| window == marker).expect("the software");
    let mut bytes = genuine;
    bytes[at] = b'b';
    datamesh_core::encode::decode(&bytes).expect("still a record")
}

#[tokio::test]
async fn a_forged_record_is_refused_and_what_came_before_it_is_kept() {
    let (membership, mut news) = client(vec![]);
    let outcome = membership.learn(vec![signed(1, 1, |_| ()), forged(2), signed(3, 1, |_| ())]).await;
    assert_eq!(outcome, Err(Violation::ForgedRecord));
    assert_eq!(membership.topology().len(), 1);
    assert_eq!(news.try_recv().expect("news").len(), 1);
    assert_eq!(membership.learn(vec![signed(2, 1, |_| ())]).await, Ok(1), "the genuine one is fine");
}

#[tokio::test]
async fn a_record_out_of_bounds_is_refused() {
    let (membership, _news) = client(vec![]);
    let long = signed(1, 1, |record| record.software = "x".repeat(NODE_TEXT_SIZE_MAX + 1));
    assert_eq!(membership.learn(vec![long]).await, Err(Violation::ForgedRecord));
}

#[tokio::test]
async fn a_record_from_the_future_is_passed_over_and_is_no_violation() {
    let (membership, _news) = client(vec![]);
    let now = now_ms();
    let ahead = signed(1, now + 2 * NODE_RECORD_AHEAD_MS_MAX, |_| ());
    assert_eq!(membership.learn(vec![ahead]).await, Ok(0));
    let slightly = signed(1, now + NODE_RECORD_AHEAD_MS_MAX / 2, |_| ());
    assert_eq!(membership.learn(vec![slightly]).await, Ok(1));
}

#[tokio::test]
async fn saved_records_are_verified() {
    let (membership, _news) = client(vec![signed(1, 1, |_| ()), forged(2)]);
    assert_eq!(membership.topology().len(), 1);
}

#[tokio::test]
async fn the_own_record_is_newer_than_any_that_others_know() {
    let identity = Identity::generate().expect("entropy");
    let offer = crate::settings::NodeOffer {
        role: datamesh_core::topology::Role::Storage,
        domain: datamesh_core::topology::FailureDomain::alone("a"),
        capacity: 1,
        grace: std::time::Duration::from_secs(14_400),
        software: "test".into(),
    };
    let ahead = now_ms() + NODE_RECORD_AHEAD_MS_MAX / 2;
    let before = NodeRecord {
        node: identity.node(),
        sequence: ahead,
        addresses: vec![],
        role: offer.role,
        state: NodeState::Gone,
        domain: offer.domain.clone(),
        capacity: 1,
        grace_s: 14_400,
        software: "before".into(),
    };
    let before = Signed::sign(before, identity.signing_key());
    let (news, _waiting) = mpsc::channel(1);
    let tally = Arc::new(Tally::default());
    let membership = Membership::new(Some((identity.clone(), offer)), vec![], Rolls::default(), news, tally);
    membership.set_addresses(&[]).expect("a node");
    assert_eq!(membership.learn(vec![before]).await, Ok(1), "others remember more than the node does");
    let corrected = membership.set_addresses(&[]).expect("a node");
    assert_eq!(corrected.unverified().sequence, ahead + 1);
    assert_eq!(membership.topology().record(&identity.node()).map(|own| own.state), Some(NodeState::Active));
    let Response::Records { records, more: false } = membership.page(None) else { panic!("one page") };
    assert_eq!(records, [corrected]);
}

#[test]
fn a_node_whose_clock_was_years_ahead_is_believed_again_once_it_is_right() {
    let identity = Identity::generate().expect("entropy");
    let offer = crate::settings::NodeOffer {
        role: datamesh_core::topology::Role::Storage,
        domain: datamesh_core::topology::FailureDomain::alone("a"),
        capacity: 1,
        grace: std::time::Duration::from_secs(14_400),
        software: "test".into(),
    };
    let node = |saved: Vec<Signed<NodeRecord>>| {
        let (news, _waiting) = mpsc::channel(1);
        Membership::new(
            Some((identity.clone(), offer.clone())),
            saved,
            Rolls::default(),
            news,
            Arc::new(Tally::default()),
        )
    };
    let mut years_ahead = node(vec![]).renew().expect("a node").unverified().clone();
    years_ahead.sequence += 5 * 365 * 24 * 60 * 60 * 1000;
    let years_ahead = Signed::sign(years_ahead, identity.signing_key());
    let latest = now_ms() + NODE_RECORD_AHEAD_MS_MAX;

    let restarted = node(vec![years_ahead.clone()]);
    assert!(restarted.renew().expect("a node").unverified().sequence <= latest);

    let corrected_meanwhile = node(vec![]);
    assert!(corrected_meanwhile.book().admit(years_ahead, now_ms()));
    let corrected_meanwhile = (corrected_meanwhile.renew().expect("a node"), corrected_meanwhile.topology());
    assert!(corrected_meanwhile.0.unverified().sequence <= latest);
    assert_eq!(corrected_meanwhile.1.record(&identity.node()), Some(corrected_meanwhile.0.unverified()));
}

#[test]
fn loopback_is_told_only_where_there_is_nothing_else() {
    let parse = |text: &str| text.parse().expect("an address");
    let (near, far) = (parse("/ip4/127.0.0.1/tcp/1"), parse("/ip4/192.0.2.7/tcp/1"));
    let nowhere = parse("/ip4/0.0.0.0/tcp/1");
    assert_eq!(dialable(&[near, far.clone()], None), [far]);
    let near: libp2p::Multiaddr = parse("/ip6/::1/udp/1/quic-v1");
    assert_eq!(dialable(&[nowhere, near.clone()], None), [near]);
    let named = parse("/dns4/node.example/tcp/1/p2p/12D3KooWGzBTGYTQPLVL5sTmRtWBoFTbuWRtm5GHuUcHTCFmBQwT");
    assert_eq!(dialable(&[named], None), [parse("/dns4/node.example/tcp/1")]);
}
