//! Buckets as the tree of folders and files that the library of WebDAV asks for.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::http::StatusCode;
use datamesh_core::bucket::AccessKey;
use datamesh_engine::buckets::Buckets;
use dav_server::davpath::DavPath;
use dav_server::fs::{
    DavDirEntry, DavFile, DavMetaData, FsError, FsFuture, FsResult, FsStream, GuardedFileSystem, OpenOptions,
    ReadDirMeta,
};
use futures::future::{FutureExt, ready};
use futures::stream::{self, StreamExt};

use crate::http::answer::Problem;
use crate::http::dav::folder::{Entry, Reader, shown};
use crate::http::dav::node::{Thing, find};
use crate::http::dav::place::Place;
use crate::http::stream::blocking;

/// All buckets. What is seen of them is decided for each who asks.
#[derive(Clone)]
pub(super) struct Tree {
    buckets: Buckets,
}

/// Who asks, for the time of one request.
#[derive(Clone)]
pub(super) struct Asker {
    key: Arc<AccessKey>,
    /// Whether a list of this request lacks something. The library passes over what can't be read, and a client would take that
    /// for deleted.
    broken: Arc<AtomicBool>,
}

impl Asker {
    pub(super) fn new(key: Arc<AccessKey>) -> Self {
        Self { key, broken: Arc::default() }
    }

    /// Whether what this request was told lacks something.
    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    fn break_off(&self, problem: &Problem) {
        tracing::warn!(message = problem.message(), "a folder can't be listed to its end");
        self.broken.store(true, Ordering::Release);
    }
}

impl Tree {
    pub(super) const fn new(buckets: Buckets) -> Self {
        Self { buckets }
    }

    /// What is at a place, looked up where that holds nobody up.
    ///
    /// # Errors
    /// As [`find`].
    ///
    /// # Cancel safety
    /// Changes nothing.
    pub(super) async fn find(&self, key: Arc<AccessKey>, place: Place) -> Result<Thing, Problem> {
        let buckets = self.buckets.clone();
        blocking(move || find(&buckets, &key, &place)).await
    }

    async fn list(&self, path: &DavPath, asker: &Asker) -> FsResult<FsStream<Box<dyn DavDirEntry>>> {
        let begun = match Place::of_plain(path.as_bytes()) {
            None => Err(Problem::not_found("there is no such folder".to_owned())),
            Some(place) => self.begin(place, asker).await,
        };
        let (first, reader) = begun.map_err(|problem| {
            asker.break_off(&problem);
            status_of(&problem)
        })?;
        let pages = stream::unfold(reader, page).map({
            let asker = asker.clone();
            move |page| {
                page.unwrap_or_else(|problem| {
                    asker.break_off(&problem);
                    VecDeque::new()
                })
            }
        });
        let entries = stream::iter([first]).chain(pages).flat_map(stream::iter);
        Ok(entries.map(|entry| Ok(Box::new(entry) as Box<dyn DavDirEntry>)).boxed())
    }

    /// What is known of a folder at once, and what reads the rest.
    async fn begin(&self, place: Place, asker: &Asker) -> Result<(VecDeque<Entry>, Option<Reader>), Problem> {
        let (buckets, key) = (self.buckets.clone(), Arc::clone(&asker.key));
        blocking(move || {
            // Who may read is asked where it is read.
            find(&buckets, &key, &place)?;
            Ok(match place {
                Place::Root => (shown(&buckets, &key)?, None),
                Place::Inside(inside) => (VecDeque::new(), Some(Reader::new(buckets, &inside))),
            })
        })
        .await
    }
}

/// The next page; none behind the last, nor behind one that can't be read.
async fn page(reader: Option<Reader>) -> Option<(Result<VecDeque<Entry>, Problem>, Option<Reader>)> {
    let mut reader = reader?;
    let read = blocking(move || {
        let page = reader.read()?;
        Ok((page, reader))
    });
    match read.await {
        Ok((page, _)) if page.is_empty() => None,
        Ok((page, reader)) => Some((Ok(page), Some(reader))),
        Err(problem) => Some((Err(problem), None)),
    }
}

/// The same problem in the few words that the library has.
fn status_of(problem: &Problem) -> FsError {
    match problem.status() {
        StatusCode::NOT_FOUND => FsError::NotFound,
        StatusCode::FORBIDDEN => FsError::Forbidden,
        _ => FsError::GeneralFailure,
    }
}

impl GuardedFileSystem<Asker> for Tree {
    /// Never asked: contents are given as the rest of this face gives them.
    fn open<'a>(
        &'a self,
        _path: &'a DavPath,
        _options: OpenOptions,
        _asker: &'a Asker,
    ) -> FsFuture<'a, Box<dyn DavFile>> {
        ready(Err(FsError::Forbidden)).boxed()
    }

    fn read_dir<'a>(
        &'a self,
        path: &'a DavPath,
        _meta: ReadDirMeta,
        asker: &'a Asker,
    ) -> FsFuture<'a, FsStream<Box<dyn DavDirEntry>>> {
        self.list(path, asker).boxed()
    }

    fn metadata<'a>(&'a self, path: &'a DavPath, asker: &'a Asker) -> FsFuture<'a, Box<dyn DavMetaData>> {
        async move {
            let place = Place::of_plain(path.as_bytes()).ok_or(FsError::NotFound)?;
            let thing = self.find(Arc::clone(&asker.key), place).await;
            let facts = thing.map_err(|problem| status_of(&problem))?.facts().ok_or(FsError::NotFound)?;
            Ok(Box::new(facts) as Box<dyn DavMetaData>)
        }
        .boxed()
    }
}
