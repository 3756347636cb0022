//! Who runs the members, and on which hosts: what a slot must know to find an operator that its group has not.

use std::collections::BTreeMap;

use crate::ring::Member;

/// The members of one operator on one host. Most hosts have one operator, and so one stand.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stand {
    /// Its number among all stands.
    pub(super) stand: usize,
    /// Whose it is.
    pub(super) operator: usize,
}

/// Which operator runs which member; operators and stands are each numbered from 0. Those that name no operator have the
/// same one: of two of them nobody can say that they do not fail together.
#[derive(Debug, Clone)]
pub(super) struct Operators {
    stand_by_member: Vec<Stand>,
    stands_by_host: Vec<Vec<Stand>>,
    operator_count: usize,
    stand_count: usize,
}

impl Operators {
    pub(super) fn of(members: &[Member], host_by_member: &[usize], host_count: usize) -> Self {
        let (mut operators, mut stands) = (BTreeMap::new(), BTreeMap::new());
        let mut stand_by_member = Vec::with_capacity(members.len());
        let mut stands_by_host = vec![vec![]; host_count];
        for (member, &host) in members.iter().zip(host_by_member) {
            let next = operators.len();
            let operator = *operators.entry(member.domain.operator.as_str()).or_insert(next);
            let next = Stand { stand: stands.len(), operator };
            let stand = *stands.entry((host, operator)).or_insert_with(|| {
                stands_by_host[host].push(next);
                next
            });
            stand_by_member.push(stand);
        }
        Self { stand_by_member, stands_by_host, operator_count: operators.len(), stand_count: stands.len() }
    }

    pub(super) fn operator_count(&self) -> usize {
        self.operator_count
    }

    pub(super) fn stand_count(&self) -> usize {
        self.stand_count
    }

    pub(super) fn stand_of(&self, member: usize) -> Stand {
        self.stand_by_member[member]
    }

    pub(super) fn stands_on(&self, host: usize) -> &[Stand] {
        &self.stands_by_host[host]
    }
}
