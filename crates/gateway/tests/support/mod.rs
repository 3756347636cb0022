//! An S3 face over an embedded mesh on a port of its own, and a small client that signs what it asks.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use datamesh_codec::keys::Identity;
use datamesh_core::bucket::{Access, AccessKey, Grant};
use datamesh_core::scheme::{Chunking, Cipher, Compression, Mode, Redundancy, Scheme};
use datamesh_core::topology::Topology;
use datamesh_engine::buckets::{Buckets, BucketsOrder, ContentSubject, Schemes};
use datamesh_gateway::s3::{respond, service};
use datamesh_gateway::{Gateway, GatewaySettings};
use datamesh_node::assemble::Client;
use datamesh_node::home::Home;
use datamesh_node::settings::Settings;
use datamesh_store::map::DiskMap;
use futures::StreamExt;
use hyper::body::Incoming;
use hyper::header::HOST;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, StatusCode};
use hyper_util::rt::TokioIo;
use s3s::Body;
use s3s::crypto::{Checksum, Sha256};
use s3s::dto::{Timestamp, TimestampFormat};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};

pub(crate) const REGION: &str = "us-east-1";
/// Who may do everything.
pub(crate) const OWNER: (&str, &str) = ("owner", "secret of the owner");
/// Who may read the bucket `photos`.
pub(crate) const READER: (&str, &str) = ("reader", "secret of the reader");

/// Sealed, in chunks of 1 MiB, 4+2.
struct Fixed;

impl Schemes for Fixed {
    fn scheme(&self, _subject: &ContentSubject<'_>, _topology: &Topology) -> Result<Scheme, String> {
        Ok(Scheme {
            mode: Mode::Sealed,
            chunking: Chunking::Fixed,
            compression: Compression::None,
            cipher: Cipher::Aes256Gcm,
            redundancy: Redundancy::new(4, 2).expect("in range"),
        })
    }
}

/// A gateway that listens on loopback as long as this lives.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) buckets: Buckets,
    _mesh: Client,
    _home: TempDir,
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.to_vec()).expect("UTF-8")
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("ASCII"))
    }

    /// What the first element of this name in the answer's document holds.
    pub(crate) fn element(&self, name: &str) -> Option<String> {
        elements(&self.text(), name).into_iter().next()
    }

    pub(crate) fn elements(&self, name: &str) -> Vec<String> {
        elements(&self.text(), name)
    }

    /// That it was refused so.
    #[track_caller]
    pub(crate) fn refused(&self, status: u16, code: &str) {
        assert_eq!((self.status.as_u16(), self.element("Code").as_deref()), (status, Some(code)), "{self:?}");
        let named = self.element("RequestId");
        assert!(named.is_some() && named.as_deref() == self.header("x-amz-request-id"), "{named:?}");
    }

    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert!(self.status.is_success(), "{self:?} {}", self.text());
        self
    }
}

fn elements(document: &str, name: &str) -> Vec<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let behind = document.split(&open).skip(1);
    behind.map(|rest| rest.split(&close).next().expect("every split has a first").to_owned()).collect()
}

