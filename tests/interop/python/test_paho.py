"""Eclipse Paho, MQTT 3.1, 3.1.1 and 5."""

import queue
import threading

import paho.mqtt.client as paho
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

PATIENCE = 15
VERSIONS = [
    pytest.param(paho.MQTTv31, id="v31"),
    pytest.param(paho.MQTTv311, id="v311"),
    pytest.param(paho.MQTTv5, id="v5"),
]


class Client:
    """Paho with its callbacks turned into queues."""

    def __init__(self, address, version, client_id="", clean=True, expiry=None, setup=None):
        options = {} if version == paho.MQTTv5 else {"clean_session": clean}
        self.paho = paho.Client(
            paho.CallbackAPIVersion.VERSION2, client_id=client_id, protocol=version, **options
        )
        self.messages, self.subscribed = queue.Queue(), queue.Queue()
        self.unsubscribed, self.connected, self.ended = queue.Queue(), queue.Queue(), queue.Queue()
        self.paho.on_message = lambda _c, _u, message: self.messages.put(message)
        self.paho.on_connect = lambda *event: self.connected.put(event[2:])
        self.paho.on_disconnect = lambda *event: self.ended.put(event[3])
        self.paho.on_subscribe = lambda *event: self.subscribed.put(event[3])
        self.paho.on_unsubscribe = lambda *event: self.unsubscribed.put(event[3])
        if setup:
            setup(self.paho)
        connect = {}
        if version == paho.MQTTv5:
            properties = Properties(PacketTypes.CONNECT)
            if expiry is not None:
                properties.SessionExpiryInterval = expiry
            connect = {"clean_start": clean, "properties": properties}
        self.paho.connect(*address, keepalive=60, **connect)
        self.paho.loop_start()
        self.flags, self.reason, self.properties = self.connected.get(timeout=PATIENCE)
        assert self.reason == 0, self.reason

    def subscribe(self, *arguments, **options):
        self.paho.subscribe(*arguments, **options)
        return self.subscribed.get(timeout=PATIENCE)

    def publish(self, *arguments, **options):
        info = self.paho.publish(*arguments, **options)
        info.wait_for_publish(timeout=PATIENCE)
        assert info.is_published()

    def receive(self):
        return self.messages.get(timeout=PATIENCE)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.paho.disconnect()
        self.paho.loop_stop()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_messages_arrive_in_order(address, topic, version, qos):
    with Client(address, version, f"{topic}-in".replace("/", "-")) as receiver:
        granted = receiver.subscribe(f"{topic}/#", qos)
        assert [code.value for code in granted] == [qos]
        with Client(address, version, f"{topic}-out".replace("/", "-")) as sender:
            for number in range(100):
                sender.publish(f"{topic}/{number % 7}", str(number), qos)
            for number in range(100):
                message = receiver.receive()
                assert message.payload == str(number).encode()
                assert (message.topic, message.qos) == (f"{topic}/{number % 7}", qos)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_burst_of_acknowledged_messages_is_complete(address, topic, version):
    client_id = topic.replace("/", "-")
    with Client(address, version, client_id) as client:
        client.subscribe(topic, 2)
        for number in range(1000):
            client.paho.publish(topic, str(number), number % 2 + 1)
        found = {int(client.receive().payload) for _ in range(1000)}
        assert found == set(range(1000))
        assert client.messages.empty()


@pytest.mark.parametrize("version", VERSIONS)
def test_large_payloads_pass(address, topic, version):
    payload = bytes(range(256)) * 2048
    with Client(address, version, topic.replace("/", "-")) as client:
        client.subscribe(topic, 1)
        client.publish(topic, payload, 1)
        assert client.receive().payload == payload


