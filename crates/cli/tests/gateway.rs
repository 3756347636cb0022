//! Programs that people have already put and get through a gateway: the AWS command line, rclone, restic, boto3, pyarrow, curl.

mod support;

use std::fs;
use std::path::Path;
use std::time::Duration;

use support::gateway::{AccessKey, Gateway, aws};
use support::objects::wait_until;
use support::{Mesh, Random, datamesh, import_key, json, same_bytes, text};

const NODES: usize = 6;

fn utf8(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// A folder with some files in it, one of them larger than one part of an upload.
fn folder(mesh: &Mesh, name: &str) -> std::path::PathBuf {
    let folder = mesh.path(name);
    fs::create_dir_all(folder.join("deep/er")).expect("made");
    let mut random = Random(7);
    for (file, size) in
        [("empty", 0), ("small", 4_096), ("deep/one", 100_000), ("deep/er/large file", 21_000_000)]
    {
        random.file(&folder.join(file), size);
    }
    folder
}

fn assert_same(one: &Path, other: &Path) {
    for file in ["empty", "small", "deep/one", "deep/er/large file"] {
        assert!(same_bytes(&one.join(file), &other.join(file)), "{file}");
    }
}

#[test]
fn the_aws_command_line_syncs_lists_and_signs() {
    let mesh = Mesh::start(NODES);
    let gateway = Gateway::start(&mesh.client);
    let (from, to) = (folder(&mesh, "from"), mesh.path("to"));
    gateway.aws(&["s3", "mb", "s3://photos"]);
    gateway.aws(&["s3", "sync", "--only-show-errors", utf8(&from), "s3://photos/album"]);
    let listed = gateway.aws(&["s3", "ls", "--recursive", "s3://photos"]);
    assert_eq!(listed.lines().count(), 4, "{listed}");
    gateway.aws(&["s3", "sync", "--only-show-errors", "s3://photos/album", utf8(&to)]);
    assert_same(&from, &to);
    gateway.aws(&["s3", "cp", "s3://photos/album/small", "s3://photos/copy"]);
    gateway.aws(&["s3", "mv", "s3://photos/copy", "s3://photos/moved"]);
    let url = gateway.aws(&["s3", "presign", "s3://photos/album/deep/one"]);
    let out = mesh.path("range");
    gateway.run("curl", &["--fail", "--silent", "--range", "1000-2999", "--output", utf8(&out), url.trim()]);
    let whole = fs::read(from.join("deep/one")).expect("read");
    assert_eq!(fs::read(&out).expect("read"), whole[1000..3000]);
    let refused = gateway.run(
        "curl",
        &[
            "--silent",
            "--output",
            "/dev/null",
            "--write-out",
            "%{http_code}",
            &format!("{}/photos/moved", gateway.endpoint),
        ],
    );
    assert_eq!(refused, "403", "nobody reads without a signature");
    gateway.aws(&["s3", "rb", "--force", "s3://photos"]);
    assert_eq!(gateway.aws(&["s3", "ls"]).trim(), "");
}

#[test]
fn rclone_copies_syncs_and_checks() {
    let mesh = Mesh::start(NODES);
    let gateway = Gateway::start(&mesh.client);
    let (from, to) = (folder(&mesh, "from"), mesh.path("to"));
    let endpoint = format!("--s3-endpoint={}", gateway.endpoint);
    let rclone = |words: &[&str]| {
        let common = ["--config=/dev/null", "--s3-provider=Other", "--s3-env-auth", "--retries=1", &endpoint];
        gateway.run("rclone", &words.iter().chain(&common).copied().collect::<Vec<_>>())
    };
    rclone(&["mkdir", ":s3:backup"]);
    rclone(&["copy", utf8(&from), ":s3:backup/here"]);
    rclone(&["check", "--download", utf8(&from), ":s3:backup/here"]);
    fs::write(from.join("small"), b"changed").expect("written");
    rclone(&["sync", utf8(&from), ":s3:backup/here"]);
    rclone(&["check", utf8(&from), ":s3:backup/here"]);
    rclone(&["sync", ":s3:backup/here", utf8(&to)]);
    assert_same(&from, &to);
    rclone(&["purge", ":s3:backup"]);
}

#[test]
fn restic_backs_up_checks_and_restores() {
    let mesh = Mesh::start(NODES);
    let gateway = Gateway::start(&mesh.client);
    let (from, to) = (folder(&mesh, "from"), mesh.path("to"));
    let repository = format!("s3:{}/restic", gateway.endpoint);
    let restic = |words: &[&str]| {
        let common = ["--repo", &repository, "--no-cache", "--quiet"];
        let mut command =
            gateway.client(Path::new("restic"), &words.iter().chain(&common).copied().collect::<Vec<_>>());
        command.env("RESTIC_PASSWORD", "secret");
        support::gateway::finish(command, words)
    };
    restic(&["init"]);
    restic(&["backup", utf8(&from)]);
    restic(&["check", "--read-data"]);
    restic(&["restore", "latest", "--target", utf8(&to)]);
    assert_same(&from, &to.join(from.strip_prefix("/").expect("absolute")));
    restic(&["forget", "--keep-last", "1", "--prune"]);
}

#[test]
fn boto3_and_pyarrow_find_what_they_expect() {
    let mesh = Mesh::start(NODES);
    let gateway = Gateway::start(&mesh.client);
    gateway.python("s3_boto3.py", &[]);
    gateway.python("parquet.py", &[]);
}

#[test]
fn access_keys_do_what_they_were_granted_and_nothing_else() {
    let mesh = Mesh::start(NODES);
    let reader = AccessKey::new(&mesh.client, &["shared=read"]);
    let mut gateway = Gateway::start(&mesh.client);
    let file = mesh.path("file");
    fs::write(&file, b"content").expect("written");
    for bucket in ["s3://shared", "s3://secret"] {
        gateway.aws(&["s3", "mb", bucket]);
        gateway.aws(&["s3", "cp", "--only-show-errors", utf8(&file), &format!("{bucket}/file")]);
    }
    gateway.key = reader;
    let allowed = |words: &[&str]| {
        let words: Vec<&str> = ["--endpoint-url", &gateway.endpoint].iter().chain(words).copied().collect();
        gateway.client(&aws(), &words).output().expect("it runs").status.success()
    };
    assert!(allowed(&["s3", "cp", "s3://shared/file", "-"]));
    assert!(!allowed(&["s3", "cp", "s3://secret/file", "-"]), "another bucket");
    assert!(!allowed(&["s3", "cp", utf8(&file), "s3://shared/other"]), "writing");
    assert!(!allowed(&["s3", "rm", "s3://shared/file"]), "deleting");
    assert!(!allowed(&["s3", "mb", "s3://third"]), "making buckets");
    let listed = gateway.aws(&["s3", "ls"]);
    assert!(listed.contains("shared") && !listed.contains("secret"), "{listed}");
}

#[test]
fn another_gateway_of_the_identity_sees_writes_and_takes_over() {
    let mesh = Mesh::start(NODES);
    let mut first = Gateway::start(&mesh.client);
    // A second machine: another home with the same identity.
    let other = mesh.path("other-client");
    let secret = json(&mesh.client, &["keys", "export"]).remove(0);
    import_key(&other, support::field(&secret, "secret"));
    let networks = json(&mesh.client, &["networks"]);
    let address =
        networks.iter().find_map(|network| network["addresses"][0].as_str()).expect("it was joined");
    json(&other, &["join", address]);
    let second = Gateway::start_with(&other, first.key.clone());
    let file = mesh.path("file");
    fs::write(&file, b"from the first").expect("written");
    first.aws(&["s3", "mb", "s3://shared"]);
    first.aws(&["s3", "cp", "--only-show-errors", utf8(&file), "s3://shared/key"]);
    let seen = || {
        let words = ["--endpoint-url", &second.endpoint, "s3", "cp", "s3://shared/key", "-"];
        let output = second.client(&aws(), &words).output().expect("it runs");
        text(&output.stdout) == "from the first"
    };
    let after = wait_until("the second gateway sees it", Duration::from_secs(30), seen);
    println!("what one gateway acknowledged was read from another {:.1} s later", after.as_secs_f64());
    first.kill();
    fs::remove_dir_all(mesh.client.join("buckets")).expect("its index is lost");
    let third = Gateway::start_with(&mesh.client, first.key.clone());
    let read = third.aws(&["s3", "cp", "s3://shared/key", "-"]);
    assert_eq!(read, "from the first");
    drop(datamesh(&mesh.client));
}
