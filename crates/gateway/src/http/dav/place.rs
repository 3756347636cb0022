//! Where a path below `/dav/` leads: keys as paths, of which none leads anywhere but below its bucket.

use datamesh_core::bucket::BucketName;

use crate::escape::unescaped;

/// What all paths begin with.
pub(super) const PREFIX: &str = "/dav";

/// Where a path leads, be there something or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// To all buckets.
    Root,
    /// Into one of them.
    Inside(InBucket),
}

/// A place in a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct InBucket {
    pub(super) bucket: BucketName,
    /// The names that lead there, with slashes between them; none where it is the bucket itself.
    pub(super) names: String,
    pub(super) form: Form,
}

/// What the form of a path says of what it leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// It ends with a slash: only a folder is meant.
    Folder,
    /// A file may be meant as well.
    Any,
}

impl InBucket {
    /// What all keys in the folder begin with.
    pub(super) fn prefix(&self) -> String {
        if self.names.is_empty() { String::new() } else { format!("{}/", self.names) }
    }
}

impl Place {
    /// Where the path of an address leads; `None` where nothing can be.
    pub(super) fn of_address(path: &str) -> Option<Self> {
        let below = path.strip_prefix(PREFIX)?;
        if below.is_empty() {
            return Some(Self::Root);
        }
        let segments = below.strip_prefix('/')?.split('/');
        // Each by itself, so that an escaped slash ends no name.
        let names = segments.map(unescaped).collect::<Option<Vec<String>>>()?;
        Self::of_names(names.iter().map(String::as_str).collect())
    }

    /// The same for a path without its prefix and its escapes.
    pub(super) fn of_plain(path: &[u8]) -> Option<Self> {
        let below = str::from_utf8(path).ok()?.strip_prefix('/')?;
        Self::of_names(below.split('/').collect())
    }

    fn of_names(mut names: Vec<&str>) -> Option<Self> {
        // Behind a slash at the end is nothing.
        let form = if names.pop_if(|last| last.is_empty()).is_some() { Form::Folder } else { Form::Any };
        if !names.iter().copied().all(is_name) {
            return None;
        }
        let Some((bucket, names)) = names.split_first() else { return Some(Self::Root) };
        let bucket = bucket.parse().ok()?;
        Some(Self::Inside(InBucket { bucket, names: names.join("/"), form }))
    }
}

/// Whether this can be a name in a folder. Clients take empty names and those of one dot or two out of paths, and would be elsewhere
/// then.
pub(super) fn is_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains(['/', '\0'])
}

#[cfg(test)]
mod tests {
    use super::{Form, InBucket, Place};

    fn inside(names: &str, form: Form) -> Option<Place> {
        let bucket = "photos".parse().unwrap();
        Some(Place::Inside(InBucket { bucket, names: names.to_owned(), form }))
    }

    #[test]
    fn paths_lead_to_buckets_folders_and_files() {
        for (path, place) in [
            ("/dav", Some(Place::Root)),
            ("/dav/", Some(Place::Root)),
            ("/dav/photos", inside("", Form::Any)),
            ("/dav/photos/", inside("", Form::Folder)),
            ("/dav/photos/a/b%20c", inside("a/b c", Form::Any)),
            ("/dav/photos/a/gr%C3%B6%C3%9Fe/", inside("a/größe", Form::Folder)),
            ("/dav/photos/...", inside("...", Form::Any)),
            ("/dav/photos/%2525", inside("%25", Form::Any)),
        ] {
            assert_eq!(Place::of_address(path), place, "{path}");
        }
        assert_eq!(Place::of_plain(b"/photos/a/b"), inside("a/b", Form::Any));
        assert_eq!(Place::of_plain(b"/"), Some(Place::Root));
    }

    #[test]
    fn no_path_leads_out_of_its_bucket() {
        for path in [
            "/dav/photos/../letters",
            "/dav/photos/%2e%2E/letters",
            "/dav/photos/a/..%2fb",
            "/dav/photos/a%2fb",
            "/dav/photos/./a",
            "/dav/photos//a",
            "/dav/photos/a//",
            "/dav//photos",
            "/dav//",
            "/dav/..",
            "/dav/../api/v1/objects",
            "/dav/%2e%2e/api",
            "/dav/photos/%00",
            "/dav/photos/%",
            "/dav/photos/%4",
            "/dav/photos/%zz",
            "/dav/photos/%+1",
            "/dav/photos/%ff",
            "/dav/NoBucket/a",
            "/david",
            "/api/v1",
            "dav/photos",
            "",
        ] {
            assert_eq!(Place::of_address(path), None, "{path}");
        }
        for path in [&b"/photos/../x"[..], b"/photos//x", b"/photos/\xff", b"photos", b""] {
            assert_eq!(Place::of_plain(path), None);
        }
    }
}
