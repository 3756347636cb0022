//! Leases, releases, receipts, node records, and a message on the wire.

use core::fmt::Debug;

use datamesh_codec::keys::Identity;
use datamesh_core::admission::{Admission, Admitted, Roll};
use datamesh_core::encode::{decode, encode};
use datamesh_core::health::{Alert, Cause, Led, Level, NodeHealth, Sign, Standing};
use datamesh_core::id::{BlockId, ItemId, NodeId, ShardId};
use datamesh_core::lease::{Lease, LeaseTag, PutId, Release, Subject};
use datamesh_core::manifest::Stripe;
use datamesh_core::receipt::{
    Countersignature, KeptItem, Receipt, ServedItem, Service, ServiceReceipt, SessionId,
};
use datamesh_core::scheme::Redundancy;
use datamesh_core::sign::{Signable, Signed};
use datamesh_core::summary::{KeptBlocks, Summary};
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
        grace_s: 14_400,
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

fn check_request(name: &str, request: &Request) {
    check(name, &encode(request));
    assert_eq!(decode::<Request>(&read(name)).as_ref(), Ok(request));
}

fn check_response(name: &str, response: &Response) {
    check(name, &encode(response));
    assert_eq!(decode::<Response>(&read(name)).as_ref(), Ok(response));
}

#[test]
fn what_nodes_compare_keeps_its_bytes() {
    let shard = StoredItem::Shard { index: 1, stripe: stripe() };
    let block = StoredItem::Block {
        block: BlockId::of(b"block"),
        redundancy: Redundancy::new(1, 2).expect("a redundancy"),
    };
    check("stored-block", &encode(&block));
    assert_eq!(decode::<StoredItem>(&read("stored-block")).as_ref(), Ok(&block));
    let parts = [shard, block].map(|item| item.part().expect("a part"));
    let group = parts[0].subject.group();
    check_request("describe-request", &Request::Describe(parts[0].id()));
    let known = Summary::empty(group).digest();
    check_request("summarise-request", &Request::Summarise(vec![(group, known)]));
    check_request("parts-request", &Request::Parts { group, after: Some(parts[1].id()) });
    let put = PutId { owner: owner().owner(), tag: tag() };
    check_request("releases-request", &Request::Releases(vec![put]));
    let kept = KeptBlocks { put, blocks: vec![BlockId::of(b"block")] };
    check_request("blocks-request", &Request::Blocks(vec![(put, kept.digest())]));
    check_response("blocks-response", &Response::Blocks { put_count: 1, changed: vec![kept] });

    let mut summary = Summary::empty(group);
    parts.iter().for_each(|part| summary.add(part, true));
    let summaries = Response::Summaries { group_count: 2, changed: vec![summary] };
    check_response("summaries-response", &summaries);
    check_response("parts-response", &Response::Parts { parts: parts.to_vec(), more: true });
    let release = Signed::sign(Release { owner: put.owner, tag: put.tag }, owner().signing_key());
    check_response("releases-response", &Response::Releases(vec![release]));
}

#[test]
fn questions_for_health_and_metrics_and_their_answers_keep_their_bytes() {
    check_request("health-request", &Request::Health);
    let mut first = Standing { group_count: 5461, ..Standing::default() };
    first.add(Redundancy::new(4, 2).expect("a redundancy"), 5, 7, 1);
    let alert = |level, cause| Alert { level, cause, since: Timestamp::from_ms(1_700_000_000_000) };
    let health = NodeHealth {
        node: node(),
        now: Timestamp::from_ms(1_700_000_000_001),
        led: Some(Led { age_s: 3, stand_ins: vec![(node(), first.clone())], first }),
        write_us: Some(1500),
        alerts: vec![
            alert(Level::Lost, Cause::Availability { short: 1, endangered: 2, lost: 3, doubtful: 4 }),
            alert(Level::Critical, Cause::RepairsFail { failed: 1, tried: 2 }),
            alert(Level::Warning, Cause::DiskFull),
            alert(Level::Warning, Cause::Rot { item_count: 1 }),
            alert(Level::Warning, Cause::DiskErrors { error_count: 1 }),
            alert(Level::Warning, Cause::CutOff),
            alert(Level::Warning, Cause::ClockSkew { ahead_ms: -1 }),
            alert(Level::Warning, Cause::Silent { node: node() }),
            alert(Level::Warning, Cause::Failing { node: node(), sign: Sign::SlowWrites }),
        ],
        alerts_left_out: 1,
    };
    check_response("health-response", &Response::Health(health));
    check("metrics-request", &encode(&Request::Metrics));
    assert_eq!(decode::<Request>(&read("metrics-request")), Ok(Request::Metrics));
    check("metrics-response", &encode(&Response::Metrics));
    assert_eq!(decode::<Response>(&read("metrics-response")), Ok(Response::Metrics));
    let denied = Response::Refused(Refusal::Denied);
    check("denied-response", &encode(&denied));
    assert_eq!(decode::<Response>(&read("denied-response")), Ok(denied));
}

#[test]
fn a_refusal_for_a_quota_keeps_its_bytes() {
    let refused = Response::Refused(Refusal::OverQuota { used: 3_000_000, quota: 3_145_728 });
    check_response("over-quota-response", &refused);
}

#[test]
fn rolls_keep_their_bytes_and_verify() {
    let until = Epoch::from_hours(480_000);
    let node = Admission { who: Admitted::Node(node()), until: Epoch::NEVER, quota: None };
    let someone = Admission { who: Admitted::Owner(owner().owner()), until, quota: Some(500_000_000_000) };
    let admissions = vec![node, someone];
    let roll = Roll { authority: owner().owner(), sequence: 1_800_000_000_000, admissions };
    let roll = Signed::sign(roll, owner().signing_key());
    check_signed("roll", &roll);
    check_request("rolls-request", &Request::Rolls(vec![(owner().owner(), 7)]));
    check_request("enrol-request", &Request::Enrol(roll.clone()));
    check_response("roll-response", &Response::Roll(Some(roll)));
    check_response("not-admitted-response", &Response::Refused(Refusal::NotAdmitted));
}
