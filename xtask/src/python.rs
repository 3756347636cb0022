//! Programs written in Python that commands here run, each with the versions that it was tried with.

use std::fs;
use std::path::{Path, PathBuf};

use crate::bench::{command, output};

/// Installs packages into a folder of their own, once for each choice of them. Gives the folder of their programs.
///
/// # Errors
/// When there is no Python, or the packages can't be had.
pub(crate) fn install(folder: &Path, packages: &[&str]) -> Result<PathBuf, String> {
    let (programs, ready) = (folder.join("bin"), folder.join("ready"));
    let wanted = packages.join("\n");
    if fs::read_to_string(&ready).is_ok_and(|there| there == wanted) {
        return Ok(programs);
    }
    println!("    installing {}", packages.join(", "));
    output(command("python3").args(["-m", "venv", "--clear"]).arg(folder))?;
    let mut pip = command(programs.join("python"));
    output(pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(packages))?;
    fs::write(&ready, wanted).map_err(|error| format!("{}: {error}", ready.display()))?;
    Ok(programs)
}
