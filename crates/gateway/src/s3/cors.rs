//! Rules of origins: which web pages of elsewhere may use a bucket, as browsers ask and hold to.

use std::time::Duration;

use hyper::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HeaderName, HeaderValue, ORIGIN, VARY,
};
use hyper::{HeaderMap, Method, Uri};
use s3s::dto::{CORSConfiguration, CORSRule};
use s3s::{S3Result, s3_error};

use crate::Gateway;
use crate::s3::settings::cors_of;
use crate::s3::{host, text};

/// Most rules of one bucket, as S3 has it.
const RULES_MAX: usize = 100;
const METHODS: [&str; 5] = ["GET", "PUT", "HEAD", "POST", "DELETE"];
/// How long browsers remember an answer where the rule doesn't say.
const AGE: Duration = Duration::from_secs(0);

/// Refuses rules that can't be held to.
pub(super) fn check(configuration: &CORSConfiguration) -> S3Result<()> {
    let rules = &configuration.cors_rules;
    if rules.is_empty() || rules.len() > RULES_MAX {
        return Err(s3_error!(MalformedXML, "1 to {RULES_MAX} rules are kept"));
    }
    for rule in rules {
        if rule.allowed_methods.is_empty() || rule.allowed_origins.is_empty() {
            return Err(s3_error!(MalformedXML, "a rule has no method, or no origin"));
        }
        if let Some(method) = rule.allowed_methods.iter().find(|method| !METHODS.contains(&method.as_str())) {
            return Err(s3_error!(
                InvalidRequest,
                "Found unsupported HTTP method in CORS config. Unsupported method is {method}"
            ));
        }
        let patterns = rule.allowed_origins.iter().chain(rule.allowed_headers.iter().flatten());
        if patterns.clone().any(|pattern| pattern.matches('*').count() > 1) {
            return Err(s3_error!(InvalidRequest, "no more than one * may be in an origin or a header"));
        }
    }
    Ok(())
}

/// What a request says to which rules apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Foreign {
    origin: String,
    method: String,
    headers: Vec<String>,
    bucket: String,
    pub(super) preflight: bool,
}

impl Foreign {
    /// `None` where the request names no origin or no bucket.
    pub(super) fn of(gateway: &Gateway, method: &Method, uri: &Uri, headers: &HeaderMap) -> Option<Self> {
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let origin = text(ORIGIN)?.to_owned();
        let bucket = host::bucket_of(gateway, uri, headers)?;
        let asked = text(ACCESS_CONTROL_REQUEST_METHOD).filter(|_| method == Method::OPTIONS);
        let names = text(ACCESS_CONTROL_REQUEST_HEADERS).unwrap_or_default().split(',').map(str::trim);
        Some(Self {
            origin,
            method: asked.unwrap_or(method.as_str()).to_owned(),
            headers: names.filter(|name| !name.is_empty()).map(str::to_ascii_lowercase).collect(),
            bucket,
            preflight: asked.is_some(),
        })
    }

    /// The headers that tell the browser that the rules of the bucket allow it; `None` where they don't.
    pub(super) fn allowed(&self, gateway: &Gateway) -> Option<HeaderMap> {
        let bucket = gateway.buckets.bucket(&text::bucket(&self.bucket).ok()?).ok()?;
        let configuration = cors_of(&bucket).ok()??;
        let rule = configuration.cors_rules.iter().find(|rule| self.is_allowed_by(rule))?;
        Some(self.answer(rule))
    }

    fn is_allowed_by(&self, rule: &CORSRule) -> bool {
        let allowed_headers = rule.allowed_headers.as_deref().unwrap_or_default();
        let header_allowed = |name: &String| {
            allowed_headers.iter().any(|pattern| matches(&pattern.to_ascii_lowercase(), name))
        };
        rule.allowed_origins.iter().any(|pattern| matches(pattern, &self.origin))
            && rule.allowed_methods.contains(&self.method)
            && (!self.preflight || self.headers.iter().all(header_allowed))
    }

