//! Notices go over https to a server that the system trusts, and to no other.

mod support;

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, Certificate, CertificateParams, DnType, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use support::web::WebServer;
use support::{Mesh, field, json};

/// A notice that nobody takes is given up after six attempts, with pauses of 31 s in all.
const GIVEN_UP_WITHIN: Duration = Duration::from_secs(120);

/// An authority for certificates. All have the same name, and each its own key.
struct Authority {
    certificate: Certificate,
    key: KeyPair,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut parameters = CertificateParams::new(Vec::new()).expect("no names");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.distinguished_name.push(DnType::CommonName, "authority of a test");
        let certificate = parameters.self_signed(&key).expect("a certificate");
        Self { certificate, key }
    }

    /// What a server on loopback shows.
    fn server(&self) -> ServerConfig {
        let key = KeyPair::generate().expect("a key");
        let parameters = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("an address");
        let certificate = parameters.signed_by(&key, &self.certificate, &self.key).expect("signed");
        ServerConfig::builder_with_provider(default_provider().into())
            .with_safe_default_protocol_versions()
            .expect("the provider has them")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key.serialize_der().try_into().expect("a key"))
            .expect("they belong together")
    }

    fn write(&self, path: &Path) {
        fs::write(path, self.certificate.pem()).expect("written");
    }
}

/// What became of a node's notices to the web address: those told, and those that failed.
fn outcomes(mesh: &Mesh, node: &str) -> [u64; 2] {
    let samples = json(&mesh.client, &["metrics", node]);
    ["told", "failed"].map(|outcome| {
        let of_it = samples.iter().find(|sample| {
            field(sample, "metric").starts_with("datamesh_alert_notices")
                && sample["labels"]["way"] == "webhook"
                && sample["labels"]["outcome"] == outcome
        });
        of_it.and_then(|sample| sample["value"].as_u64()).unwrap_or_else(|| panic!("{samples:?}"))
    })
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < GIVEN_UP_WITHIN, "not in time: {what}");
        thread::sleep(Duration::from_millis(200));
    }
    println!("{what}: after {:.1} s", begun.elapsed().as_secs_f64());
}

#[test]
fn a_notice_goes_over_https_to_a_server_that_is_trusted_and_to_no_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let [trusted, stranger] = ["trusted.pem", "stranger.pem"].map(|name| folder.path().join(name));
    let authority = Authority::new();
    authority.write(&trusted);
    Authority::new().write(&stranger);
    let server = WebServer::start_tls(authority.server());
    let settings = [
        ("placement.grace", "1h"),
        ("health.check_every", "500ms"),
        ("alerts.raise_after", "1s"),
        ("alerts.webhook", &server.address),
    ];
    let mut mesh = Mesh::start_with(4, &settings);
    // Whatever the shell of this test names, none of these nodes trusts.
    let none = ["env", "-u", "SSL_CERT_FILE", "-u", "SSL_CERT_DIR"].map(str::to_owned).to_vec();
    let by = |path: &Path| [none.clone(), vec![format!("SSL_CERT_FILE={}", path.display())]].concat();
    // The last two are the controls: one trusts another authority of that name, one whom the system trusts.
    for (node, wrapper) in mesh.nodes.iter_mut().zip([by(&trusted), by(&stranger), none.clone()]) {
        node.kill();
        node.wrapper = wrapper;
        node.restart();
    }
    mesh.wait_for_nodes(4);
    let lost = mesh.nodes.pop().expect("four").peer_id.clone();
    let peers: Vec<String> = mesh.nodes.iter().map(|node| node.peer_id.clone()).collect();
    wait_until("the one that trusts the server has told of the node that was killed", || {
        server.notices().iter().any(|notice| field(notice, "key") == format!("silent {lost}"))
    });
    wait_until("what the others would tell is given up", || {
        peers[1..].iter().all(|node| outcomes(&mesh, node)[1] > 0)
    });
    for node in &peers[1..] {
        assert_eq!(outcomes(&mesh, node)[0], 0, "{node} has told somebody whom it does not trust");
    }
    let [told, failed] = outcomes(&mesh, &peers[0]);
    assert!(told > 0 && failed == 0, "{told} told, {failed} failed");
    let notices = server.notices();
    assert!(notices.iter().all(|notice| field(notice, "node") == peers[0]), "{notices:?}");
    assert_eq!(server.refused(), 1, "what was refused once was posted again");
    assert!(server.broken() >= 6, "those who don't trust it have tried {} times", server.broken());
    println!("{} connections ended with the handshake", server.broken());
}
