//! The members' failure domains as numbers, and how far the holders of one group are spread over them.

use std::collections::BTreeMap;

use crate::ring::Member;
use crate::ring::operators::Operators;

/// Which member stands on which host, in which site and region; each numbered from 0.
#[derive(Debug, Clone)]
pub(super) struct Domains {
    host_by_member: Vec<usize>,
    site_by_member: Vec<usize>,
    region_by_site: Vec<usize>,
    region_count: usize,
    /// Members on each host.
    host_sizes: Vec<usize>,
    /// The sizes of each site's hosts.
    host_sizes_by_site: Vec<Vec<usize>>,
    operators: Operators,
}

impl Domains {
    pub(super) fn of(members: &[Member]) -> Self {
        let (mut regions, mut sites, mut hosts) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let (mut host_by_member, mut site_by_member) = (vec![], vec![]);
        let (mut region_by_site, mut site_by_host, mut host_sizes) = (vec![], vec![], vec![]);
        for Member { domain, .. } in members {
            let region = number(&mut regions, domain.region.as_str());
            let site = number(&mut sites, (region, domain.site.as_str()));
            let host = number(&mut hosts, (site, domain.host.as_str()));
            if site == region_by_site.len() {
                region_by_site.push(region);
            }
            if host == site_by_host.len() {
                site_by_host.push(site);
                host_sizes.push(0);
            }
            host_sizes[host] += 1;
            host_by_member.push(host);
            site_by_member.push(site);
        }
        let mut host_sizes_by_site = vec![vec![]; region_by_site.len()];
        for (&site, &size) in site_by_host.iter().zip(&host_sizes) {
            host_sizes_by_site[site].push(size);
        }
        let region_count = regions.len();
        let operators = Operators::of(members, &host_by_member, host_sizes.len());
        Self {
            host_by_member,
            site_by_member,
            region_by_site,
            region_count,
            host_sizes,
            host_sizes_by_site,
            operators,
        }
    }

    pub(super) fn member_count(&self) -> usize {
        self.host_by_member.len()
    }

    pub(super) fn host_count(&self) -> usize {
        self.host_sizes.len()
    }

    pub(super) fn site_count(&self) -> usize {
        self.region_by_site.len()
    }

    pub(super) fn region_count(&self) -> usize {
        self.region_count
    }

    pub(super) fn host_of(&self, member: usize) -> usize {
        self.host_by_member[member]
    }

    pub(super) fn site_of(&self, member: usize) -> usize {
        self.site_by_member[member]
    }

    pub(super) fn region_of_site(&self, site: usize) -> usize {
        self.region_by_site[site]
    }

    pub(super) fn operator_of(&self, member: usize) -> usize {
        self.operators.stand_of(member).operator
    }

    /// Members that a site can give when each of its hosts gives this many at most.
    fn site_size(&self, site: usize, host_size_max: usize) -> usize {
        if host_size_max == 1 {
            return self.host_sizes_by_site[site].len();
        }
        self.host_sizes_by_site[site].iter().map(|&size| size.min(host_size_max)).sum()
    }
}

fn number<K: Ord>(numbers: &mut BTreeMap<K, usize>, key: K) -> usize {
    let next = numbers.len();
    *numbers.entry(key).or_insert(next)
}

/// How the holders that one group has so far are spread.
///
/// Hosts are used evenly: none twice while another that has a member left was not used once, and so on. So all hosts
/// that can still give a member were used equally often, `level` times, or once more.
#[derive(Debug, Clone)]
pub(super) struct Spread<'a> {
    domains: &'a Domains,
    taken: Vec<bool>,
    members: Vec<usize>,
    host_uses: Vec<usize>,
    site_uses: Vec<usize>,
    region_uses: Vec<usize>,
    operator_uses: Vec<usize>,
    used_sites: Vec<usize>,
    used_regions: Vec<usize>,
    used_operators: Vec<usize>,
    level: usize,
    hosts_at_level: usize,
    candidate_count: usize,
}

impl<'a> Spread<'a> {
    pub(super) fn new(domains: &'a Domains) -> Self {
        Self {
            domains,
            taken: vec![false; domains.member_count()],
            members: vec![],
            host_uses: vec![0; domains.host_count()],
            site_uses: vec![0; domains.site_count()],
            region_uses: vec![0; domains.region_count()],
            operator_uses: vec![0; domains.operators.operator_count()],
            used_sites: vec![],
            used_regions: vec![],
            used_operators: vec![],
            level: 0,
            hosts_at_level: domains.host_count(),
            candidate_count: domains.member_count(),
        }
    }