    fn answer(&self, rule: &CORSRule) -> HeaderMap {
        let any = rule.allowed_origins.iter().any(|origin| origin == "*");
        let mut headers = HeaderMap::new();
        let mut set = |name: HeaderName, text: &str| {
            if let Ok(value) = HeaderValue::from_str(text) {
                headers.insert(name, value);
            }
        };
        set(ACCESS_CONTROL_ALLOW_ORIGIN, if any { "*" } else { &self.origin });
        if !any {
            set(ACCESS_CONTROL_ALLOW_CREDENTIALS, "true");
        }
        set(ACCESS_CONTROL_ALLOW_METHODS, &rule.allowed_methods.join(", "));
        if let Some(exposed) = rule.expose_headers.as_ref().filter(|exposed| !exposed.is_empty()) {
            set(ACCESS_CONTROL_EXPOSE_HEADERS, &exposed.join(", "));
        }
        if self.preflight {
            if !self.headers.is_empty() {
                set(ACCESS_CONTROL_ALLOW_HEADERS, &self.headers.join(", "));
            }
            let age = rule.max_age_seconds.map_or(AGE.as_secs().to_string(), |age| age.to_string());
            set(ACCESS_CONTROL_MAX_AGE, &age);
        }
        set(VARY, "Origin, Access-Control-Request-Headers, Access-Control-Request-Method");
        headers
    }
}

/// Whether a text is what a pattern with one `*` at most says.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((begin, end)) => {
            text.len() >= begin.len() + end.len() && text.starts_with(begin) && text.ends_with(end)
        }
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::{ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_ORIGIN};
    use s3s::dto::{CORSConfiguration, CORSRule};

    use super::{Foreign, check, matches};

    fn rule(origin: &str, method: &str, header: Option<&str>) -> CORSRule {
        CORSRule {
            allowed_headers: header.map(|header| vec![header.to_owned()]),
            allowed_methods: vec![method.to_owned()],
            allowed_origins: vec![origin.to_owned()],
            ..CORSRule::default()
        }
    }

    fn foreign(method: &str, headers: &[&str]) -> Foreign {
        Foreign {
            origin: "https://app.example.org".to_owned(),
            method: method.to_owned(),
            headers: headers.iter().map(|header| (*header).to_owned()).collect(),
            bucket: "photos".to_owned(),
            preflight: true,
        }
    }

    #[test]
    fn patterns_have_one_star_at_most() {
        assert!(matches("*", ""));
        assert!(matches("https://*.example.org", "https://a.example.org"));
        assert!(!matches("https://*.example.org", "https://example.org"));
        assert!(!matches("aa*aa", "aaa"));
        assert!(!matches("https://a", "https://b"));
    }

    #[test]
    fn a_rule_allows_what_it_names_and_no_more() {
        let by = |foreign: Foreign, rule: CORSRule| foreign.is_allowed_by(&rule);
        assert!(by(foreign("GET", &[]), rule("*", "GET", None)));
        assert!(!by(foreign("PUT", &[]), rule("*", "GET", None)));
        assert!(!by(foreign("GET", &[]), rule("https://else.org", "GET", None)));
        assert!(!by(foreign("PUT", &["x-amz-date"]), rule("*", "PUT", None)));
        assert!(by(foreign("PUT", &["x-amz-date"]), rule("*", "PUT", Some("X-Amz-*"))));
        let answer = foreign("PUT", &["x-amz-date"]).answer(&rule("https://*", "PUT", Some("*")));
        assert_eq!(answer[ACCESS_CONTROL_ALLOW_ORIGIN], "https://app.example.org");
        assert_eq!(answer[ACCESS_CONTROL_ALLOW_HEADERS], "x-amz-date");
    }

    #[test]
    fn rules_that_can_not_be_held_to_are_refused() {
        let all = |rules: Vec<CORSRule>| check(&CORSConfiguration { cors_rules: rules });
        assert!(all(vec![rule("*", "GET", None)]).is_ok());
        assert!(all(Vec::new()).is_err());
        assert!(all(vec![rule("*", "PATCH", None)]).is_err());
        assert!(all(vec![rule("*.*", "GET", None)]).is_err());
        assert!(all(vec![rule("*", "GET", None); 101]).is_err());
    }
}
