//! What requests are about: keys of different grants, and buckets of which one must stay as it is.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use serde_json::Value;

use super::draw::Draw;
use super::request::Request;
use super::sign::{Key, escaped};
use super::wire::{Answer, Ending, Patience, exchange, find, header};
use crate::bench::process::{bound, output};

/// Nobody but the canary's key may do anything there.
pub(super) const CANARY: &str = "fuzz-canary";
/// The owner's, who may do everything there and nothing elsewhere.
pub(super) const OWN: &str = "fuzz-own";
/// The reader may read there and nothing else.
pub(super) const READ: &str = "fuzz-read";
/// The one key that is there in each bucket and that everybody knows.
pub(super) const KNOWN: &str = "known.txt";
/// Keys of the own bucket that are looked through in the end.
const KEYS_LOOKED_THROUGH: &str = "1000";

/// All of it.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) address: SocketAddr,
    pub(super) host: String,
    /// May do everything. Only what it may do by id is asked with it.
    pub(super) master: Key,
    pub(super) canary: Key,
    pub(super) owner: Key,
    pub(super) reader: Key,
    /// May read in a bucket that is not there.
    pub(super) stranger: Key,
    /// An object that is got by its id.
    pub(super) object: String,
    /// An upload in parts into the own bucket.
    pub(super) upload: String,
    /// One by tus.
    pub(super) tus: String,
    /// What must never be said to anybody but the canary's key: contents, names, secrets of keys.
    pub(super) secrets: Vec<Vec<u8>>,
    vault: String,
    hidden: String,
    anchor: String,
}

/// The keys of a home.
pub(super) struct Keys {
    master: Key,
    canary: Key,
    owner: Key,
    reader: Key,
    stranger: Key,
}

impl Keys {
    /// Makes them.
    pub(super) fn make(program: &Path, home: &Path) -> Result<Self, String> {
        let make = |grant: String| {
            let said = output(dm(program, home).args(["access", "new", "--grant", &grant]))?;
            let made: Value =
                serde_json::from_str(&said).map_err(|error| format!("`access new`: {error}"))?;
            let field = |name: &str| made[name].as_str().map(str::to_owned).ok_or("a key without its parts");
            Ok::<_, String>(Key { id: field("id")?, secret: field("secret")? })
        };
        Ok(Self {
            master: make("*=own".to_owned())?,
            canary: make(format!("{CANARY}=own"))?,
            owner: make(format!("{OWN}=own"))?,
            reader: make(format!("{READ}=read"))?,
            stranger: make("fuzz-nothing=read".to_owned())?,
        })
    }

    /// What the HTTP API is shown by whom may do everything.
    pub(super) fn token(&self) -> String {
        self.master.token()
    }
}

/// What the program says the keys of a home are.
pub(super) fn keys_of(program: &Path, home: &Path) -> Result<String, String> {
    output(dm(program, home).args(["access", "list"]))
}

/// The program, for the mesh in this home, killed when this one ends in whatever way.
pub(super) fn dm(program: &Path, home: &Path) -> std::process::Command {
    let mut command = bound(&program.to_string_lossy());
    command.args(["--quiet", "--json", "--network", "embedded", "--home"]).arg(home);
    command
}

