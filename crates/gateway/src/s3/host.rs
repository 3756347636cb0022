//! Which bucket a request is to: the first of its path, or the subdomain where clients address it so.

use hyper::header::HOST;
use hyper::{HeaderMap, Uri};
use s3s::S3Result;
use s3s::host::{S3Host, VirtualHost};

use crate::Gateway;

/// Buckets as subdomains of one domain. Under any other name, the gateway finds them in paths.
pub(super) struct Subdomains {
    domain: String,
}

impl Subdomains {
    pub(super) fn of(domain: &str) -> Self {
        Self { domain: domain.to_ascii_lowercase() }
    }

    /// The bucket that a host names.
    fn bucket(&self, host: &str) -> Option<String> {
        let host = without_port(host).to_ascii_lowercase();
        let bucket = host.strip_suffix(without_port(&self.domain))?.strip_suffix('.')?;
        (!bucket.is_empty()).then(|| bucket.to_owned())
    }
}

impl S3Host for Subdomains {
    fn parse_host_header<'a>(&'a self, host: &'a str) -> S3Result<VirtualHost<'a>> {
        let plain = VirtualHost::new(host);
        Ok(match self.bucket(host) {
            Some(bucket) => plain.with_bucket(bucket),
            None => plain,
        })
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// The bucket that a request names, if it names one.
pub(super) fn bucket_of(gateway: &Gateway, uri: &Uri, headers: &HeaderMap) -> Option<String> {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = host.or_else(|| uri.authority().map(hyper::http::uri::Authority::as_str));
    let subdomain = gateway
        .settings
        .domain
        .as_deref()
        .zip(host)
        .and_then(|(domain, host)| Subdomains::of(domain).bucket(host));
    let in_path = || uri.path().split('/').nth(1).filter(|first| !first.is_empty()).map(str::to_owned);
    subdomain.or_else(in_path)
}

#[cfg(test)]
mod tests {
    use s3s::host::S3Host;

    use super::Subdomains;

    #[test]
    fn subdomains_are_buckets_and_other_hosts_are_none() {
        let hosts = Subdomains::of("S3.example.org:9000");
        for (host, bucket) in [
            ("photos.s3.example.org:9000", Some("photos")),
            ("my.photos.s3.example.org", Some("my.photos")),
            ("Photos.S3.Example.org", Some("photos")),
            ("s3.example.org", None),
            ("localhost:9000", None),
            ("photos-s3.example.org", None),
            ("127.0.0.1:9000", None),
        ] {
            assert_eq!(hosts.parse_host_header(host).unwrap().bucket(), bucket, "{host}");
        }
    }
}
