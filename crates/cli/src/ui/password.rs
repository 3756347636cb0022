//! Passwords and secrets: from a file, the environment, or the terminal without showing them; never from arguments.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::command::CommandError;
use crate::context::Interrupt;
use crate::exit::Exit;
use crate::ui::Ui;

const VARIABLE: &str = "DATAMESH_PASSWORD";
/// How often whoever waits for the terminal looks whether the program should stop.
const LOOK_EVERY: Duration = Duration::from_millis(50);
const SECRET_SIZE_MAX: u64 = 64 * 1024;

/// Where passwords come from, in this order: the file that was named, the environment, the terminal.
#[derive(Debug, Clone)]
pub struct PasswordSource {
    file: Option<PathBuf>,
    interrupt: Interrupt,
}

impl PasswordSource {
    /// From this file if there is one. The wish to stop ends the asking at a terminal.
    #[must_use]
    pub const fn new(file: Option<PathBuf>, interrupt: Interrupt) -> Self {
        Self { file, interrupt }
    }

    /// The password of what exists.
    ///
    /// # Errors
    /// When it can't be had.
    pub fn existing(&self, ui: &Ui, name: &str) -> Result<Zeroizing<String>, CommandError> {
        match self.given()? {
            Some(password) => Ok(password),
            None => self.ask(ui, &format!("Password of {name}: ")),
        }
    }

    /// A new password, which is asked for twice.
    ///
    /// # Errors
    /// When it can't be had, is empty, or is not the same twice.
    pub fn new_one(&self, ui: &Ui, name: &str) -> Result<Zeroizing<String>, CommandError> {
        let password = match self.given()? {
            Some(password) => password,
            None => {
                let password = self.ask(ui, &format!("New password of {name}: "))?;
                let again = self.ask(ui, "The same again: ")?;
                if password != again {
                    return Err(CommandError::new(Exit::Usage, "the two passwords differ"));
                }
                password
            }
        };
        if password.is_empty() {
            return Err(CommandError::new(Exit::Usage, "the password is empty"));
        }
        Ok(password)
    }

    /// A secret other than a password: from a file, from standard input if that is `-`, or from the terminal if there is
    /// none.
    ///
    /// # Errors
    /// When it can't be had.
    pub fn secret(
        &self,
        ui: &Ui,
        path: Option<&Path>,
        prompt: &str,
    ) -> Result<Zeroizing<String>, CommandError> {
        let text = match path {
            Some(path) => read_secret(path)?,
            None => self.ask(ui, prompt)?,
        };
        Ok(Zeroizing::new(text.trim().to_owned()))
    }

    fn ask(&self, ui: &Ui, prompt: &str) -> Result<Zeroizing<String>, CommandError> {
        let Ok(_mode) = TerminalMode::save() else {
            let error =
                CommandError::new(Exit::Denied, "a password is needed, and there is no terminal to ask at");
            return Err(error.hint(format!("set {VARIABLE} or --password-file")));
        };
        // Nothing but a line wakes whoever reads the terminal, so that is another thread, which the program ends without.
        let (sender, receiver) = mpsc::sync_channel(1);
        let prompt = prompt.to_owned();
        ui.bars.suspend(|| {
            thread::spawn(move || sender.send(rpassword::prompt_password(prompt).map(Zeroizing::new)));
            loop {
                match receiver.recv_timeout(LOOK_EVERY) {
                    Ok(Ok(answer)) => return Ok(answer),
                    Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => break,
                    Ok(Err(error)) => return Err(CommandError::io("the terminal can't be read", error)),
                    Err(mpsc::RecvTimeoutError::Timeout) if !self.interrupt.is_wished() => {}
                    Err(_) => break,
                }
            }
            Err(CommandError::interrupted())
        })
    }

    fn given(&self) -> Result<Option<Zeroizing<String>>, CommandError> {
        if let Some(path) = &self.file {
            return first_line(path).map(Some);
        }
        match std::env::var(VARIABLE) {
            Ok(password) => Ok(Some(Zeroizing::new(password))),
            Err(std::env::VarError::NotPresent) => Ok(None),
            Err(std::env::VarError::NotUnicode(_)) => {
                Err(CommandError::new(Exit::Usage, format!("{VARIABLE} is no UTF-8")))
            }
        }
    }
}

fn first_line(path: &Path) -> Result<Zeroizing<String>, CommandError> {
    let text = read_secret(path)?;
    Ok(Zeroizing::new(text.lines().next().unwrap_or_default().to_owned()))
}

/// Reads a secret from a file, or from standard input if the file is `-`.
fn read_secret(path: &Path) -> Result<Zeroizing<String>, CommandError> {
    let failed = |source| CommandError::io(format!("{} can't be read", path.display()), source);
    let reader: Box<dyn Read> = if path == Path::new("-") {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(path).map_err(failed)?)
    };
    // Room for all of it at once: a text that grows leaves copies behind.
    let mut text = Zeroizing::new(String::with_capacity(4096));
    BufReader::new(reader.take(SECRET_SIZE_MAX)).read_line(&mut text).map_err(failed)?;
    Ok(text)
}

/// The terminal's mode, which comes back however the asking ends.
struct TerminalMode {
    terminal: File,
    mode: Termios,
}

impl TerminalMode {
    fn save() -> io::Result<Self> {
        let terminal = File::open("/dev/tty")?;
        let mode = tcgetattr(&terminal)?;
        Ok(Self { terminal, mode })
    }
}

impl Drop for TerminalMode {
    fn drop(&mut self) {
        // A terminal that is gone needs no mode.
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.mode);
    }
}
