//! Why a command did not do what was asked, in the words and with the exit code that its user sees.

use std::error::Error;
use std::fmt;
use std::io;

use datamesh_node::charter::CharterError;
use datamesh_node::home::{HomeError, NetworksError};
use datamesh_node::keyring::{KeyringError, ParseKeyError};
use datamesh_node::roll_file::RollFileError;
use datamesh_node::settings::{ParsePeerAddressError, SettingsError, SettingsFileError};

use crate::exit::Exit;

/// Why a command ended without being done.
#[derive(Debug)]
pub struct CommandError {
    exit: Exit,
    message: String,
    hint: Option<String>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl CommandError {
    /// This exit code with this message: lower case, without a full stop, saying what is wrong with which value.
    #[must_use]
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hint: None, source: None }
    }

    /// This exit code with an error's own message and causes.
    #[must_use]
    pub fn from_error(exit: Exit, error: impl Error + Send + Sync + 'static) -> Self {
        Self { exit, message: error.to_string(), hint: None, source: Some(Box::new(error)) }
    }

    /// What could not be done to a file or stream, and what the system said. The exit code follows from the latter.
    #[must_use]
    pub fn io(message: impl Into<String>, source: io::Error) -> Self {
        Self { exit: exit_of(&source), message: message.into(), hint: None, source: Some(Box::new(source)) }
    }

    /// An error of writing to standard output. A reader who has read enough is no failure: then the program ends
    /// quietly.
    #[must_use]
    pub fn output(source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::BrokenPipe {
            return Self::new(Exit::Done, "nobody reads the output any more");
        }
        Self::io("standard output can't be written", source)
    }

    /// Somebody stopped it.
    #[must_use]
    pub fn interrupted() -> Self {
        Self::new(Exit::Interrupted, "interrupted")
    }

    /// Adds what the user can do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds what caused it.
    #[must_use]
    pub fn source(mut self, source: impl Error + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }

    /// What the program ends with.
    #[must_use]
    pub const fn exit(&self) -> Exit {
        self.exit
    }

    /// What is wrong.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What the user can do about it.
    #[must_use]
    pub fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// What caused it, nearest first, without the repetitions that transparent errors make.
    #[must_use]
    pub fn causes(&self) -> Vec<String> {
        let mut causes: Vec<String> = chain(Error::source(self)).map(ToString::to_string).collect();
        causes.dedup();
        causes.retain(|cause| !cause.is_empty() && *cause != self.message);
        causes
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl Error for CommandError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

type Cause<'a> = &'a (dyn Error + 'static);

/// An error and its causes.
fn chain(first: Option<Cause<'_>>) -> impl Iterator<Item = Cause<'_>> {
    fn next<'a>(error: &Cause<'a>) -> Option<Cause<'a>> {
        (*error).source()
    }
    std::iter::successors(first, next)
}

/// The exit code that an error of the system stands for.
#[must_use]
pub fn exit_of(error: &io::Error) -> Exit {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Exit::NoSpace,
        _ => Exit::Failed,
    }
}