impl Server {
    pub(crate) async fn start() -> Self {
        let home = tempfile::tempdir().expect("a folder");
        let settings = Settings::default();
        let mesh = Client::embedded(&Home::at(home.path().to_owned()), &settings)
            .await
            .expect("it works on loopback");
        let order = BucketsOrder {
            world: mesh.world.clone(),
            transfer: mesh.transfer,
            owner: Arc::new(Identity::from_seed(&[7; 32])),
            map: Arc::new(DiskMap::open(&home.path().join("buckets.redb")).expect("it works on loopback")),
            schemes: Arc::new(Fixed),
        };
        let (buckets, upkeep) = Buckets::open(order).await.expect("it works on loopback");
        tokio::spawn(upkeep.run());
        for ((id, secret), bucket, access) in
            [(OWNER, None, Access::Own), (READER, Some("photos"), Access::Read)]
        {
            let key = AccessKey {
                secret: secret.to_owned(),
                created: buckets.world().clock.now(),
                grants: vec![Grant {
                    bucket: bucket.map(|name| name.parse().expect("it works on loopback")),
                    access,
                }],
                name: None,
            };
            buckets.set_access_key(id.to_owned(), key).await.expect("it works on loopback");
        }
        let gateway = Gateway {
            buckets: buckets.clone(),
            settings: Arc::new(GatewaySettings {
                region: REGION.to_owned(),
                domain: Some("s3.test".to_owned()),
                mesh: "test".to_owned(),
            }),
            metrics: Arc::new(String::new),
            adopt: |_, _| {},
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("it works on loopback");
        let address = listener.local_addr().expect("it works on loopback");
        tokio::spawn(serve(listener, gateway));
        Self { address, buckets, _mesh: mesh, _home: home }
    }

    /// Asks as the owner.
    pub(crate) async fn ask(&self, method: &str, path: &str, body: impl Into<Bytes>) -> Answer {
        self.ask_with(OWNER, method, path, &[], body).await
    }

    pub(crate) async fn ask_with(
        &self,
        key: (&str, &str),
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let path = self.presigned(key, method, path);
        self.send(method, &path, headers, body).await
    }

    /// Sends a request as it is.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let stream = TcpStream::connect(self.address).await.expect("it works on loopback");
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("it works on loopback");
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header(HOST, self.address.to_string());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body: Bytes = body.into();
        let response = sender
            .send_request(request.body(Body::from(body)).expect("it works on loopback"))
            .await
            .expect("it works on loopback");
        let (parts, body) = response.into_parts();
        let chunks: Vec<Bytes> =
            Body::from(body).map(|chunk| chunk.expect("it works on loopback")).collect().await;
        Answer { status: parts.status, headers: parts.headers, body: chunks.concat().into() }
    }

    /// The path and query with which anybody may ask this for a minute.
    pub(crate) fn presigned(&self, (id, secret): (&str, &str), method: &str, path: &str) -> String {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let mut now = Vec::new();
        Timestamp::from(SystemTime::now())
            .format(TimestampFormat::DateTime, &mut now)
            .expect("it works on loopback");
        let now = String::from_utf8(now).expect("it works on loopback");
        let (day, time) = (now[..10].replace('-', ""), now[11..19].replace(':', ""));
        let (date, scope) = (format!("{day}T{time}Z"), format!("{day}/{REGION}/s3/aws4_request"));
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let mut pairs: BTreeMap<String, String> = pairs
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        for (name, value) in [
            ("X-Amz-Algorithm", "AWS4-HMAC-SHA256".to_owned()),
            ("X-Amz-Credential", format!("{id}/{scope}").replace('/', "%2F")),
            ("X-Amz-Date", date.clone()),
            ("X-Amz-Expires", "60".to_owned()),
            ("X-Amz-SignedHeaders", "host".to_owned()),
        ] {
            pairs.insert(name.to_owned(), value);
        }
        let pairs: Vec<String> = pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        let query = pairs.join("&");
        let canonical = format!("{method}\n{path}\n{query}\nhost:{}\n\nhost\nUNSIGNED-PAYLOAD", self.address);
        let hashed = hex(&Sha256::checksum(canonical.as_bytes()));
        let to_sign = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{hashed}");
        let mut signing = format!("AWS4{secret}").into_bytes();
        for part in [day.as_str(), REGION, "s3", "aws4_request"] {
            signing = hmac(&signing, part.as_bytes()).to_vec();
        }
        format!("{path}?{query}&X-Amz-Signature={}", hex(&hmac(&signing, to_sign.as_bytes())))
    }
}

async fn serve(listener: TcpListener, gateway: Gateway) {
    let service = service(&gateway);
    loop {
        let (stream, _) = listener.accept().await.expect("it works on loopback");
        let (gateway, service) = (gateway.clone(), service.clone());
        tokio::spawn(async move {
            let answer = service_fn(|request: Request<Incoming>| async {
                let answer = respond(&gateway, &service, request.map(Body::from)).await;
                Ok::<_, Infallible>(answer)
            });
            // A client that goes away in the middle is what some tests are about.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), answer)
                .await;
        });
    }
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut block = [0; 64];
    if key.len() > block.len() {
        block[..32].copy_from_slice(&Sha256::checksum(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let padded = |with: u8| block.map(|byte| byte ^ with).to_vec();
    let inner = Sha256::checksum(&[padded(0x36), message.to_vec()].concat());
    Sha256::checksum(&[padded(0x5c), inner.to_vec()].concat())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes that no chunk has twice.
pub(crate) fn noise(size: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}
