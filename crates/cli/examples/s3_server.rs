//! An S3-compatible server over a folder, for tests alone: `s3_server PORT FOLDER ACCESS_KEY SECRET_KEY BUCKET`.

use std::error::Error;
use std::path::PathBuf;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [port, folder, access_key, secret_key, bucket] = arguments.as_slice() else {
        return Err("s3_server PORT FOLDER ACCESS_KEY SECRET_KEY BUCKET".into());
    };
    let folder = PathBuf::from(folder);
    std::fs::create_dir_all(folder.join(bucket))?;
    let system = FileSystem::new(&folder).map_err(|error| format!("{error:?}"))?;
    let mut service = S3ServiceBuilder::new(system);
    service.set_auth(SimpleAuth::from_single(access_key.as_str(), secret_key.as_str()));
    let service = service.build();
    let listener = TcpListener::bind(("127.0.0.1", port.parse()?)).await?;
    let server = Builder::new(TokioExecutor::new());
    loop {
        let (connection, _) = listener.accept().await?;
        let serving = server.serve_connection(TokioIo::new(connection), service.clone()).into_owned();
        tokio::spawn(async move {
            // A client that hangs up is no concern of the others.
            let _ = serving.await;
        });
    }
}
