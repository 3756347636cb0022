//! All corpora, and which of them a case is of.

use super::case::{Case, Corpus};
use super::draw::Draw;
use super::scene::Scene;

mod api;
mod documents;
mod framing;
mod headers;
mod paths;
mod signatures;

/// All of them.
pub(super) const ALL: [Corpus; 16] = [
    Corpus {
        name: "smuggling",
        about: "a second request hidden behind contradicting lengths, obfuscated encodings, folded lines, bare line ends",
        weight: 8,
        make: framing::smuggling,
    },
    Corpus {
        name: "http-chunks",
        about: "bodies in chunks: bad sizes, floods of extensions and trailers, early ends",
        weight: 6,
        make: framing::http_chunks,
    },
    Corpus {
        name: "aws-chunks",
        about: "signed chunks of S3: wrong signatures, sizes and lengths, missing trailers, early ends",
        weight: 8,
        make: framing::aws_chunks,
    },
    Corpus {
        name: "first-lines",
        about: "methods, targets and versions that are none, and bytes of other protocols",
        weight: 5,
        make: framing::first_lines,
    },
    Corpus {
        name: "traversal",
        about: "paths with .., encoded and overlong, below every face; targets in absolute and authority form",
        weight: 10,
        make: paths::traversal,
    },
    Corpus {
        name: "headers",
        about: "huge, many, empty, foreign and repeated headers",
        weight: 5,
        make: headers::abused,
    },
    Corpus {
        name: "ranges",
        about: "malformed ranges and conditions on what may be read",
        weight: 7,
        make: headers::ranges,
    },
    Corpus {
        name: "amz-headers",
        about: "garbage in x-amz headers, and copies from where the key may not read",
        weight: 8,
        make: headers::amz,
    },
    Corpus {
        name: "signatures",
        about: "valid signatures in headers with one part changed",
        weight: 8,
        make: signatures::in_headers,
    },
    Corpus {
        name: "presigned",
        about: "valid signatures in addresses with one part changed",
        weight: 8,
        make: signatures::in_addresses,
    },
    Corpus { name: "tokens", about: "tokens with one part changed", weight: 4, make: signatures::tokens },
    Corpus {
        name: "rights",
        about: "valid requests by keys that lack the grant",
        weight: 6,
        make: signatures::rights,
    },
    Corpus {
        name: "documents",
        about: "XML: entities, depth, wrong roots, too many parts, cut and huge documents",
        weight: 8,
        make: documents::xml,
    },
    Corpus {
        name: "forms",
        about: "POST forms: broken boundaries, policies and fields",
        weight: 5,
        make: documents::forms,
    },
    Corpus {
        name: "api",
        about: "garbage in paths, queries, headers and bodies of the HTTP API, tus and IPFS",
        weight: 10,
        make: api::calls,
    },
    Corpus { name: "events", about: "streams of events from garbage ids on", weight: 1, make: api::events },
];

/// Which corpus a case is of, as an index, and the case itself.
pub(super) fn case(scene: &Scene, seed: u64, index: u64) -> (usize, Case) {
    let mut draw = Draw::new(seed, index);
    let total: usize = ALL.iter().map(|corpus| corpus.weight).sum();
    let mut drawn = draw.below(total);
    let at = ALL.iter().position(|corpus| match drawn.checked_sub(corpus.weight) {
        Some(rest) => {
            drawn = rest;
            false
        }
        None => true,
    });
    let at = at.expect("what is drawn is below the sum of all");
    (at, (ALL[at].make)(scene, &mut draw))
}
