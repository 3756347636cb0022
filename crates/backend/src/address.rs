//! Where a backend is: parsed from a URL that holds no secret.

use std::fmt;
use std::str::FromStr;

use url::Url;

/// The port of Redis where none is said.
const REDIS_PORT: u16 = 6379;

/// Where a backend is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A bucket of an S3-compatible store, and the folder in it.
    S3 {
        /// The bucket.
        bucket: String,
        /// What its objects' keys begin with.
        prefix: String,
        /// The store's own URL; Amazon's of the region where there is none.
        endpoint: Option<String>,
        /// The region; `auto` where the store has none.
        region: String,
    },
    /// A database of a Redis server.
    Redis {
        /// The server's name or address.
        host: String,
        /// Its port.
        port: u16,
        /// Whether it is spoken to over TLS.
        transport: RedisTransport,
        /// The number of the database.
        database: u8,
        /// What its keys begin with.
        prefix: String,
    },
    /// A folder of a file system, as one that is mounted from elsewhere.
    Folder(String),
}

/// How a Redis server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedisTransport {
    /// In the clear.
    Plain,
    /// Over TLS.
    Tls,
}

/// Why a text is no backend's address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseAddressError {
    /// Not a URL at all. What was given isn't shown: it may hold a secret.
    #[error("is no URL: {0}")]
    Malformed(String),
    /// It has a user or a password in it.
    #[error(
        "has a user or a password in it, which others can read there: give it by the environment or a file"
    )]
    Secret,
    /// No backend is spoken to like this.
    #[error("`{0}` is no backend: s3, redis, rediss or file")]
    Scheme(String),
    /// Something that is needed is missing, or something is there that nothing reads.
    #[error("{0}")]
    Part(String),
}

impl FromStr for Address {
    type Err = ParseAddressError;

    fn from_str(text: &str) -> Result<Self, ParseAddressError> {
        let url = Url::parse(text).map_err(|error| ParseAddressError::Malformed(error.to_string()))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(ParseAddressError::Secret);
        }
        if text.contains('#') {
            return Err(part("a backend's URL has no `#`"));
        }
        match url.scheme() {
            "s3" => s3(&url),
            "redis" => redis(&url, RedisTransport::Plain),
            "rediss" => redis(&url, RedisTransport::Tls),
            "file" => folder(&url),
            other if url.has_authority() => Err(ParseAddressError::Scheme(other.to_owned())),
            // As in `user:password@host`, where the user is what a URL has its scheme.
            _ => Err(part("begins with none of s3://, redis://, rediss:// and file://")),
        }
    }
}

fn s3(url: &Url) -> Result<Address, ParseAddressError> {
    let bucket = url.host_str().filter(|host| !host.is_empty() && url.port().is_none());
    let bucket = bucket.ok_or_else(|| part("s3://BUCKET/PREFIX names no bucket"))?.to_owned();
    let (mut endpoint, mut region) = (None, "auto".to_owned());
    for (name, value) in url.query_pairs() {
        match &*name {
            "endpoint" => endpoint = Some(endpoint_of(&value)?),
            "region" => region = value.into_owned(),
            _ => return Err(part("has something else than endpoint and region behind the `?`")),
        }
    }
    if endpoint.is_none() && region == "auto" {
        return Err(part(
            "s3:// needs a region or an endpoint: s3://BUCKET/PREFIX?region=REGION&endpoint=URL",
        ));
    }
    Ok(Address::S3 { bucket, prefix: prefix_of(url), endpoint, region })
}

fn endpoint_of(text: &str) -> Result<String, ParseAddressError> {
    let url = Url::parse(text).map_err(|error| part(&format!("endpoint is no URL: {error}")))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(ParseAddressError::Secret);
    }
    let web = matches!(url.scheme(), "http" | "https") && url.has_host();
    if web { Ok(text.to_owned()) } else { Err(part("endpoint is no http or https URL")) }
}

