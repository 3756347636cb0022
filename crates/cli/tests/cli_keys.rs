//! Identities: made, listed, rotated, exported and imported, with and without a password.

mod support;

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use serde_json::Value;
use support::{datamesh, failure, field, json, json_lines, run, text, wait_with_output};

struct Desk {
    directory: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().expect("a temporary directory") }
    }

    fn home(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A file with a password in it.
    fn password(&self, password: &str) -> String {
        let path = self.directory.path().join(format!("password-{}", password.len()));
        fs::write(&path, format!("{password}\n")).expect("written");
        path.to_str().expect("UTF-8").to_owned()
    }
}

fn import(home: &Path, secret: &str, arguments: &[&str]) -> Output {
    let mut command = datamesh(home);
    command.args(["--json", "keys", "import", "-"]).args(arguments);
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.expect("the program starts");
    child.stdin.take().expect("piped").write_all(secret.as_bytes()).expect("written");
    wait_with_output(child, &["keys", "import"])
}

fn current(home: &Path) -> Value {
    let keys = json(home, &["keys", "list"]);
    keys.into_iter().find(|key| key["current"] == true).expect("one is current")
}

#[test]
fn the_first_use_makes_an_identity_and_says_so_once() {
    let desk = Desk::new();
    let home = desk.home("home");
    let first = run(&home, &["keys", "list"]);
    assert!(text(&first.stderr).starts_with("note: made a new identity"), "{}", text(&first.stderr));
    assert!(run(&home, &["keys", "list"]).stderr.is_empty());
    assert!(run(&desk.home("quiet"), &["-q", "keys", "list"]).stderr.is_empty());
    assert_eq!(field(&json(&home, &["init"])[0], "name"), "main");
    failure(&home, &["init", "--password"], 1);
    let mode = |path: PathBuf| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!((mode(home.clone()), mode(home.join("keys.toml"))), (0o700, 0o600));
}

#[test]
fn an_exported_identity_is_imported_elsewhere_as_the_same() {
    let desk = Desk::new();
    let (here, there) = (desk.home("here"), desk.home("there"));
    let secret = json(&here, &["keys", "export"]).remove(0);
    let secret = field(&secret, "secret");
    assert!(secret.starts_with("datamesh-secret-1"));
    let output = import(&there, &format!("{secret}\n"), &[]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(current(&there)["recipient"], current(&here)["recipient"]);
    assert_eq!(current(&there)["owner"], current(&here)["owner"]);

    let again = import(&there, secret, &["--name", "again"]);
    assert_eq!(again.status.code(), Some(1), "{}", text(&again.stderr));
    let other = json(&desk.home("third"), &["keys", "export"]).remove(0);
    let imported = import(&there, field(&other, "secret"), &[]);
    assert_eq!(field(&json_lines(&imported.stdout)[0], "name"), "imported");
    assert_eq!(field(&current(&there), "name"), "main", "an import does not change who one is");

    for wrong in ["", "x", &secret[..secret.len() - 1], &secret.replace("secret", "recipient")] {
        let output = import(&there, wrong, &["--name", "wrong"]);
        assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
        assert!(!text(&output.stderr).contains(&secret[20..50]), "an error never repeats a secret");
    }
}

#[test]
fn rotation_makes_a_new_identity_current_and_keeps_the_old_one() {
    let desk = Desk::new();
    let home = desk.home("home");
    failure(&home, &["keys", "rotate"], 3);
    let before = current(&home);
    json(&home, &["keys", "rotate"]);
    let after = current(&home);
    assert_eq!(after["name"], before["name"]);
    assert_ne!(after["recipient"], before["recipient"]);
    let keys = json(&home, &["keys", "list"]);
    let old = keys.iter().find(|key| key["recipient"] == before["recipient"]).expect("it is kept");
    assert_eq!(field(old, "name"), "main-1");
    assert!(old["retired"].is_string() && after["retired"].is_null());

    json(&home, &["keys", "new", "work"]);
    failure(&home, &["keys", "new", "work"], 1);
    json(&home, &["keys", "use", "work"]);
    assert_eq!(field(&current(&home), "name"), "work");
    failure(&home, &["keys", "use", "nobody"], 3);
    failure(&home, &["keys", "export", "nobody"], 3);
}

#[test]
fn a_password_protects_what_is_on_disk_and_a_wrong_one_says_nothing_more() {
    let desk = Desk::new();
    let home = desk.home("home");
    let (right, wrong) = (desk.password("correct horse"), desk.password("wrong horse"));
    let made = json(&home, &["--password-file", &right, "init", "--password"]).remove(0);
    assert_eq!(made["locked"], true);
    let secret = json(&home, &["--password-file", &right, "keys", "export"]).remove(0);
    let kept = fs::read_to_string(home.join("keys.toml")).expect("readable");
    assert!(!kept.contains(field(&secret, "secret")) && !kept.contains("correct horse"));

    let error = failure(&home, &["--password-file", &wrong, "keys", "export"], 5);
    assert_eq!(field(&error, "kind"), "denied");
    assert_eq!(field(&error, "message"), "password and locked identity do not match");
    // A swapped secret gives the same answer as a wrong password.
    let recipient = field(&made, "owner").to_owned();
    let other = desk.home("other");
    let other_made = json(&other, &["--password-file", &right, "init", "--password"]).remove(0);
    let stolen = fs::read_to_string(other.join("keys.toml")).expect("readable");
    fs::write(home.join("keys.toml"), stolen.replace(field(&other_made, "owner"), &recipient))
        .expect("written");
    let swapped = failure(&home, &["--password-file", &right, "keys", "export"], 5);
    assert_eq!(swapped, error);
}

#[test]
fn a_password_comes_from_a_file_or_the_environment_and_never_from_arguments() {
    let desk = Desk::new();
    let home = desk.home("home");
    let with = |password: Option<&str>, words: &[&str]| {
        let mut command = datamesh(&home);
        command.arg("--json").args(words).env_remove("DATAMESH_PASSWORD");
        if let Some(password) = password {
            command.env("DATAMESH_PASSWORD", password);
        }
        command.output().expect("it runs").status.code()
    };
    assert_eq!(with(Some(""), &["init", "--password"]), Some(2), "an empty password is none");
    assert_eq!(with(Some("correct horse"), &["init", "--password"]), Some(0));
    assert_eq!(with(Some("correct horse"), &["keys", "export"]), Some(0));
    assert_eq!(with(Some("wrong"), &["keys", "export"]), Some(5));
    assert_eq!(with(None, &["keys", "export"]), Some(5), "nobody is there to be asked");
    assert_eq!(with(None, &["keys", "list"]), Some(0), "who one is needs no password");
    assert_eq!(with(Some("correct horse"), &["keys", "rotate"]), Some(0));
    assert_eq!(with(Some("wrong"), &["keys", "rotate"]), Some(5));
    assert_eq!(current(&home)["locked"], true, "what had a password keeps it");
}

#[test]
fn a_keyring_that_others_can_read_is_refused() {
    let desk = Desk::new();
    let home = desk.home("home");
    json(&home, &["init"]);
    fs::set_permissions(home.join("keys.toml"), fs::Permissions::from_mode(0o644)).expect("set");
    let error = failure(&home, &["keys", "list"], 5);
    assert!(field(&error, "message").contains("chmod 600"), "{error}");
}
