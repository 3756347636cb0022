//! A report: a page, its plots and the record that both are made of, written below one folder.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use crate::page::replaced;

/// The folder below the page's own where plots and records lie.
pub(crate) const PLOTS: &str = "plots";
const END: &str = "<!-- until here -->";

/// What a command of this program makes of what was found.
pub(crate) struct Report {
    /// The command.
    pub(crate) command: &'static str,
    /// The page's file.
    pub(crate) page: &'static str,
    /// What stands in the page between its marks.
    pub(crate) section: String,
    /// Each plot's file, and what it is.
    pub(crate) charts: Vec<(&'static str, String)>,
    /// The record's file, and what it is.
    pub(crate) record: (&'static str, String),
}

impl Report {
    /// Writes all of it below a folder. Of a page that is there only what stands between the marks changes.
    pub(crate) fn write(&self, folder: &Path) -> Result<(), String> {
        let plots = folder.join(PLOTS);
        fs::create_dir_all(&plots).map_err(|error| format!("{}: {error}", plots.display()))?;
        for (file, text) in [&self.record].into_iter().chain(&self.charts) {
            write(&plots.join(file), text)?;
        }
        let path = folder.join(self.page);
        let page = match fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => format!("{}\n{END}\n", self.begin()),
            read => read.map_err(|error| format!("{}: {error}", path.display()))?,
        };
        write(&path, &self.page_with(&page)?)
    }

    fn begin(&self) -> String {
        format!("<!-- made by `cargo xtask {}` -->", self.command)
    }

    /// The page with this report's section in place of the one before.
    fn page_with(&self, page: &str) -> Result<String, String> {
        let begin = self.begin();
        replaced(page, [&begin, END], &self.section)
            .ok_or_else(|| format!("{} lacks `{begin}` or `{END}`", self.page))
    }
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
impl Report {
    /// Claims that this report is what lies below a folder, and that the page shows every plot.
    pub(crate) fn assert_written(&self, folder: &Path) {
        let read = |file: &str| fs::read_to_string(folder.join(file)).expect("it is there");
        let page = read(self.page);
        assert_eq!(self.page_with(&page).as_ref(), Ok(&page));
        for (file, chart) in &self.charts {
            assert_eq!(&read(&format!("{PLOTS}/{file}")), chart, "{file}");
            assert!(page.contains(&format!("({PLOTS}/{file})")), "{file}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::Report;

    fn report(section: &str) -> Report {
        Report {
            command: "count",
            page: "counts.md",
            section: format!("{section} ![it](plots/count.svg)\n"),
            charts: vec![("count.svg", format!("a plot of {section}"))],
            record: ("count.json", section.to_owned()),
        }
    }

    #[test]
    fn a_page_is_begun_where_there_is_none_and_keeps_what_others_wrote() {
        let folder = tempfile::tempdir().expect("there is room");
        report("one").write(folder.path()).expect("there is room");
        report("one").assert_written(folder.path());
        let path = folder.path().join("counts.md");
        let begun = fs::read_to_string(&path).expect("it was written");
        fs::write(&path, format!("before\n{begun}after\n")).expect("there is room");
        report("two").write(folder.path()).expect("there is room");
        report("two").assert_written(folder.path());
        let page = fs::read_to_string(&path).expect("it was written");
        assert!(page.starts_with("before\n") && page.ends_with("after\n") && !page.contains("one"), "{page}");
        let record = fs::read_to_string(folder.path().join("plots/count.json")).expect("it was written");
        assert_eq!(record, "two");
    }

    #[test]
    fn a_page_without_the_marks_is_left_alone() {
        let folder = tempfile::tempdir().expect("there is room");
        fs::write(folder.path().join("counts.md"), "no marks").expect("there is room");
        assert!(report("one").write(folder.path()).is_err());
        assert_eq!(fs::read_to_string(folder.path().join("counts.md")).expect("it is there"), "no marks");
    }
}
