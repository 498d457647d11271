//! How a service joins its group: at the start, and again in the running process after the clients of Kafka cannot
//! continue. Joining again has the effect of a restart of the process, without the supervisor's pause and without
//! losing the shell's memory.

use std::time::Duration;
use tokio::time::sleep;

use driftline_kafka::{
    ClientSettings, Delivery, GroupReader, KafkaError, KafkaLog, Sender, StaticMember, admin, persist,
};

use driftline_schemas::topics::Topic;
use driftline_service_core::Roles;

use super::{Membership, ServiceError};
use crate::settings::Mode;

/// Times in a row, without a commit between them, that a service joins again after errors that time alone does not
/// resolve.
const REJOINS_MAX: u32 = 3;
/// Pause before the next attempt in a row, while a cluster answers but cannot do what is requested.
const PAUSE: Duration = Duration::from_secs(2);

/// The reaction to an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remedy {
    /// Join again, any number of times: Kafka is unreachable or slow.
    JoinAnew,
    /// Join again with new clients, [`REJOINS_MAX`] times.
    JoinAnewAtMost,
    /// The process ends: somebody has to act first, or continuing could do harm.
    End,
}

impl Remedy {
    fn of(error: &ServiceError) -> Self {
        match error {
            ServiceError::Kafka(error) => Self::of_kafka(error),
            ServiceError::Aborting(_) => Self::JoinAnewAtMost,
            ServiceError::Broken(_)
            | ServiceError::StateLost(_)
            | ServiceError::Shell(_)
            | ServiceError::Metrics(_) => Self::End,
        }
    }

    fn of_kafka(error: &KafkaError) -> Self {
        match error {
            KafkaError::Unreachable { .. }
            | KafkaError::NotDelivered { .. }
            | KafkaError::QueueFull(_)
            | KafkaError::StateUnread { .. }
            | KafkaError::Stuck { .. }
            | KafkaError::Passing(_) => Self::JoinAnew,
            KafkaError::Fenced(_)
            | KafkaError::JoinedTwice(_)
            | KafkaError::Refused { .. }
            | KafkaError::Client(_)
            | KafkaError::Thread(_)
            | KafkaError::Failed(_) => Self::JoinAnewAtMost,
            KafkaError::NoTopic(_)
            | KafkaError::PartitionCount { .. }
            | KafkaError::Create { .. }
            | KafkaError::Replaced(_)
            | KafkaError::InputGone(_) => Self::End,
        }
    }
}

/// Attempts in a row, without a commit between them.
#[derive(Debug, Default)]
pub(super) struct Rejoins {
    is_repeated: bool,
    /// Attempts after errors that time alone does not resolve.
    limited: u32,
}

impl Rejoins {
    /// How long to wait before the service joins again after this error; `None` when it does not.
    pub(super) fn allow(&mut self, error: &ServiceError) -> Option<Duration> {
        match Remedy::of(error) {
            Remedy::JoinAnew => {}
            Remedy::JoinAnewAtMost if self.limited < REJOINS_MAX => self.limited += 1,
            Remedy::JoinAnewAtMost | Remedy::End => return None,
        }
        let is_repeated = std::mem::replace(&mut self.is_repeated, true);
        Some(if is_repeated { PAUSE } else { Duration::ZERO })
    }

    /// Resets the count after a commit: the failed operation works again.
    pub(super) fn worked(&mut self) {
        *self = Self::default();
    }
}

/// The settings for joining.
#[derive(Debug)]
pub(super) struct Joining {
    pub(super) membership: Membership,
    pub(super) kafka: ClientSettings,
}

impl Joining {
    pub(super) fn roles(&self) -> Roles {
        let Membership { service, input, state, .. } = self.membership;
        Roles { service, state, has_markers: input == Topic::Findings }
    }

    /// Takes over from a predecessor with the same name and joins the group.
    pub(super) async fn join(&self, patience: Duration) -> Result<(KafkaLog, GroupReader), KafkaError> {
        let Membership { service, input, state, identity, .. } = &self.membership;
        let group = format!("{}.{service}", self.kafka.prefix);
        let delivery = match identity.mode {
            Mode::ExactlyOnce => Delivery::ExactlyOnce(format!("{group}.{}", identity.instance)),
            Mode::AtLeastOnce => Delivery::AtLeastOnce,
        };
        let start = || Sender::start(&self.kafka, *state, &delivery);
        let sender = persist(patience, "transactions", start).await?;
        let reader = GroupReader::start(&self.kafka, *input, &group, &identity.instance)?;
        let log = KafkaLog::new(&self.kafka, *input, *state, &reader, sender)?;
        Ok((log, reader))
    }

    /// Waits for Kafka without a limit, then joins, unless another instance has the name.
    pub(super) async fn join_anew(&self, static_member: &StaticMember) -> Result<(KafkaLog, GroupReader), KafkaError> {
        loop {
            admin::wait(&self.kafka, Duration::MAX).await?;
            static_member.check_free().await?;
            match self.join(self.membership.kafka_wait).await {
                Err(error) if Remedy::of_kafka(&error) == Remedy::JoinAnew => {
                    tracing::warn!(%error, "cannot join yet; trying again");
                    sleep(PAUSE).await;
                }
                joined => return joined,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kafka_that_is_away_is_waited_for_and_what_time_does_not_mend_is_tried_thrice() {
        let away = || ServiceError::Kafka(KafkaError::Stuck { call: "commit", seconds: 20 });
        let invalid = || ServiceError::Kafka(KafkaError::Failed("invalid state".to_owned()));
        let refused = || ServiceError::Kafka(KafkaError::Refused { failed: 1, why: "too large".to_owned() });
        let mut rejoins = Rejoins::default();
        assert_eq!(rejoins.allow(&away()), Some(Duration::ZERO));
        assert!((0..100).all(|_| rejoins.allow(&away()) == Some(PAUSE)));
        let limited: Vec<_> =
            [refused(), invalid(), refused(), refused(), invalid()].iter().map(|error| rejoins.allow(error)).collect();
        assert_eq!(limited, [Some(PAUSE), Some(PAUSE), Some(PAUSE), None, None]);
        rejoins.worked();
        assert_eq!(rejoins.allow(&refused()), Some(Duration::ZERO));
        let replaced = ServiceError::Kafka(KafkaError::Replaced("0".to_owned()));
        assert_eq!(Rejoins::default().allow(&replaced), None);
    }
}
