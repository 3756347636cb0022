//! Passwords and secrets: from a file, the environment, or the terminal without showing them; never from arguments.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::command::CommandError;
use crate::exit::Exit;
use crate::ui::Ui;

const VARIABLE: &str = "DATAMESH_PASSWORD";
const SECRET_SIZE_MAX: u64 = 64 * 1024;

/// Where passwords come from, in this order: the file that was named, the environment, the terminal.
#[derive(Debug, Clone)]
pub struct PasswordSource {
    file: Option<PathBuf>,
}

impl PasswordSource {
    /// From this file if there is one.
    #[must_use]
    pub const fn new(file: Option<PathBuf>) -> Self {
        Self { file }
    }

    /// The password of what exists.
    ///
    /// # Errors
    /// When it can't be had.
    pub fn existing(&self, ui: &Ui, name: &str) -> Result<Zeroizing<String>, CommandError> {
        match self.given()? {
            Some(password) => Ok(password),
            None => ui.ask_secret(&format!("Password of {name}: ")),
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
                let password = ui.ask_secret(&format!("New password of {name}: "))?;
                let again = ui.ask_secret("The same again: ")?;
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

impl Ui {
    /// A secret from a file, from standard input if that is `-`, or from the terminal if there is none.
    ///
    /// # Errors
    /// When it can't be had.
    pub fn secret(&self, path: Option<&Path>, prompt: &str) -> Result<Zeroizing<String>, CommandError> {
        let text = match path {
            Some(path) => read_secret(path)?,
            None => self.ask_secret(prompt)?,
        };
        Ok(Zeroizing::new(text.trim().to_owned()))
    }

    fn ask_secret(&self, prompt: &str) -> Result<Zeroizing<String>, CommandError> {
        if !io::stderr().is_terminal() && !io::stdin().is_terminal() {
            let error =
                CommandError::new(Exit::Denied, "a password is needed, and there is no terminal to ask at");
            return Err(error.hint(format!("set {VARIABLE} or --password-file")));
        }
        let asked = self.bars.suspend(|| rpassword::prompt_password(prompt));
        asked.map(Zeroizing::new).map_err(|error| match error.kind() {
            io::ErrorKind::Interrupted => CommandError::interrupted(),
            _ => CommandError::io("the terminal can't be read", error),
        })
    }
}
