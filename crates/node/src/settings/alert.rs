//! What is done about failing nodes, and who is told of alerts.

use crate::settings::value::SettingValue;

/// Longest text of either, bytes.
const LENGTH_MAX: usize = 4096;

/// Whether something is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switch {
    /// It is.
    On,
    /// It is not.
    Off,
}

impl Switch {
    /// Whether it is.
    #[must_use]
    pub const fn is_on(self) -> bool {
        matches!(self, Self::On)
    }
}

impl SettingValue for Switch {
    const FORM: &'static str = "on or off";
    const CHOICES: &'static [&'static str] = &["on", "off"];

    fn read(text: &str) -> Result<Self, String> {
        match text {
            "on" => Ok(Self::On),
            "off" => Ok(Self::Off),
            _ => Err(format!("`{text}` is neither on nor off")),
        }
    }

    fn text(&self) -> String {
        if self.is_on() { "on" } else { "off" }.to_owned()
    }
}

/// A command line for the shell, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine(String);

impl CommandLine {
    /// The line; `None` where there is none.
    #[must_use]
    pub fn get(&self) -> Option<&str> {
        (!self.0.is_empty()).then_some(&self.0)
    }
}

impl SettingValue for CommandLine {
    const FORM: &'static str = "a command line, or nothing";

    fn read(text: &str) -> Result<Self, String> {
        if text.len() > LENGTH_MAX || text.contains('\0') {
            return Err(format!("a command line has at most {LENGTH_MAX} bytes, of which none is 0"));
        }
        Ok(Self(text.trim().to_owned()))
    }

    fn text(&self) -> String {
        self.0.clone()
    }
}

/// A web address, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebAddress(String);

impl WebAddress {
    /// The address; `None` where there is none.
    #[must_use]
    pub fn get(&self) -> Option<&str> {
        (!self.0.is_empty()).then_some(&self.0)
    }
}

impl SettingValue for WebAddress {
    const FORM: &'static str = "http://… or https://…, or nothing";

    fn read(text: &str) -> Result<Self, String> {
        // It isn't repeated: who may post there is often shown by a secret in the path.
        let wrong = || "is no web address: write http://HOST/PATH or https://HOST/PATH".to_owned();
        if text.is_empty() {
            return Ok(Self(String::new()));
        }
        let address: ureq::http::Uri = text.parse().map_err(|_| wrong())?;
        let known = matches!(address.scheme_str(), Some("http" | "https"));
        if text.len() > LENGTH_MAX || !known || address.host().is_none_or(str::is_empty) {
            return Err(wrong());
        }
        Ok(Self(text.to_owned()))
    }

    fn text(&self) -> String {
        self.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::{CommandLine, WebAddress};
    use crate::settings::value::SettingValue;

    #[test]
    fn an_address_is_one_that_can_be_posted_to() {
        for good in ["", "http://127.0.0.1:8080/alerts?key=1", "https://example.org/"] {
            assert_eq!(WebAddress::read(good).map(|address| address.text()).as_deref(), Ok(good));
        }
        for bad in ["example.org", "ftp://example.org/", "http://", "http:/x", "nonsense", "http://a b/"] {
            assert!(WebAddress::read(bad).is_err(), "{bad}");
        }
        let why = WebAddress::read("htps://example.org/hush").expect_err("no address");
        assert!(!why.contains("hush"), "{why}");
        assert_eq!(WebAddress::read("").expect("none").get(), None);
        assert_eq!(CommandLine::read(" ").expect("none").get(), None);
        assert_eq!(CommandLine::read("logger -t mesh").expect("one").get(), Some("logger -t mesh"));
    }
}
