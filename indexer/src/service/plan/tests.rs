//! Tests that drive the plan by hand.

use driftline_schemas::{Image, ImageFailure, ImageId};

use super::{
    Answer, IMAGES_MAX, Job, Outcome, Plan, REPUBLISH_NS, RETRY_FIRST_NS, RETRY_MALFORMED_NS, RETRY_MAX_NS,
    SOURCES_MAX, Wanted,
};

fn job(name: &str) -> Job {
    Job { image_id: ImageId::from(name), runtime: "podman".to_owned(), reference: "r".to_owned() }
}

fn image(name: &str, failed: Option<&str>) -> Image {
    Image {
        image_id: ImageId::from(name),
        source: "node:other".to_owned(),
        indexed_ns: 100,
        failed: failed.map(str::to_owned),
        ..Image::default()
    }
}

fn requested(requested_ns: i64) -> Wanted {
    Wanted::ByRequest { requested_ns, pause_ns: 0 }
}

#[test]
fn an_image_is_indexed_once_however_many_want_it() {
    let mut plan = Plan::default();
    assert_eq!(plan.want(job("a"), Wanted::ByContainer, 0), Answer::Accepted);
    assert_eq!(plan.want(job("a"), requested(0), 0), Answer::Pending);
    assert_eq!(plan.next(), Some(job("a")));
    assert_eq!(plan.want(job("a"), Wanted::ByContainer, 0), Answer::Pending);
    assert_eq!(plan.done(job("a"), Outcome::Published, 7), None);
    assert_eq!(plan.want(job("a"), Wanted::ByContainer, 8), Answer::Known);
    assert_eq!(plan.next(), None);
}

#[test]
fn what_another_published_is_not_indexed_again_unless_somebody_misses_it() {
    let mut plan = Plan::default();
    plan.note(&image("a", None));
    assert_eq!(plan.want(job("a"), Wanted::ByContainer, 0), Answer::Known);
    let soon = requested(100 + REPUBLISH_NS);
    assert_eq!(plan.want(job("a"), soon, 0), Answer::Known);
    let late = requested(101 + REPUBLISH_NS);
    assert_eq!(plan.want(job("a"), late, 0), Answer::Accepted);
}

#[test]
fn what_was_removed_is_indexed_whole_when_somebody_wants_it_unless_another_has_it() {
    let id = ImageId::from("a");
    let of = |source: &str| Image { source: source.to_owned(), ..image("a", None) };
    for wanted in [Wanted::ByContainer, requested(0), Wanted::ByRequest { requested_ns: 0, pause_ns: 60 }] {
        let mut plan = Plan::default();
        plan.forget(&id, "node:nobody");
        plan.note(&of("node:a"));
        plan.note(&of("ci:x"));
        plan.forget(&id, "node:a");
        assert_eq!(plan.want(job("a"), wanted, 0), Answer::Known, "ci:x has it");
        plan.forget(&id, "ci:x");
        plan.forget(&id, "ci:x");
        assert_eq!(plan.want(job("a"), wanted, 0), Answer::Accepted);
        assert!(plan.is_lost(&id), "its layers may be gone too");
        assert_eq!(plan.next(), Some(job("a")));
        assert_eq!(plan.done(job("a"), Outcome::Published, 7), None);
        assert_eq!(plan.want(job("a"), wanted, 8), Answer::Known);
    }
}

#[test]
fn what_is_removed_while_it_stands_in_line_is_indexed() {
    let mut plan = Plan::default();
    plan.want(job("a"), Wanted::ByContainer, 0);
    plan.note(&image("a", None));
    plan.forget(&ImageId::from("a"), "node:other");
    assert!(plan.is_lost(&ImageId::from("a")));
    assert_eq!(plan.next(), Some(job("a")));
}

#[test]
fn of_more_sources_than_are_remembered_those_that_are_decide() {
    let mut plan = Plan::default();
    for nth in 0..=SOURCES_MAX {
        plan.note(&Image { source: format!("node:{nth}"), ..image("a", None) });
    }
    for nth in 0..SOURCES_MAX {
        assert_eq!(plan.want(job("a"), Wanted::ByContainer, 0), Answer::Known);
        plan.forget(&ImageId::from("a"), &format!("node:{nth}"));
    }
    assert_eq!(plan.want(job("a"), Wanted::ByContainer, 0), Answer::Accepted);
}

#[test]
fn a_failure_of_another_node_is_no_reason_not_to_try() {
    let mut plan = Plan::default();
    plan.note(&image("a", Some("gone")));
    assert_eq!(plan.want(job("a"), Wanted::ByContainer, 0), Answer::Accepted);
}

#[test]
fn failures_are_tried_again_on_a_fixed_schedule() {
    let mut plan = Plan::default();
    let mut now = 0;
    assert_eq!(plan.want(job("a"), Wanted::ByContainer, now), Answer::Accepted);
    let mut pauses = Vec::new();
    for _ in 0..10 {
        let attempt = plan.next().unwrap();
        let retry = plan.done(attempt, Outcome::Failed(ImageFailure::Unavailable), now).unwrap();
        pauses.push((retry - now) / 1_000_000_000);
        plan.wake(retry - 1);
        assert_eq!(plan.next(), None);
        assert_eq!(plan.want(job("a"), requested(now), retry - 1), Answer::BackingOff);
        now = retry;
        plan.wake(now);
    }
    assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 320, 600, 600, 600]);
    assert_eq!((pauses[0], pauses[9]), (RETRY_FIRST_NS / 1_000_000_000, RETRY_MAX_NS / 1_000_000_000));
}

