//! A mesh over years: nodes come, are away and die; objects lose shards and get them back; losses are counted.

mod nodes;
mod objects;
mod repairs;

use datamesh_core::limits::PLACEMENT_GROUPS;

use crate::durability::agenda::Agenda;
use crate::durability::chance::Chance;
use crate::durability::layout::{Layout, SeatNumber, site_of};
use crate::durability::mesh::nodes::{Seat, Standing};
use crate::durability::mesh::objects::{OBJECTS_PER_GROUP, Objects};
use crate::durability::mesh::repairs::Job;
use crate::durability::settings::{Settings, SettingsError, YEAR};
use crate::durability::statistics::{Series, real};

/// Parts of the span whose losses are counted apart, to see how far chance makes them differ.
pub const BATCHES: usize = 10;

/// What happened in a mesh.
#[derive(Debug, Clone)]
pub struct Course {
    /// Objects times years.
    pub object_years: f64,
    /// Nodes that died.
    pub deaths: usize,
    /// Nodes that left the ring though they lived.
    pub long_absences: usize,
    /// Objects lost, in each of [`BATCHES`] parts of the span.
    pub lost: Vec<usize>,
    /// Moments at which objects of one group were lost: those of a group share their holders, so they tend to be lost
    /// together.
    pub loss_moments: usize,
    /// How often an object came to lack so many shards, with no copy left of any of them, for the first time since it was
    /// whole; the first is for one.
    pub entries: Vec<usize>,
    /// Seconds from a shard's holder leaving the ring until the shard was rebuilt, by how many the stripe lacked then; the
    /// first is for one.
    pub delays: Vec<Series>,
    /// Bytes received and sent for repair by those who led it.
    pub repair_bytes: f64,
    /// Bytes handed over to newcomers.
    pub moved_bytes: f64,
    /// The share of objects and time with a shard missing.
    pub short_share: f64,
    /// The share of stripes that at first survived as many whole sites as they have parity shards.
    pub spread_share: f64,
    /// The share of objects and time with an availability score that calls for a warning.
    pub warned_share: f64,
}

impl Course {
    /// Objects lost per object and year, in each part of the span.
    #[must_use]
    pub fn loss_rates(&self) -> Vec<f64> {
        let part = self.object_years / real(BATCHES);
        self.lost.iter().map(|lost| real(*lost) / part).collect()
    }

    /// The mean seconds from a holder's leaving until its shard was rebuilt, over all shards.
    #[must_use]
    pub fn mean_delay(&self) -> f64 {
        let count: usize = self.delays.iter().map(Series::count).sum();
        self.delays.iter().map(Series::sum).sum::<f64>() / real(count.max(1))
    }
}

/// Watches a mesh for its span.
///
/// # Errors
/// [`SettingsError`] when no mesh can be like this.
pub fn run(settings: &Settings) -> Result<Course, SettingsError> {
    settings.check()?;
    let mut mesh = Mesh::new(settings);
    mesh.begin();
    while let Some((at, event)) = mesh.agenda.next_before(settings.span) {
        mesh.objects.pass(at);
        mesh.now = at;
        mesh.happen(event);
    }
    mesh.objects.pass(settings.span);
    Ok(mesh.course())
}

/// What happens in a mesh.
#[derive(Debug, Clone)]
enum Event {
    /// A node dies, if it is still the one in its seat.
    Dies { seat: SeatNumber, life: u64 },
    /// A node is away for longer than the grace.
    GoesAway { seat: SeatNumber, life: u64 },
    /// A node was silent for its grace, if it is still the same silence.
    Parts { seat: SeatNumber, turn: u64 },
    /// A node is back, if it is still the same absence.
    Returns { seat: SeatNumber, turn: u64 },
    /// A newcomer takes a seat.
    Joins { seat: SeatNumber },
    /// A site is out for longer than the grace.
    SiteStops { site: usize },
    /// A site is lost.
    SiteLost { site: usize },
    /// A repair is done, if nobody broke it off.
    Repaired(Job),
}

struct Mesh<'a> {
    settings: &'a Settings,
    now: f64,
    chance: Chance,
    /// Which delays are kept as samples: of its own, so that nodes fail alike however repair goes.
    sampling: Chance,
    agenda: Agenda<Event>,
    layout: Layout,
    seats: Vec<Seat>,
    /// The slots that the ring of all seats gives to each.
    home: Vec<Vec<usize>>,
    /// The holder of each slot: group after group, rank after rank.
    holders: Vec<SeatNumber>,
    /// Of each group, the ranks whose holders answer.
    present: Vec<u32>,
    /// When each slot last got a holder that lacked shards.
    wanted_since: Vec<f64>,
    objects: Objects,
    delays: Vec<Series>,
    shard_size: f64,
    job_count: u64,
    deaths: usize,
    long_absences: usize,
    repair_bytes: f64,
    moved_bytes: f64,
    spread_share: f64,
}

