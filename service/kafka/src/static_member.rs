//! Whether another instance has this one's name in the group. Asked before an instance joins anew: joining under a name
//! drives out whoever has it.

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::groups::GroupList;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::blocking::blocking;
use crate::shares::{Shares, share};
use crate::{ClientSettings, KafkaError};

/// Every broker is asked; one that is away is not waited for longer.
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// What a coordinator appends to the instance's name to make a member's id.
const UUID_LENGTH: usize = "00000000-0000-0000-0000-000000000000".len();
/// A coordinator's word for a group whose members have been told their shares.
const STABLE: &str = "Stable";

/// An instance of a group by its name, `group.instance.id`, under whatever ids it was a member.
#[derive(Debug, Clone)]
pub struct StaticMember {
    settings: ClientSettings,
    group: String,
    instance: String,
    member: Arc<Mutex<Member>>,
}

/// Which member we are. The client does not say, so the group is asked after each assignment.
#[derive(Debug, Default)]
struct Member {
    /// Answers to questions that were asked at an earlier assignment are not taken.
    assignments: u64,
    /// The id that the coordinator gave to the member of our name; it makes a new one for each that joins.
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

    /// The group has assigned something to us, so the member of our name is this one.
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

    /// The client starts over, as another member: until the next assignment nobody knows as which.
    pub(crate) fn note_joining(&self) {
        let mut member = self.lock();
        member.id = None;
        member.assignments += 1;
    }

    /// What it means that the group has a newer member of our name. While the client starts over, that may be itself: a
    /// coordinator that stood still takes each of its repeated requests for another member.
    pub(crate) fn fenced(&self) -> KafkaError {
        match self.lock().id {
            Some(_) => KafkaError::Replaced(self.instance.clone()),
            None => KafkaError::JoinedTwice(self.instance.clone()),
        }
    }

    /// Refuses when another instance has the name in the group. `Ok` also when the cluster does not list the members, or did not list them
    /// after the last assignment: of two instances that then go on under one name, the one that is fenced later asks again.
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

    /// Whether a member's id is one that the coordinator makes for our name.
    pub(crate) fn is_ours(&self, member_id: &str) -> bool {
        is_member_of(&self.instance, member_id)
    }

    /// Who has which partitions of a topic; `None` while the group shares out, and when somebody's share cannot be read.
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

    /// The id of the member with our name.
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
