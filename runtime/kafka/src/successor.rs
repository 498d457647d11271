//! Whether another instance has this one's name in the group. Asked before an instance joins anew: joining under a name
//! drives out whoever has it.

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use std::hash::{BuildHasher as _, Hasher as _};
use std::time::Duration;

use crate::blocking::blocking;
use crate::{ClientSettings, KafkaError};

/// Every broker is asked; one that is away is not waited for longer.
const ANSWER_MAX: Duration = Duration::from_secs(3);
/// What a coordinator appends to the instance's name to make a member's id.
const UUID_LENGTH: usize = "00000000-0000-0000-0000-000000000000".len();

/// An instance's place in a group.
#[derive(Debug, Clone)]
pub struct Place {
    settings: ClientSettings,
    group: String,
    instance: String,
    /// The client id by which the coordinator knows this process and no other.
    pub(crate) client_id: String,
}

impl Place {
    pub(crate) fn new(settings: &ClientSettings, group: &str, instance: &str) -> Self {
        let nonce = std::hash::RandomState::new().build_hasher().finish();
        let client_id = format!("{}-{instance}-{nonce:016x}", settings.client_id);
        Self { settings: settings.clone(), group: group.to_owned(), instance: instance.to_owned(), client_id }
    }

    /// Refuses a place that a successor has. `Ok` also when the cluster does not say who is in the group: of two instances
    /// that then go on under one name, the one that is fenced later asks again.
    ///
    /// # Errors
    /// [`KafkaError::Replaced`].
    pub async fn check_free(&self) -> Result<(), KafkaError> {
        let place = self.clone();
        match blocking(move || place.successor()).await {
            Ok(None) => Ok(()),
            Ok(Some(client)) => {
                tracing::warn!(client, "the group has a member of this name");
                Err(KafkaError::Replaced(self.instance.clone()))
            }
            Err(error) => {
                tracing::warn!(%error, "the cluster does not say who is in the group; joining anew");
                Ok(())
            }
        }
    }

    /// The client id of another member with this name.
    fn successor(&self) -> Result<Option<String>, KafkaError> {
        let client: BaseConsumer = self.settings.config().create()?;
        let list = client.fetch_group_list(Some(&self.group), ANSWER_MAX)?;
        let members = list.groups().iter().flat_map(|group| group.members());
        let other = members
            .filter(|member| is_member_of(&self.instance, member.id()))
            .find(|member| member.client_id() != self.client_id);
        Ok(other.map(|member| member.client_id().to_owned()))
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

    #[test]
    fn every_process_has_a_client_id_of_its_own() {
        let settings = ClientSettings {
            bootstrap: String::new(),
            prefix: String::new(),
            partitions: 1,
            client_id: "c".to_owned(),
        };
        assert_ne!(Place::new(&settings, "g", "0").client_id, Place::new(&settings, "g", "0").client_id);
    }
}
