//! rumqttc, a client that is not ours, in MQTT 3.1.1 and 5.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::time::Duration;

use rumqttc::v5;
use tidegate_tests::{Gateway, unique};
use tokio::sync::mpsc;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(15);

/// A client of MQTT 3.1.1 and what arrives for it.
struct Older {
    client: rumqttc::AsyncClient,
    messages: mpsc::UnboundedReceiver<rumqttc::Publish>,
    answers: mpsc::UnboundedReceiver<rumqttc::Packet>,
}

impl Older {
    fn connect(gateway: &Gateway, id: &str, clean: bool) -> Self {
        let address = gateway.mqtt();
        let mut options = rumqttc::MqttOptions::new(id, address.ip().to_string(), address.port());
        options
            .set_clean_session(clean)
            .set_keep_alive(Duration::from_secs(60));
        let (client, mut events) = rumqttc::AsyncClient::new(options, 100);
        let (message, messages) = mpsc::unbounded_channel();
        let (answer, answers) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok(event) = events.poll().await {
                let rumqttc::Event::Incoming(packet) = event else {
                    continue;
                };
                // Nobody listens any more once the test is over.
                let _ = match packet {
                    rumqttc::Packet::Publish(publish) => message.send(publish).is_ok(),
                    packet => answer.send(packet).is_ok(),
                };
            }
        });
        Self {
            client,
            messages,
            answers,
        }
    }

    async fn receive(&mut self) -> rumqttc::Publish {
        let message = timeout(PATIENCE, self.messages.recv()).await;
        message
            .unwrap_or_else(|_| panic!("no message came"))
            .unwrap_or_else(|| panic!("it ended"))
    }

    /// Waits for the first answer that `pick` takes.
    async fn answer<T>(&mut self, pick: impl Fn(&rumqttc::Packet) -> Option<T>) -> T {
        loop {
            let answer = timeout(PATIENCE, self.answers.recv()).await;
            let answer = answer.unwrap_or_else(|_| panic!("no answer came"));
            if let Some(found) = pick(&answer.unwrap_or_else(|| panic!("the connection ended"))) {
                return found;
            }
        }
    }

    async fn subscribed(&mut self) {
        self.answer(|packet| matches!(packet, rumqttc::Packet::SubAck(_)).then_some(()))
            .await;
    }
}

#[tokio::test]
async fn mqtt_3_1_1_messages_arrive_in_order_at_every_qos() {
    let gateway = Gateway::start();
    let topic = unique("rumqttc");
    let mut receiver = Older::connect(&gateway, &unique("receiver"), true);
    let filter = format!("{topic}/#");
    receiver
        .client
        .subscribe(&filter, rumqttc::QoS::ExactlyOnce)
        .await
        .unwrap();
    receiver.subscribed().await;
    let sender = Older::connect(&gateway, &unique("sender"), true);
    for qos in [
        rumqttc::QoS::AtMostOnce,
        rumqttc::QoS::AtLeastOnce,
        rumqttc::QoS::ExactlyOnce,
    ] {
        for number in 0..200 {
            let name = format!("{topic}/{}", number % 5);
            sender
                .client
                .publish(name, qos, false, number.to_string())
                .await
                .unwrap();
        }
        for number in 0..200 {
            let message = receiver.receive().await;
            assert_eq!(message.payload, number.to_string().as_bytes());
            assert_eq!((message.qos, message.retain), (qos, false));
            assert_eq!(message.topic, format!("{topic}/{}", number % 5));
        }
    }
}

#[tokio::test]
async fn mqtt_3_1_1_a_session_and_a_retained_message_wait() {
    let gateway = Gateway::start();
    let (topic, id) = (unique("rumqttc"), unique("waits"));
    let mut receiver = Older::connect(&gateway, &id, false);
    receiver
        .client
        .subscribe(&topic, rumqttc::QoS::AtLeastOnce)
        .await
        .unwrap();
    receiver.subscribed().await;
    receiver.client.disconnect().await.unwrap();
    while timeout(PATIENCE, receiver.answers.recv())
        .await
        .unwrap()
        .is_some()
    {}

    let mut sender = Older::connect(&gateway, &unique("sender"), true);
    let qos = rumqttc::QoS::AtLeastOnce;
    sender
        .client
        .publish(&topic, qos, true, "kept")
        .await
        .unwrap();
    sender
        .answer(|packet| matches!(packet, rumqttc::Packet::PubAck(_)).then_some(()))
        .await;

    let mut receiver = Older::connect(&gateway, &id, false);
    let present = receiver.answer(|packet| match packet {
        rumqttc::Packet::ConnAck(connack) => Some(connack.session_present),
        _ => None,
    });
    assert!(present.await);
    let queued = receiver.receive().await;
    assert_eq!(
        (queued.payload.as_ref(), queued.retain),
        (&b"kept"[..], false)
    );
    let mut late = Older::connect(&gateway, &unique("late"), true);
    late.client.subscribe(&topic, qos).await.unwrap();
    let retained = late.receive().await;
    assert_eq!(
        (retained.payload.as_ref(), retained.retain),
        (&b"kept"[..], true)
    );
    sender.client.publish(&topic, qos, true, "").await.unwrap();
    sender
        .answer(|packet| matches!(packet, rumqttc::Packet::PubAck(_)).then_some(()))
        .await;
}

