//! A process or a thread whose system calls strace sees, and interferes with where it is told to.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::objects::wait_until;

const ATTACHED_WITHIN: Duration = Duration::from_secs(60);

/// A strace that has hold of something, until it is dropped.
pub(crate) struct Tracer(Child);

impl Tracer {
    /// Takes hold of a process or of a thread: what else belongs to it, strace is told by its arguments.
    pub(crate) fn attach(id: u32, arguments: &[&str]) -> Self {
        let mut command = Command::new("strace");
        command.args(["-qq", "-p", &id.to_string()]).args(arguments);
        let strace = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("strace can be run");
        let tracer = Self(strace);
        wait_until("strace has begun", ATTACHED_WITHIN, || {
            fs::read_to_string(format!("/proc/{id}/status"))
                .is_ok_and(|status| status.contains(&format!("TracerPid:\t{}", tracer.0.id())))
        });
        tracer
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // An interrupt makes it let go of the process; a kill might take it along.
        let _ = Command::new("kill").args(["-INT", &self.0.id().to_string()]).status();
        let _ = self.0.wait();
    }
}