    /// Forgets all holders. Costs what taking them has cost, and not what there are members.
    pub(super) fn clear(&mut self) {
        for member in self.members.drain(..) {
            self.taken[member] = false;
            self.host_uses[self.domains.host_of(member)] = 0;
        }
        for site in self.used_sites.drain(..) {
            self.site_uses[site] = 0;
        }
        for region in self.used_regions.drain(..) {
            self.region_uses[region] = 0;
        }
        for operator in self.used_operators.drain(..) {
            self.operator_uses[operator] = 0;
        }
        self.level = 0;
        self.hosts_at_level = self.domains.host_count();
        self.candidate_count = self.domains.member_count();
    }

    /// Adds a holder, which must be a candidate.
    pub(super) fn take(&mut self, member: usize) {
        debug_assert!(self.is_candidate(member), "hosts are used evenly and members once");
        let (host, site) = (self.domains.host_of(member), self.domains.site_of(member));
        let region = self.domains.region_of_site(site);
        let operator = self.domains.operator_of(member);
        self.taken[member] = true;
        self.members.push(member);
        if self.site_uses[site] == 0 {
            self.used_sites.push(site);
        }
        if self.region_uses[region] == 0 {
            self.used_regions.push(region);
        }
        if self.operator_uses[operator] == 0 {
            self.used_operators.push(operator);
        }
        self.operator_uses[operator] += 1;
        self.host_uses[host] += 1;
        self.site_uses[site] += 1;
        self.region_uses[region] += 1;
        self.hosts_at_level -= 1;
        self.candidate_count -= self.domains.host_sizes[host] - self.level;
        if self.hosts_at_level == 0 {
            self.rise();
        }
    }

    /// Every host that could was used once more: all that have a member left are candidates again.
    fn rise(&mut self) {
        self.level += 1;
        for size in &self.domains.host_sizes {
            if let Some(left @ 1..) = size.checked_sub(self.level) {
                self.hosts_at_level += 1;
                self.candidate_count += left;
            }
        }
    }

    /// Whether who runs the member runs none of the holders.
    pub(super) fn is_fresh_operator(&self, member: usize) -> bool {
        self.operator_uses[self.domains.operator_of(member)] == 0
    }

    /// Whether the member may be the next holder: it is none yet, and no host was used less than its own.
    pub(super) fn is_candidate(&self, member: usize) -> bool {
        !self.taken[member] && self.host_uses[self.domains.host_of(member)] == self.level
    }

    /// How many members are candidates.
    pub(super) fn candidate_count(&self) -> usize {
        self.candidate_count
    }

    /// How many candidates are open, given which members are.
    pub(super) fn open_candidate_count(&self, open: &OpenMembers, is_open: impl Fn(usize) -> bool) -> usize {
        let open_on = |host: usize| open.members_by_host[host];
        if self.level == 0 {
            let on_used_hosts = self.members.iter().map(|member| open_on(self.domains.host_of(*member)));
            return open.member_count - on_used_hosts.sum::<usize>();
        }
        // Every host was used, so there are no more of them than holders.
        let at_level = |host: usize| self.host_uses[host] == self.level;
        let on_hosts: usize = (0..self.host_uses.len()).filter(|host| at_level(*host)).map(open_on).sum();
        let taken = self.members.iter().copied().filter(|member| at_level(self.domains.host_of(*member)));
        on_hosts - taken.filter(|member| is_open(*member)).count()
    }

    /// How many of so many open candidates are run by an operator that the group has not.
    pub(super) fn fresh_operator_count(&self, open: &OpenMembers, open_candidate_count: usize) -> usize {
        let operators = &self.domains.operators;
        if self.used_operators.len() == operators.operator_count() {
            return 0;
        }
        let is_used = |operator: usize| self.operator_uses[operator] > 0;
        let open_on = |host: usize, used: bool| -> usize {
            let stands = operators.stands_on(host).iter().filter(|stand| is_used(stand.operator) == used);
            stands.map(|stand| open.members_by_stand[stand.stand]).sum()
        };
        if self.level > 0 {
            // Every host was used, so there are no more of them than holders. No member of a fresh operator is taken.
            let at_level = (0..self.host_uses.len()).filter(|host| self.host_uses[*host] == self.level);
            return at_level.map(|host| open_on(host, false)).sum();
        }
        let of_used = self.used_operators.iter().map(|operator| open.members_by_operator[*operator]);
        // Those on hosts that were used are no candidates, whoever runs them.
        let on_used_hosts = self.members.iter().map(|member| open_on(self.domains.host_of(*member), true));
        open_candidate_count + on_used_hosts.sum::<usize>() - of_used.sum::<usize>()
    }

    /// How often a member's site, region and operator were used, which is how little its taking would spread the group.
    pub(super) fn uses(&self, member: usize) -> Uses {
        let (site, region) = self.uses_of_site(self.domains.site_of(member));
        Uses { site, region, operator: self.operator_uses[self.domains.operator_of(member)] }
    }

