//! From topics and options to requests: the resource of a topic, and the query that goes with it.

use tidegate_bus::QoS;
use tidegate_coap::codec::{Code, number};
use tidegate_coap::content_format;

use super::draft::Draft;
use crate::client::error::ClientError;
use crate::client::options::{
    ConnectArguments, MqttVersion, PublishArguments, SubscribeArguments, WillArguments,
};
use crate::client::transport;
use crate::client::url::ServerUrl;

/// Bytes of a segment of a path, or of an argument of a query, at most (RFC 7252 section 5.10).
const LONGEST: usize = 255;

/// What only MQTT can say. Nothing of it is left out in silence.
fn check_connect(arguments: &ConnectArguments) -> Result<(), ClientError> {
    transport::check(arguments)?;
    let WillArguments { will_topic, .. } = &arguments.will;
    check([
        ("--mqtt-version", arguments.mqtt_version != MqttVersion::V5),
        ("--receive-maximum", arguments.receive_maximum.is_some()),
        (
            "--maximum-packet-size",
            arguments.maximum_packet_size.is_some(),
        ),
        (
            "--topic-alias-maximum",
            arguments.topic_alias_maximum.is_some(),
        ),
        ("--will-topic", will_topic.is_some()),
    ])
}

/// The request that publishes, without its payload.
pub(super) fn publish(arguments: &PublishArguments) -> Result<Draft, ClientError> {
    check_connect(&arguments.connect)?;
    let properties = &arguments.properties;
    check([
        ("--resume", arguments.connect.resume),
        (
            "--session-expiry",
            arguments.connect.session_expiry.is_some(),
        ),
        ("--response-topic", properties.response_topic.is_some()),
        ("--correlation-data", properties.correlation_data.is_some()),
        ("--user-property", !properties.user_property.is_empty()),
        ("--payload-format", properties.payload_format.is_some()),
        ("--topic-alias", properties.topic_alias.is_some()),
    ])?;
    let expiry = properties.message_expiry.filter(|it| *it != u32::MAX);
    let content_type = properties.content_type.as_deref();
    // It removes what is retained, which is what DELETE is for.
    let removes = arguments.null && arguments.retain && expiry.is_none() && content_type.is_none();
    let code = if removes { Code::DELETE } else { Code::PUT };
    let mut query = vec![format!("qos={}", arguments.qos as u8)];
    if arguments.retain && !removes {
        query.push("retain=true".to_owned());
    }
    query.extend(expiry.map(|seconds| format!("expiry={seconds}")));
    let mut request = request(code, &arguments.connect, &arguments.topic, query)?;
    if let Some(content_type) = content_type {
        let format = content_format(content_type).ok_or_else(|| {
            ClientError::Usage(format!(
                "the content type {content_type} has no Content-Format, which CoAP sends in its place"
            ))
        })?;
        request.uint(number::CONTENT_FORMAT, format.into());
    }
    Ok(request)
}

/// The request that observes `filter`.
pub(super) fn observe(arguments: &SubscribeArguments, filter: &str) -> Result<Draft, ClientError> {
    check_connect(&arguments.connect)?;
    check([
        ("--no-local", arguments.no_local),
        ("--retain-as-published", arguments.retain_as_published),
        ("--retain-handling", arguments.retain_handling.is_some()),
        ("--subscription-id", arguments.subscription_id.is_some()),
    ])?;
    let ConnectArguments {
        id,
        resume,
        session_expiry,
        ..
    } = &arguments.connect;
    let is_kept = *resume || session_expiry.is_some();
    if is_kept && (id.is_none() || arguments.qos == QoS::AtMostOnce) {
        let text = "--resume and --session-expiry need --id and, over CoAP, --qos 1 or 2";
        return Err(ClientError::Usage(text.to_owned()));
    }
    let mut query = match arguments.qos as u8 {
        0 => Vec::new(),
        qos => vec![format!("qos={qos}")],
    };
    query.extend(session_expiry.map(|seconds| format!("session_expiry={seconds}")));
    request(Code::GET, &arguments.connect, filter, query)
}

fn request(
    code: Code,
    arguments: &ConnectArguments,
    topic: &str,
    mut query: Vec<String>,
) -> Result<Draft, ClientError> {
    let ServerUrl { host, path, .. } = &arguments.url;
    let mut draft = Draft::new(code);
    if host.parse::<std::net::IpAddr>().is_err() {
        // Not the address that was found for it (RFC 7252 section 6.4).
        fits(host, "the host's name")?;
        draft.option(number::URI_HOST, host.to_ascii_lowercase().as_bytes());
    }
    let prefix = path.trim_matches('/');
    for segment in prefix.split('/').filter(|_| !prefix.is_empty()) {
        draft.option(
            number::URI_PATH,
            fits(&decoded(segment)?, "a segment of the path")?,
        );
    }
    for level in topic.split('/') {
        draft.option(number::URI_PATH, fits(level, "a level of the topic")?);
    }
    let login = [
        ("c", &arguments.id),
        ("u", &arguments.username),
        ("p", &arguments.password),
    ];
    for (key, value) in login {
        query.extend(value.as_ref().map(|value| format!("{key}={value}")));
    }
    for argument in query {
        draft.option(
            number::URI_QUERY,
            fits(&argument, "an argument of the query")?,
        );
    }
    Ok(draft)
}

fn fits<'a>(text: &'a str, what: &str) -> Result<&'a [u8], ClientError> {
    if text.len() > LONGEST {
        let text = format!("{what} is longer than {LONGEST} bytes (RFC 7252 section 5.10)");
        return Err(ClientError::Usage(text));
    }
    Ok(text.as_bytes())
}

/// A segment of a URL without its percent signs (RFC 3986 section 2.1).
fn decoded(segment: &str) -> Result<String, ClientError> {
    let wrong = || ClientError::Usage(format!("{segment} is no segment of a path"));
    let mut bytes = Vec::new();
    let mut rest = segment.bytes();
    while let Some(byte) = rest.next() {
        let decoded = match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                let both = digit().zip(digit()).ok_or_else(wrong)?;
                (both.0 << 4 | both.1) as u8
            }
            plain => plain,
        };
        bytes.push(decoded);
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

fn check<const N: usize>(options: [(&str, bool); N]) -> Result<(), ClientError> {
    let given = options.into_iter().filter(|(_, is_given)| *is_given);
    let given: Vec<_> = given.map(|(option, _)| option).collect();
    if given.is_empty() {
        return Ok(());
    }
    let given = given.join(", ");
    let text = format!("{given}: CoAP has nothing of the kind");
    Err(ClientError::Usage(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc3986_2_1_percent_signs_stand_for_bytes() {
        assert_eq!(decoded("a%2Fb%c3%a9+").unwrap(), "a/bé+");
        for wrong in ["%", "%2", "%zz", "%ff"] {
            assert!(decoded(wrong).is_err(), "{wrong}");
        }
    }
}
