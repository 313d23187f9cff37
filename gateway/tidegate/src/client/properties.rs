//! From options to properties, and what only MQTT 5 can say.

use tidegate_mqtt::codec::{Property, PropertyBlock};

use super::error::ClientError;
use super::options::{
    ConnectArguments, MqttVersion, PayloadFormat, PropertyArguments, PublishArguments,
    SubscribeArguments, WillArguments,
};

impl ConnectArguments {
    /// The properties of CONNECT.
    pub(crate) fn properties(&self) -> PropertyBlock {
        let mut block = PropertyBlock::new();
        block.extend(self.session_expiry.map(Property::SessionExpiryInterval));
        block.extend(self.receive_maximum.map(Property::ReceiveMaximum));
        block.extend(self.maximum_packet_size.map(Property::MaximumPacketSize));
        block.extend(self.topic_alias_maximum.map(Property::TopicAliasMaximum));
        block
    }

    fn only_in_v5(&self) -> impl Iterator<Item = (&'static str, bool)> {
        let will = &self.will;
        [
            ("--session-expiry", self.session_expiry.is_some()),
            ("--receive-maximum", self.receive_maximum.is_some()),
            ("--maximum-packet-size", self.maximum_packet_size.is_some()),
            ("--topic-alias-maximum", self.topic_alias_maximum.is_some()),
            ("--will-delay", will.will_delay.is_some()),
            ("--will-message-expiry", will.will_message_expiry.is_some()),
            ("--will-payload-format", will.will_payload_format.is_some()),
            ("--will-content-type", will.will_content_type.is_some()),
            ("--will-response-topic", will.will_response_topic.is_some()),
            (
                "--will-correlation-data",
                will.will_correlation_data.is_some(),
            ),
            ("--will-user-property", !will.will_user_property.is_empty()),
        ]
        .into_iter()
    }
}

impl WillArguments {
    /// The properties of the will.
    pub(crate) fn properties(&self) -> PropertyBlock {
        let mut block = PropertyBlock::new();
        block.extend(self.will_delay.map(Property::WillDelayInterval));
        push_message(
            &mut block,
            self.will_payload_format,
            self.will_message_expiry,
            self.will_content_type.as_deref(),
            self.will_response_topic.as_deref(),
            self.will_correlation_data.as_deref(),
            &self.will_user_property,
        );
        block
    }
}

impl PropertyArguments {
    /// The properties of a message, its topic alias among them.
    pub(crate) fn block(&self) -> PropertyBlock {
        let mut block = PropertyBlock::new();
        block.extend(self.topic_alias.map(Property::TopicAlias));
        push_message(
            &mut block,
            self.payload_format,
            self.message_expiry,
            self.content_type.as_deref(),
            self.response_topic.as_deref(),
            self.correlation_data.as_deref(),
            &self.user_property,
        );
        block
    }
}

impl PublishArguments {
    /// Refuses options that the version cannot express.
    pub(crate) fn check_version(&self) -> Result<(), ClientError> {
        let properties = &self.properties;
        let more = [
            ("--content-type", properties.content_type.is_some()),
            ("--response-topic", properties.response_topic.is_some()),
            ("--correlation-data", properties.correlation_data.is_some()),
            ("--user-property", !properties.user_property.is_empty()),
            ("--message-expiry", properties.message_expiry.is_some()),
            ("--payload-format", properties.payload_format.is_some()),
            ("--topic-alias", properties.topic_alias.is_some()),
        ];
        check_version(&self.connect, more)
    }
}

impl SubscribeArguments {
    /// Refuses options that the version cannot express.
    pub(crate) fn check_version(&self) -> Result<(), ClientError> {
        let more = [
            ("--no-local", self.no_local),
            ("--retain-as-published", self.retain_as_published),
            ("--retain-handling", self.retain_handling.is_some()),
            ("--subscription-id", self.subscription_id.is_some()),
        ];
        check_version(&self.connect, more)
    }
}

fn check_version(
    connect: &ConnectArguments,
    more: impl IntoIterator<Item = (&'static str, bool)>,
) -> Result<(), ClientError> {
    if connect.mqtt_version == MqttVersion::V5 {
        return Ok(());
    }
    let used: Vec<_> = connect
        .only_in_v5()
        .chain(more)
        .filter_map(|(option, used)| used.then_some(option))
        .collect();
    if !used.is_empty() {
        return Err(ClientError::Usage(format!(
            "{} needs MQTT 5",
            used.join(", ")
        )));
    }
    if connect.password.is_some() && connect.username.is_none() {
        let text = "before MQTT 5 a password needs a user name (MQTT-3.1.2-22 of 3.1.1)";
        return Err(ClientError::Usage(text.to_owned()));
    }
    Ok(())
}

fn push_message(
    block: &mut PropertyBlock,
    format: Option<PayloadFormat>,
    expiry: Option<u32>,
    content_type: Option<&str>,
    response_topic: Option<&str>,
    correlation_data: Option<&str>,
    user_properties: &[(String, String)],
) {
    let format = format.map(|format| u8::from(format == PayloadFormat::Utf8));
    block.extend(format.map(Property::PayloadFormatIndicator));
    block.extend(expiry.map(Property::MessageExpiryInterval));
    block.extend(content_type.map(Property::ContentType));
    block.extend(response_topic.map(Property::ResponseTopic));
    block.extend(correlation_data.map(|data| Property::CorrelationData(data.as_bytes())));
    let pairs = user_properties.iter();
    block.extend(pairs.map(|(key, value)| Property::UserProperty(key, value)));
}
