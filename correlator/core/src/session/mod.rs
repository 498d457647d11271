//! The findings of one container that belong together, what they amount to, and when that is to be said.
//!
//! A session holds a set: of each finding the revision that holds. What it amounts to is computed from the set, so it
//! cannot depend on the order of amendments. Findings beyond [`SESSION_FINDINGS_MAX`] give up their place in the set and
//! are only counted ([`Beyond`]).

mod content;
mod place;
mod revision;

use driftline_runtime_core::BrokenInvariant;
use driftline_schemas::{AlertId, Finding, FindingId, FindingState};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::finding::{Joined, Tracked};
use crate::limits::{SESSION_FINDINGS_MAX, VERSION_KINDS_MAX, VERSION_VALUES_MAX};
use crate::score::{ContainerFacts, Facts};
use crate::settings::Settings;
use crate::window::{Belongs, Offsets, Span};
use content::Beyond;
use revision::{Phase, Said};

pub(crate) use content::{Content, Fold, Scope};
pub(crate) use place::Place;
pub(crate) use revision::{Due, Finality};

/// What bounded or disturbed an alert, as it stands in the alert's flags.
pub(crate) mod flag {
    /// More findings than are shown or tracked.
    pub(crate) const FINDINGS_CAPPED: &str = "findings_capped";
    /// A finding is shown without its process and file: what is shown was retracted, and of its repeats only the
    /// numbers were kept.
    pub(crate) const DETAILS_DROPPED: &str = "details_dropped";
    /// More categories, techniques or versions than are listed.
    pub(crate) const LISTS_CAPPED: &str = "lists_capped";
    /// A finding was made before its image or container was known.
    pub(crate) const DEADLINE: &str = "deadline";
    /// The first finding came so late that it may belong to a session that was forgotten.
    pub(crate) const LATE: &str = "late";
    /// The session ended, or began, because of the cap on a session's length.
    pub(crate) const LENGTH_CAPPED: &str = "length_capped";
    /// The session was ended early to make room.
    pub(crate) const EVICTED: &str = "session_evicted";
    /// Long texts were cut.
    pub(crate) const SHORTENED: &str = "shortened";
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Session {
    pub alert_id: AlertId,
    /// Of every finding that joined, retracted ones too: membership must not depend on amendments.
    span: Span,
    pub offsets: Offsets,
    /// Wall clock when the last finding joined.
    heard_ns: i64,
    next_order: u64,
    tracked: BTreeMap<FindingId, Tracked>,
    beyond: Beyond,
    /// Of all active findings; kept in step, so that a finding costs little whatever the session's size.
    facts: Facts,
    place: Place,
    versions: BTreeMap<String, BTreeSet<String>>,
    pub flags: BTreeSet<&'static str>,
    said: Option<Said>,
    phase: Phase,
}

/// What a finding meant to its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    New,
    /// New, and the session tracks the maximum: this or a weaker one is only counted.
    Counted,
    Amended,
    NothingNew,
}

/// When and where a finding arrived.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    pub offset: i64,
    pub now_ns: i64,
}

impl Session {
    /// A session with its first finding.
    pub(crate) fn open(
        alert_id: AlertId,
        first: &Finding,
        arrival: Arrival,
        settings: &Settings,
    ) -> Result<Self, BrokenInvariant> {
        let tracked = Tracked::new(first, 0)?;
        let mut session = Self {
            alert_id,
            span: Span::at(first.event_time_ns),
            offsets: Offsets::at(arrival.offset),
            heard_ns: arrival.now_ns,
            next_order: 0,
            tracked: BTreeMap::new(),
            beyond: Beyond::default(),
            facts: Facts::default(),
            place: Place::of(first, 0, tracked.digest()),
            versions: BTreeMap::new(),
            flags: BTreeSet::new(),
            said: None,
            phase: Phase::Open,
        };
        session.take(first, arrival, settings)?;
        Ok(session)
    }

    /// Whether this finding is one of the session's.
    pub(crate) fn holds(&self, id: &FindingId) -> bool {
        self.tracked.contains_key(id)
    }

    /// Active findings that were made without their image or container.
    fn unresolved_count(&self) -> usize {
        self.tracked.values().filter(|tracked| !tracked.is_resolved()).count()
    }

    /// Whether a finding with this event time would be.
    pub(crate) fn belongs(&self, time_ns: i64, settings: &Settings) -> Belongs {
        self.span.belongs(time_ns, settings)
    }

