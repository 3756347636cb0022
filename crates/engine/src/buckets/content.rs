//! The bytes of contents: put as objects, read from them, and copied by leasing them once more.

use std::ops::Range;
use std::sync::Arc;

use datamesh_core::bucket::{BucketName, Content, Extent, Extents};
use datamesh_core::lease::{LeaseTag, Term};
use datamesh_core::limits::UPLOAD_PARTS_MAX;
use datamesh_core::manifest::Kind;
use datamesh_core::time::Epoch;

use crate::buckets::upkeep::give_back;
use crate::buckets::{Buckets, ContentSubject};
use crate::get::{DigestCheck, GetError, Reading};
use crate::progress::{Observer, Unobserved};
use crate::put::{PutError, PutOrder, put};
use crate::renew::{RenewError, RenewOrder, renew};
use crate::transfer::{Temperature, TransferSettings};
use crate::world::{MapError, Sink, Source};

/// Why a content can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The index can't be read.
    #[error(transparent)]
    Index(#[from] MapError),
    /// A part that the content is made of is not in the index.
    #[error("part {0} of the content is missing from the index")]
    MissingPart(u16),
    /// An object that it is made of can't be got.
    #[error(transparent)]
    Get(#[from] GetError),
}

impl Buckets {
    /// Puts bytes as an object of their own. It is nobody's until a version or a part names it: whoever doesn't come to that gives it
    /// back.
    ///
    /// # Errors
    /// [`StoreError`] when they were not acknowledged, or the mesh holds no scheme.
    ///
    /// # Cancel safety
    /// When dropped, shards that were stored already stay until somebody collects them: nobody knows their tag.
    pub async fn store(
        &self,
        source: &mut dyn Source,
        subject: &ContentSubject<'_>,
        observer: Arc<dyn Observer>,
    ) -> Result<Extent, StoreError> {
        let world = self.world();
        let scheme = self.order.schemes.scheme(subject, &world.peers.topology());
        let order = PutOrder {
            scheme: scheme.map_err(StoreError::Scheme)?,
            name: subject.name.to_owned(),
            kind: Kind::File,
            media_type: subject.media_type.map(str::to_owned),
            metadata: [].into(),
            expected_size: subject.size,
            owner: Arc::clone(self.owner()),
            recipients: Vec::new(),
            term: Term::UntilReleased,
        };
        let done = put(world, self.transfer(), observer, source, &order).await?;
        Ok(Extent { object: done.object, size: done.size, tag: done.tag })
    }

    /// Gives back what was put and is nobody's, in a while.
    pub fn give_back(&self, tags: Vec<LeaseTag>) {
        if let Err(error) = give_back(&*self.order.map, &tags, self.world().clock.now()) {
            tracing::warn!(%error, "what was put in vain is not given back");
        }
    }

    /// The objects that a content is in, in their order.
    ///
    /// # Errors
    /// [`ReadError`] when the index can't be read or lacks a part.
    pub fn extents(&self, bucket: &BucketName, content: &Content) -> Result<Vec<Extent>, ReadError> {
        let (upload, runs) = match &content.extents {
            Extents::Listed(extents) => return Ok(extents.clone()),
            Extents::Uploaded { upload, parts } => (upload, parts),
        };
        let mut parts = self.view().parts(bucket, upload, 0, usize::from(UPLOAD_PARTS_MAX) + 1)?.into_iter();
        let mut extents = Vec::new();
        for number in runs.iter().flat_map(|(first, last)| *first..=*last) {
            let part = parts.find(|(other, _)| *other >= number).filter(|(other, _)| *other == number);
            extents.push(part.ok_or(ReadError::MissingPart(number))?.1.extent);
        }
        Ok(extents)
    }

    /// Who keeps what is read of a content.
    #[must_use]
    pub fn temperature(&self, content: &Content) -> Temperature {
        self.order.schemes.temperature(content.class.as_deref())
    }

    /// Writes a range of what lies in these objects to a sink, in order. Says how many bytes.
    ///
    /// # Errors
    /// [`ReadError`]; the sink may have been given a part by then, and never a wrong byte.
    ///
    /// # Cancel safety
    /// When dropped, the sink has been given a part.
    pub async fn copy(
        &self,
        extents: &[Extent],
        temperature: Temperature,
        range: Range<u64>,
        sink: &mut dyn Sink,
    ) -> Result<u64, ReadError> {
        let identities = std::slice::from_ref(&**self.owner());
        let transfer = TransferSettings { temperature, ..self.transfer() };
        let (mut begin, mut written) = (0_u64, 0);
        for extent in extents {
            let end = begin.saturating_add(extent.size);
            let wanted = range.start.max(begin)..range.end.min(end);
            if wanted.start < wanted.end {
                let observer = Arc::new(Unobserved);
                let reading =
                    Reading::open(self.world(), transfer, observer, extent.object, identities).await?;
                let whole = wanted.start == begin && wanted.end == end;
                let part = (!whole).then_some(wanted.start - begin..wanted.end - begin);
                written += reading.copy(part, DigestCheck::Skip, sink).await?;
            }
            begin = end;
        }
        Ok(written)
    }

    /// Has an object kept a second time, under a tag of its own: a copy that moves no bytes.
    ///
    /// # Errors
    /// [`RenewError`] when too little of it could be leased. What was leased until then is given back.
    pub async fn lease_again(&self, extent: &Extent) -> Result<Extent, RenewError> {
        let tag = self.draw_tag();
        let order = RenewOrder { object: extent.object, owner: self.owner(), tag, until: Epoch::NEVER };
        let renewed = renew(self.world(), self.transfer(), Arc::new(Unobserved), &order).await;
        if renewed.is_err() {
            self.give_back(vec![tag]);
        }
        renewed.map(|_| Extent { tag, ..*extent })
    }

    fn draw_tag(&self) -> LeaseTag {
        let mut bytes = [0; 16];
        self.world().entropy.fill(&mut bytes);
        LeaseTag::from_bytes(bytes)
    }
}

/// Why bytes were not put.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The mesh holds no scheme that may be used.
    #[error("{0}")]
    Scheme(String),
    /// They were not acknowledged.
    #[error(transparent)]
    Put(#[from] PutError),
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datamesh_core::bucket::Extent;

    use crate::buckets::{Buckets, ContentSubject};
    use crate::progress::Unobserved;
    use crate::transfer::Temperature;
    use crate::world::{Sink, Source};

    /// Holds where it compiles: gateways let contents be stored, read and copied by tasks of their own.
    #[test]
    fn contents_may_be_moved_by_tasks() {
        type Given = (Buckets, Extent, Box<dyn Source>, Box<dyn Sink>);
        fn task<T: Send + 'static>(_make: impl FnOnce(Given) -> T) {}
        task(|(buckets, _, mut source, _)| async move {
            let subject = ContentSubject::default();
            buckets.store(&mut *source, &subject, Arc::new(Unobserved)).await
        });
        task(|(buckets, extent, _, mut sink)| async move {
            buckets.copy(&[extent], Temperature::Hot, 0..1, &mut *sink).await
        });
        task(|(buckets, extent, _, _)| async move { buckets.lease_again(&extent).await });
    }
}
