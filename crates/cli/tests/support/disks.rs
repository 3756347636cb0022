//! File systems of a test's own: small ones, ones that become full or read-only, ones whose power is cut. Mounting needs root.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// How long a mount may stay busy after the processes that used it have ended.
const BUSY_FOR: Duration = Duration::from_secs(20);

/// Runs a program of the system that must succeed.
pub(crate) fn tool(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| {
        panic!("{program} can't be run: {error}; `cargo xtask test` says what is missing")
    });
    let (stdout, stderr) = (super::text(&output.stdout), super::text(&output.stderr));
    assert!(output.status.success(), "{program} {arguments:?}: {stderr} (mounts need root)");
    stdout
}

fn words(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// What becomes of the journal of a file system whose power is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Log {
    /// It reaches the disk first, as where the cut comes a moment after the kernel has written it.
    Flushed,
    /// What is not on the disk is lost.
    Lost,
}

/// An ext4 in a file.
pub(crate) struct Ext4 {
    image: PathBuf,
    /// Where it is mounted.
    pub(crate) at: PathBuf,
}

impl Ext4 {
    /// Makes one and mounts it.
    pub(crate) fn new(directory: &Path, size: &str) -> Self {
        let (image, at) = (directory.join("image"), directory.join("disk"));
        fs::create_dir_all(&at).expect("a mount point can be made");
        tool("truncate", &["--size", size, words(&image)]);
        tool("mkfs.ext4", &["-q", "-m", "0", words(&image)]);
        let disk = Self { image, at };
        disk.mount();
        disk
    }

    /// Moves a folder, which nobody uses, onto one in its place.
    pub(crate) fn over(folder: &Path, size: &str) -> Self {
        let aside = folder.with_extension("aside");
        let image = folder.with_extension("image");
        fs::rename(folder, &aside).expect("a folder can be renamed");
        fs::create_dir(folder).expect("a mount point can be made");
        tool("truncate", &["--size", size, words(&image)]);
        tool("mkfs.ext4", &["-q", "-m", "0", words(&image)]);
        let disk = Self { image, at: folder.to_owned() };
        disk.mount();
        move_into(&aside, folder);
        disk
    }

    /// Makes it read-only, as the kernel does when it finds a file system damaged.
    pub(crate) fn abort(&self) {
        // The kernel may say that it is read-only now, as an error.
        let _ = Command::new("mount").args(["-o", "remount,abort"]).arg(&self.at).output();
        let refused = fs::write(self.at.join("written"), b"").expect_err("it is read-only");
        assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    }

    fn mount(&self) {
        tool("mount", &["-o", "loop", words(&self.image), words(&self.at)]);
    }

    /// Cuts the power: nothing reaches the disk any more, and what is only in memory is lost.
    pub(crate) fn cut_power(&self, log: Log) {
        let shutdown = match log {
            Log::Flushed => "shutdown -f",
            Log::Lost => "shutdown",
        };
        // It asks for what XFS and ext4 have in common: `EXT4_IOC_SHUTDOWN`.
        tool("xfs_io", &["-x", "-c", shutdown, words(&self.at)]);
    }

    /// Turns the power on again. Nobody may have a file open on it.
    pub(crate) fn power_on(&self) {
        let begun = Instant::now();
        while !unmount(&self.at) {
            assert!(begun.elapsed() < BUSY_FOR, "{} stays in use", self.at.display());
            thread::sleep(Duration::from_millis(5));
        }
        self.mount();
    }
}

impl Drop for Ext4 {
    fn drop(&mut self) {
        // A failed test may have left processes on it; the mount goes when they do.
        let _ = Command::new("umount").arg("--lazy").arg(&self.at).output();
    }
}

fn move_into(from: &Path, to: &Path) {
    tool("cp", &["--archive", &format!("{}/.", words(from)), words(to)]);
    fs::remove_dir_all(from).expect("a folder can be removed");
    // What a node had synced before is to be synced here too.
    tool("sync", &["--file-system", words(to)]);
}

fn unmount(at: &Path) -> bool {
    Command::new("umount").arg(at).output().expect("umount can be run").status.success()
}

/// A file system in memory over a folder, with what was in the folder.
pub(crate) struct Tmpfs {
    /// Where it is mounted.
    pub(crate) at: PathBuf,
}

impl Tmpfs {
    /// Moves a folder, which nobody uses, onto a file system of this size in its place.
    pub(crate) fn over(folder: &Path, size: &str) -> Self {
        let aside = folder.with_extension("aside");
        fs::rename(folder, &aside).expect("a folder can be renamed");
        fs::create_dir(folder).expect("a mount point can be made");
        tool("mount", &["-t", "tmpfs", "-o", &format!("size={size},mode=700"), "tmpfs", words(folder)]);
        move_into(&aside, folder);
        Self { at: folder.to_owned() }
    }

    /// Mounts it again with these options, such as `ro` or `size=1g`.
    pub(crate) fn remount(&self, options: &str) {
        tool("mount", &["-o", &format!("remount,{options}"), words(&self.at)]);
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // A node that runs on it is stopped after this; the mount goes when it does.
        let _ = Command::new("umount").arg("--lazy").arg(&self.at).output();
    }
}
