//! What commands from one home have moved in all their lives: a small file that each adds to when it ends.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::PathBuf;

use datamesh_core::encode::{decode, encode};
use datamesh_core::id::NodeId;
use datamesh_core::time::Timestamp;
use datamesh_store::cache::CacheFigures;
use serde::{Deserialize, Serialize};

use super::exposition::Samples;
use super::network::{NetworkWatch, Rates, put_direction};
use super::peers::{Moved, PeerView, TrafficView, put_moved, put_peer};
use super::{put_cache, share};
use crate::home::{Access, Home, HomeError};

const VERSION: u8 = 1;
/// Peers that are remembered, those that something was moved with last.
const PEERS_MAX: usize = 1024;
const FILE_SIZE_MAX: u64 = 1 << 20;

/// Why totals can't be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum TotalsError {
    /// The file can't be read.
    #[error("{} can't be read", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is nothing that this program wrote, or of a later version.
    #[error("{} is damaged, or of a later version of the program", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
    },
    /// The home can't be locked, or the file not be written.
    #[error(transparent)]
    Home(#[from] HomeError),
}

/// What commands have moved.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Totals {
    /// When counting began; `None` as long as nothing was counted.
    pub since: Option<Timestamp>,
    /// Commands that were counted.
    pub commands: u64,
    /// Items moved with each peer, and when that was last.
    pub peers: BTreeMap<NodeId, (Moved, Timestamp)>,
    /// Items moved, peers that were forgotten included.
    pub moved: Moved,
    /// Bytes of messages: sent, and received.
    pub network: (u64, u64),
    /// The best rates that were seen, bytes a second: sent, and received.
    pub best: (u64, u64),
    /// What the cache has done.
    pub cache: CacheFigures,
}

/// The file. Peers are a list because keys of a DAG-CBOR map are texts.
#[derive(Serialize, Deserialize)]
struct Stored {
    version: u8,
    since: Option<Timestamp>,
    commands: u64,
    peers: Vec<(NodeId, [u64; 4], Timestamp)>,
    moved: [u64; 4],
    network: (u64, u64),
    best: (u64, u64),
    cache: [u64; 9],
}

impl Totals {
    /// The totals of a home; none where there is no file yet.
    ///
    /// # Errors
    /// [`TotalsError`] when the file can't be read or is damaged.
    pub fn load(home: &Home) -> Result<Self, TotalsError> {
        let path = home.totals_path();
        let failed = |source| TotalsError::Read { path: path.clone(), source };
        match fs::metadata(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(failed(error)),
            Ok(metadata) if metadata.len() > FILE_SIZE_MAX => return Err(TotalsError::Damaged { path }),
            Ok(_) => {}
        }
        let bytes = fs::read(&path).map_err(failed)?;
        let stored = decode::<Stored>(&bytes).ok().filter(|stored| stored.version == VERSION);
        stored.map(Self::from).ok_or(TotalsError::Damaged { path })
    }

    /// Adds what one command moved to the totals of a home, durably. Other processes may do the same at the same time. A
    /// damaged file is replaced: counting begins anew.
    ///
    /// # Errors
    /// [`TotalsError`] when the file can't be read or written.
    pub fn add(home: &Home, command: &Self) -> Result<(), TotalsError> {
        let lock = home.lock()?;
        let known = match Self::load(home) {
            Err(error @ TotalsError::Damaged { .. }) => {
                tracing::warn!(%error, "totals are counted anew");
                Self::default()
            }
            known => known?,
        };
        let sum = known.and(command);
        Ok(lock.write(&home.totals_path(), &encode(&Stored::from(&sum)), Access::Secret)?)
    }

    /// The totals of one command that moved this and ends now.
    #[must_use]
    pub fn of(peers: BTreeMap<NodeId, Moved>, now: Timestamp) -> Self {
        Self {
            since: Some(now),
            commands: 1,
            moved: peers.values().fold(Moved::default(), |sum, moved| sum.and(*moved)),
            peers: peers.into_iter().map(|(peer, moved)| (peer, (moved, now))).collect(),
            ..Self::default()
        }
    }

