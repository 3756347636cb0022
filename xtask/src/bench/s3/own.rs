//! DataMesh as a server of S3: a mesh, and a gateway of its client's home.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::{Endpoint, Owner, Server, failed};
use crate::bench::mesh::{Keeping, Mesh};
use crate::bench::process::{Running, Usage, forget_peak, output, wait_until, with_log};
use crate::bench::route::Route;

const START_DEADLINE: Duration = Duration::from_secs(60);

/// A mesh with a gateway.
pub(crate) struct Own {
    gateway: Running,
    endpoint: Endpoint,
    owner: Owner,
    mesh: Mesh,
}

impl Own {
    /// Starts so many nodes and a gateway, which codes by this scheme.
    pub(crate) fn start(
        keeping: Keeping,
        program: &Path,
        folder: &Path,
        count: usize,
        scheme: &str,
    ) -> Result<Self, String> {
        let mesh = Mesh::start_keeping(keeping, program, &Route::loopback(), folder, count)?;
        let (key, secret) = access_key(&mesh, "*=own")?;
        let (printed, log) = (folder.join("gateway.printed"), folder.join("gateway.log"));
        // What was put must come from the nodes.
        let mut command = mesh.command_without_cache(&["gateway", "--listen", "127.0.0.1:0"]);
        command.env("DATAMESH_PUT_SCHEME", scheme);
        command.stdout(File::create(&printed).map_err(|error| failed(&printed, &error))?);
        command.stderr(File::create(&log).map_err(|error| failed(&log, &error))?);
        let gateway = Running::start(&mut command)?;
        let said = || std::fs::read_to_string(&printed).unwrap_or_default();
        wait_until("a gateway serves", START_DEADLINE, || said().contains('\n'))
            .map_err(|why| with_log(&why, &log))?;
        let serving = parsed(said().lines().next().unwrap_or_default())?;
        let endpoint = Endpoint {
            address: field(&serving, "endpoint")?,
            region: field(&serving, "region")?,
            key,
            secret,
        };
        let owner = Owner { name: field(&serving, "network")?, id: field(&serving, "owner")? };
        Ok(Self { gateway, endpoint, owner, mesh })
    }

    pub(crate) const fn owner(&self) -> &Owner {
        &self.owner
    }

    /// Another key, and its secret, with this grant. The gateway knows it.
    pub(crate) fn access_key(&self, grant: &str) -> Result<(String, String), String> {
        let (id, secret) = access_key(&self.mesh, grant)?;
        let buckets = format!("{}/api/v1/buckets", self.endpoint.address);
        let token = format!("Bearer {id}.{secret}");
        // It was made by another program than the gateway, which looks for such changes from time to time.
        wait_until("the gateway knows a key", START_DEADLINE, || {
            ureq::get(&buckets).header("authorization", &token).call().is_ok()
        })?;
        Ok((id, secret))
    }
}

fn access_key(mesh: &Mesh, grant: &str) -> Result<(String, String), String> {
    let key = parsed(&output(&mut mesh.command(&["access", "new", "--grant", grant]))?)?;
    Ok((field(&key, "id")?, field(&key, "secret")?))
}

fn parsed(text: &str) -> Result<Value, String> {
    serde_json::from_str(text.trim()).map_err(|error| format!("what the program said: {error}: {text}"))
}

fn field(value: &Value, name: &str) -> Result<String, String> {
    value[name].as_str().map(str::to_owned).ok_or_else(|| format!("the program said no `{name}`: {value}"))
}

impl Server for Own {
    fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    fn face(&self) -> Usage {
        self.gateway.usage()
    }

    fn behind(&self) -> Usage {
        self.mesh.usage()
    }

    fn forget_peaks(&self) {
        forget_peak(self.gateway.pid());
        self.mesh.forget_peaks();
    }
}