fn redis(url: &Url, transport: RedisTransport) -> Result<Address, ParseAddressError> {
    no_query(url)?;
    let host = url.host_str().filter(|host| !host.is_empty());
    let host = host.ok_or_else(|| part("redis://HOST:PORT/DATABASE names no host"))?.to_owned();
    let path = prefix_of(url);
    let (database, prefix) = path.split_once('/').unwrap_or((&path, ""));
    let database = if database.is_empty() { Ok(0) } else { database.parse() };
    let database = database.map_err(|_| part("redis://HOST:PORT/DATABASE has no number of a database"))?;
    let port = url.port().unwrap_or(REDIS_PORT);
    Ok(Address::Redis { host, port, transport, database, prefix: prefix.to_owned() })
}

fn folder(url: &Url) -> Result<Address, ParseAddressError> {
    no_query(url)?;
    let path = url.to_file_path().map_err(|()| part("file:// needs an absolute path: file:///PATH"))?;
    let path = path.to_str().filter(|path| *path != "/");
    Ok(Address::Folder(path.ok_or_else(|| part("file:// needs a folder of its own"))?.to_owned()))
}

fn no_query(url: &Url) -> Result<(), ParseAddressError> {
    if url.query().is_none() { Ok(()) } else { Err(part("only s3:// has something behind a `?`")) }
}

fn prefix_of(url: &Url) -> String {
    url.path().trim_matches('/').to_owned()
}

fn part(text: &str) -> ParseAddressError {
    ParseAddressError::Part(text.to_owned())
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::S3 { bucket, prefix, endpoint, region } => {
                write!(formatter, "s3://{bucket}/{prefix}?region={region}")?;
                let Some(endpoint) = endpoint else { return Ok(()) };
                let encoded: String = url::form_urlencoded::byte_serialize(endpoint.as_bytes()).collect();
                write!(formatter, "&endpoint={encoded}")
            }
            Self::Redis { host, port, transport, database, prefix } => {
                let scheme = match transport {
                    RedisTransport::Plain => "redis",
                    RedisTransport::Tls => "rediss",
                };
                write!(formatter, "{scheme}://{host}:{port}/{database}")?;
                if prefix.is_empty() { Ok(()) } else { write!(formatter, "/{prefix}") }
            }
            Self::Folder(path) => {
                let url = Url::from_file_path(path).expect("it came from an absolute path");
                url.fmt(formatter)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Address, ParseAddressError};

    #[test]
    fn an_address_is_written_as_it_is_read() {
        for text in [
            "s3://bucket/a/b?region=eu-central-1",
            "s3://bucket/?region=auto&endpoint=http%3A%2F%2F127.0.0.1%3A9000",
            "redis://127.0.0.1:6379/0",
            "rediss://cache.example:6380/3/node-7",
            "file:///srv/cold%20storage",
        ] {
            let address: Address = text.parse().expect("valid");
            assert_eq!(address.to_string(), text);
            assert_eq!(address.to_string().parse(), Ok(address));
        }
        let short: Address = "redis://cache.example".parse().expect("valid");
        assert_eq!(short.to_string(), "redis://cache.example:6379/0");
        let endpoint = "s3://bucket?endpoint=http://127.0.0.1:9000";
        assert!(endpoint.parse::<Address>().is_ok(), "as people write it");
    }

    #[test]
    fn what_is_no_address_is_refused_and_a_secret_is_not_repeated() {
        for bad in [
            "",
            "bucket",
            "s3:///prefix?region=a",
            "s3://bucket/prefix",
            "s3://bucket?region=a&key=b",
            "s3://bucket?endpoint=ftp://a",
            "redis://host/x",
            "redis://host/300",
            "redis://host/0?a=b",
            "file://",
            "file:///",
            "ftp://host",
        ] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
        for secret in
            ["redis://:hush@host/0", "s3://key:hush@bucket?region=a", "s3://b?endpoint=http://k:hush@h"]
        {
            let error = secret.parse::<Address>().expect_err("it has a secret in it");
            assert_eq!(error, ParseAddressError::Secret);
            assert!(!error.to_string().contains("hush"));
        }
        for secret in ["hush:word@host", "s3://bucket?hush@host", "redis://user:hush?@host", "hush"] {
            let error = secret.parse::<Address>().expect_err("it is no address");
            assert!(!error.to_string().contains("hush"), "{error}");
        }
    }
}
