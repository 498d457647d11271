//! Checks whether another instance has this one's name in the group, before an instance joins again: joining under a
//! name fences the member that has it.

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::groups::GroupList;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::blocking::blocking;
use crate::shares::{Shares, share};
use crate::{ClientSettings, KafkaError};

/// Every broker is contacted; longest wait for one that does not answer.
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// Length of the suffix that a coordinator appends to the instance's name to make a member's id.
const UUID_LENGTH: usize = "00000000-0000-0000-0000-000000000000".len();
/// The coordinator's name for the state of a group whose members have their assignments.
const STABLE: &str = "Stable";

/// An instance of a group by its name, `group.instance.id`, whatever its member ids were.
#[derive(Debug, Clone)]
pub struct StaticMember {
    settings: ClientSettings,
    group: String,
    instance: String,
    member: Arc<Mutex<Member>>,
}

/// The id of this member. The client does not report it, so the group is requested after each assignment.
#[derive(Debug, Default)]
struct Member {
    /// Number of assignments; answers to requests made at an earlier assignment are dropped.
    assignments: u64,
    /// The id that the coordinator gave to the member of this name; each member that joins gets a new one.
    id: Option<String>,
}

impl StaticMember {
    pub(crate) fn new(settings: &ClientSettings, group: &str, instance: &str) -> Self {
        let (group, instance) = (group.to_owned(), instance.to_owned());
        Self { settings: settings.clone(), group, instance, member: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Member> {
        self.member.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The group has assigned partitions to this member, so the member of this name is this one.
    pub(crate) fn note_assigned(&self) {
        self.note_joining();
        let assignments = self.lock().assignments;
        let static_member = self.clone();
        let update = move || {
            let id = static_member.holder();
            let mut member = static_member.lock();
            if member.assignments == assignments {
                member.id = id.unwrap_or_default();
            }
        };
        if let Err(error) = std::thread::Builder::new().name("kafka-member".into()).spawn(update) {
            tracing::warn!(%error, "cannot list the members of the group");
        }
    }

    /// The client joins again, as another member: its id is unknown until the next assignment.
    pub(crate) fn note_joining(&self) {
        let mut member = self.lock();
        member.id = None;
        member.assignments += 1;
    }

    /// The error when the group has a newer member of this name. While the client joins again, that member may be
    /// itself: a coordinator that was stalled takes each of its repeated requests for another member.
    pub(crate) fn fenced(&self) -> KafkaError {
        match self.lock().id {
            Some(_) => KafkaError::Replaced(self.instance.clone()),
            None => KafkaError::JoinedTwice(self.instance.clone()),
        }
    }

    /// Fails when another instance has the name in the group. Returns `Ok` also when the cluster does not list the
    /// members, or did not list them after the last assignment: of two instances that then run under one name, the one
    /// that is fenced later checks again.
    ///
    /// # Errors
    /// [`KafkaError::Replaced`].
    pub async fn check_free(&self) -> Result<(), KafkaError> {
        let static_member = self.clone();
        let holder = match blocking(move || static_member.holder()).await {
            Ok(holder) => holder,
            Err(error) => {
                tracing::info!(%error, "the cluster does not list the members of the group; joining anew");
                None
            }
        };
        match (&self.lock().id, holder) {
            (Some(own), Some(holder)) if *own != holder => Err(KafkaError::Replaced(self.instance.clone())),
            _ => Ok(()),
        }
    }

    pub(crate) fn group(&self) -> &str {
        &self.group
    }

    /// Whether the coordinator made a member's id for this instance's name.
    pub(crate) fn is_ours(&self, member_id: &str) -> bool {
        is_member_of(&self.instance, member_id)
    }

    /// The members that own partitions of a topic; `None` during a rebalance, and when a member's assignment cannot be
    /// parsed.
    pub(crate) fn shares(&self, topic: &str) -> Result<Option<Shares>, KafkaError> {
        let list = self.members()?;
        let [group] = list.groups() else { return Ok(None) };
        if group.state() != STABLE {
            return Ok(None);
        }
        let shares = group.members().iter().map(|member| {
            let share = share(member.assignment().unwrap_or_default(), topic)?;
            Some((member.id().to_owned(), share))
        });
        Ok(shares.collect())
    }

    fn members(&self) -> Result<GroupList, KafkaError> {
        let client: BaseConsumer = self.settings.config().create()?;
        Ok(client.fetch_group_list(Some(&self.group), ANSWER_MAX)?)
    }

    /// The id of the member with this instance's name.
    fn holder(&self) -> Result<Option<String>, KafkaError> {
        let list = self.members()?;
        let mut members = list.groups().iter().flat_map(|group| group.members());
        let ours = members.find(|member| self.is_ours(member.id()));
        Ok(ours.map(|member| member.id().to_owned()))
    }
}

/// Whether a coordinator made this member id for an instance.
fn is_member_of(instance: &str, member_id: &str) -> bool {
    let uuid = member_id.strip_prefix(instance).and_then(|rest| rest.strip_prefix('-'));
    uuid.is_some_and(|uuid| uuid.len() == UUID_LENGTH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_know_its_own_id_may_have_driven_out_itself() {
        let settings = ClientSettings {
            bootstrap: String::new(),
            prefix: "driftline".to_owned(),
            partitions: 1,
            client_id: "test".to_owned(),
        };
        let static_member = StaticMember::new(&settings, "group", "0");
        assert!(matches!(static_member.fenced(), KafkaError::JoinedTwice(_)), "never assigned");
        static_member.lock().id = Some("0-8d3f1c9e-5a57-4d54-9a3c-0f2b6f6f7a10".to_owned());
        assert!(matches!(static_member.fenced(), KafkaError::Replaced(_)), "a member until now");
        static_member.note_joining();
        assert!(matches!(static_member.fenced(), KafkaError::JoinedTwice(_)), "starting over");
    }

    #[test]
    fn a_member_id_is_an_instance_and_a_uuid() {
        let uuid = "8d3f1c9e-5a57-4d54-9a3c-0f2b6f6f7a10";
        for (instance, member_id, expected) in [
            ("0", format!("0-{uuid}"), true),
            ("0", format!("0-1-{uuid}"), false),
            ("0", format!("10-{uuid}"), false),
            ("0", "0".to_owned(), false),
        ] {
            assert_eq!(is_member_of(instance, &member_id), expected, "{member_id}");
        }
    }
}