@pytest.mark.parametrize("version", VERSIONS)
def test_retained_messages_wait_and_can_be_removed(address, topic, version):
    client_id = topic.replace("/", "-")
    with Client(address, version, client_id + "-out") as sender:
        sender.publish(topic, "kept", 1, retain=True)
        with Client(address, version, client_id + "-in") as receiver:
            receiver.subscribe(topic, 1)
            message = receiver.receive()
            assert (message.payload, message.retain) == (b"kept", True)
        sender.publish(topic, b"", 1, retain=True)
        with Client(address, version, client_id + "-in") as receiver:
            receiver.subscribe(topic, 1)
            sender.publish(topic, "live", 1)
            message = receiver.receive()
            assert (message.payload, message.retain) == (b"live", False)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_session_waits_for_its_client(address, topic, version):
    client_id = topic.replace("/", "-")
    lasting = {"client_id": client_id + "-in", "clean": False, "expiry": 300}
    with Client(address, version, **lasting) as receiver:
        assert not receiver.flags.session_present
        receiver.subscribe(topic, 2)
    with Client(address, version, client_id + "-out") as sender:
        for number in range(10):
            sender.publish(topic, str(number), 2)
    with Client(address, version, **lasting) as receiver:
        if version != paho.MQTTv31:
            assert receiver.flags.session_present
        assert [int(receiver.receive().payload) for _ in range(10)] == list(range(10))
        # Unsubscribing proves that nothing more was queued, and leaves nothing behind.
        receiver.paho.unsubscribe(topic)
        receiver.unsubscribed.get(timeout=PATIENCE)
        assert receiver.messages.empty()


@pytest.mark.parametrize("version", VERSIONS)
def test_the_will_of_a_client_that_vanishes_is_published(address, topic, version):
    client_id = topic.replace("/", "-")
    with Client(address, version, client_id + "-in") as receiver:
        receiver.subscribe(topic, 1)
        doomed = Client(
            address,
            version,
            client_id + "-out",
            setup=lambda client: client.will_set(topic, "gone", qos=1),
        )
        doomed.paho.loop_stop()
        doomed.paho.socket().close()
        assert receiver.receive().payload == b"gone"


def test_every_property_of_a_message_arrives(address, topic):
    with Client(address, paho.MQTTv5) as client:
        client.subscribe(topic, 1)
        properties = Properties(PacketTypes.PUBLISH)
        properties.PayloadFormatIndicator = 1
        properties.MessageExpiryInterval = 100
        properties.ContentType = "text/plain"
        properties.ResponseTopic = "answers/here"
        properties.CorrelationData = b"\x00\xff\x01"
        pairs = [("b", "2"), ("a", "1"), ("b", "1"), ("ü", "")]
        for pair in pairs:
            properties.UserProperty = pair
        client.publish(topic, "ünïcode", 1, properties=properties)
        found = client.receive().properties
        assert found.PayloadFormatIndicator == 1
        assert 98 <= found.MessageExpiryInterval <= 100
        assert found.ContentType == "text/plain"
        assert found.ResponseTopic == "answers/here"
        assert found.CorrelationData == b"\x00\xff\x01"
        assert found.UserProperty == pairs


def test_subscription_options_and_identifiers(address, topic):
    with Client(address, paho.MQTTv5) as client, Client(address, paho.MQTTv5) as other:
        identifier = Properties(PacketTypes.SUBSCRIBE)
        identifier.SubscriptionIdentifier = 268_435_455
        options = SubscribeOptions(qos=1, noLocal=True, retainAsPublished=True)
        client.subscribe(topic, options=options, properties=identifier)
        client.publish(topic, "own", 1)
        other.publish(topic, "foreign", 1, retain=True)
        message = client.receive()
        assert (message.payload, message.retain) == (b"foreign", True)
        assert message.properties.SubscriptionIdentifier == [268_435_455]
        other.publish(topic, b"", 1, retain=True)


def test_an_empty_client_id_is_assigned_one(address):
    with Client(address, paho.MQTTv5) as client:
        assert client.properties.AssignedClientIdentifier


def test_a_takeover_is_told_with_its_reason(address, topic):
    client_id = topic.replace("/", "-")
    first = Client(address, paho.MQTTv5, client_id)
    first.paho.reconnect_delay_set(60, 60)
    with Client(address, paho.MQTTv5, client_id):
        assert first.ended.get(timeout=PATIENCE).value == 0x8E
    first.paho.loop_stop()


def test_shared_subscriptions_divide_the_messages(address, topic):
    members = [Client(address, paho.MQTTv5) for _ in range(3)]
    found, lock = [], threading.Lock()
    done = threading.Event()

    def take(index):
        def on_message(_client, _user, message):
            with lock:
                found.append((int(message.payload), index))
                if len(found) == 90:
                    done.set()

        return on_message

    for index, member in enumerate(members):
        member.paho.on_message = take(index)
        member.subscribe(f"$share/group/{topic}", 1)
    with Client(address, paho.MQTTv5) as sender:
        for number in range(90):
            sender.publish(topic, str(number), 1)
    assert done.wait(PATIENCE)
    assert sorted(number for number, _ in found) == list(range(90))
    assert {index for _, index in found} == {0, 1, 2}
    for member in members:
        member.__exit__()
