//! `docs/cli.md` is what the definition of the command line and of the settings says.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use clap::{Command, CommandFactory};
use datamesh_cli::args::Args;
use datamesh_cli::exit::Exit;
use datamesh_node::settings::{DEFINITIONS, ENVIRONMENT};

const REGENERATE: &str = "UPDATE_DOCS=1 cargo test -p datamesh --test cli_reference";
const WIDTH: usize = 100;

const JSON: &str = "\
## JSON

With `--json` a command prints one JSON object per result on stdout, each on its own line; a list without entries is no line at
all. The help of each command shows an example. Names of fields are stable: fields are added, never renamed. Sizes are numbers of
bytes, lengths of time are numbers of seconds, instants are texts as in RFC 3339, ids and addresses are texts, what is unknown or
absent is `null`.

On stderr, also one a line:

| object | when |
|---|---|
| `{\"error\":{\"kind\":\"not-found\",\"message\":\"no network is called `x`\",\"hint\":null}}` | once, when the exit code is not 0; `kind` is that of the table above |
| `{\"note\":\"made a new identity\"}` | something is good to know |
| `{\"warning\":\"DATAMESH_PUT_MODE in the environment takes precedence\"}` | something is not as it should be |
| `{\"progress\":{\"name\":\"file\",\"bytes_done\":4000000,\"bytes_expected\":16000000,\"chunks_done\":4,\"bytes_per_second\":1000000.0,\"seconds_left\":12.0}}` | each second and once at the end, with `--progress`; `seconds_left` is `null` until it can be told |

`-q` leaves out notes, warnings and progress. Logs are text; none are printed with `--json` unless `-v` or `DATAMESH_LOG` asks for them.
";

fn page() -> std::path::PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/cli.md")
}

#[test]
fn the_reference_is_what_the_definition_says() {
    let expected = reference();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(page(), &expected).expect("the page can be written");
    }
    let found = fs::read_to_string(page()).unwrap_or_default();
    let differs = found.lines().zip(expected.lines()).position(|(found, expected)| found != expected);
    assert!(
        found == expected,
        "docs/cli.md is not what the definition says, from line {} on; look at what changed and run\n    {REGENERATE}",
        1 + differs.unwrap_or_else(|| found.lines().count().min(expected.lines().count()))
    );
}

#[test]
fn every_command_and_every_argument_says_what_it_is() {
    fn check(command: &Command) {
        assert!(command.get_about().is_some(), "{}", command.get_name());
        for argument in command.get_arguments() {
            assert!(argument.get_help().is_some(), "{} {}", command.get_name(), argument.get_id());
        }
        command.get_subcommands().for_each(check);
    }
    check(&Args::command());
}

fn reference() -> String {
    let mut command = Args::command().term_width(WIDTH).color(clap::ColorChoice::Never);
    command.build();
    let mut text = String::from("# The command line\n\n");
    let _ = writeln!(
        text,
        "Generated from the definition that the program parses with; a test compares the two. To regenerate:\n\n    \
         {REGENERATE}\n"
    );
    help(&mut text, &command, "##");
    exit_codes(&mut text);
    text.push_str(JSON);
    environment(&mut text);
    settings(&mut text);
    text.push_str("## Commands\n\nThe global options above go with each of them.\n\n");
    below(&mut text, &command);
    text.trim_end().to_owned() + "\n"
}

fn below(text: &mut String, command: &Command) {
    let shown = command.get_subcommands();
    let shown = shown.filter(|command| command.get_name() != "help" && !command.is_hide_set());
    for command in shown {
        help(text, &without_global_options(command.clone()), "###");
        below(text, command);
    }
}

fn without_global_options(command: Command) -> Command {
    command.mut_args(|argument| {
        let everywhere = argument.is_global_set() || argument.get_id() == "help";
        if everywhere { argument.hide(true) } else { argument }
    })
}

fn help(text: &mut String, command: &Command, heading: &str) {
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name()).to_owned();
    let help = command.clone().render_long_help().to_string();
    let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
    let _ = writeln!(text, "{heading} `{name}`\n\n```text\n{}\n```\n", lines.join("\n").trim_end());
}

fn exit_codes(text: &mut String) {
    text.push_str("## Exit codes\n\n| code | `kind` in JSON | meaning |\n|---|---|---|\n");
    for exit in Exit::ALL {
        let _ = writeln!(text, "| {} | `{}` | {} |", exit.code(), exit.kind(), exit.about());
    }
    text.push_str(
        "\nA reader of stdout who stops reading, as `head` does, ends the program quietly with 0. The first Ctrl-C or SIGTERM \
         stops\nit in good order, the second at once.\n\n",
    );
}

fn environment(text: &mut String) {
    text.push_str("\n## Environment\n\n| variable | is |\n|---|---|\n");
    for (name, about) in ENVIRONMENT {
        let _ = writeln!(text, "| `{name}` | {about} |");
    }
    text.push_str(
        "| `NO_COLOR` | Not empty: no colours. |\n\nEach setting has a variable too, in the table below. Any other variable that \
         begins with `DATAMESH_` is an error.\n\n",
    );
}

fn settings(text: &mut String) {
    text.push_str(
        "## Settings\n\nFrom `config.toml` in the home, the environment, and flags; of these the later wins. An unknown key is \
         an error, and so\nis a value without its unit.\n\n",
    );
    text.push_str("| setting | is | value | default | variable |\n|---|---|---|---|---|\n");
    for definition in DEFINITIONS {
        let default = if definition.default.is_empty() {
            "none".to_owned()
        } else {
            format!("`{}`", definition.default)
        };
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {default} | `{}` |",
            definition.key,
            definition.about(),
            definition.form,
            definition.variable()
        );
    }
    text.push('\n');
}
