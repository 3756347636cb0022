//! The policy of puts: rules that choose the redundancy of an object by what it is.

use std::fmt;

use crate::settings::unit::ByteSize;
use crate::settings::value::{ListItem, SchemeChoice, SettingValue};

const SCHEME: &str = "scheme=";

/// One rule: when it matches, and the scheme that it chooses then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyRule {
    conditions: Vec<Condition>,
    /// What it chooses.
    pub scheme: SchemeChoice,
}

/// What an object must be for a rule to match.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Condition {
    /// Its media type is like this.
    Type(Pattern),
    /// Its name is like this.
    Name(Pattern),
    /// It is this large.
    Size(Comparison, ByteSize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    More,
    AtLeast,
    Less,
    AtMost,
}

/// A text in which `*` stands for anything.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern(String);

/// What a rule looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PutSubject<'a> {
    /// The object's name.
    pub name: &'a str,
    /// Its media type, where that is said.
    pub media_type: Option<&'a str>,
    /// Its bytes, where they are known before it is read.
    pub size: Option<u64>,
}

impl PolicyRule {
    /// Whether an object is what the rule is for. What is not known of it matches nothing.
    #[must_use]
    pub fn matches(&self, subject: &PutSubject<'_>) -> bool {
        self.conditions.iter().all(|condition| match condition {
            Condition::Type(pattern) => subject.media_type.is_some_and(|text| pattern.matches(text)),
            Condition::Name(pattern) => pattern.matches(subject.name),
            Condition::Size(comparison, bound) => {
                subject.size.is_some_and(|size| comparison.holds(size, bound.bytes()))
            }
        })
    }
}

impl Comparison {
    /// The longer ones first: `>` is a beginning of `>=`.
    const ALL: [(Self, &'static str); 4] =
        [(Self::AtLeast, ">="), (Self::AtMost, "<="), (Self::More, ">"), (Self::Less, "<")];

    const fn holds(self, size: u64, bound: u64) -> bool {
        match self {
            Self::More => size > bound,
            Self::AtLeast => size >= bound,
            Self::Less => size < bound,
            Self::AtMost => size <= bound,
        }
    }
}

impl Pattern {
    fn matches(&self, text: &str) -> bool {
        let mut parts = self.0.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = text.strip_prefix(first) else { return false };
        let mut parts: Vec<&str> = parts.collect();
        let Some(last) = parts.pop() else { return rest.is_empty() };
        for part in parts {
            let Some(found) = rest.find(part) else { return false };
            rest = &rest[found + part.len()..];
        }
        rest.ends_with(last)
    }
}

impl Condition {
    fn read(word: &str) -> Result<Self, String> {
        let pattern = |text: &str| match text {
            "" => Err(format!("`{word}` has nothing behind the `=`")),
            _ => Ok(Pattern(text.to_owned())),
        };
        if let Some(text) = word.strip_prefix("type=") {
            return pattern(text).map(Self::Type);
        }
        if let Some(text) = word.strip_prefix("name=") {
            return pattern(text).map(Self::Name);
        }
        let compared = word.strip_prefix("size").and_then(|rest| {
            Comparison::ALL
                .iter()
                .find_map(|(comparison, sign)| Some((*comparison, rest.strip_prefix(sign)?)))
        });
        let Some((comparison, size)) = compared else {
            return Err(format!("`{word}` is none of type=PATTERN, name=PATTERN, size>SIZE and scheme=K+M"));
        };
        ByteSize::read(size).map(|size| Self::Size(comparison, size))
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Type(Pattern(text)) => write!(formatter, "type={text}"),
            Self::Name(Pattern(text)) => write!(formatter, "name={text}"),
            Self::Size(comparison, size) => {
                let known = Comparison::ALL.iter().find(|(known, _)| known == comparison);
                let (_, sign) = known.expect("every comparison has a sign");
                write!(formatter, "size{sign}{}", size.text())
            }
        }
    }
}

impl fmt::Display for PolicyRule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.conditions.iter().try_for_each(|condition| write!(formatter, "{condition} "))?;
        write!(formatter, "{SCHEME}{}", self.scheme.text())
    }
}

impl ListItem for PolicyRule {
    const FORM: &'static str = "list of rules, as in \"type=video/* size>64MiB scheme=8+4\"; a rule may also have name=PATTERN, size>=, size< and size<=";

    fn read(text: &str) -> Result<Self, String> {
        let mut scheme = None;
        let mut conditions = Vec::new();
        for word in text.split_whitespace() {
            match word.strip_prefix(SCHEME) {
                Some(choice) if scheme.is_none() => scheme = Some(SchemeChoice::read(choice)?),
                Some(_) => return Err(format!("`{text}` has two schemes")),
                None => conditions.push(Condition::read(word)?),
            }
        }
        let scheme = scheme.ok_or_else(|| format!("`{text}` chooses no scheme: scheme=K+M is missing"))?;
        Ok(Self { conditions, scheme })
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::{ListItem, Pattern, PolicyRule, PutSubject};

    fn rule(text: &str) -> PolicyRule {
        PolicyRule::read(text).expect("valid")
    }

    #[test]
    fn a_rule_is_written_as_it_is_read() {
        for text in [
            "scheme=auto",
            "type=image/* size>64MiB scheme=8+4",
            "name=*.tar.* size<=1GiB scheme=16+8",
            "size>=1MiB size<1GiB scheme=1+2",
        ] {
            assert_eq!(rule(text).text(), text);
        }
        assert_eq!(rule("scheme=archive").text(), "scheme=16+8");
        for bad in [
            "",
            "type=image/*",
            "scheme=4+2 scheme=8+4",
            "kind=image scheme=4+2",
            "size=4MiB scheme=4+2",
            "size>many scheme=4+2",
            "type= scheme=4+2",
            "scheme=4",
            "tier=archival scheme=4+2",
        ] {
            assert!(PolicyRule::read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_rule_matches_what_is_all_that_it_says_and_nothing_that_is_not_known() {
        let photo = PutSubject { name: "a.jpg", media_type: Some("image/jpeg"), size: Some(5_000_000) };
        for text in ["scheme=4+2", "type=image/* scheme=4+2", "type=image/* name=*.jpg size>=5MB scheme=4+2"]
        {
            assert!(rule(text).matches(&photo), "{text}");
        }
        for text in
            ["type=video/* scheme=4+2", "size>5MB scheme=4+2", "name=*.png scheme=4+2", "size<5MB scheme=4+2"]
        {
            assert!(!rule(text).matches(&photo), "{text}");
        }
        let stream = PutSubject { name: "stdin", media_type: None, size: None };
        for text in ["type=* scheme=4+2", "size>0B scheme=4+2", "size<=1TB scheme=4+2"] {
            assert!(!rule(text).matches(&stream), "{text}");
        }
    }

    #[test]
    fn a_pattern_is_a_text_in_which_stars_stand_for_anything() {
        let matches = |pattern: &str, text: &str| Pattern(pattern.to_owned()).matches(text);
        for (pattern, text) in
            [("a", "a"), ("*", ""), ("*", "abc"), ("a*c", "abc"), ("a*b*c", "axbxbxc"), ("*.gz", "a.gz")]
        {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in
            [("a", "ab"), ("a*c", "ab"), ("ab*ba", "aba"), ("a*b*c", "acb"), ("*.gz", "a.gzip")]
        {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }
}
