//! `config`: shows, changes and checks settings, and says where each value comes from.

use datamesh_node::home::Access;
use datamesh_node::settings::{
    DEFINITIONS, Definition, Origin, ResolvedSettings, SettingsError, check, set, unknown_key,
};
use serde_json::{Value, json};

use crate::args::{ConfigArgs, ConfigCommand, ConfigGetArgs, ConfigSetArgs};
use crate::command::CommandError;
use crate::context::Context;
use crate::exit::Exit;
use crate::ui::{Column, Table, Ui};

pub(super) fn run(args: &ConfigArgs, context: &Context, ui: &Ui) -> Result<(), CommandError> {
    match &args.command {
        ConfigCommand::Show => show(context, ui),
        ConfigCommand::Get(args) => get(args, context, ui),
        ConfigCommand::Set(args) => change(args, context, ui),
        ConfigCommand::Check => check_all(context, ui),
    }
}

fn view(resolved: &ResolvedSettings, definition: &Definition) -> Value {
    json!({
        "key": definition.key,
        "value": resolved.text(definition),
        "source": resolved.origin(definition).to_string(),
    })
}

fn show(context: &Context, ui: &Ui) -> Result<(), CommandError> {
    let resolved = context.settings(Vec::new())?;
    let mut table = Table::new(["SETTING", "VALUE", "SOURCE"].map(Column::left));
    for definition in DEFINITIONS {
        let origin = resolved.origin(definition).to_string();
        table.row([definition.key.to_owned(), resolved.text(definition), origin]);
    }
    ui.results(table, DEFINITIONS.iter().map(|definition| view(&resolved, definition)))
}

fn get(args: &ConfigGetArgs, context: &Context, ui: &Ui) -> Result<(), CommandError> {
    let definition = Definition::of(&args.key).ok_or_else(|| unknown_key(Origin::Argument, &args.key))?;
    let resolved = context.settings(Vec::new())?;
    ui.result(resolved.text(definition), view(&resolved, definition))
}

fn change(args: &ConfigSetArgs, context: &Context, ui: &Ui) -> Result<(), CommandError> {
    let lock = context.home().lock()?;
    let mut layers = context.layers(Vec::new())?;
    layers.file = set(&layers.file, &args.key, &args.value)?;
    lock.write(&context.home().settings_path(), layers.file.text().as_bytes(), Access::Shared)?;

    let definition = Definition::of(&args.key).expect("what was set is a setting");
    layers.environment.clear();
    let written = ResolvedSettings::load(&layers)?;
    if std::env::var_os(definition.variable()).is_some() {
        ui.warn(format!("{} in the environment takes precedence", definition.variable()));
    }
    ui.result(format!("{} = {}", definition.key, written.text(definition)), view(&written, definition))
}

fn check_all(context: &Context, ui: &Ui) -> Result<(), CommandError> {
    let problems = check(&context.layers(Vec::new())?);
    let lines: Vec<String> = problems.iter().map(line).collect();
    let human = if lines.is_empty() { "all settings are valid".to_owned() } else { lines.join("\n") };
    ui.result(human, json!({ "valid": problems.is_empty(), "problems": lines }))?;
    match problems.len() {
        0 => Ok(()),
        1 => Err(CommandError::new(Exit::Usage, "1 setting is wrong")),
        count => Err(CommandError::new(Exit::Usage, format!("{count} settings are wrong"))),
    }
}

fn line(problem: &SettingsError) -> String {
    match problem {
        SettingsError::UnknownKey { nearest: Some(nearest), .. } => {
            format!("{problem}; did you mean `{nearest}`?")
        }
        _ => problem.to_string(),
    }
}
