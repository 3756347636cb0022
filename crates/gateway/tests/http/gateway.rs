//! A gateway over an embedded mesh in a folder that vanishes.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use datamesh_codec::keys::Identity;
use datamesh_core::bucket::{Access, AccessKey, Grant};
use datamesh_core::scheme::{Chunking, Cipher, Compression, Mode, Scheme};
use datamesh_core::topology::Topology;
use datamesh_engine::buckets::{Buckets, BucketsOrder, ContentSubject, Schemes};
use datamesh_gateway::{Gateway, GatewaySettings, http};
use datamesh_node::assemble::Client;
use datamesh_node::home::Home;
use datamesh_node::settings::Settings;
use datamesh_store::map::DiskMap;
use tokio::task::JoinHandle;

/// Tokens of keys that may do so much everywhere.
pub(crate) const READER: &str = "reader.secret-of-the-reader";
pub(crate) const WRITER: &str = "writer.secret-of-the-writer";
pub(crate) const OWNER: &str = "owner.secret-of-the-owner";
/// One that may write into the bucket `one` and do nothing else.
pub(crate) const OF_ONE: &str = "ofone.secret-of-one";

/// Puts all as 4+2, sealed unless the name says `public`.
struct FourAndTwo;

impl Schemes for FourAndTwo {
    fn scheme(&self, subject: &ContentSubject<'_>, _topology: &Topology) -> Result<Scheme, String> {
        let public = subject.name.starts_with("public");
        Ok(Scheme {
            mode: if public { Mode::Public } else { Mode::Sealed },
            chunking: Chunking::Fixed,
            compression: Compression::None,
            cipher: if public { Cipher::None } else { Cipher::Aes256Gcm },
            redundancy: "4+2".parse().expect("a redundancy"),
        })
    }
}

/// A gateway that serves.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    client: Client,
    tasks: Vec<JoinHandle<()>>,
}

impl Running {
    /// Serves the mesh in this folder, with the keys of the tests in it.
    pub(crate) async fn start(folder: &Path) -> Self {
        Self::start_at(folder, "127.0.0.1:0").await
    }

    pub(crate) async fn start_at(folder: &Path, listen: &str) -> Self {
        let home = Home::at(folder.to_owned());
        let client = Client::embedded(&home, &Settings::default()).await.expect("an embedded mesh");
        let map = DiskMap::open(&folder.join("buckets.map")).expect("a map");
        let order = BucketsOrder {
            world: client.world.clone(),
            transfer: client.transfer,
            owner: Arc::new(Identity::from_seed(&[7; 32])),
            map: Arc::new(map),
            schemes: Arc::new(FourAndTwo),
        };
        let (buckets, upkeep) = Buckets::open(order).await.expect("buckets");
        let mut tasks = vec![tokio::spawn(upkeep.run())];
        for (token, access, bucket) in [
            (READER, Access::Read, None),
            (WRITER, Access::Write, None),
            (OWNER, Access::Own, None),
            (OF_ONE, Access::Write, Some("one")),
        ] {
            let (id, secret) = token.split_once('.').expect("a token");
            let bucket = bucket.map(|name: &str| name.parse().expect("a name"));
            let key = AccessKey {
                secret: secret.to_owned(),
                created: client.world.clock.now(),
                grants: vec![Grant { bucket, access }],
                name: None,
            };
            buckets.set_access_key(id.to_owned(), key).await.expect("a key is added");
        }
        let settings = GatewaySettings { region: "here".to_owned(), domain: None, mesh: "tests".to_owned() };
        let text = "# TYPE datamesh_up gauge\ndatamesh_up{node=\"n\",way=\"x\"} 1\n# EOF\n";
        let gateway = Gateway {
            buckets,
            settings: Arc::new(settings),
            metrics: Arc::new(|| text.to_owned()),
            adopt: |_, _| {},
        };
        let listener = tokio::net::TcpListener::bind(listen).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let router = http::router(gateway);
        tasks.push(tokio::spawn(async move {
            axum::serve(listener, router).await.expect("it serves");
        }));
        Self { address, client, tasks }
    }

    /// Stops as a crash would, but for the disks, which are closed so that another may open them.
    pub(crate) async fn stop(self) {
        for task in self.tasks {
            task.abort();
            let _ = task.await;
        }
        self.client.close().await;
    }
}
