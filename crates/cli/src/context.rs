//! What a command runs in: the home, its settings, identity and mesh, and the wish to stop.

use std::path::Path;
use std::sync::OnceLock;

use datamesh_core::time::Timestamp;
use datamesh_engine::world::{Clock, Entropy};
use datamesh_node::charter::MeshSecret;
use datamesh_node::home::{Home, Mesh, Name, Networks};
use datamesh_node::keyring::{DEFAULT_IDENTITY, Entry, Identity, Keyring, KeyringError, Protection};
use datamesh_node::settings::{Layers, Override, ResolvedSettings, SettingsFile};
use datamesh_node::system::{SystemClock, SystemEntropy};
use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::args::GlobalArgs;
use crate::command::CommandError;
use crate::exit::Exit;
use crate::ui::{PasswordSource, Ui};

const MESH_SECRET_VARIABLE: &str = "DATAMESH_MESH_SECRET";

/// What a command runs in.
#[derive(Debug)]
pub struct Context {
    home: Home,
    network: Option<Name>,
    passwords: PasswordSource,
    password: OnceLock<Zeroizing<String>>,
    interrupt: Interrupt,
}

/// The wish of somebody at the terminal, or of the system, that the program stop. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Interrupt(watch::Receiver<bool>);

impl Interrupt {
    /// A wish, and what utters it.
    #[must_use]
    pub fn new() -> (watch::Sender<bool>, Self) {
        let (sender, receiver) = watch::channel(false);
        (sender, Self(receiver))
    }

    /// Whether the program should stop.
    #[must_use]
    pub fn is_wished(&self) -> bool {
        *self.0.borrow()
    }

    /// Completes once the program should stop; at once if that is so already.
    ///
    /// # Cancel safety
    /// Nothing is lost when dropped.
    pub async fn wait(&self) {
        let mut receiver = self.0.clone();
        if receiver.wait_for(|interrupted| *interrupted).await.is_err() {
            // Whoever could wish it is gone: nobody ever will.
            std::future::pending::<()>().await;
        }
    }
}

impl Context {
    /// As the global arguments want it.
    ///
    /// # Errors
    /// When there is no home to be found.
    pub fn new(arguments: &GlobalArgs, interrupt: Interrupt) -> Result<Self, CommandError> {
        let home = arguments.home.clone().map(Home::at).or_else(Home::of_platform);
        let home = home.ok_or_else(|| {
            let error = CommandError::new(Exit::Usage, "this user has no home directory");
            error.hint("say where to keep things with --home DIR or DATAMESH_HOME")
        })?;
        Ok(Self {
            home,
            network: arguments.network.clone(),
            passwords: PasswordSource::new(arguments.password_file.clone(), interrupt.clone()),
            password: OnceLock::new(),
            interrupt,
        })
    }

    /// The home. It may not exist yet.
    #[must_use]
    pub const fn home(&self) -> &Home {
        &self.home
    }

    /// The wish to stop, for commands that go on until then.
    #[must_use]
    pub const fn interrupt(&self) -> &Interrupt {
        &self.interrupt
    }

    /// Where passwords come from.
    #[must_use]
    pub const fn passwords(&self) -> &PasswordSource {
        &self.passwords
    }

    /// What settings are made from, with these flags.
    ///
    /// # Errors
    /// When the settings file can't be read.
    pub fn layers(&self, overrides: Vec<Override>) -> Result<Layers, CommandError> {
        let file = SettingsFile::read(&self.home.settings_path())?;
        Ok(Layers { file, environment: std::env::vars_os().collect(), overrides })
    }

    /// The settings, with these flags.
    ///
    /// # Errors
    /// When anything is wrong with the file, the environment or the flags.
    pub fn settings(&self, overrides: Vec<Override>) -> Result<ResolvedSettings, CommandError> {
        Ok(ResolvedSettings::load(&self.layers(overrides)?)?)
    }

    /// The mesh that the command talks to.
    ///
    /// # Errors
    /// When there is no such mesh, or the list of meshes can't be read.
    pub fn mesh(&self) -> Result<Mesh, CommandError> {
        let networks = Networks::load(&self.home)?;
        match &self.network {
            Some(name) => Ok(networks.mesh(name.as_str())?),
            None => Ok(networks.current()),
        }
    }