impl Scene {
    /// Makes buckets and objects through the gateway.
    pub(super) fn make(keys: Keys, address: SocketAddr, home: &Path, seed: u64) -> Result<Self, String> {
        let Keys { master, canary, owner, reader, stranger } = keys;
        let mut draw = Draw::new(seed, u64::MAX);
        let mut scene = Self {
            address,
            host: address.to_string(),
            master,
            canary,
            owner,
            reader,
            stranger,
            object: String::new(),
            upload: String::new(),
            tus: String::new(),
            secrets: Vec::new(),
            vault: format!("vault-{}", draw.word(16)),
            hidden: format!("hidden-{}", draw.word(16)),
            anchor: format!("anchor-{}", draw.word(16)),
        };
        let secret = format!("canary-{}", draw.word(32));
        for (bucket, key) in scene.objects() {
            // Every bucket comes before what is in it.
            scene.ask(&Request::new("PUT", &format!("/{bucket}"), &scene.host))?;
            let content =
                if [OWN, READ].contains(&bucket.as_str()) { "open".to_owned() } else { secret.clone() };
            let put = Request::new("PUT", &format!("/{bucket}/{key}"), &scene.host);
            scene.ask(&put.body(format!("{content} {bucket} {key}").repeat(20)))?;
        }
        scene.begin_uploads()?;
        let Scene { master, canary, owner, reader, stranger, .. } = &scene;
        let mut secrets: Vec<String> =
            [master, canary, owner, reader, stranger].into_iter().map(|key| key.secret.clone()).collect();
        secrets.extend([secret, scene.vault.clone(), scene.hidden.clone(), "root:x:0:0".to_owned()]);
        let identity = home.join("keys.toml");
        let text =
            fs::read_to_string(&identity).map_err(|error| format!("{}: {error}", identity.display()))?;
        // What else is quoted there is public: names and public halves.
        let secret_lines = text.lines().filter(|line| line.starts_with("secret"));
        let quoted = secret_lines.filter_map(|line| line.split('"').nth(1)).map(str::to_owned);
        let before = secrets.len();
        secrets.extend(quoted);
        if secrets.len() == before {
            return Err(format!("{} has no secret", identity.display()));
        }
        scene.secrets = secrets.into_iter().map(String::into_bytes).collect();
        Ok(scene)
    }

    /// One upload of each kind, and an object.
    fn begin_uploads(&mut self) -> Result<(), String> {
        let put =
            Request::new("POST", "/api/v1/objects", &self.host).body("an object that the master may get");
        let said = self.answer(&put.token(&self.master))?;
        let made: Value =
            serde_json::from_slice(&said.body).map_err(|error| format!("an object: {error}"))?;
        made["object"].as_str().ok_or("an object without an id")?.clone_into(&mut self.object);
        for (bucket, key) in [("uploads", &self.master), (OWN, &self.owner)] {
            let begin = Request::new("POST", "/api/v1/uploads", &self.host).header("tus-resumable", "1.0.0");
            let begin = begin.header("upload-length", "100").query("bucket", bucket).query("key", "begun");
            let said = self.answer(&begin.token(key))?;
            let place = header(&said.head, "location").ok_or("an upload without a place")?;
            self.tus = place.rsplit('/').next().unwrap_or_default().to_owned();
        }
        let begin = Request::new("POST", &format!("/{OWN}/{KNOWN}-upload"), &self.host).query("uploads", "");
        let said = self.ask(&begin)?;
        let text = String::from_utf8_lossy(&said.body).into_owned();
        self.upload =
            between(&text, "<UploadId>", "</UploadId>").ok_or("an upload without an id")?.to_owned();
        Ok(())
    }

    /// Every bucket with what lies in it from the begin.
    fn objects(&self) -> Vec<(String, String)> {
        let of = |bucket: &str, key: &str| (bucket.to_owned(), key.to_owned());
        vec![
            of(CANARY, KNOWN),
            of(CANARY, &self.hidden),
            of(&self.vault, KNOWN),
            of(READ, KNOWN),
            of(OWN, KNOWN),
            // Nobody draws its name, so that the bucket is never empty.
            of(OWN, &self.anchor),
        ]
    }

    /// A key that may not do anything in the canary's bucket, or none.
    pub(super) fn weak(&self, draw: &mut Draw) -> Option<&Key> {
        [Some(&self.owner), Some(&self.reader), Some(&self.stranger), None][draw.below(4)]
    }