impl<'a> Mesh<'a> {
    fn new(settings: &'a Settings) -> Self {
        let groups = usize::from(PLACEMENT_GROUPS);
        let layout = Layout::of(settings, (0..settings.node_count).map(|seat| (seat, 0)));
        let spread_share = layout.spread_over_sites(settings);
        let holders: Vec<SeatNumber> =
            (0..groups).flat_map(|group| layout.holders(group).iter().copied()).collect();
        let mut seats = vec![Seat::default(); settings.node_count];
        for (slot, holder) in holders.iter().enumerate() {
            seats[*holder].slots.push(slot);
        }
        let objects = Objects::new(settings.redundancy, groups, settings.span);
        let slots_of_node = real(holders.len()) / real(settings.node_count);
        Self {
            settings,
            now: 0.0,
            chance: Chance::new(settings.seed, "durability of a mesh"),
            sampling: Chance::new(settings.seed, "samples of delays"),
            agenda: Agenda::default(),
            layout,
            home: seats.iter().map(|seat| seat.slots.clone()).collect(),
            seats,
            present: vec![objects.full(); groups],
            wanted_since: vec![0.0; holders.len()],
            holders,
            objects,
            delays: vec![Series::default(); settings.redundancy.shard_count()],
            shard_size: settings.data_per_node / slots_of_node / real(OBJECTS_PER_GROUP),
            job_count: 0,
            deaths: 0,
            long_absences: 0,
            repair_bytes: 0.0,
            moved_bytes: 0.0,
            spread_share,
        }
    }

    /// Lets the nodes be as old as one finds them, and the first faults come.
    fn begin(&mut self) {
        for seat in 0..self.settings.node_count {
            let age = self.settings.lifetime.age_met(&mut self.chance);
            self.expect_faults(seat, age);
        }
        for site in 0..self.settings.site_count {
            self.expect_outage(site);
            self.expect_site_loss(site);
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Dies { seat, life } => {
                if self.seats[seat].life == life {
                    self.die(seat);
                }
            }
            Event::GoesAway { seat, life } => {
                if self.seats[seat].life == life {
                    let silence = self.settings.silence();
                    if let Some(absences) = self.settings.absences {
                        let length = absences.length.above(silence, &mut self.chance);
                        self.go_away(seat, length);
                        self.expect_absence(seat);
                    }
                }
            }
            Event::Parts { seat, turn } => self.part(seat, turn),
            Event::Returns { seat, turn } => self.return_with_shards(seat, turn),
            Event::Joins { seat } => self.join(seat),
            Event::SiteStops { site } => self.stop_site(site),
            Event::SiteLost { site } => {
                for seat in self.seats_of(site) {
                    self.die(seat);
                }
                self.expect_site_loss(site);
            }
            Event::Repaired(job) => self.repaired(job),
        }
    }

    fn seats_of(&self, site: usize) -> Vec<SeatNumber> {
        (0..self.seats.len()).filter(|seat| site_of(self.settings, *seat) == site).collect()
    }

    fn width(&self) -> usize {
        self.settings.redundancy.shard_count()
    }

    /// The group and the rank of a slot.
    fn place(&self, slot: usize) -> (usize, u32) {
        let rank = u32::try_from(slot % self.width()).expect("a stripe has at most 255 shards");
        (slot / self.width(), 1 << rank)
    }

    fn stands(&self, seat: SeatNumber, standing: Standing) -> bool {
        self.seats[seat].standing == standing
    }

    fn course(self) -> Course {
        let object_seconds = real(self.objects.count()) * self.settings.span;
        let tally = self.objects.into_tally();
        Course {
            object_years: object_seconds / YEAR,
            deaths: self.deaths,
            long_absences: self.long_absences,
            lost: tally.lost,
            loss_moments: tally.loss_moments,
            entries: tally.entries,
            delays: self.delays,
            repair_bytes: self.repair_bytes,
            moved_bytes: self.moved_bytes,
            spread_share: self.spread_share,
            short_share: tally.short_seconds / object_seconds,
            warned_share: tally.warned_seconds / object_seconds,
        }
    }
}

#[cfg(test)]
mod tests;
