"""Paho and mosquitto's clients over TLS and WebSocket, with and without client certificates."""

import os
import queue
import shutil
import ssl
import subprocess
import time

import paho.mqtt.client as paho
import pytest

PATIENCE = 15
VERSIONS = [pytest.param(paho.MQTTv311, id="v311"), pytest.param(paho.MQTTv5, id="v5")]
LISTENERS = ["mqtt", "mqtts", "ws", "wss"]
GUARDED = ["guarded-mqtts", "guarded-wss"]
mosquitto = pytest.mark.skipif(
    not (shutil.which("mosquitto_sub") and shutil.which("mosquitto_pub")),
    reason="Debian's mosquitto-clients is not installed",
)


class Client:
    """Paho at a listener of the broker, its callbacks turned into queues."""

    def __init__(self, broker, listener, version, identity=None):
        self.address = broker.address(listener)
        kind = listener.rpartition("-")[2]
        websockets = kind in ["ws", "wss"]
        self.paho = paho.Client(
            paho.CallbackAPIVersion.VERSION2,
            protocol=version,
            transport="websockets" if websockets else "tcp",
        )
        if websockets:
            self.paho.ws_set_options(path="/mqtt")
        if kind in ["mqtts", "wss"]:
            certificate, key = identity or (None, None)
            self.paho.tls_set(ca_certs=broker.authority, certfile=certificate, keyfile=key)
        self.connected, self.subscribed, self.messages = queue.Queue(), queue.Queue(), queue.Queue()
        self.paho.on_connect = lambda *event: self.connected.put(event[3])
        self.paho.on_subscribe = lambda *event: self.subscribed.put(event[3])
        self.paho.on_message = lambda _c, _u, message: self.messages.put(message)

    def __enter__(self):
        self.paho.connect(*self.address, keepalive=60)
        self.paho.loop_start()
        assert self.connected.get(timeout=PATIENCE) == 0
        return self

    def __exit__(self, *_):
        self.paho.disconnect()
        self.paho.loop_stop()

    def exchange(self, topic):
        """Messages of every quality of service and of every size, to itself."""
        self.paho.subscribe(topic, 2)
        self.subscribed.get(timeout=PATIENCE)
        payloads = [b"", b"small", bytes(range(256)) * 800]
        for qos in [0, 1, 2]:
            for payload in payloads:
                self.paho.publish(topic, payload, qos).wait_for_publish(timeout=PATIENCE)
                message = self.messages.get(timeout=PATIENCE)
                assert (message.payload, message.qos) == (payload, qos)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("listener", LISTENERS)
def test_paho_exchanges_messages(broker, topic, listener, version):
    with Client(broker, listener, version) as client:
        client.exchange(topic)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("listener", GUARDED)
def test_paho_shows_its_certificate(broker, topic, listener, version):
    broker.address(listener)
    with Client(broker, listener, version, broker.identity) as client:
        client.exchange(topic)


@pytest.mark.parametrize("listener", GUARDED)
def test_paho_without_a_certificate_is_refused(broker, listener):
    client = Client(broker, listener, paho.MQTTv5)
    # With TLS 1.3 the alert comes after the client has finished its side: then the connection ends
    # without CONNACK.
    try:
        client.paho.connect(*client.address, keepalive=60)
        end = time.monotonic() + PATIENCE
        while client.paho.loop(timeout=1) == paho.MQTT_ERR_SUCCESS:
            assert time.monotonic() < end, "the connection stays open"
    except (ssl.SSLError, ConnectionError, paho.WebsocketConnectionError):
        pass
    assert client.connected.empty()


@pytest.mark.parametrize("listener", ["mqtts", "wss"])
def test_paho_refuses_a_server_of_another_authority(broker, listener):
    client = Client(broker, "mqtt", paho.MQTTv5)
    client.paho.tls_set()
    with pytest.raises(ssl.SSLCertVerificationError):
        client.paho.connect(*broker.address(listener))


