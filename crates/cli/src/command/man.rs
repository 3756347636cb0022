//! `man`: writes the man pages.

use std::fs;
use std::path::Path;

use clap::CommandFactory;
use clap_mangen::Man;
use serde_json::json;

use crate::args::{Args, ManArgs};
use crate::command::CommandError;
use crate::ui::Ui;

pub(super) fn run(args: &ManArgs, ui: &Ui) -> Result<(), CommandError> {
    let directory = &args.directory;
    fs::create_dir_all(directory)
        .map_err(|error| CommandError::io(format!("{} can't be created", directory.display()), error))?;
    let mut command = Args::command().disable_help_subcommand(true);
    command.build();
    let mut pages = Vec::new();
    write_pages(directory, &command, &mut pages)?;
    let human = format!("wrote {} pages to {}", pages.len(), directory.display());
    ui.result(human, json!({ "directory": directory.display().to_string(), "pages": pages }))
}

/// One page for a command and one for each below it, as deep as commands nest.
fn write_pages(
    directory: &Path,
    command: &clap::Command,
    pages: &mut Vec<String>,
) -> Result<(), CommandError> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    let page = format!("{name}.1");
    let path = directory.join(&page);
    let failed = |error| CommandError::io(format!("{} can't be written", path.display()), error);
    let mut text = Vec::new();
    Man::new(command.clone().name(name)).render(&mut text).map_err(failed)?;
    fs::write(&path, text).map_err(failed)?;
    pages.push(page);
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        write_pages(directory, below, pages)?;
    }
    Ok(())
}
