//! Reads the parts of a `Cargo.toml` that the checks need.

/// When a dependency is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// By the crate itself, or by its build script.
    Normal,
    /// By its tests alone.
    Dev,
}

/// One line of a dependency section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dependency {
    /// Its name.
    pub(crate) name: String,
    /// When it is needed.
    pub(crate) kind: Kind,
    /// All that follows the name, in one line.
    pub(crate) specification: String,
}

impl Dependency {
    /// The folder that it names, for a crate of this workspace.
    pub(crate) fn path(&self) -> Option<&str> {
        self.specification.split_once("path = \"")?.1.split('"').next()
    }

    /// Whether its version stands in the workspace and not here.
    pub(crate) fn inherited(&self) -> bool {
        self.specification.contains("workspace = true")
    }
}

/// The dependencies of a crate.
pub(crate) fn dependencies(text: &str) -> Vec<Dependency> {
    read(text, |section| {
        let own = section.rsplit_once("'.").map_or(section, |(_, own)| own);
        match own {
            "dependencies" | "build-dependencies" => Some(Kind::Normal),
            "dev-dependencies" => Some(Kind::Dev),
            _ => None,
        }
    })
}

/// The dependencies that a workspace lays down for all its crates.
pub(crate) fn workspace_dependencies(text: &str) -> Vec<Dependency> {
    read(text, |section| (section == "workspace.dependencies").then_some(Kind::Normal))
}

fn read(text: &str, kind_of: impl Fn(&str) -> Option<Kind>) -> Vec<Dependency> {
    let mut found: Vec<Dependency> = Vec::new();
    let mut kind = None;
    let mut depth = 0_usize;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let header = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).filter(|_| depth == 0);
        if let Some(section) = header {
            kind = kind_of(section);
            if let Some((table, name)) = section.rsplit_once('.').filter(|_| kind.is_none()) {
                // `[dependencies.NAME]`: the lines that follow are all about one dependency.
                let table_kind = kind_of(table).map(|kind| dependency(name, kind, ""));
                found.extend(table_kind);
            }
            continue;
        }
        if let Some(kind) = kind {
            let end = line.find(['=', '.', ' ']).unwrap_or(line.len());
            if depth == 0 {
                found.push(dependency(&line[..end], kind, &line[end..]));
            } else if let Some(last) = found.last_mut() {
                last.specification.push_str(line);
            }
        }
        let opened = line.matches(['[', '{']).count();
        let closed = line.matches([']', '}']).count();
        depth = (depth + opened).saturating_sub(closed);
    }
    found
}

fn dependency(name: &str, kind: Kind, specification: &str) -> Dependency {
    let name = name.trim().trim_matches('"').to_owned();
    Dependency { name, kind, specification: specification.trim().to_owned() }
}

#[cfg(test)]
mod tests {
    use super::{Kind, dependencies, workspace_dependencies};

    const FILE: &str = "
[package]
name = \"x\"

[dependencies]
bytes.workspace = true # why
# a comment = 1
tokio = { workspace = true, features = [
  \"fs\",
] }

[dependencies.serde]
version = \"1\"

[target.'cfg(unix)'.dependencies]
rustix.workspace = true

[build-dependencies]
cc = \"1\"

[dev-dependencies]
proptest.workspace = true

[workspace.dependencies]
a-b = { path = \"crates/a\" }
";

    #[test]
    fn every_way_to_write_a_dependency_is_seen() {
        let found = dependencies(FILE);
        let names: Vec<(&str, Kind)> = found.iter().map(|one| (one.name.as_str(), one.kind)).collect();
        let normal = |name| (name, Kind::Normal);
        let expected = [
            normal("bytes"),
            normal("tokio"),
            normal("serde"),
            normal("rustix"),
            normal("cc"),
            ("proptest", Kind::Dev),
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn a_version_that_stands_in_the_crate_is_told_from_an_inherited_one() {
        let inherited: Vec<bool> = dependencies(FILE).iter().map(super::Dependency::inherited).collect();
        assert_eq!(inherited, [true, true, false, true, false, true]);
    }

    #[test]
    fn a_workspace_crate_is_known_by_its_path() {
        let found = workspace_dependencies(FILE);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].path(), Some("crates/a"));
    }
}
