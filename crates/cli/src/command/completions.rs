//! `completions`: prints a completion script for a shell.

use clap::CommandFactory;
use serde_json::json;

use crate::args::{Args, CompletionsArgs};
use crate::command::CommandError;
use crate::ui::Ui;

pub(super) fn run(args: &CompletionsArgs, ui: &Ui) -> Result<(), CommandError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Args::command(), "datamesh", &mut script);
    let script = String::from_utf8_lossy(&script);
    ui.result(&script, json!({ "shell": args.shell.to_string(), "script": script }))
}