#[test]
fn what_is_malformed_waits_long_and_what_another_publishes_ends_the_retries() {
    let mut plan = Plan::default();
    plan.want(job("a"), Wanted::ByContainer, 0);
    let attempt = plan.next().unwrap();
    assert_eq!(plan.done(attempt, Outcome::Failed(ImageFailure::Unsupported), 0), Some(RETRY_MALFORMED_NS));
    plan.note(&image("a", None));
    plan.wake(RETRY_MALFORMED_NS);
    assert_eq!(plan.next(), None);
}

#[test]
fn a_failure_does_not_replace_what_another_published_meanwhile() {
    let mut plan = Plan::default();
    plan.want(job("a"), Wanted::ByContainer, 0);
    let attempt = plan.next().unwrap();
    plan.note(&image("a", None));
    assert_eq!(plan.done(attempt, Outcome::Failed(ImageFailure::Unavailable), 5), None);
    assert_eq!(plan.want(job("a"), Wanted::ByContainer, 6), Answer::Known);
    let missed = requested(101 + REPUBLISH_NS);
    assert_eq!(plan.want(job("a"), missed, 7), Answer::Accepted);
    let attempt = plan.next().unwrap();
    assert_eq!(plan.done(attempt, Outcome::Failed(ImageFailure::Unsupported), 8), None);
}

#[test]
fn another_instance_s_image_is_left_to_it_for_a_while() {
    let mut plan = Plan::default();
    let other_s = Wanted::ByRequest { requested_ns: 0, pause_ns: 60 };
    assert_eq!(plan.want(job("a"), other_s, 0), Answer::Pending);
    assert_eq!(plan.want(job("b"), other_s, 0), Answer::Pending);
    plan.wake(59);
    assert_eq!(plan.next(), None);
    plan.note(&image("a", None));
    plan.wake(60);
    assert_eq!(plan.next(), Some(job("b")));
    assert_eq!(plan.next(), None);
}

#[test]
fn what_another_publishes_while_it_stands_in_line_is_not_indexed_but_what_is_lost_is() {
    let mut plan = Plan::default();
    plan.want(job("a"), Wanted::ByContainer, 0);
    assert!(!plan.is_lost(&ImageId::from("a")));
    plan.note(&image("a", None));
    assert_eq!(plan.next(), None);
    assert_eq!(plan.want(job("a"), Wanted::ByContainer, 0), Answer::Known);
    assert_eq!(plan.want(job("a"), requested(101 + REPUBLISH_NS), 0), Answer::Accepted);
    assert!(plan.is_lost(&ImageId::from("a")));
    assert_eq!(plan.next(), Some(job("a")));
}

#[test]
fn a_source_that_says_when_to_come_back_is_listened_to_within_reason() {
    let mut plan = Plan::default();
    plan.want(job("a"), Wanted::ByContainer, 0);
    let attempt = plan.next().unwrap();
    let postponed = |pause_ns| Outcome::Postponed { pause_ns };
    assert_eq!(plan.done(attempt.clone(), postponed(7 * RETRY_FIRST_NS), 0), Some(7 * RETRY_FIRST_NS));
    assert_eq!(plan.done(attempt.clone(), postponed(0), 0), Some(RETRY_FIRST_NS));
    assert_eq!(plan.done(attempt, postponed(i64::MAX), 0), Some(RETRY_MALFORMED_NS));
}

#[test]
fn however_many_images_others_publish_one_that_is_wanted_here_is_indexed() {
    let mut plan = Plan::default();
    let of_others =
        |number: usize| Image { indexed_ns: i64::try_from(number).unwrap(), ..image(&number.to_string(), None) };
    plan.note(&of_others(0));
    assert_eq!(plan.want(job("0"), Wanted::ByContainer, 0), Answer::Known);
    for number in 1..IMAGES_MAX + 10 {
        plan.note(&of_others(number));
    }
    assert_eq!((plan.images.len(), plan.sources.len(), plan.published.len()), (IMAGES_MAX, IMAGES_MAX, IMAGES_MAX));
    assert_eq!(plan.want(job("new"), Wanted::ByContainer, 0), Answer::Accepted);
    assert_eq!(plan.want(job("0"), Wanted::ByContainer, 0), Answer::Known, "what was wanted here is kept");
    assert_eq!(plan.want(job("20"), Wanted::ByContainer, 0), Answer::Known);
    assert_eq!(plan.want(job("1"), Wanted::ByContainer, 0), Answer::Accepted, "the oldest of the others is forgotten");
    assert_eq!((plan.images.len(), plan.published.len()), (IMAGES_MAX, IMAGES_MAX - 2));
}

#[test]
fn what_waits_is_never_forgotten() {
    let mut plan = Plan::default();
    for number in 0..IMAGES_MAX {
        assert_eq!(plan.want(job(&number.to_string()), Wanted::ByContainer, 0), Answer::Accepted);
    }
    assert_eq!(plan.want(job("new"), Wanted::ByContainer, 0), Answer::Full);
    plan.note(&image("other", None));
    assert_eq!(plan.images.len(), IMAGES_MAX);
}
