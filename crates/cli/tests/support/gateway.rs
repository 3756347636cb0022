//! A gateway process, and the clients of others that talk to it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Node, PATIENCE, datamesh, field, json, text, wait_with_output};

/// What Python's clients are installed from, each at one version.
const PYTHON_CLIENTS: [&str; 3] = ["awscli==1.46.3", "boto3==1.44.8", "pyarrow==26.0.1"];

/// A gateway of its own process, killed with the test, or one beside a node.
pub(crate) struct Gateway {
    /// None of its own beside a node.
    child: Option<Child>,
    /// As `http://IP:PORT`.
    pub(crate) endpoint: String,
    pub(crate) key: AccessKey,
}

/// Who asks it.
#[derive(Debug, Clone)]
pub(crate) struct AccessKey {
    pub(crate) id: String,
    pub(crate) secret: String,
}

impl AccessKey {
    /// Makes one for the buckets of a home.
    pub(crate) fn new(home: &Path, grants: &[&str]) -> Self {
        let words = ["access", "new"].into_iter().chain(grants.iter().flat_map(|grant| ["--grant", grant]));
        let made = json(home, &words.collect::<Vec<_>>()).remove(0);
        Self { id: field(&made, "id").to_owned(), secret: field(&made, "secret").to_owned() }
    }
}

impl Gateway {
    /// Starts one in this home, whose key may do everything.
    pub(crate) fn start(home: &Path) -> Self {
        let key = AccessKey::new(home, &["*=own"]);
        Self::start_with(home, key)
    }

    /// Starts one in this home, whose key was made before.
    pub(crate) fn start_with(home: &Path, key: AccessKey) -> Self {
        let mut command = datamesh(home);
        command.args(["--json", "gateway", "--listen", "127.0.0.1:0"]);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the program starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let line = lines.next().expect("it says where it listens").expect("UTF-8");
        let said: Value = serde_json::from_str(&line).expect("one JSON object a line");
        thread::spawn(move || lines.for_each(drop));
        Self { child: Some(child), endpoint: field(&said, "endpoint").to_owned(), key }
    }

    /// The one beside a node, whose key was made before.
    pub(crate) fn beside(node: &Node, key: AccessKey) -> Self {
        Self { child: None, endpoint: field(&node.said["gateway"], "endpoint").to_owned(), key }
    }

    /// Ends it in good order.
    pub(crate) fn stop(&mut self) {
        let child = self.child.take().expect("it is a process of its own");
        let ended = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
        assert!(ended.expect("kill can be run").success());
        let ended = wait_with_output(child, &["a gateway that is to stop"]);
        assert!(ended.status.success(), "{}", ended.status);
    }

    /// Ends it without a warning.
    pub(crate) fn kill(&mut self) {
        let child = self.child.as_mut().expect("it is a process of its own");
        child.kill().expect("it is killed");
        child.wait().expect("it ends");
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("it is a process of its own").id()
    }

    /// A command of another program, with the endpoint and the key in its environment.
    pub(crate) fn client(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env("AWS_ACCESS_KEY_ID", &self.key.id)
            .env("AWS_SECRET_ACCESS_KEY", &self.key.secret)
            .env("AWS_DEFAULT_REGION", "us-east-1")
            .env("AWS_REGION", "us-east-1")
            .env("AWS_ENDPOINT_URL", &self.endpoint)
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("S3_ENDPOINT", &self.endpoint)
            .env("S3_ACCESS_KEY", &self.key.id)
            .env("S3_SECRET_KEY", &self.key.secret)
            .env("AWS_PAGER", "")
            .env_remove("AWS_PROFILE")
            .env_remove("AWS_CA_BUNDLE")
            .stdin(Stdio::null());
        command
    }

    /// Runs such a command to its end, which must be a success.
    pub(crate) fn run(&self, program: &str, arguments: &[&str]) -> String {
        finish(self.client(Path::new(program), arguments), arguments)
    }

    /// Asks with a signature for what is under a path, or puts a file there: the status, and what was answered.
    pub(crate) fn signed(&self, path: &str, upload: Option<&Path>) -> (String, Vec<u8>) {
        let file = upload.map(|file| file.to_str().expect("UTF-8"));
        let arguments: Vec<&str> = file.iter().flat_map(|file| ["--upload-file", file]).collect();
        self.signed_with(path, &arguments)
    }

    /// Makes a bucket with a signature: the status.
    pub(crate) fn make_bucket(&self, name: &str) -> String {
        self.signed_with(&format!("/{name}"), &["--request", "PUT", "--data", ""]).0
    }

    /// Asks with a signature, and with these words to curl beside: the status, and what was answered.
    pub(crate) fn signed_with(&self, path: &str, arguments: &[&str]) -> (String, Vec<u8>) {
        let mut command = Command::new("curl");
        command.args(["--silent", "--max-time", "60", "--aws-sigv4", "aws:amz:us-east-1:s3", "--user"]);
        command.arg(format!("{}:{}", self.key.id, self.key.secret));
        // The signature has the digest of what is put; curl makes that of nothing unless it is told.
        command.args(["--header", "x-amz-content-sha256: UNSIGNED-PAYLOAD"]).args(arguments);
        command.args(["--write-out", "%{stderr}%{http_code}", &format!("{}{path}", self.endpoint)]);
        let output = command.stdin(Stdio::null()).output().expect("curl can be run");
        (text(&output.stderr), output.stdout)
    }

    /// Runs the AWS command line.
    pub(crate) fn aws(&self, arguments: &[&str]) -> String {
        let arguments: Vec<&str> =
            ["--endpoint-url", &self.endpoint].iter().chain(arguments).copied().collect();
        finish(self.client(&aws(), &arguments), &arguments)
    }

    /// Runs a Python script of the folder `clients`.
    pub(crate) fn python(&self, script: &str, arguments: &[&str]) -> String {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(script);
        let words: Vec<&str> = [script.to_str().expect("UTF-8")].iter().chain(arguments).copied().collect();
        finish(self.client(&installed("python"), &words), &words)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Runs a command to its end, which must be a success.
pub(crate) fn finish(mut command: Command, what: &[&str]) -> String {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let Output { status, stdout, stderr } = wait_with_output(child, what);
    assert!(status.success(), "{what:?}: {status}\n{}\n{}", text(&stdout), text(&stderr));
    text(&stdout)
}

/// The AWS command line.
pub(crate) fn aws() -> PathBuf {
    installed("aws")
}

/// A program of Python's clients, which are installed once for all tests of this build.
fn installed(program: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python-clients");
        let (lock, ready) = (folder.with_extension("lock"), folder.join("ready"));
        let begun = Instant::now();
        // Other test processes may be at it.
        while !ready.exists() {
            match fs::OpenOptions::new().write(true).create_new(true).open(&lock) {
                Ok(_) => {
                    install(&folder);
                    fs::write(&ready, PYTHON_CLIENTS.join("\n")).expect("written");
                    fs::remove_file(&lock).expect("removed");
                }
                Err(_) => {
                    assert!(begun.elapsed() < PATIENCE, "{} is left over: remove it", lock.display());
                    thread::sleep(Duration::from_millis(200));
                }
            }
        }
        folder.join("bin")
    });
    folder.join(program)
}

fn install(folder: &Path) {
    let mut make = Command::new("python3");
    make.args(["-m", "venv"]).arg(folder);
    finish(make, &["python3 -m venv"]);
    let mut install = Command::new(folder.join("bin/pip"));
    install.args(["install", "--quiet", "--disable-pip-version-check"]).args(PYTHON_CLIENTS);
    finish(install, &["pip install"]);
}
