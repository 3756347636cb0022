//! Leases, releases, receipts, node records, and a message on the wire.

use core::fmt::Debug;

use datamesh_codec::keys::Identity;
use datamesh_core::encode::{decode, encode};
use datamesh_core::id::{ItemId, NodeId, ShardId};
use datamesh_core::lease::{Lease, LeaseTag, Release, Subject};
use datamesh_core::manifest::Stripe;
use datamesh_core::receipt::{
    Countersignature, KeptItem, Receipt, ServedItem, Service, ServiceReceipt, SessionId,
};
use datamesh_core::scheme::Redundancy;
use datamesh_core::sign::{Signable, Signed};
use datamesh_core::time::{Epoch, Timestamp};
use datamesh_core::topology::{NodeRecord, NodeState, Role};
use datamesh_core::wire::{Refusal, Request, Response, StoreRequest, StoredItem};
use ed25519_dalek::SigningKey;

use crate::fixture::{check, read};

fn tag() -> LeaseTag {
    LeaseTag::from_bytes([4; 16])
}

fn owner() -> Identity {
    Identity::from_seed(&[1; 32])
}

fn node_key() -> SigningKey {
    SigningKey::from_bytes(&[5; 32])
}

fn node() -> NodeId {
    NodeId::from_bytes(node_key().verifying_key().to_bytes())
}

fn stripe() -> Stripe {
    let redundancy = Redundancy::new(1, 1).expect("a redundancy");
    Stripe { redundancy, sealed_size: 5, shards: vec![ShardId::of(b"data"), ShardId::of(b"parity")] }
}

fn lease() -> Signed<Lease> {
    let subject = Subject::Stripe(stripe().id());
    let lease = Lease { owner: owner().owner(), tag: tag(), subject, until: Epoch::from_hours(480_000) };
    Signed::sign(lease, owner().signing_key())
}

fn check_signed<T: Signable + Debug + PartialEq>(name: &str, signed: &Signed<T>) {
    check(name, &encode(signed));
    let read: Signed<T> = decode(&read(name)).expect("it decodes");
    assert_eq!(&read, signed);
    assert!(read.verify().is_ok(), "{name} verifies");
}

#[test]
fn signed_messages_keep_their_bytes_and_verify() {
    check_signed("lease", &lease());
    let release = Release { owner: owner().owner(), tag: tag() };
    check_signed("release", &Signed::sign(release, owner().signing_key()));
    let receipt = Receipt {
        node: node(),
        tag: tag(),
        items: vec![
            KeptItem { item: ItemId::Shard(ShardId::of(b"data")), size: 64 },
            KeptItem { item: ItemId::Shard(ShardId::of(b"other data")), size: 128 },
        ],
        stored: Timestamp::from_ms(1_700_000_000_000),
    };
    check_signed("receipt", &Signed::sign(receipt, &node_key()));
    let record = NodeRecord {
        node: node(),
        sequence: 1_700_000_000_000,
        addresses: vec!["/ip4/192.0.2.1/tcp/4433".to_owned()],
        role: Role::Storage,
        state: NodeState::Active,
        domain: "eu/basement/left/ann".parse().expect("a domain"),
        capacity: 1 << 40,
        software: "0.1.0".to_owned(),
    };
    check_signed("node-record", &Signed::sign(record, &node_key()));
}

#[test]
fn what_was_served_keeps_its_bytes_with_both_signatures() {
    let reader = SigningKey::from_bytes(&[6; 32]);
    let service = Service {
        server: node(),
        reader: NodeId::from_bytes(reader.verifying_key().to_bytes()),
        session: SessionId::from_bytes([7; 16]),
        sequence: 2,
        items: vec![ServedItem { item: ItemId::Shard(ShardId::of(b"data")), size: 64 }],
        total: 128,
        served: Timestamp::from_ms(1_700_000_000_000),
    };
    let service = Signed::sign(service, &reader);
    check_signed("service", &service);
    let countersignature = Countersignature::of(&service, Timestamp::from_ms(1_700_000_000_001));
    let countersignature = Signed::sign(countersignature, &node_key());
    check_signed("countersignature", &countersignature);
    let mut receipt = ServiceReceipt { service: service.clone(), countersignature: countersignature.clone() };
    assert!(receipt.verify().is_ok());
    let other = Countersignature::of(&service, Timestamp::from_ms(0));
    let other = Countersignature { service: [8; 32], ..other };
    receipt.countersignature = Signed::sign(other, &node_key());
    assert!(receipt.verify().is_err(), "a countersignature under something else");

    let request = Request::Acknowledge(service);
    check("acknowledge-request", &encode(&request));
    assert_eq!(decode::<Request>(&read("acknowledge-request")), Ok(request));
    let response = Response::Countersigned(countersignature);
    check("countersigned-response", &encode(&response));
    assert_eq!(decode::<Response>(&read("countersigned-response")), Ok(response));
    let refused = Response::Refused(Refusal::NotServed);
    check("not-served-response", &encode(&refused));
    assert_eq!(decode::<Response>(&read("not-served-response")), Ok(refused));
}

#[test]
fn a_store_request_keeps_its_bytes() {
    let request = Request::Store(StoreRequest {
        item: StoredItem::Shard { index: 1, stripe: stripe() },
        lease: lease(),
    });
    check("store-request", &encode(&request));
    assert_eq!(decode::<Request>(&read("store-request")), Ok(request));
}

#[test]
fn a_question_for_metrics_and_its_answer_keep_their_bytes() {
    check("metrics-request", &encode(&Request::Metrics));
    assert_eq!(decode::<Request>(&read("metrics-request")), Ok(Request::Metrics));
    check("metrics-response", &encode(&Response::Metrics));
    assert_eq!(decode::<Response>(&read("metrics-response")), Ok(Response::Metrics));
    let denied = Response::Refused(Refusal::Denied);
    check("denied-response", &encode(&denied));
    assert_eq!(decode::<Response>(&read("denied-response")), Ok(denied));
}