    /// Takes in a finding that belongs here, or another revision of one that is here.
    pub(crate) fn take(
        &mut self,
        finding: &Finding,
        arrival: Arrival,
        settings: &Settings,
    ) -> Result<Taken, BrokenInvariant> {
        self.offsets = self.offsets.with(arrival.offset);
        let known = self.tracked.get(&finding.finding_id).map(|known| known.order);
        let order = known.unwrap_or(self.next_order);
        let tracked = Tracked::new(finding, order)?;
        let mut news = self.place.join(Place::of(finding, order, tracked.digest()));
        news |= self.take_versions(&finding.versions);
        if finding.unresolved.is_some() {
            news |= self.flags.insert(flag::DEADLINE);
        }
        let taken = match known {
            None => self.take_new(tracked, arrival, settings),
            Some(_) => self.take_revision(tracked, news),
        };
        if taken != Taken::NothingNew {
            self.facts.container = ContainerFacts::of(self.place.container.as_ref());
            self.drop_details(settings.findings_kept);
        }
        Ok(taken)
    }

    fn take_new(&mut self, mut finding: Tracked, arrival: Arrival, settings: &Settings) -> Taken {
        self.next_order += 1;
        self.span = self.span.with(finding.event_time_ns);
        self.heard_ns = self.heard_ns.max(arrival.now_ns);
        if finding.state == FindingState::Active {
            self.facts.take(&finding);
        }
        if self.is_mere_repeat(&finding, settings.findings_kept) {
            finding.detail = None;
        }
        self.tracked.insert(finding.id.clone(), finding);
        if self.tracked.len() <= SESSION_FINDINGS_MAX {
            return Taken::New;
        }
        self.flags.insert(flag::FINDINGS_CAPPED);
        self.untrack_weakest();
        Taken::Counted
    }

    /// Retracted ones go first, then the weakest, of these the newest.
    fn untrack_weakest(&mut self) {
        let weakest = self
            .tracked
            .values()
            .min_by_key(|finding| (finding.is_active(), finding.severity(), Reverse(finding.order)))
            .map(|finding| finding.id.clone());
        if let Some(finding) = weakest.and_then(|id| self.tracked.remove(&id)).filter(Tracked::is_active) {
            self.flags.extend(self.beyond.take(&finding));
        }
    }

    fn take_revision(&mut self, revision: Tracked, news: bool) -> Taken {
        let joined = self.tracked.get_mut(&revision.id).map(|known| known.join(revision));
        if joined == Some(Joined::Changed) {
            self.facts = self.beyond.facts.clone();
            self.tracked.values().filter(|finding| finding.is_active()).for_each(|finding| self.facts.take(finding));
        }
        if joined == Some(Joined::Changed) || news { Taken::Amended } else { Taken::NothingNew }
    }

    /// Whether there is no room to show more, and something at least as strong is shown for the same detector, path and
    /// digest. Spares the common case, a loop, the work of [`Self::drop_details`].
    fn is_mere_repeat(&self, finding: &Tracked, kept: usize) -> bool {
        let shown = || self.tracked.values().filter(|other| other.detail.is_some());
        let same = |other: &Tracked| other.is_active() && other.fold == finding.fold;
        shown().count() >= kept && shown().any(|other| same(other) && other.severity() >= finding.severity())
    }

    /// Keeps the details of as many findings as an alert shows: first those that it does show, then others in order.
    fn drop_details(&mut self, kept: usize) {
        let with_detail = || self.tracked.values().filter(|finding| finding.detail.is_some());
        if with_detail().count() <= kept {
            return;
        }
        let content = self.content();
        let shown = content.folds.iter().take(kept).flat_map(|fold| [fold.strongest, fold.first]);
        let mut others: Vec<&Tracked> = with_detail().collect();
        others.sort_by_key(|finding| (!finding.is_active(), finding.order));
        let mut room = BTreeSet::new();
        for finding in shown.chain(others).filter(|finding| finding.detail.is_some()) {
            if room.len() < kept {
                room.insert(finding.id.clone());
            }
        }
        for finding in self.tracked.values_mut().filter(|finding| !room.contains(&finding.id)) {
            finding.detail = None;
        }
    }

    fn take_versions(&mut self, versions: &BTreeMap<String, String>) -> bool {
        let mut news = false;
        for (kind, value) in versions {
            let room = self.versions.len() < VERSION_KINDS_MAX;
            match self.versions.get_mut(kind) {
                Some(values) if values.contains(value) => {}
                Some(values) if values.len() < VERSION_VALUES_MAX => news |= values.insert(value.clone()),
                None if room => {
                    self.versions.insert(kind.clone(), BTreeSet::from([value.clone()]));
                    news = true;
                }
                _ => news |= self.flags.insert(flag::LISTS_CAPPED),
            }
        }
        news
    }
}
