//! Tests of the alert board.

use std::time::Duration;

use datamesh_core::health::{Cause, Level};
use datamesh_core::id::NodeId;
use datamesh_core::limits::HEALTH_ALERTS_MAX;
use datamesh_core::time::Timestamp;

use super::{AlertSettings, Board, Change, Condition, action, advice, message};

const SETTINGS: AlertSettings = AlertSettings {
    raise_after: Duration::from_secs(10),
    clear_after: Duration::from_secs(30),
    remind_every: Duration::from_secs(1000),
};

fn availability(level: Level) -> Condition {
    Condition { level, cause: Cause::Availability { short: 1, endangered: 2, lost: 3, doubtful: 0 } }
}

/// A board, and what it told.
struct Told {
    board: Board,
    now: u64,
    news: Vec<(u64, Change, Level)>,
}

impl Told {
    fn new(settings: AlertSettings) -> Self {
        Self { board: Board::new(settings), now: 0, news: Vec::new() }
    }

    /// So many seconds in which this is wrong, looked at once a second.
    fn pass(&mut self, seconds: u64, wrong: Option<Condition>) {
        for _ in 0..seconds {
            self.now += 1;
            let conditions: Vec<Condition> = wrong.into_iter().collect();
            let (now, wall) = (Duration::from_secs(self.now), Timestamp::from_ms(self.now * 1000));
            let news = self.board.observe(now, wall, &conditions, |_| true);
            self.news.extend(news.into_iter().map(|news| (self.now, news.change, news.alert.level)));
        }
    }
}

#[test]
fn a_trouble_is_told_once_as_it_grows_and_once_as_it_goes() {
    let mut told = Told::new(SETTINGS);
    told.pass(5, None);
    for level in [Level::Warning, Level::Critical, Level::Lost] {
        told.pass(50, Some(availability(level)));
    }
    assert_eq!(told.board.alerts().len(), 1);
    told.pass(50, Some(availability(Level::Warning)));
    told.pass(100, None);
    let expected = [
        (16, Change::Raised, Level::Warning),
        (66, Change::Worse, Level::Critical),
        (116, Change::Worse, Level::Lost),
        (185, Change::Better, Level::Warning),
        (235, Change::Cleared, Level::Warning),
    ];
    assert_eq!(told.news, expected);
    assert_eq!(told.board.alerts(), []);
}

#[test]
fn what_is_wrong_for_a_moment_is_not_told_and_what_flaps_is_told_ever_more_seldom() {
    let mut told = Told::new(SETTINGS);
    for _ in 0..50 {
        told.pass(9, Some(availability(Level::Critical)));
        told.pass(1, None);
    }
    assert_eq!(told.news, [], "it never lasted");
    // Ten minutes of a node that comes and goes each 40 seconds.
    let mut flapping = Told::new(SETTINGS);
    for _ in 0..15 {
        flapping.pass(12, Some(availability(Level::Warning)));
        flapping.pass(31, None);
    }
    let raised = flapping.news.iter().filter(|(_, change, _)| *change == Change::Raised).count();
    assert!(raised <= 3, "{:?}", flapping.news);
    // The control: without patience each time is told.
    let hasty = AlertSettings { raise_after: Duration::ZERO, clear_after: Duration::ZERO, ..SETTINGS };
    let mut spam = Told::new(hasty);
    for _ in 0..15 {
        spam.pass(12, Some(availability(Level::Warning)));
        spam.pass(31, None);
    }
    assert_eq!(spam.news.len(), 30, "{:?}", spam.news);
}

#[test]
fn what_stays_wrong_is_told_again_after_a_long_while_and_what_is_unknown_stays_as_it_was() {
    let mut told = Told::new(SETTINGS);
    told.pass(2500, Some(availability(Level::Warning)));
    let changes: Vec<Change> = told.news.iter().map(|(_, change, _)| *change).collect();
    assert_eq!(changes, [Change::Raised, Change::StillOn, Change::StillOn]);
    for second in 0..1000 {
        let now = Duration::from_secs(told.now + second);
        let unknown = |cause: &Cause| !matches!(cause, Cause::Availability { .. });
        assert_eq!(told.board.observe(now, Timestamp::from_ms(0), &[], unknown), []);
    }
    assert_eq!(told.board.alerts().len(), 1, "who is cut off can't say that all is well again");
}

#[test]
fn there_are_only_so_many_and_what_found_no_room_is_counted() {
    let mut board = Board::new(AlertSettings { raise_after: Duration::ZERO, ..SETTINGS });
    let silent = |number: u8| Condition {
        level: Level::Warning,
        cause: Cause::Silent { node: NodeId::from_bytes([number; 32]) },
    };
    let mut conditions: Vec<Condition> = (0..100).map(silent).collect();
    conditions.push(availability(Level::Lost));
    let news = board.observe(Duration::ZERO, Timestamp::from_ms(0), &conditions, |_| true);
    assert_eq!((news.len(), board.left_out()), (HEALTH_ALERTS_MAX, 101 - 64));
    assert_eq!(news[0].alert.level, Level::Lost, "the worst finds room");
}

#[test]
fn every_alert_has_words_an_action_and_advice() {
    let node = NodeId::from_bytes([7; 32]);
    let conditions = [
        (availability(Level::Warning), "1 stripes or blocks lack many of their parts", "schedule_repair"),
        (
            availability(Level::Critical),
            "2 stripes or blocks can lose no more parts, 1 lack many",
            "immediate_repair_required",
        ),
        (
            availability(Level::Lost),
            "3 stripes or blocks can't be read, 2 can lose no more parts, 1 lack many",
            "bring_nodes_back",
        ),
        (
            Condition { level: Level::Warning, cause: Cause::ClockSkew { ahead_ms: -90_500 } },
            "the node's clock is 90 s behind those of the others",
            "check_network",
        ),
        (
            Condition { level: Level::Warning, cause: Cause::RepairsFail { failed: 2, tried: 10 } },
            "2 of 10 repairs failed",
            "immediate_repair_required",
        ),
    ];
    for (Condition { level, cause }, words, code) in conditions {
        assert_eq!(message(level, &cause), words);
        assert_eq!(action(level, &cause).text(), code);
        assert!(!advice(level, &cause).is_empty());
    }
    assert!(message(Level::Warning, &Cause::Silent { node }).contains(&node.to_string()));
}
