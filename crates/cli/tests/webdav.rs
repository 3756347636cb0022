//! A mesh opened by WebDAV, with programs that people have already: rclone, curl and the kernel's FUSE.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use support::gateway::{AccessKey, Gateway, finish};
use support::objects::wait_until;
use support::{Mesh, Random, same_bytes};

const NODES: usize = 6;
const FILES: [(&str, u64); 5] = [
    ("empty", 0),
    ("small.txt", 4_096),
    ("deep/größe & <more>", 100_000),
    ("deep/er/large file", 21_000_000),
    ("deep/er/100%", 1),
];
/// How long a mount may take to be there.
const MOUNT_PATIENCE: Duration = Duration::from_secs(60);

/// A gateway with the buckets `photos`, in which an album is, and `letters`.
struct Opened {
    mesh: Mesh,
    gateway: Gateway,
    /// What the album is a copy of.
    album: PathBuf,
    /// Who may read in `photos` and do nothing else.
    reader: AccessKey,
}

fn utf8(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

impl Opened {
    fn start() -> Self {
        let mesh = Mesh::start(NODES);
        let reader = AccessKey::new(&mesh.client, &["photos=read"]);
        let gateway = Gateway::start(&mesh.client);
        let album = mesh.path("album");
        let mut random = Random(11);
        for (file, size) in FILES {
            let path = album.join(file);
            fs::create_dir_all(path.parent().expect("it is in a folder")).expect("made");
            random.file(&path, size);
        }
        let opened = Self { mesh, gateway, album, reader };
        for bucket in [":s3:photos", ":s3:letters"] {
            opened.s3(&["mkdir", bucket]);
        }
        opened.s3(&["copy", utf8(&opened.album), ":s3:photos/album"]);
        opened.s3(&["copyto", utf8(&opened.album.join("small.txt")), ":s3:letters/secret"]);
        opened
    }

    /// Runs rclone as one who may do everything, by S3.
    fn s3(&self, words: &[&str]) -> String {
        let endpoint = format!("--s3-endpoint={}", self.gateway.endpoint);
        let common = ["--config=/dev/null", "--s3-provider=Other", "--s3-env-auth", "--retries=1", &endpoint];
        self.gateway.run("rclone", &words.iter().chain(&common).copied().collect::<Vec<_>>())
    }

    /// A command of rclone, by WebDAV.
    fn webdav(&self, key: &AccessKey, words: &[&str]) -> Command {
        let obscured = self.gateway.run("rclone", &["obscure", &key.secret]);
        let mut command = Command::new("rclone");
        command
            .args(words)
            .args(["--config=/dev/null", "--retries=1", "--low-level-retries=1", "--webdav-vendor=other"])
            .arg(format!("--webdav-url={}/dav/", self.gateway.endpoint))
            .arg(format!("--webdav-user={}", key.id))
            .arg(format!("--webdav-pass={}", obscured.trim()))
            .stdin(Stdio::null());
        command
    }

    /// What curl is answered, with its status behind it.
    fn curl(&self, key: Option<&AccessKey>, path: &str, words: &[&str]) -> String {
        let user = key.map(|key| format!("{}:{}", key.id, key.secret));
        let url = format!("{}{path}", self.gateway.endpoint);
        let common = ["--silent", "--path-as-is", "--write-out", "\n%{http_code}", &url];
        let user = user.iter().flat_map(|user| ["--user", user]);
        let words: Vec<&str> = words.iter().copied().chain(user).chain(common).collect();
        self.gateway.run("curl", &words)
    }

    fn status(&self, key: Option<&AccessKey>, path: &str, words: &[&str]) -> String {
        self.curl(key, path, words).lines().last().expect("a status").to_owned()
    }
}

#[test]
fn rclone_lists_copies_and_checks_what_s3_has_put() {
    let opened = Opened::start();
    let rclone = |words: &[&str]| finish(opened.webdav(&opened.reader, words), words);
    let mut listed: Vec<String> =
        rclone(&["lsf", "--recursive", "--files-only", ":webdav:"]).lines().map(str::to_owned).collect();
    let mut expected = FILES.map(|(file, _)| format!("photos/album/{file}")).to_vec();
    listed.sort();
    expected.sort();
    assert_eq!(listed, expected, "all of the bucket that the key may read, and nothing of the other");
    rclone(&["check", "--download", utf8(&opened.album), ":webdav:photos/album"]);
    let to = opened.mesh.path("to");
    rclone(&["copy", ":webdav:photos/album", utf8(&to)]);
    for (file, _) in FILES {
        assert!(same_bytes(&opened.album.join(file), &to.join(file)), "{file}");
    }
    let part = rclone(&["cat", "--offset=10", "--count=20", ":webdav:photos/album/deep/er/large file"]);
    let whole = fs::read(opened.album.join("deep/er/large file")).expect("read");
    assert_eq!(part, support::text(&whole[10..30]));
    let sizes = rclone(&["lsf", "--format=sp", ":webdav:photos/album"]);
    assert!(sizes.contains("4096;small.txt") && sizes.contains(";deep/"), "{sizes}");
}

#[test]
fn curl_finds_properties_reads_ranges_and_changes_nothing() {
    let opened = Opened::start();
    let (owner, reader) = (Some(&opened.gateway.key), Some(&opened.reader));
    let (file, depth) = ("/dav/photos/album/small.txt", ["--request", "PROPFIND", "--header", "Depth: 1"]);
    let found = opened.curl(reader, "/dav/photos/album", &depth);
    assert!(found.ends_with("\n207"), "{found}");
    for text in
        ["/dav/photos/album/deep/</D:href>", "<D:getcontentlength>4096<", "<D:getcontenttype>text/plain<"]
    {
        assert!(found.contains(text), "{text}: {found}");
    }
    let out = opened.mesh.path("range");
    assert_eq!(opened.status(reader, file, &["--range", "1000-2999", "--output", utf8(&out)]), "206");
    let whole = fs::read(opened.album.join("small.txt")).expect("read");
    assert_eq!(fs::read(&out).expect("read"), whole[1000..3000]);

    let listed = opened.s3(&["lsf", "--recursive", "--files-only", "--format=pst", ":s3:"]);
    let wrong = AccessKey { secret: "wrong".to_owned(), ..opened.reader.clone() };
    for (key, path, words, status) in [
        (None, "/dav/", &depth[..], "401"),
        (None, file, &[], "401"),
        (Some(&wrong), file, &[], "401"),
        (None, file, &["--upload-file", utf8(&out)], "401"),
        (reader, "/dav/letters/secret", &[], "403"),
        (reader, "/dav/letters/", &depth[..], "403"),
        (reader, "/dav/none/", &depth[..], "403"),
        (owner, "/dav/letters/secret", &["--output", "/dev/null"], "200"),
        (owner, "/dav/none/", &depth[..], "404"),
        (reader, "/dav/photos/../letters/secret", &[], "404"),
        (reader, "/dav/photos/%2e%2e/letters/secret", &[], "404"),
        (owner, "/dav/", &["--request", "PROPFIND", "--header", "Depth: infinity"], "403"),
        (owner, file, &["--upload-file", utf8(&out)], "405"),
        (owner, file, &["--request", "DELETE"], "405"),
        (owner, "/dav/photos/new/", &["--request", "MKCOL"], "405"),
        (owner, "/dav/new/", &["--request", "MKCOL"], "405"),
        (owner, file, &["--request", "MOVE", "--header", "Destination: /dav/photos/moved"], "405"),
        (owner, file, &["--request", "LOCK"], "405"),
    ] {
        assert_eq!(opened.status(key, path, words), status, "{path} {words:?}");
    }
    assert_eq!(opened.s3(&["lsf", "--recursive", "--files-only", "--format=pst", ":s3:"]), listed);
    let challenge = opened.curl(None, "/dav/", &["--include"]);
    assert!(challenge.to_lowercase().contains("www-authenticate: basic realm="), "{challenge}");
    let options = opened.curl(reader, "/dav/photos/", &["--include", "--request", "OPTIONS"]);
    assert!(options.to_lowercase().contains("\ndav: 1\r"), "{options}");
}

/// A mount that is taken away with the test.
struct Mounted {
    child: Child,
    folder: PathBuf,
}

impl Mounted {
    fn unmount(&self) -> bool {
        let unmounted = Command::new("fusermount").arg("-u").arg(&self.folder).output();
        unmounted.is_ok_and(|output| output.status.success())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // It may be away already.
        self.unmount();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_mesh_is_mounted_as_a_folder() {
    if !Path::new("/dev/fuse").exists() {
        println!("/dev/fuse is not there, so that nothing can be mounted: the mount is not tested");
        return;
    }
    let opened = Opened::start();
    let folder = opened.mesh.path("mounted");
    fs::create_dir(&folder).expect("made");
    let words = ["mount", ":webdav:photos", utf8(&folder), "--read-only", "--dir-cache-time=1s"];
    let child = opened.webdav(&opened.reader, &words).spawn().expect("rclone starts");
    let mounted = Mounted { child, folder: folder.clone() };
    let album = folder.join("album");
    wait_until("the album is seen", MOUNT_PATIENCE, || album.is_dir());
    for (file, _) in FILES {
        assert!(same_bytes(&opened.album.join(file), &album.join(file)), "{file}");
    }
    let names = |folder: &Path| {
        let entries = fs::read_dir(folder).expect("listed");
        let mut names: Vec<_> = entries.map(|entry| entry.expect("an entry").file_name()).collect();
        names.sort();
        names
    };
    for part in ["", "deep", "deep/er"] {
        assert_eq!(names(&album.join(part)), names(&opened.album.join(part)), "{part}");
    }
    assert!(fs::write(album.join("new"), b"x").is_err(), "it is mounted to be read");
    opened.s3(&["copyto", utf8(&opened.album.join("small.txt")), ":s3:photos/later"]);
    wait_until("what was put meanwhile is seen", MOUNT_PATIENCE, || {
        fs::read(folder.join("later")).is_ok_and(|bytes| bytes.len() == 4_096)
    });
    assert!(mounted.unmount(), "nobody uses it");
    assert!(!album.exists());
}
