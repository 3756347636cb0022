//! What the tests need from the system, and how it is got.

use core::fmt::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::{env, fs};

/// A program that some test or build can't do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Need {
    /// What it is called on the search path.
    pub(crate) program: &'static str,
    /// The Debian package that brings it.
    pub(crate) package: &'static str,
    /// What can't be done without it.
    pub(crate) why: &'static str,
}

/// Everything that is needed.
const NEEDS: [Need; 15] = [
    Need {
        program: "gcc",
        package: "build-essential",
        why: "links every Rust program, and compiles the C of `ring` and `zstd`",
    },
    Need { program: "mkfs.ext4", package: "e2fsprogs", why: "makes the file systems whose power tests cut" },
    Need { program: "xfs_io", package: "xfsprogs", why: "cuts the power of a file system" },
    Need { program: "mount", package: "mount", why: "mounts them" },
    Need { program: "strace", package: "strace", why: "lets syncs fail, or do nothing" },
    Need {
        program: "faketime",
        package: "faketime",
        why: "moves the clock of processes whose leases are to end, or sets it years off",
    },
    Need { program: "ip", package: "iproute2", why: "cuts a mesh between network namespaces in two" },
    Need {
        program: "redis-server",
        package: "redis-server",
        why: "is the backend of archival nodes in tests, which start it themselves",
    },
    Need {
        program: "python3",
        package: "python3-venv",
        why: "has the AWS command line, boto3, pyarrow and schemathesis, which are installed into the build folder",
    },
    Need { program: "rclone", package: "rclone", why: "copies, syncs and checks through a gateway in tests" },
    Need { program: "restic", package: "restic", why: "backs up and restores through a gateway in tests" },
    Need { program: "curl", package: "curl", why: "reads ranges and signed addresses of a gateway in tests" },
    Need { program: "chromium", package: "chromium", why: "shows the dashboard in tests" },
    Need { program: "chromedriver", package: "chromium-driver", why: "clicks, types and looks at it there" },
    Need { program: "fusermount", package: "fuse3", why: "takes away what rclone mounts in tests" },
];

/// What only measuring needs.
const BENCH_NEEDS: [Need; 1] = [Need {
    program: "iperf3",
    package: "iperf3",
    why: "measures raw TCP, which transfers are compared with",
}];

/// Makes sure that the rights are there which mounts and network namespaces need.
pub(crate) fn privileged() -> Result<(), String> {
    if is_root() {
        return Ok(());
    }
    Err("the tests of faults mount file systems and make network namespaces: run this as root".to_owned())
}

/// Makes sure that everything needed is there: installs it where that can be done, says what is missing where not.
pub(crate) fn provide() -> Result<(), String> {
    provide_each(&NEEDS)
}

/// The same for what measuring needs.
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "measuring needs Linux"))]
pub(crate) fn provide_for_bench() -> Result<(), String> {
    provide_each(&BENCH_NEEDS)
}

fn provide_each(needs: &[Need]) -> Result<(), String> {
    let lacking = missing(needs, on_search_path);
    if lacking.is_empty() {
        return Ok(());
    }
    if !installs() {
        return Err(explain(&lacking));
    }
    println!("{}\n    installing it", explain(&lacking));
    install(&lacking)?;
    let still_lacking = missing(needs, on_search_path);
    if still_lacking.is_empty() { Ok(()) } else { Err(explain(&still_lacking)) }
}

fn missing(needs: &[Need], there: impl Fn(&str) -> bool) -> Vec<Need> {
    needs.iter().copied().filter(|need| !there(need.program)).collect()
}

fn explain(lacking: &[Need]) -> String {
    let mut text = "missing on this system:".to_owned();
    for Need { program, package, why } in lacking {
        write!(text, "\n    {program}: {why} (Debian: apt-get install {package})")
            .expect("a string takes any text");
    }
    text
}

/// Whether a program can be found.
pub(crate) fn on_search_path(program: &str) -> bool {
    let folders = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&folders).any(|folder| executable(&folder.join(program)))
}

#[cfg(unix)]
fn executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn executable(path: &Path) -> bool {
    path.with_extension("exe").is_file() || path.is_file()
}

/// Whether packages can be installed here without asking anyone: as root on a Debian system.
fn installs() -> bool {
    Path::new("/etc/debian_version").exists() && on_search_path("apt-get") && is_root()
}

/// Whether this program may do everything here.
pub(crate) fn is_root() -> bool {
    let answer = Command::new("id").arg("-u").stdin(Stdio::null()).output();
    answer.is_ok_and(|answer| answer.stdout.trim_ascii() == b"0")
}

fn install(lacking: &[Need]) -> Result<(), String> {
    let packages: Vec<&str> = lacking.iter().map(|need| need.package).collect();
    apt_get(&["update", "--quiet"])?;
    apt_get(&[&["install", "--yes", "--quiet", "--no-install-recommends"], packages.as_slice()].concat())
}

fn apt_get(arguments: &[&str]) -> Result<(), String> {
    let line = format!("apt-get {}", arguments.join(" "));
    let status = Command::new("apt-get")
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .status()
        .map_err(|error| format!("`{line}` can't be started: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("`{line}` ended with {status}")) }
}

#[cfg(test)]
mod tests {
    use super::{BENCH_NEEDS, NEEDS, Need, explain, missing, on_search_path};

    const ABSENT: Need =
        Need { program: "no-such-program-here", package: "none", why: "shows that it is missed" };

    #[test]
    fn what_is_there_is_not_missing_and_what_is_not_there_is() {
        assert!(missing(&NEEDS, on_search_path).is_empty());
        assert_eq!(missing(&[ABSENT], on_search_path), [ABSENT]);
    }

    #[test]
    fn what_is_missing_is_said_with_its_package_and_reason() {
        let text = explain(&[ABSENT]);
        assert!(
            text.contains(ABSENT.program) && text.contains(ABSENT.package) && text.contains(ABSENT.why),
            "{text}"
        );
    }

    #[test]
    fn a_need_is_named_once() {
        for needs in [NEEDS.as_slice(), BENCH_NEEDS.as_slice()] {
            for (at, need) in needs.iter().enumerate() {
                assert!(
                    needs[at + 1..].iter().all(|other| other.program != need.program),
                    "{}",
                    need.program
                );
            }
        }
    }
}