/// A client of MQTT 5 and what arrives for it.
struct Newer {
    client: v5::AsyncClient,
    messages: mpsc::UnboundedReceiver<v5::mqttbytes::v5::Publish>,
    answers: mpsc::UnboundedReceiver<v5::Incoming>,
}

impl Newer {
    fn connect(gateway: &Gateway, id: &str) -> Self {
        let address = gateway.mqtt();
        let mut options = v5::MqttOptions::new(id, address.ip().to_string(), address.port());
        options
            .set_clean_start(true)
            .set_keep_alive(Duration::from_secs(60));
        let (client, mut events) = v5::AsyncClient::new(options, 100);
        let (message, messages) = mpsc::unbounded_channel();
        let (answer, answers) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok(event) = events.poll().await {
                let v5::Event::Incoming(packet) = event else {
                    continue;
                };
                let _ = match packet {
                    v5::Incoming::Publish(publish) => message.send(publish).is_ok(),
                    packet => answer.send(packet).is_ok(),
                };
            }
        });
        Self {
            client,
            messages,
            answers,
        }
    }

    async fn receive(&mut self) -> v5::mqttbytes::v5::Publish {
        let message = timeout(PATIENCE, self.messages.recv()).await;
        message
            .unwrap_or_else(|_| panic!("no message came"))
            .unwrap_or_else(|| panic!("it ended"))
    }

    async fn subscribe(&mut self, filter: &str) {
        self.client
            .subscribe(filter, v5::mqttbytes::QoS::ExactlyOnce)
            .await
            .unwrap();
        loop {
            let answer = timeout(PATIENCE, self.answers.recv())
                .await
                .unwrap()
                .unwrap();
            if matches!(answer, v5::Incoming::SubAck(_)) {
                return;
            }
        }
    }
}

#[tokio::test]
async fn mqtt_5_messages_arrive_in_order_at_every_qos() {
    use v5::mqttbytes::QoS;
    let gateway = Gateway::start();
    let topic = unique("rumqttc");
    let mut receiver = Newer::connect(&gateway, &unique("receiver"));
    receiver.subscribe(&format!("{topic}/+")).await;
    let sender = Newer::connect(&gateway, &unique("sender"));
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        for number in 0..200 {
            let name = format!("{topic}/{}", number % 5);
            sender
                .client
                .publish(name, qos, false, number.to_string())
                .await
                .unwrap();
        }
        for number in 0..200 {
            let message = receiver.receive().await;
            assert_eq!(message.payload, number.to_string().as_bytes());
            assert_eq!(message.qos, qos);
        }
    }
}

#[tokio::test]
async fn mqtt_5_properties_arrive() {
    let gateway = Gateway::start();
    let topic = unique("rumqttc");
    let mut client = Newer::connect(&gateway, &unique("properties"));
    client.subscribe(&topic).await;
    let properties = v5::mqttbytes::v5::PublishProperties {
        payload_format_indicator: Some(1),
        message_expiry_interval: Some(500),
        response_topic: Some("answers".into()),
        correlation_data: Some(vec![0, 255, 3].into()),
        content_type: Some("text/plain".into()),
        user_properties: vec![("b".into(), "1".into()), ("a".into(), "2".into())],
        ..Default::default()
    };
    let qos = v5::mqttbytes::QoS::AtLeastOnce;
    let sent = properties.clone();
    client
        .client
        .publish_with_properties(&topic, qos, false, "x", sent)
        .await
        .unwrap();
    let mut found = client.receive().await.properties.unwrap();
    let expiry = found.message_expiry_interval.take();
    assert!(matches!(expiry, Some(498..=500)), "{expiry:?}");
    assert_eq!(
        Some(found),
        Some(properties).map(|mut sent| {
            sent.message_expiry_interval = None;
            sent
        })
    );
}