    /// Takes over what a network was seen to do.
    pub fn saw(&mut self, watch: &NetworkWatch) {
        let (counters, best) = (watch.counters(), watch.best());
        self.network = (counters.bytes_sent, counters.bytes_received);
        self.best = (whole(best.sent), whole(best.received));
    }

    /// Whether the command moved or found anything.
    #[must_use]
    pub fn is_worth_it(&self) -> bool {
        self.moved != Moved::default() || self.cache.hits > 0
    }

    /// Both together.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        self.since = [self.since, other.since].into_iter().flatten().min();
        self.commands = self.commands.saturating_add(other.commands);
        for (peer, (moved, last)) in &other.peers {
            let (known, latest) = self.peers.entry(*peer).or_insert((Moved::default(), *last));
            *known = known.and(*moved);
            *latest = (*latest).max(*last);
        }
        while self.peers.len() > PEERS_MAX {
            let oldest = self.peers.iter().min_by_key(|(_, (_, last))| *last).map(|(peer, _)| *peer);
            oldest.and_then(|peer| self.peers.remove(&peer));
        }
        self.moved = self.moved.and(other.moved);
        let both = |one: (u64, u64), two: (u64, u64), join: fn(u64, u64) -> u64| {
            (join(one.0, two.0), join(one.1, two.1))
        };
        self.network = both(self.network, other.network, u64::saturating_add);
        self.best = both(self.best, other.best, u64::max);
        let sums = numbers(&self.cache).into_iter().zip(numbers(&other.cache));
        let sums: Vec<u64> = sums.map(|(one, two)| one.saturating_add(two)).collect();
        self.cache = figures(*sums.first_chunk().expect("there are as many as before"));
        self
    }

    /// Each peer: what was moved with it in all commands, and what else `live` knows of it.
    #[must_use]
    pub fn views(&self, live: &dyn TrafficView) -> BTreeMap<NodeId, PeerView> {
        let mut views = live.peers();
        for (peer, (moved, _)) in &self.peers {
            let of_totals = PeerView::of(*moved);
            views.entry(*peer).and_modify(|view| view.moved = *moved).or_insert(of_totals);
        }
        views
    }

    /// Puts the samples of this client. What the cache takes on disk is not counted here: `level` has it.
    pub fn put(&self, samples: &mut Samples, level: &CacheFigures, live: &dyn TrafficView) {
        put_moved(samples, &self.moved);
        for (peer, view) in self.views(live) {
            put_peer(samples, &peer, &view);
        }
        let CacheFigures { capacity, used, entry_count, .. } = *level;
        put_cache(samples, &CacheFigures { capacity, used, entry_count, ..self.cache });
        let (rate, limits) = (Rates::default(), live.limits());
        let best = |rate: u64| share(rate, 1).unwrap_or_default();
        put_direction(samples, "sent", self.network.0, (rate.sent, best(self.best.0)), limits.sent);
        put_direction(
            samples,
            "received",
            self.network.1,
            (rate.received, best(self.best.1)),
            limits.received,
        );
    }
}

/// A rate as a whole number of bytes a second.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rates are positive and far below 2^64"
)]
const fn whole(rate: f64) -> u64 {
    rate as u64
}

const fn numbers(figures: &CacheFigures) -> [u64; 9] {
    let CacheFigures {
        hits,
        misses,
        hit_bytes,
        admissions,
        declined,
        dropped,
        evictions,
        expirations,
        rotten,
        ..
    } = *figures;
    [hits, misses, hit_bytes, admissions, declined, dropped, evictions, expirations, rotten]
}

fn figures(numbers: [u64; 9]) -> CacheFigures {
    let [hits, misses, hit_bytes, admissions, declined, dropped, evictions, expirations, rotten] = numbers;
    CacheFigures {
        hits,
        misses,
        hit_bytes,
        admissions,
        declined,
        dropped,
        evictions,
        expirations,
        rotten,
        ..CacheFigures::default()
    }
}

const fn moved_numbers(moved: &Moved) -> [u64; 4] {
    [moved.sent, moved.received, moved.succeeded, moved.failed]
}

