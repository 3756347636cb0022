//! What the command was asked for.

use std::path::PathBuf;

/// What it takes.
pub(crate) const HELP: &str = "\
cargo xtask fuzz-gateway [N] [OPTION]...

  N               requests over raw sockets; 100,000 unless told
  --seed S        draws the same requests as the run that told this seed
  --only INDEX    of these only this one, which a finding names
  --raw           without schemathesis
  --dev           asks the development build as it is; the release build, which is made first, unless told
  --program FILE  asks this program

A run of 100,000 with schemathesis writes its part of docs/threat-model.md; any other leaves it below target/fuzz-gateway.";

/// Requests of the whole form.
pub(super) const COUNT: u64 = 100_000;

/// What the command was asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) count: u64,
    pub(super) seed: Option<u64>,
    pub(super) only: Option<u64>,
    pub(super) build: Build,
    /// Without schemathesis.
    pub(super) raw: bool,
    /// It is the run that the page is made of.
    pub(super) whole: bool,
}

/// Which program is asked.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Build {
    Release,
    Dev,
    Given(PathBuf),
}

impl Options {
    pub(super) fn parse(arguments: &[&str]) -> Result<Self, String> {
        let mut options =
            Self { count: COUNT, seed: None, only: None, build: Build::Release, raw: false, whole: false };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let mut value = || rest.next().copied().ok_or_else(|| format!("{argument} of what?"));
            match *argument {
                "--seed" => options.seed = Some(number(value()?)?),
                "--only" => options.only = Some(number(value()?)?),
                "--program" => options.build = Build::Given(PathBuf::from(value()?)),
                "--raw" => options.raw = true,
                "--dev" => options.build = Build::Dev,
                count => options.count = number(count)?,
            }
        }
        // One request says nothing of the description.
        options.raw |= options.only.is_some();
        options.whole = options.count == COUNT && !options.raw;
        Ok(options)
    }
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("`{text}` is no number and no option"))
}

#[cfg(test)]
mod tests {
    use super::{Build, COUNT, Options};

    #[test]
    fn the_page_is_made_by_the_whole_form_alone() {
        let whole = Options::parse(&[]).expect("nothing is enough");
        assert_eq!((whole.count, whole.whole, whole.raw), (COUNT, true, false));
        let one = Options::parse(&["--seed", "5", "--only", "7", "--dev"]).expect("it is valid");
        assert_eq!((one.seed, one.only, one.build), (Some(5), Some(7), Build::Dev));
        assert!(one.raw && !one.whole);
        let few = Options::parse(&["2000"]).expect("it is valid");
        assert_eq!((few.count, few.whole), (2000, false));
        assert!(Options::parse(&["--program", "a"]).expect("it is valid").whole);
        assert!(Options::parse(&["--many"]).is_err() && Options::parse(&["--seed"]).is_err());
    }
}
