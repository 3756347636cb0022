//! Processes that are measured: what each used of the processors and of memory, from `/proc`.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::needs::on_search_path;

/// The kernel counts processor time in these, everywhere that Rust's tier 1 Linux runs.
const TICKS_PER_SECOND: u32 = 100;
/// How often a process is looked at while it runs.
const LOOK_EVERY: Duration = Duration::from_millis(4);
/// Bytes of a log that an error shows.
const LOG_TAIL_SIZE: usize = 1500;

/// What a process has used so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Processor time, user and system, its own and that of the children it has waited for.
    pub(crate) cpu: Duration,
    /// The most memory that was resident at once, bytes; its own alone.
    pub(crate) memory_peak: u64,
}

impl Usage {
    /// Of the process with this id; `None` where there is none.
    pub(super) fn of(pid: u32) -> Option<Self> {
        Some(look(pid)?.1)
    }

    /// Both together: the time is a sum, the peak the larger one.
    pub(super) fn and(self, other: Self) -> Self {
        Self { cpu: self.cpu + other.cpu, memory_peak: self.memory_peak.max(other.memory_peak) }
    }
}

/// What a process has used, and whether it has ended. Of one that has ended the memory is not known any more.
fn look(pid: u32) -> Option<(bool, Usage)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    // The name stands in brackets and may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let ended = matches!(fields.next()?, "Z" | "X");
    // utime, stime, cutime and cstime are fields 14 to 17 of the line, and the state is the third.
    let ticks: u32 = fields.skip(10).take(4).filter_map(|field| field.parse::<u32>().ok()).sum();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    let cpu = Duration::from_secs(1) * ticks / TICKS_PER_SECOND;
    Some((ended, Usage { cpu, memory_peak: peak.unwrap_or_default() * 1024 }))
}

/// Forgets a process's peak memory, so that the next one is of what follows.
pub(super) fn forget_peak(pid: u32) {
    // Where the kernel refuses, the peak is that of all its life, which is no smaller.
    let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
}

/// A command that sees none of this program's own variables and no terminal.
pub(crate) fn command(program: impl AsRef<Path>) -> Command {
    let mut command = Command::new(program.as_ref());
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("DATAMESH_")) {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// The same command, killed when this program ends in whatever way, where the system can do that.
pub(crate) fn bound(program: &str) -> Command {
    if !on_search_path("setpriv") {
        return command(program);
    }
    let mut bound = command("setpriv");
    bound.args(["--pdeathsig", "KILL", program]);
    bound
}

/// What a short command prints.
///
/// # Errors
/// When it can't be started or fails, with what it said.
pub(crate) fn output(command: &mut Command) -> Result<String, String> {
    let what = command.get_program().to_string_lossy().into_owned();
    let output = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output();
    let output = output.map_err(|error| format!("{what} can't be started: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let told = String::from_utf8_lossy(&output.stdout);
        return Err(format!("{what} ended with {}: {}{}", output.status, tail(&said), tail(&told)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A process that runs beside this one, and is killed when it is dropped.
pub(crate) struct Running {
    child: Child,
}

impl Running {
    /// Starts it.
    pub(crate) fn start(command: &mut Command) -> Result<Self, String> {
        let what = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn().map_err(|error| format!("{what} can't be started: {error}"))?;
        Ok(Self { child })
    }

    /// Its id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has used so far.
    pub(crate) fn usage(&self) -> Usage {
        Usage::of(self.pid()).unwrap_or_default()
    }

    /// The process itself, for its pipes.
    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Waits until it ends, looking at it meanwhile; `watch` is called at every look.
    ///
    /// # Errors
    /// When it ends with a failure.
    pub(crate) fn finish(mut self, begun: Instant, mut watch: impl FnMut()) -> Result<Ended, String> {
        let mut usage = Usage::default();
        // Looked at before it is waited for: then its times are still there when it has ended.
        while let Some((ended, now)) = look(self.pid()) {
            usage = Usage { cpu: now.cpu, memory_peak: now.memory_peak.max(usage.memory_peak) };
            if ended {
                break;
            }
            watch();
            sleep(LOOK_EVERY);
        }
        let wall = begun.elapsed();
        let status = self.child.wait().map_err(|error| format!("a process can't be waited for: {error}"))?;
        if status.success() { Ok(Ended { wall, usage }) } else { Err(format!("it ended with {status}")) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process that has ended well.
pub(crate) struct Ended {
    /// From its start to its end.
    pub(crate) wall: Duration,
    /// What it used.
    pub(crate) usage: Usage,
}

/// Runs a command to its end, its words on standard error going into a log.
///
/// # Errors
/// When it fails, with the end of that log.
pub(super) fn measure(command: &mut Command, log: &Path) -> Result<Ended, String> {
    let file = fs::File::create(log).map_err(|error| format!("{}: {error}", log.display()))?;
    let begun = Instant::now();
    let running = Running::start(command.stderr(file))?;
    running.finish(begun, || ()).map_err(|why| with_log(&why, log))
}

/// An error with the end of a log.
pub(crate) fn with_log(why: &str, log: &Path) -> String {
    format!("{why}: {}", tail(&fs::read_to_string(log).unwrap_or_default()))
}

/// The end of what a process said.
fn tail(text: &str) -> String {
    let start = text.len().saturating_sub(LOG_TAIL_SIZE);
    let start = (start..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text[start..].trim().to_owned()
}

/// Waits until a condition holds.
///
/// # Errors
/// When it doesn't in time.
pub(crate) fn wait_until(
    what: &str,
    deadline: Duration,
    mut holds: impl FnMut() -> bool,
) -> Result<(), String> {
    let begun = Instant::now();
    while !holds() {
        if begun.elapsed() > deadline {
            return Err(format!("{what}: not within {} s", deadline.as_secs()));
        }
        sleep(LOOK_EVERY);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Running, Usage, command, forget_peak};

    /// Burns some processor time in a child of its own, so that what is measured includes children.
    const BURN: &str = "sh -c 'i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done'; true";

    #[test]
    fn what_a_process_and_its_children_used_is_seen_after_they_ended() {
        let running = Running::start(command("sh").args(["-c", BURN])).expect("there is a shell");
        let ended = running.finish(Instant::now(), || ()).expect("it ends well");
        assert!(ended.usage.cpu >= Duration::from_millis(20), "{:?}", ended.usage);
        assert!(
            ended.usage.cpu <= ended.wall + Duration::from_millis(50),
            "{:?} {:?}",
            ended.usage,
            ended.wall
        );
        assert!(ended.usage.memory_peak > 100_000, "{:?}", ended.usage);
    }

    #[test]
    fn a_process_that_fails_is_an_error() {
        let running = Running::start(command("sh").args(["-c", "exit 3"])).expect("there is a shell");
        assert!(running.finish(Instant::now(), || ()).is_err());
    }

    #[test]
    fn a_peak_that_was_forgotten_is_no_larger_than_before() {
        let held = vec![1_u8; 32 << 20];
        let pid = std::process::id();
        let before = Usage::of(pid).expect("this process runs");
        assert!(before.memory_peak >= 32 << 20, "{before:?}");
        drop(std::hint::black_box(held));
        forget_peak(pid);
        let after = Usage::of(pid).expect("this process runs");
        assert!(after.memory_peak <= before.memory_peak, "{before:?} {after:?}");
    }
}