    /// What must be the same in the end, each with what it is.
    pub(super) fn snapshot(&self) -> Result<Vec<(String, Vec<u8>)>, String> {
        let mut all = Vec::new();
        let mut take = |path: &str, query: &str| {
            let request = Request::new("GET", path, &self.host);
            let request = if query.is_empty() { request } else { request.query(query, "") };
            let said = self.exchange(&request.signed(&self.master))?;
            all.push((format!("{path}?{query}"), said.body));
            Ok::<_, String>(())
        };
        take("/", "")?;
        for bucket in [CANARY, &self.vault, READ] {
            for query in ["versions", "uploads", "versioning", "cors", "lifecycle", "tagging"] {
                take(&format!("/{bucket}"), query)?;
            }
        }
        for (bucket, key) in self.objects().into_iter().filter(|(bucket, _)| bucket != OWN) {
            take(&format!("/{bucket}/{key}"), "")?;
            take(&format!("/{bucket}/{key}"), "tagging")?;
        }
        // What identifies a request differs.
        for (_, body) in &mut all {
            let text = String::from_utf8_lossy(body).into_owned();
            if let Some(id) = between(&text, "<RequestId>", "</RequestId>") {
                *body = text.replace(id, "").into_bytes();
            }
        }
        Ok(all)
    }

    /// The first key of the own bucket under which something secret lies.
    pub(super) fn leaked_copy(&self) -> Result<Option<String>, String> {
        let list = Request::new("GET", &format!("/{OWN}"), &self.host);
        let list =
            list.query("list-type", "2").query("encoding-type", "url").query("max-keys", KEYS_LOOKED_THROUGH);
        let text = String::from_utf8_lossy(&self.ask(&list)?.body).into_owned();
        let keys = text.split("<Key>").skip(1).filter_map(|rest| rest.split("</Key>").next());
        for key in keys {
            let path = format!("/{OWN}/{}", key.split('/').map(unescaped).collect::<Vec<_>>().join("/"));
            let said = self.exchange(&Request::new("GET", &path, &self.host).signed(&self.master))?;
            if self.secrets.iter().any(|secret| find(&said.body, secret).is_some()) {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    /// Asks as the master, signed.
    fn ask(&self, request: &Request) -> Result<Answer, String> {
        self.answer(&request.clone().signed(&self.master))
    }

    fn answer(&self, request: &Request) -> Result<Answer, String> {
        let answer = self.exchange(request)?;
        let met = (200..300).contains(&answer.status) || answer.status == 409;
        let told = || {
            format!(
                "{} {}: {} {}",
                request.method,
                request.path,
                answer.status,
                String::from_utf8_lossy(&answer.body)
            )
        };
        if met { Ok(answer) } else { Err(told()) }
    }

    fn exchange(&self, request: &Request) -> Result<Answer, String> {
        let said = exchange(self.address, &request.bytes(), Ending::Answered, Patience::USUAL)?;
        said.answers
            .into_iter()
            .next()
            .ok_or_else(|| format!("{} {}: no answer", request.method, request.path))
    }
}

/// One segment of a key as a list escapes it, escaped as signatures want it.
fn unescaped(segment: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = segment.as_bytes();
    while let [first, after @ ..] = rest {
        let digits = after.get(..2).and_then(|digits| str::from_utf8(digits).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|_| *first == b'%');
        match (byte, first) {
            (Some(byte), _) => bytes.push(byte),
            (None, b'+') => bytes.push(b' '),
            (None, other) => bytes.push(*other),
        }
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    String::from_utf8(bytes).map_or_else(|_| segment.to_owned(), |text| escaped(&text))
}

fn between<'a>(text: &'a str, begin: &str, end: &str) -> Option<&'a str> {
    text.split_once(begin)?.1.split_once(end).map(|(inside, _)| inside)
}

#[cfg(test)]
mod tests {
    use super::unescaped;

    #[test]
    fn a_key_of_a_list_is_asked_for_as_it_is() {
        assert_eq!(unescaped("a%20b+c%2Bd"), "a%20b%20c%2Bd");
        assert_eq!(unescaped("100%"), "100%25");
    }
}
