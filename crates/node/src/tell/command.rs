//! Runs the command that wants to know of alerts.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use bytes::Bytes;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

/// Why a notice was not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum CommandError {
    #[error("the command can't be started: {0}")]
    Start(io::Error),
    #[error("the command ended with {0}")]
    Failed(ExitStatus),
    #[error("the command can't be waited for: {0}")]
    Wait(io::Error),
    #[error("the command did not end in {0:?} and was killed, with all that it had started")]
    Killed(Duration),
}

/// A command and all that it starts: killed together when this is dropped.
struct Group {
    child: Child,
    id: Option<Pid>,
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            // It has ended already where there is no such group any more.
            let _ = kill_process_group(id, Signal::KILL);
        }
    }
}

/// Runs a command line with a notice on its standard input, and kills it when it takes too long.
pub(super) async fn run(line: &str, notice: &Bytes, timeout: Duration) -> Result<(), CommandError> {
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(line).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    // A group of its own, so that what it starts can be killed with it.
    let child = command.process_group(0).kill_on_drop(true).spawn().map_err(CommandError::Start)?;
    let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let mut group = Group { child, id };
    let ended = tokio::time::timeout(timeout, feed(&mut group.child, notice)).await;
    match ended {
        Err(_) => Err(CommandError::Killed(timeout)),
        Ok(Err(error)) => Err(CommandError::Wait(error)),
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(CommandError::Failed(status)),
    }
}

async fn feed(child: &mut Child, notice: &Bytes) -> io::Result<ExitStatus> {
    if let Some(mut input) = child.stdin.take() {
        // A command that reads nothing of it may be content with that something is wrong.
        let _ = input.write_all(notice).await;
    }
    child.wait().await
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};
    use std::{fs, thread};

    use bytes::Bytes;

    use super::{CommandError, run};

    const NOTICE: Bytes = Bytes::from_static(b"{\"level\":\"LOST\"}");

    #[tokio::test]
    async fn a_command_gets_the_notice_on_its_standard_input() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("got");
        let line = format!("cat > {}", path.display());
        run(&line, &NOTICE, Duration::from_secs(20)).await.expect("it ends well");
        assert_eq!(fs::read(&path).expect("written"), NOTICE);
        let deaf = run("exit 3", &NOTICE, Duration::from_secs(20)).await.expect_err("it says so");
        assert!(matches!(deaf, CommandError::Failed(status) if status.code() == Some(3)), "{deaf}");
    }

    #[tokio::test]
    async fn a_command_that_hangs_is_killed_with_what_it_started() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("pid");
        let line = format!("sleep 600 & echo $! > {}; wait", path.display());
        let begun = Instant::now();
        let killed = run(&line, &NOTICE, Duration::from_millis(700)).await.expect_err("it hangs");
        assert!(matches!(killed, CommandError::Killed(_)), "{killed}");
        assert!(begun.elapsed() < Duration::from_secs(20));
        let pid = fs::read_to_string(&path).expect("it was started");
        let state = format!("/proc/{}/stat", pid.trim());
        // An orphan that was killed may be there until whoever took it over has waited for it.
        let dead = || fs::read_to_string(&state).map_or(true, |text| text.contains(") Z "));
        let deadline = Instant::now() + Duration::from_secs(10);
        while !dead() {
            assert!(Instant::now() < deadline, "what it started still runs");
            thread::sleep(Duration::from_millis(20));
        }
    }
}