    fn uses_of_site(&self, site: usize) -> (usize, usize) {
        (self.site_uses[site], self.region_uses[self.domains.region_of_site(site)])
    }

    /// The least [`Spread::uses`] that an open candidate can have, of a fresh operator if there is one; `None` if there is
    /// no such candidate. It may be less than any really has, where open members are no candidates.
    pub(super) fn uses_min(&self, open: &OpenMembers, fresh_operator_count: usize) -> Option<Uses> {
        let (site, region) = self.site_uses_min(open)?;
        let operator = if fresh_operator_count > 0 {
            0
        } else {
            let with_open = self.used_operators.iter().filter(|used| open.members_by_operator[**used] > 0);
            with_open.map(|used| self.operator_uses[*used]).min()?
        };
        Some(Uses { site, region, operator })
    }

    fn site_uses_min(&self, open: &OpenMembers) -> Option<(usize, usize)> {
        let is_open = |site: &&usize| open.members_by_site[**site] > 0;
        let open_used_count = self.used_sites.iter().filter(is_open).count();
        if open.site_count > open_used_count {
            return Some((0, self.region_uses_min(open)));
        }
        let has_candidates =
            |site: &&usize| self.site_uses[**site] < self.domains.site_size(**site, self.level + 1);
        let left = self.used_sites.iter().filter(is_open).filter(has_candidates);
        left.map(|site| self.uses_of_site(*site)).min()
    }

    /// The least uses of a region that has an open, unused site. There is one.
    fn region_uses_min(&self, open: &OpenMembers) -> usize {
        let sites_in = |region: usize| open.sites_by_region[region];
        let open_used_count = self.used_regions.iter().filter(|region| sites_in(**region) > 0).count();
        if open.region_count > open_used_count {
            return 0;
        }
        let has_unused_site = |region: &&usize| {
            let in_region = |site: &&usize| {
                self.domains.region_of_site(**site) == **region && open.members_by_site[**site] > 0
            };
            sites_in(**region) > self.used_sites.iter().filter(in_region).count()
        };
        let left = self.used_regions.iter().filter(has_unused_site);
        left.map(|region| self.region_uses[*region]).min().expect("an open site is unused, in a used region")
    }
}

/// How often a group has used what a candidate belongs to; the lesser, the better it spreads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Uses {
    site: usize,
    region: usize,
    operator: usize,
}

/// Where members are open, which is to say not full.
#[derive(Debug, Clone)]
pub(super) struct OpenMembers {
    member_count: usize,
    members_by_host: Vec<usize>,
    members_by_site: Vec<usize>,
    site_count: usize,
    sites_by_region: Vec<usize>,
    region_count: usize,
    members_by_stand: Vec<usize>,
    members_by_operator: Vec<usize>,
}

impl OpenMembers {
    /// These members are open and no others.
    pub(super) fn of(domains: &Domains, members: impl Iterator<Item = usize>) -> Self {
        let mut open = Self {
            member_count: 0,
            members_by_host: vec![0; domains.host_count()],
            members_by_site: vec![0; domains.site_count()],
            site_count: 0,
            sites_by_region: vec![0; domains.region_count()],
            region_count: 0,
            members_by_stand: vec![0; domains.operators.stand_count()],
            members_by_operator: vec![0; domains.operators.operator_count()],
        };
        for member in members {
            let stand = domains.operators.stand_of(member);
            open.members_by_stand[stand.stand] += 1;
            open.members_by_operator[stand.operator] += 1;
            open.member_count += 1;
            open.members_by_host[domains.host_of(member)] += 1;
            open.members_by_site[domains.site_of(member)] += 1;
        }
        let sites = open.members_by_site.iter().enumerate().filter(|(_, count)| **count > 0);
        for (site, _) in sites {
            open.sites_by_region[domains.region_of_site(site)] += 1;
        }
        open.site_count = open.sites_by_region.iter().sum();
        open.region_count = open.sites_by_region.iter().filter(|count| **count > 0).count();
        open
    }

    /// A member that was open is full now.
    pub(super) fn close(&mut self, domains: &Domains, member: usize) {
        let (site, stand) = (domains.site_of(member), domains.operators.stand_of(member));
        self.members_by_stand[stand.stand] -= 1;
        self.members_by_operator[stand.operator] -= 1;
        self.member_count -= 1;
        self.members_by_host[domains.host_of(member)] -= 1;
        self.members_by_site[site] -= 1;
        if self.members_by_site[site] > 0 {
            return;
        }
        self.site_count -= 1;
        let region = domains.region_of_site(site);
        self.sites_by_region[region] -= 1;
        if self.sites_by_region[region] == 0 {
            self.region_count -= 1;
        }
    }
}
