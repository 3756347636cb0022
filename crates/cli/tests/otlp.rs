//! A gateway tells a collector of its requests by OTLP, and serves them as well where nobody collects.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message;
use support::gateway::{AccessKey, Gateway};
use support::web::Collector;
use support::{Random, json, run, text};

/// A name that must not be in any span.
const SECRET_NAME: &str = "hush-hush-name";
/// How long a gateway may take to end beyond what it takes anyway, when its collector is gone.
const ENDS_WITHIN: Duration = Duration::from_secs(20);
/// How long a request may take, whatever the collector does.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);

/// A home with a mesh of its own, whose gateways tell this address, and a key to it.
fn home(folder: &Path, traces: &str) -> (PathBuf, AccessKey) {
    let home = folder.join("home");
    json(&home, &["config", "set", "gateway.traces", traces]);
    let key = AccessKey::new(&home, &["*=own"]);
    (home, key)
}

/// Attributes as texts.
fn attributes(span: &Span) -> BTreeMap<&str, String> {
    let text = |value: &Value| match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    };
    let pairs = span
        .attributes
        .iter()
        .filter_map(|pair| Some((pair.key.as_str(), text(pair.value.as_ref()?.value.as_ref()?))));
    pairs.collect()
}

fn spans(collector: &Collector) -> Vec<Span> {
    let requests = collector
        .bodies()
        .into_iter()
        .map(|body| ExportTraceServiceRequest::decode(&body[..]).expect("it is what OTLP says a request is"));
    let resources = requests.flat_map(|request| request.resource_spans);
    resources.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The one request of this name.
fn request<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let found: Vec<&Span> = spans.iter().filter(|span| span.name == name).collect();
    let names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(found.len(), 1, "{name} in {names:?}");
    assert_eq!(found[0].kind, i32::from(SpanKind::Server), "{name}");
    found[0]
}

fn assert_has(span: &Span, expected: &[(&str, &str)]) {
    let found = attributes(span);
    for (name, value) in expected {
        assert_eq!(found.get(name).map(String::as_str), Some(*value), "{name} of {}: {found:?}", span.name);
    }
}

#[test]
fn a_collector_hears_of_each_request_by_its_route_and_of_no_secret() {
    let folder = tempfile::tempdir().expect("a folder");
    let collector = Collector::start();
    let (home, key) = home(folder.path(), &collector.address);
    let mut gateway = Gateway::start_with(&home, key.clone());
    let file = folder.path().join("file");
    Random(31).file(&file, 300_007);
    let path = format!("/{SECRET_NAME}/{SECRET_NAME}/{SECRET_NAME}");
    assert_eq!(gateway.make_bucket(SECRET_NAME), "200");
    assert_eq!(gateway.signed(&path, Some(&file)).0, "200");
    assert_eq!(gateway.signed(&path, None), ("200".to_owned(), fs::read(&file).expect("it was written")));
    let (trace, parent) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    let caller = format!("traceparent: 00-{trace}-{parent}-01");
    gateway
        .run("curl", &["--silent", "--fail", "--header", &caller, &format!("{}/healthz", gateway.endpoint)]);
    let token = format!("Authorization: Bearer {}.{}", key.id, key.secret);
    let keys = format!("{}/api/v1/buckets/{SECRET_NAME}/keys?prefix={SECRET_NAME}", gateway.endpoint);
    gateway.run("curl", &["--silent", "--fail", "--header", &token, &keys]);
    gateway.stop();

    let spans = spans(&collector);
    let put = request(&spans, "PUT /{bucket}/{key}");
    let common = [("datamesh.face", "s3"), ("http.response.status_code", "200")];
    assert_has(put, &common);
    assert_has(
        put,
        &[
            ("http.route", "/{bucket}/{key}"),
            ("http.request.method", "PUT"),
            ("http.request.body.size", "300007"),
            ("datamesh.operation", "put_object"),
        ],
    );
    let get = request(&spans, "GET /{bucket}/{key}");
    assert_has(get, &common);
    assert_has(get, &[("http.response.body.size", "300007"), ("datamesh.operation", "get_object")]);
    for (name, of) in [("put", put), ("get", get)] {
        let child = spans.iter().find(|span| span.name == name && span.parent_span_id == of.span_id);
        assert_eq!(child.expect("a span below the request's").trace_id, of.trace_id, "{name}");
    }
    let healthz = request(&spans, "GET /healthz");
    assert_has(healthz, &[("datamesh.face", "http"), ("http.route", "/healthz")]);
    assert_eq!((hex(&healthz.trace_id), hex(&healthz.parent_span_id)), (trace.to_owned(), parent.to_owned()));
    assert!(put.parent_span_id.is_empty(), "the control: nobody named a parent of it");
    assert_has(request(&spans, "GET /api/v1/buckets/{bucket}/keys"), &[("http.response.status_code", "200")]);

    let told = collector.bodies().concat();
    for secret in [SECRET_NAME, &key.id, &key.secret, "Bearer", "Signature"] {
        let has = told.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!has, "{secret} was told");
    }
}

#[test]
fn requests_are_served_though_the_collector_refuses_or_hangs() {
    // One that nobody listens at, and one that never answers.
    let refusing = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let hanging = TcpListener::bind("127.0.0.1:0").expect("a port");
    for address in [refusing, hanging.local_addr().expect("an address")] {
        let folder = tempfile::tempdir().expect("a folder");
        let (home, key) = home(folder.path(), &format!("http://{address}/v1/traces"));
        let mut gateway = Gateway::start_with(&home, key);
        let file = folder.path().join("file");
        Random(37).file(&file, 100_003);
        assert_eq!(gateway.make_bucket("photos"), "200");
        let begun = Instant::now();
        assert_eq!(gateway.signed("/photos/one", Some(&file)).0, "200");
        for _ in 0..20 {
            let got = gateway.signed("/photos/one", None);
            assert_eq!(got, ("200".to_owned(), fs::read(&file).expect("it was written")));
        }
        assert!(begun.elapsed() < 21 * ANSWERED_WITHIN, "{:?}", begun.elapsed());
        let stopping = Instant::now();
        gateway.stop();
        assert!(stopping.elapsed() < ENDS_WITHIN, "{:?}", stopping.elapsed());
    }
}

#[test]
fn an_address_that_is_refused_is_not_repeated() {
    let folder = tempfile::tempdir().expect("a folder");
    let refused = run(folder.path(), &["config", "set", "gateway.traces", "htps://collector.test/hush"]);
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused.stderr));
    let said = text(&refused.stderr);
    assert!(said.contains("gateway.traces") && !said.contains("hush"), "{said}");
}
