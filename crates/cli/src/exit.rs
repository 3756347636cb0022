//! Exit codes, documented and stable.

/// What the program ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// All that was asked is done.
    Done,
    /// It failed in a way that has no code of its own.
    Failed,
    /// The command line or a setting is wrong.
    Usage,
    /// There is no such object, file or name.
    NotFound,
    /// Too few shards to read, or too few nodes to write.
    NotEnough,
    /// The key or the password is wrong, or it is not permitted.
    Denied,
    /// A disk or a quota is full.
    NoSpace,
    /// No node of the mesh answers.
    Unreachable,
    /// Somebody stopped it.
    Interrupted,
}

impl Exit {
    /// Every one, by code.
    pub const ALL: [Self; 9] = [
        Self::Done,
        Self::Failed,
        Self::Usage,
        Self::NotFound,
        Self::NotEnough,
        Self::Denied,
        Self::NoSpace,
        Self::Unreachable,
        Self::Interrupted,
    ];

    /// The process's exit code.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::NotEnough => 4,
            Self::Denied => 5,
            Self::NoSpace => 6,
            Self::Unreachable => 7,
            Self::Interrupted => 130,
        }
    }

    /// The `kind` of an error in JSON.
    #[must_use]
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::NotFound => "not-found",
            Self::NotEnough => "not-enough",
            Self::Denied => "denied",
            Self::NoSpace => "no-space",
            Self::Unreachable => "unreachable",
            Self::Interrupted => "interrupted",
        }
    }

    /// What it means, for people.
    #[must_use]
    pub const fn about(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Usage => "the command line or a setting is wrong",
            Self::NotFound => "no such object, file or name",
            Self::NotEnough => "not enough shards to read, or nodes to write",
            Self::Denied => "wrong key or password, or not permitted",
            Self::NoSpace => "no space on a disk or in a quota",
            Self::Unreachable => "no node of the mesh answers",
            Self::Interrupted => "interrupted",
        }
    }

    /// All codes as the help shows them.
    #[must_use]
    pub fn help() -> String {
        let line = |exit: &Self| format!("  {:>3}  {}\n", exit.code(), exit.about());
        format!("Exit codes:\n{}", Self::ALL.iter().map(line).collect::<String>())
    }
}

#[cfg(test)]
mod tests {
    use super::Exit;

    #[test]
    fn the_codes_and_kinds_are_the_documented_ones() {
        let codes: Vec<String> =
            Exit::ALL.iter().map(|exit| format!("{} {}", exit.code(), exit.kind())).collect();
        let expected = [
            "0 done",
            "1 failed",
            "2 usage",
            "3 not-found",
            "4 not-enough",
            "5 denied",
            "6 no-space",
            "7 unreachable",
            "130 interrupted",
        ];
        assert_eq!(codes, expected);
    }
}
