//! A case: what is sent over one connection, and what must hold of what is answered.

use super::draw::Draw;
use super::request::Request;
use super::scene::Scene;
use super::wire::Ending;

/// What must hold of the answers, beside what holds of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// Nothing more.
    Any,
    /// None is a success.
    Refused,
    /// Whoever asks may see everything.
    Holder,
}

/// One case.
#[derive(Debug, Clone)]
pub(super) struct Case {
    pub(super) bytes: Vec<u8>,
    pub(super) ending: Ending,
    /// Answers that there may be.
    pub(super) answers_max: usize,
    pub(super) rule: Rule,
}

impl Case {
    /// A whole request.
    pub(super) fn whole(request: &Request) -> Self {
        Self { bytes: request.bytes(), ending: Ending::Answered, answers_max: 1, rule: Rule::Any }
    }

    /// Bytes that may be no whole request, or more than one.
    pub(super) fn broken(bytes: Vec<u8>) -> Self {
        Self { bytes, ending: Ending::BrokenOff, answers_max: usize::MAX, rule: Rule::Any }
    }

    pub(super) fn rule(mut self, rule: Rule) -> Self {
        self.rule = rule;
        self
    }
}

/// Makes a case.
pub(super) type Make = fn(&Scene, &mut Draw) -> Case;

/// A family of cases.
pub(super) struct Corpus {
    pub(super) name: &'static str,
    /// What it is made of, as the page says it.
    pub(super) about: &'static str,
    /// Its cases of every hundred or so.
    pub(super) weight: usize,
    pub(super) make: Make,
}