const fn moved_of([sent, received, succeeded, failed]: [u64; 4]) -> Moved {
    Moved { sent, received, succeeded, failed }
}

impl From<Stored> for Totals {
    fn from(stored: Stored) -> Self {
        let peers = stored.peers.into_iter().map(|(peer, moved, last)| (peer, (moved_of(moved), last)));
        Self {
            since: stored.since,
            commands: stored.commands,
            peers: peers.collect(),
            moved: moved_of(stored.moved),
            network: stored.network,
            best: stored.best,
            cache: figures(stored.cache),
        }
    }
}

impl From<&Totals> for Stored {
    fn from(totals: &Totals) -> Self {
        let peers = totals.peers.iter().map(|(peer, (moved, last))| (*peer, moved_numbers(moved), *last));
        Self {
            version: VERSION,
            since: totals.since,
            commands: totals.commands,
            peers: peers.collect(),
            moved: moved_numbers(&totals.moved),
            network: totals.network,
            best: totals.best,
            cache: numbers(&totals.cache),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Barrier;

    use datamesh_core::id::NodeId;
    use datamesh_core::time::Timestamp;
    use datamesh_store::cache::CacheFigures;

    use super::{Moved, PEERS_MAX, Totals, TotalsError};
    use crate::home::Home;

    fn command(peer: u8) -> Totals {
        let moved = Moved { sent: 10, received: 1, succeeded: 2, failed: 1 };
        let at = Timestamp::from_ms(1000 + u64::from(peer));
        Totals {
            since: Some(at),
            commands: 1,
            peers: [(NodeId::from_bytes([peer; 32]), (moved, at))].into(),
            moved,
            network: (100, 200),
            best: (u64::from(peer), 5),
            cache: CacheFigures { hits: 3, rotten: 1, ..CacheFigures::default() },
        }
    }

    #[test]
    fn commands_that_end_at_the_same_time_all_count() {
        let directory = tempfile::tempdir().expect("a directory");
        let home = Home::at(directory.path().join("home"));
        assert_eq!(Totals::load(&home).expect("none yet"), Totals::default());
        let start = Barrier::new(8);
        std::thread::scope(|scope| {
            for number in 0..8 {
                let (home, start) = (&home, &start);
                scope.spawn(move || {
                    start.wait();
                    (0..5).for_each(|_| Totals::add(home, &command(number % 2)).expect("added"));
                });
            }
        });
        let totals = Totals::load(&home).expect("reads");
        assert_eq!((totals.commands, totals.moved.sent, totals.network), (40, 400, (4000, 8000)));
        assert_eq!((totals.cache.hits, totals.best, totals.peers.len()), (120, (1, 5), 2));
        assert_eq!(totals.since, Some(Timestamp::from_ms(1000)));
    }

    #[test]
    fn a_damaged_file_is_said_and_counting_begins_anew() {
        let directory = tempfile::tempdir().expect("a directory");
        let home = Home::at(directory.path().to_owned());
        Totals::add(&home, &command(1)).expect("added");
        let mut bytes = fs::read(home.totals_path()).expect("it is there");
        bytes.truncate(bytes.len() / 2);
        fs::write(home.totals_path(), bytes).expect("written");
        assert!(matches!(Totals::load(&home), Err(TotalsError::Damaged { .. })));
        Totals::add(&home, &command(1)).expect("added");
        assert_eq!(Totals::load(&home).expect("reads").commands, 1);
    }

    #[test]
    fn no_more_peers_are_remembered_than_the_bound() {
        let mut totals = Totals::default();
        for number in 0..u64::try_from(PEERS_MAX).expect("small") + 5 {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&number.to_le_bytes());
            let one = (Moved::default(), Timestamp::from_ms(number));
            totals.peers.insert(NodeId::from_bytes(id), one);
        }
        let totals = totals.and(&Totals::default());
        assert_eq!(totals.peers.len(), PEERS_MAX);
        assert_eq!(totals.peers.values().map(|(_, last)| last.as_ms()).min(), Some(5));
    }
}