    /// The secret of a private mesh: from the file that was named, `-` being standard input, else from the environment.
    ///
    /// # Errors
    /// When it can't be read, or is no mesh secret.
    pub fn mesh_secret(&self, file: Option<&Path>, ui: &Ui) -> Result<Option<MeshSecret>, CommandError> {
        let text = match file {
            Some(path) => self.passwords.secret(ui, Some(path), "")?,
            None => match std::env::var(MESH_SECRET_VARIABLE) {
                Ok(text) => Zeroizing::new(text.trim().to_owned()),
                Err(std::env::VarError::NotPresent) => return Ok(None),
                Err(std::env::VarError::NotUnicode(_)) => {
                    return Err(CommandError::new(
                        Exit::Usage,
                        format!("{MESH_SECRET_VARIABLE} is no UTF-8"),
                    ));
                }
            },
        };
        let secret = MeshSecret::from_text(&text).map_err(|error| {
            let place =
                file.map_or_else(|| MESH_SECRET_VARIABLE.to_owned(), |path| path.display().to_string());
            let error = CommandError::new(Exit::Usage, format!("{place} holds no mesh secret")).source(error);
            error.hint("a mesh secret is one line that begins with datamesh-mesh-1; copy it whole")
        })?;
        Ok(Some(secret))
    }

    /// The keyring. Where there is none it is made, with one identity without a password, and a note says so.
    ///
    /// # Errors
    /// When it can't be read or made.
    pub fn keyring(&self, ui: &Ui) -> Result<Keyring, CommandError> {
        let keyring = Keyring::load(&self.home)?;
        if !keyring.is_empty() {
            return Ok(keyring);
        }
        self.create_identity(ui, None)?;
        Ok(Keyring::load(&self.home)?)
    }

    /// Makes the first identity, unless another process just did.
    ///
    /// # Errors
    /// When it can't be kept.
    pub fn create_identity(&self, ui: &Ui, password: Option<&str>) -> Result<(), CommandError> {
        let lock = self.home.lock()?;
        let mut keyring = Keyring::load(&self.home)?;
        if !keyring.is_empty() {
            return Ok(());
        }
        let name: Name = DEFAULT_IDENTITY.parse().expect("the default is a name");
        let identity = Identity::random(&mut entropy);
        let protection = password.map_or(Protection::Permissions, Protection::Password);
        keyring.add(&name, identity, protection, now(), &mut entropy)?;
        keyring.save(&self.home, &lock)?;
        let path = self.home.keyring_path();
        ui.note(format!(
            "made a new identity, kept in {}; whoever loses that file loses what was put with it",
            path.display()
        ));
        Ok(())
    }

    /// The identity that puts are made as. Asks for its password where it has one.
    ///
    /// # Errors
    /// When it can't be opened.
    pub fn identity(&self, ui: &Ui) -> Result<Identity, CommandError> {
        let keyring = self.keyring(ui)?;
        let (name, entry) = keyring.current()?;
        self.open(ui, name, entry)
    }

    /// Every identity that can be opened without asking for more than the current one's password; that one first.
    /// What was put before a rotation is read with the others.
    ///
    /// # Errors
    /// When the current one can't be opened.
    pub fn readers(&self, ui: &Ui) -> Result<Vec<Identity>, CommandError> {
        let keyring = self.keyring(ui)?;
        let (current, entry) = keyring.current()?;
        let mut readers = vec![self.open(ui, current, entry)?];
        let others = keyring.entries().filter(|(name, _)| *name != current);
        let password = self.password.get().map(|password| password.as_str());
        readers.extend(others.filter_map(|(_, entry)| entry.open(password).ok()));
        Ok(readers)
    }

    /// Opens an identity. Asks for its password where it has one, once in a run.
    ///
    /// # Errors
    /// When it can't be opened.
    pub fn open(&self, ui: &Ui, name: &Name, entry: &Entry) -> Result<Identity, CommandError> {
        match entry.open(self.password.get().map(|password| password.as_str())) {
            Err(KeyringError::PasswordNeeded) => {}
            opened => return Ok(opened?),
        }
        let password = self.passwords.existing(ui, &format!("identity {name}"))?;
        let identity = entry.open(Some(&password))?;
        // Only this function sets it, and it was not set above; a second command in this run may differ by now.
        let _ = self.password.set(password);
        Ok(identity)
    }

    /// The password that opened an identity in this run.
    #[must_use]
    pub fn password(&self) -> Option<&str> {
        self.password.get().map(|password| password.as_str())
    }
}

/// The wall clock.
#[must_use]
pub fn now() -> Timestamp {
    SystemClock::start().now()
}

/// Fills a buffer with random bytes fit for keys.
pub fn entropy(buffer: &mut [u8]) {
    SystemEntropy.fill(buffer);
}
