//! What must hold of every answer.

use super::case::{Case, Rule};
use super::wire::{Answer, Ending, Said, find};

/// Answers of a server's fault that are meant: their status, what their body says, and why they are.
pub(super) const MEANT: [(u16, &str, &str); 2] = [
    (501, "<Code>NotImplemented</Code>", "an operation of S3 that is not there, by its name"),
    (503, "\"kind\":\"busy\"", "too much is going on: streams of events, or uploads that are written to"),
];

/// What is wrong with what was said to a case, if something is.
pub(super) fn judge(case: &Case, said: &Said, secrets: &[Vec<u8>]) -> Result<(), String> {
    if let Some(why) = said.malformed {
        return Err(why.to_owned());
    }
    if said.answers.len() > case.answers_max {
        return Err(format!("{} answers, where there may be {}", said.answers.len(), case.answers_max));
    }
    if said.answers.is_empty() && case.ending == Ending::Answered {
        return Err(if said.closed { "closed without an answer" } else { "not answered" }.to_owned());
    }
    let head_only = case.bytes.starts_with(b"HEAD ");
    if let Some(answer) = said.answers.iter().find(|answer| !is_meant(answer, head_only)) {
        return Err(format!("answered with {}, which is not meant", answer.status));
    }
    if case.rule != Rule::Holder && secrets.iter().any(|secret| find(&said.bytes, secret).is_some()) {
        return Err("something secret was said".to_owned());
    }
    let succeeded = said.answers.iter().find(|answer| (200..400).contains(&answer.status));
    match succeeded {
        Some(answer) if case.rule == Rule::Refused => Err(format!("allowed with {}", answer.status)),
        _ => Ok(()),
    }
}

/// Whether an answer is no server's fault, or one that is meant. What answers a HEAD has no body to say so.
fn is_meant(answer: &Answer, head_only: bool) -> bool {
    let meant = |&(status, text, _): &(u16, &str, &str)| {
        answer.status == status && (head_only || find(&answer.body, text.as_bytes()).is_some())
    };
    answer.status < 500 || MEANT.iter().any(meant)
}

#[cfg(test)]
mod tests {
    use super::judge;
    use crate::fuzz::case::{Case, Rule};
    use crate::fuzz::wire::{Answer, Ending, Said};

    fn said(status: u16, body: &str) -> Said {
        let answer = Answer { status, head: Vec::new(), body: body.as_bytes().to_vec() };
        Said { answers: vec![answer], bytes: body.as_bytes().to_vec(), ..Said::default() }
    }

    fn case(rule: Rule) -> Case {
        Case { bytes: b"GET / HTTP/1.1".to_vec(), ending: Ending::Answered, answers_max: 1, rule }
    }

    #[test]
    fn what_is_a_fault_is_seen() {
        let secrets = [b"secret".to_vec()];
        let wrong = |rule, said: &Said| judge(&case(rule), said, &secrets).is_err();
        assert!(!wrong(Rule::Any, &said(200, "open")));
        assert!(wrong(Rule::Any, &said(500, "open")));
        assert!(wrong(Rule::Any, &said(503, "open")));
        assert!(!wrong(Rule::Any, &said(503, "{\"kind\":\"busy\"}")));
        assert!(wrong(Rule::Any, &said(501, "open")));
        assert!(!wrong(Rule::Any, &said(501, "<Code>NotImplemented</Code>")));
        assert!(wrong(Rule::Any, &said(200, "a secret")));
        assert!(!wrong(Rule::Holder, &said(200, "a secret")));
        assert!(wrong(Rule::Refused, &said(200, "open")));
        assert!(!wrong(Rule::Refused, &said(403, "open")));
        assert!(wrong(Rule::Any, &Said::default()));
        let twice =
            Said { answers: [said(200, "").answers, said(400, "").answers].concat(), ..Said::default() };
        assert!(wrong(Rule::Any, &twice));
        assert!(wrong(Rule::Any, &Said { malformed: Some("not HTTP"), ..said(200, "") }));
    }
}
