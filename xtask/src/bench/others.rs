//! Other programs that copy a file from one process to another: what the same bytes cost with them.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::figures::{Figure, GIB, MIB, Sample, number};
use super::process::{Running, bound, command, measure, output, wait_until};
use super::route::{Route, free_port};
use crate::needs::{is_root, on_search_path};

const START_DEADLINE: Duration = Duration::from_secs(10);
/// How long a server may take to notice that a client is done, so that its children's time is counted.
const SETTLE: Duration = Duration::from_millis(200);

/// A program, and what serves it.
pub(super) struct Other {
    /// What the table calls it.
    pub(super) name: &'static str,
    /// What has to be installed for it.
    programs: &'static [&'static str],
    /// A server of a folder on a port, and the command that copies the file `file` of it to a path.
    prepare: fn(&Job) -> Result<Prepared, String>,
}

/// What was made ready for a copy.
struct Prepared {
    server: Command,
    client: Command,
    /// A folder outside the scratch that had to be made.
    _made: Option<Made>,
}

/// A folder that is removed when it is no longer needed.
struct Made(&'static str);

impl Made {
    /// Makes a folder unless it is there.
    fn unless_there(path: &'static str) -> Result<Option<Self>, String> {
        match fs::create_dir(path) {
            Ok(()) => Ok(Some(Self(path))),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(None),
            Err(error) => Err(format!("{path}: {error}")),
        }
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        // Somebody else may use it by now.
        let _ = fs::remove_dir(self.0);
    }
}

/// What is copied, and how the two find each other.
struct Job {
    /// The folder that is served, with a file `file`.
    served: PathBuf,
    /// Where the server's own files may lie.
    scratch: PathBuf,
    out: PathBuf,
    port: u16,
}

/// All of them.
pub(super) const OTHERS: [Other; 3] = [
    Other { name: "rsync daemon", programs: &["rsync"], prepare: rsync },
    Other { name: "scp", programs: &["scp", "sshd", "ssh-keygen"], prepare: scp },
    Other { name: "rclone over HTTP", programs: &["rclone"], prepare: rclone },
];

impl Other {
    /// The program that lacks, if one does.
    pub(super) fn lacking(&self) -> Option<&'static str> {
        self.programs.iter().copied().find(|program| !on_search_path(program))
    }

    /// Copies the file `file` of a folder so many times over loopback; `between` is called after each.
    pub(super) fn samples(
        &self,
        served: &Path,
        scratch: &Path,
        runs: usize,
        size: u64,
    ) -> Result<Vec<Sample>, String> {
        let job = Job {
            served: served.to_owned(),
            scratch: scratch.to_owned(),
            out: scratch.join("other.out"),
            port: free_port()?,
        };
        let Prepared { mut server, mut client, _made } = (self.prepare)(&job)?;
        let server = Running::start(&mut server)?;
        let side = Route::loopback().holders;
        wait_until(self.name, START_DEADLINE, || side.listens(job.port))?;
        let mut samples = Vec::new();
        for _ in 0..runs {
            // A copy that is there already could be skipped.
            let _ = fs::remove_file(&job.out);
            let before = server.usage();
            let ended = measure(&mut client, &scratch.join("other.log"))?;
            std::thread::sleep(SETTLE);
            let cpu = ended.usage.cpu + server.usage().cpu.saturating_sub(before.cpu);
            let copied = fs::metadata(&job.out).map(|file| file.len()).unwrap_or_default();
            if copied != size {
                return Err(format!("{} copied {copied} bytes of {size}", self.name));
            }
            samples.push(Sample::from([
                (Figure::Rate, number(size) / MIB / ended.wall.as_secs_f64()),
                (Figure::Cpu, cpu.as_secs_f64() * GIB / number(size)),
            ]));
        }
        Ok(samples)
    }
}

fn rsync(job: &Job) -> Result<Prepared, String> {
    // As root it would become nobody, who can't enter the folder.
    let owner = if is_root() { "uid = root\ngid = root\n" } else { "" };
    let settings = format!("use chroot = no\n{owner}[files]\npath = {}\n", job.served.display());
    let path = write(job, "rsyncd.conf", &settings)?;
    let mut server = bound("rsync");
    server.args(["--daemon", "--no-detach", "--address=127.0.0.1"]);
    server.arg(format!("--config={}", path.display())).arg(format!("--port={}", job.port));
    let mut client = command("rsync");
    client.args(["--whole-file", &format!("rsync://127.0.0.1:{}/files/file", job.port)]).arg(&job.out);
    Ok(Prepared { server, client, _made: None })
}

fn scp(job: &Job) -> Result<Prepared, String> {
    let key = |name: &str| {
        let path = job.scratch.join(name);
        let mut make = command("ssh-keygen");
        make.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&path);
        output(&mut make).map(|_| path)
    };
    let (host, user) = (key("host-key")?, key("user-key")?);
    let settings = format!(
        "Port {}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\n\
         PidFile none\nPermitRootLogin prohibit-password\nSubsystem sftp internal-sftp\n",
        job.port,
        host.display(),
        user.with_extension("pub").display()
    );
    let path = write(job, "sshd.conf", &settings)?;
    // sshd starts itself again for each connection, so it wants to know where it lies.
    let program = output(command("sh").args(["-c", "command -v sshd"]))?;
    // Debian makes it when the service starts; without it sshd of root refuses to run.
    let made = if is_root() { Made::unless_there("/run/sshd")? } else { None };
    let mut server = bound(program.trim());
    server.args(["-D", "-f"]).arg(path);
    let name = output(command("id").arg("-un"))?;
    let mut client = command("scp");
    client.args(["-q", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]);
    client.args(["-o", "BatchMode=yes", "-F", "none", "-i"]).arg(user).args(["-P", &job.port.to_string()]);
    client.arg(format!("{}@127.0.0.1:{}/file", name.trim(), job.served.display())).arg(&job.out);
    Ok(Prepared { server, client, _made: made })
}

fn rclone(job: &Job) -> Result<Prepared, String> {
    let settings = write(job, "rclone.conf", "")?;
    let mut server = bound("rclone");
    server.args(["serve", "http", "--addr", &format!("127.0.0.1:{}", job.port)]).arg(&job.served);
    let mut client = command("rclone");
    client.args(["copyto", ":http:file"]).arg(&job.out);
    client.args(["--http-url", &format!("http://127.0.0.1:{}", job.port)]);
    for each in [&mut server, &mut client] {
        each.arg("--config").arg(&settings);
    }
    Ok(Prepared { server, client, _made: None })
}

fn write(job: &Job, name: &str, text: &str) -> Result<PathBuf, String> {
    let path = job.scratch.join(name);
    fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(path)
}
