//! Consensus and membership messages by topic.

use std::time::Duration;

use datamesh_core::encode::{DecodeError, decode, encode};
use datamesh_core::limits::KIB;
use datamesh_core::sign::Signed;
use datamesh_core::topology::NodeRecord;
use libp2p::gossipsub::{
    Behaviour, Config, ConfigBuilder, IdentTopic, Message, MessageAuthenticity, MessageId, ValidationMode,
};

/// The longest message, bytes.
const MESSAGE_SIZE_MAX: usize = 64 * KIB;
/// Bytes of records put into one message, with room for what gossipsub puts around them.
const BATCH_SIZE_MAX: usize = 48 * KIB;
const HEARTBEAT: Duration = Duration::from_millis(700);
const MEMBERSHIP_TOPIC: &str = "datamesh/membership/1";

/// The topic of node records.
pub(crate) fn membership_topic() -> IdentTopic {
    IdentTopic::new(MEMBERSHIP_TOPIC)
}

/// The gossip behaviour, subscribed to nothing. Messages carry no author: what they hold is signed by whom it is about.
///
/// # Errors
/// What gossipsub finds wrong with its configuration.
pub(crate) fn behaviour() -> Result<Behaviour, String> {
    let config = config().map_err(|error| error.to_string())?;
    Behaviour::new(MessageAuthenticity::Anonymous, config).map_err(str::to_owned)
}

fn config() -> Result<Config, libp2p::gossipsub::ConfigBuilderError> {
    ConfigBuilder::default()
        .protocol_id_prefix("/datamesh/gossip")
        .heartbeat_interval(HEARTBEAT)
        .heartbeat_initial_delay(Duration::from_millis(200))
        .max_transmit_size(MESSAGE_SIZE_MAX)
        .validation_mode(ValidationMode::Anonymous)
        .validate_messages()
        .message_id_fn(content_id)
        .flood_publish(true)
        .build()
}

/// The same records are the same message, whoever publishes them.
fn content_id(message: &Message) -> MessageId {
    MessageId::new(blake3::hash(&message.data).as_bytes())
}

/// Encodes records as messages that each fit the topic.
pub(crate) fn encode_records(records: &[Signed<NodeRecord>]) -> Vec<Vec<u8>> {
    let mut batches: Vec<Vec<&Signed<NodeRecord>>> = Vec::new();
    let mut size = BATCH_SIZE_MAX;
    for record in records {
        let record_size = encode(record).len();
        match batches.last_mut() {
            Some(batch) if size + record_size <= BATCH_SIZE_MAX => {
                size += record_size;
                batch.push(record);
            }
            _ => {
                size = record_size;
                batches.push(vec![record]);
            }
        }
    }
    batches.iter().map(encode).collect()
}

/// Decodes what [`encode_records`] made.
///
/// # Errors
/// [`DecodeError`] for anything else.
pub(crate) fn decode_records(data: &[u8]) -> Result<Vec<Signed<NodeRecord>>, DecodeError> {
    decode(data)
}

#[cfg(test)]
mod tests {
    use datamesh_core::limits::{NODE_ADDRESSES_MAX, NODE_TEXT_SIZE_MAX};

    use super::{BATCH_SIZE_MAX, behaviour, decode_records, encode_records};
    use crate::membership::book::tests::signed;

    #[test]
    fn records_survive_their_messages_and_each_message_fits() {
        let records: Vec<_> = (0..100)
            .map(|number| {
                signed(number, 1, |record| {
                    record.addresses = vec!["x".repeat(NODE_TEXT_SIZE_MAX); NODE_ADDRESSES_MAX / 2];
                })
            })
            .collect();
        let messages = encode_records(&records);
        assert!(messages.len() > 1);
        assert!(messages.iter().all(|message| message.len() <= BATCH_SIZE_MAX + 16));
        let decoded: Vec<_> =
            messages.iter().flat_map(|message| decode_records(message).expect("ours")).collect();
        assert_eq!(decoded, records);
        assert!(decode_records(b"something else").is_err());
        assert!(encode_records(&[]).is_empty());
    }

    #[test]
    fn the_configuration_is_one_that_gossipsub_takes() {
        assert!(behaviour().is_ok());
    }
}