/// The exit code of whatever error of the system is among the causes.
fn exit_of_causes(error: &(dyn Error + 'static)) -> Exit {
    let system = chain(Some(error)).find_map(|error| error.downcast_ref::<io::Error>());
    system.map_or(Exit::Failed, exit_of)
}

impl From<RollFileError> for CommandError {
    fn from(error: RollFileError) -> Self {
        let exit = match &error {
            RollFileError::File { source, .. } => exit_of(source),
            RollFileError::Malformed { .. } => Exit::Usage,
        };
        Self::from_error(exit, error)
    }
}

impl From<HomeError> for CommandError {
    fn from(error: HomeError) -> Self {
        match error {
            HomeError::Exposed { .. } => Self::from_error(Exit::Denied, error),
            _ => Self::from_error(exit_of_causes(&error), error),
        }
    }
}

impl From<KeyringError> for CommandError {
    fn from(error: KeyringError) -> Self {
        let hint = match &error {
            KeyringError::Unknown(_) | KeyringError::Known(_) => {
                Some("datamesh keys list shows what there is")
            }
            KeyringError::Empty => Some("datamesh init makes an identity"),
            KeyringError::Taken(_) => Some("choose another name"),
            _ => None,
        };
        let error = match error {
            KeyringError::Home(error) => error.into(),
            KeyringError::Empty | KeyringError::Unknown(_) => Self::from_error(Exit::NotFound, error),
            KeyringError::PasswordNeeded | KeyringError::Unlock(_) => Self::from_error(Exit::Denied, error),
            KeyringError::Stored(_) | KeyringError::Taken(_) | KeyringError::Known(_) => {
                Self::from_error(Exit::Failed, error)
            }
        };
        hint.into_iter().fold(error, Self::hint)
    }
}

impl From<NetworksError> for CommandError {
    fn from(error: NetworksError) -> Self {
        match error {
            NetworksError::Home(error) => error.into(),
            NetworksError::Secret(error) => error.into(),
            NetworksError::Unknown(_) => {
                Self::from_error(Exit::NotFound, error).hint("datamesh networks shows those that were joined")
            }
            NetworksError::Reserved => Self::from_error(Exit::Usage, error),
            NetworksError::Stored(_) | NetworksError::TooManyAddresses(_) => {
                Self::from_error(Exit::Failed, error)
            }
        }
    }
}

impl From<CharterError> for CommandError {
    fn from(error: CharterError) -> Self {
        match error {
            CharterError::Home(error) => error.into(),
            CharterError::OtherMesh { .. } => Self::from_error(Exit::Denied, error).hint(
                "a home's node is of one mesh: run the node of another mesh from another home (--home DIR)",
            ),
            CharterError::Missing(_) => Self::from_error(Exit::Denied, error)
                .hint("copy it back from another node or client of the mesh"),
            CharterError::Secret { .. } | CharterError::Stored(_) => Self::from_error(Exit::Failed, error),
        }
    }
}

impl From<SettingsFileError> for CommandError {
    fn from(error: SettingsFileError) -> Self {
        match error {
            SettingsFileError::Read { .. } => Self::from_error(exit_of_causes(&error), error),
            SettingsFileError::TooLarge { .. } | SettingsFileError::Syntax { .. } => {
                Self::from_error(Exit::Usage, error)
            }
        }
    }
}

impl From<SettingsError> for CommandError {
    fn from(error: SettingsError) -> Self {
        match error {
            SettingsError::File(error) => error.into(),
            SettingsError::UnknownKey { ref nearest, .. } => {
                let hint = match nearest {
                    Some(nearest) => format!("did you mean `{nearest}`?"),
                    None => "datamesh config show lists all settings".to_owned(),
                };
                Self::from_error(Exit::Usage, error).hint(hint)
            }
            SettingsError::BadValue { .. } => Self::from_error(Exit::Usage, error),
        }
    }
}

impl From<ParsePeerAddressError> for CommandError {
    fn from(error: ParsePeerAddressError) -> Self {
        Self::from_error(Exit::Usage, error)
    }
}

impl From<ParseKeyError> for CommandError {
    fn from(error: ParseKeyError) -> Self {
        Self::from_error(Exit::Usage, error)
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use datamesh_node::home::HomeError;

    use super::CommandError;
    use crate::exit::Exit;

    #[test]
    fn a_full_disk_has_its_own_exit_code_however_deep_it_lies() {
        let write = |kind: io::ErrorKind| HomeError::Write { path: "x".into(), source: kind.into() };
        let full = CommandError::from(write(io::ErrorKind::StorageFull));
        assert_eq!(full.exit(), Exit::NoSpace);
        assert_eq!(full.message(), "x can't be written");
        assert_eq!(full.causes(), ["no storage space"]);
        assert_eq!(CommandError::from(write(io::ErrorKind::PermissionDenied)).exit(), Exit::Failed);
    }

    #[test]
    fn a_reader_who_has_read_enough_is_no_failure() {
        assert_eq!(CommandError::output(io::ErrorKind::BrokenPipe.into()).exit(), Exit::Done);
        assert_eq!(CommandError::output(io::ErrorKind::StorageFull.into()).exit(), Exit::NoSpace);
    }
}