def mosquitto_pub(address, topic, message, *options):
    host, port = address
    arguments = ["-h", host, "-p", str(port), "-q", "1", "-t", topic, "-m", message]
    command = ["mosquitto_pub", *arguments, *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True, timeout=40)


class MosquittoSub:
    """mosquitto_sub for one message, once its subscription stands."""

    def __init__(self, address, topic, *options):
        host, port = address
        arguments = ["-h", host, "-p", str(port), "-q", "1", "-t", topic, "-C", "1", "-W", "30"]
        self.process = subprocess.Popen(
            ["stdbuf", "-oL", "mosquitto_sub", *arguments, "-d", "-F", "> %p", *map(str, options)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for line in self.process.stdout:
            if "SUBACK" in line:
                return
        pytest.fail(f"mosquitto_sub ended with {self.process.wait()} and no SUBACK")

    def message(self):
        lines = self.process.stdout.read().splitlines()
        assert self.process.wait() == 0, lines
        return [line for line in lines if line.startswith("> ")]


@mosquitto
@pytest.mark.parametrize("version", ["mqttv31", "mqttv311", "mqttv5"])
@pytest.mark.parametrize("tls", ["tlsv1.2", "tlsv1.3"])
def test_mosquitto_exchanges_messages_over_tls(broker, topic, version, tls):
    options = ["--cafile", broker.authority, "-V", version, "--tls-version", tls]
    address = broker.address("mqtts")
    subscriber = MosquittoSub(address, topic, *options)
    published = mosquitto_pub(address, topic, "secret", *options)
    assert published.returncode == 0, published
    assert subscriber.message() == ["> secret"]


@mosquitto
def test_mosquitto_shows_its_certificate(broker, topic):
    address = broker.address("guarded-mqtts")
    certificate, key = broker.identity
    options = ["--cafile", broker.authority, "--cert", certificate, "--key", key]
    subscriber = MosquittoSub(address, topic, *options)
    published = mosquitto_pub(address, topic, "known", *options)
    assert published.returncode == 0, published
    assert subscriber.message() == ["> known"]


@mosquitto
@pytest.mark.parametrize("who", ["nobody", "stranger"])
def test_mosquitto_without_a_right_certificate_is_refused(broker, topic, who):
    address = broker.address("guarded-mqtts")
    options = ["--cafile", broker.authority]
    if who == "stranger":
        directory = broker.certificates
        options += ["--cert", directory / "stranger.crt", "--key", directory / "stranger.key"]
    published = mosquitto_pub(address, topic, "x", *options)
    assert published.returncode != 0, published


@mosquitto
def test_mosquitto_refuses_a_server_of_another_authority(broker, topic):
    address = broker.address("mqtts")
    if not broker.certificates:
        pytest.skip("needs a gateway of its own")
    strangers = broker.certificates / "strangers.crt"
    published = mosquitto_pub(address, topic, "x", "--cafile", strangers)
    assert published.returncode != 0, published


@mosquitto
def test_mosquitto_refuses_a_server_of_another_name(broker, topic):
    address = broker.address("elsewhere-mqtts")
    options = ["--cafile", broker.authority]
    published = mosquitto_pub(address, topic, "x", *options)
    assert published.returncode != 0, published
    # It was the name, and nothing else.
    published = mosquitto_pub(address, topic, "x", *options, "--insecure")
    assert published.returncode == 0, published


@mosquitto
def test_mosquitto_trusts_what_cert_export_writes(broker, topic, tmp_path):
    binary = os.environ.get("TIDEGATE_BIN")
    if not broker.certificates or not binary:
        pytest.skip("needs a gateway of its own")
    exported = tmp_path / "ca.pem"
    data = broker.authority.parent.parent
    command = [binary, "cert", "export", "--data-dir", data, "--out", exported]
    subprocess.run(command, check=True, timeout=40)
    address = broker.address("mqtts")
    published = mosquitto_pub(address, topic, "x", "--cafile", exported)
    assert published.returncode == 0, published
