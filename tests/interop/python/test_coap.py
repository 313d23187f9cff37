"""CoAP over UDP with libcoap's client and with aiocoap, and MQTT on the other side."""

import asyncio
import contextlib
import shutil
import subprocess
import time

import aiocoap
import paho.mqtt.client as mqtt
import pytest
from aiocoap import DELETE, GET, POST, PUT, Message

from conftest import running

libcoap = pytest.mark.skipif(
    not shutil.which("coap-client-notls"), reason="Debian's libcoap3-bin is not installed"
)

# Sizes of a reading, of nothing, and of what takes a hundred blocks.
SIZES = [0, 64, 100_000]


def body(size):
    return bytes(ord("a") + at // 7 % 26 for at in range(size))


@pytest.fixture(scope="module")
def base(broker):
    host, port = broker.address("coap")
    return f"coap://{host}:{port}"


def coap_client(*arguments, **options):
    done = subprocess.run(
        ["coap-client-notls", *arguments], capture_output=True, timeout=60, check=True, **options
    )
    return done.stdout.removesuffix(b"\n")


class Observer:
    """coap-client-notls that observes; what it writes comes byte by byte."""

    def __init__(self, broker, url, *options):
        def answers():
            counted = {"listener": "coap", "class": "2"}
            return broker.metric("tidegate_coap_responses_total", **counted)

        # It observes when it is answered. A count of observers would go down when an earlier one is gone.
        before = answers()
        self.process = subprocess.Popen(
            ["coap-client-notls", "-m", "get", "-s", "60", *options, url], stdout=subprocess.PIPE
        )
        until(lambda: answers() > before)

    def read(self, size):
        return self.process.stdout.read(size)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def until(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "it does not come true"
        time.sleep(0.02)


class Mqtt:
    """A client of MQTT 5 that publishes, and keeps what it receives."""

    def __init__(self, broker, topic=None, qos=1):
        self.received = []
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        self.client.on_message = lambda _client, _data, message: self.received.append(message)
        subscribed = []
        self.client.on_subscribe = lambda *_: subscribed.append(True)
        connected = []
        self.client.on_connect = lambda *_: connected.append(True)
        self.client.connect(*broker.address("mqtt"))
        self.client.loop_start()
        until(lambda: connected)
        if topic:
            self.client.subscribe(topic, qos)
            until(lambda: subscribed)

    def publish(self, topic, payload, qos=1, retain=False):
        self.client.publish(topic, payload, qos, retain).wait_for_publish(20)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client.disconnect()
        self.client.loop_stop()


@libcoap
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("options", [[], ["-N"]], ids=["con", "non"])
def test_libcoap_publishes_to_mqtt(broker, base, topic, tmp_path, size, options):
    file = tmp_path / "body"
    file.write_bytes(body(size))
    with Mqtt(broker, topic) as receiver:
        coap_client("-m", "put", *options, "-t", "42", "-f", file, f"{base}/ps/{topic}")
        until(lambda: receiver.received)
        [message] = receiver.received
    assert message.payload == body(size)
    assert message.properties.ContentType == "application/octet-stream"
    assert message.qos == (0 if options else 1)


@libcoap
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_libcoap_observes_what_mqtt_publishes(broker, base, topic, size, qos):
    with Observer(broker, f"{base}/ps/{topic}") as observer, Mqtt(broker) as sender:
        sender.publish(topic, body(size), qos)
        sender.publish(topic, "end", qos)
        assert observer.read(size + 3) == body(size) + b"end"


@libcoap
def test_libcoap_observes_with_wildcards_and_begins_with_what_is_retained(broker, base, topic):
    with Mqtt(broker) as sender:
        sender.publish(f"{topic}/kept", "kept", retain=True)
        with Observer(broker, f"{base}/ps/{topic}/%23", "-v", "0") as observer:
            assert observer.read(4) == b"kept"
            sender.publish(f"{topic}/live", "live")
            assert observer.read(4) == b"live"


@libcoap
@pytest.mark.parametrize("qos", [1, 2])
def test_libcoap_comes_back_to_its_session_after_it_and_the_gateway_were_gone(tmp_path, topic, qos):
    directory = tmp_path / "gateway"

    def observer(broker):
        host, port = broker.address("coap")
        return Observer(broker, f"coap://{host}:{port}/ps/{topic}?c=pump&qos={qos}")

    with running(directory, "") as broker, Mqtt(broker) as sender:
        with observer(broker) as client:
            sender.publish(topic, "1;", qos)
            assert client.read(2) == b"1;"
        # The client was killed and has said nothing.
        for text in ["2;", body(3_000), "3;"]:
            sender.publish(topic, text, qos)
    with running(directory, "") as broker, Mqtt(broker) as sender:
        assert broker.metric("tidegate_subscriptions") == 1
        sender.publish(topic, "4;", qos)
        with observer(broker) as client:
            assert client.read(3_006) == b"2;" + body(3_000) + b"3;4;"
            until(lambda: broker.metric("tidegate_messages_pending") == 0)


@libcoap
@pytest.mark.parametrize("unverified", ["blocks", "echo", "all"])
def test_libcoap_observes_a_large_value_that_is_retained(tmp_path, topic, unverified):
    configuration = f'[listeners.coap.coap]\nunverified = "{unverified}"\n'
    with running(tmp_path / "gateway", configuration) as broker, Mqtt(broker) as sender:
        host, port = broker.address("coap")
        sender.publish(topic, body(5_000), retain=True)
        with Observer(broker, f"coap://{host}:{port}/ps/{topic}") as observer:
            assert observer.read(5_000) == body(5_000)
            sender.publish(topic, body(3_000))
            assert observer.read(3_000) == body(3_000)


@libcoap
def test_libcoap_reads_and_clears_what_is_retained(broker, base, topic):
    url = f"{base}/ps/{topic}"
    assert coap_client("-m", "get", url) == b""
    coap_client("-m", "put", "-e", "kept", f"{url}?retain=true")
    assert coap_client("-m", "get", url) == b"kept"
    with Mqtt(broker, topic) as receiver:
        until(lambda: receiver.received)
        assert receiver.received[0].retain
    coap_client("-m", "delete", url)
    assert coap_client("-m", "get", url) == b""
    assert b"</ps>" in coap_client("-m", "get", f"{base}/.well-known/core")


@libcoap
@pytest.mark.parametrize("size", [64, 100_000])
def test_libcoap_reads_a_value_in_blocks_of_the_size_it_asks_for(broker, base, topic, size):
    with Mqtt(broker) as sender:
        sender.publish(topic, body(size), retain=True)
    for block in ["32", "256", "1024"]:
        if size > 1_000 and block == "32":
            continue
        assert coap_client("-m", "get", "-b", block, f"{base}/ps/{topic}") == body(size)


@contextlib.asynccontextmanager
async def context():
    made = await aiocoap.Context.create_client_context(transports=["simple6"])
    try:
        yield made
    finally:
        await made.shutdown()


async def ask(context, code, uri, payload=b"", **options):
    message = Message(code=code, uri=uri, payload=payload, **options)
    return await asyncio.wait_for(context.request(message).response, 60)


def test_aiocoap_publishes_reads_and_is_refused(broker, base, topic):
    url = f"{base}/ps/{topic}"

    async def run():
        async with context() as c:
            published = await ask(c, PUT, f"{url}?retain=true&expiry=600", b"{}", content_format=50)
            assert published.code == aiocoap.CHANGED
            read = await ask(c, GET, url)
            assert (read.code, read.payload) == (aiocoap.CONTENT, b"{}")
            assert read.opt.content_format == 50
            assert (await ask(c, GET, url, accept=0)).code == aiocoap.NOT_ACCEPTABLE
            assert (await ask(c, POST, f"{url}/+")).code == aiocoap.BAD_REQUEST
            assert (await ask(c, PUT, f"{base}/ps/$SYS/a")).code == aiocoap.FORBIDDEN
            assert (await ask(c, GET, f"{base}/elsewhere")).code == aiocoap.NOT_FOUND
            assert (await ask(c, DELETE, url)).code == aiocoap.DELETED
            assert (await ask(c, GET, url)).payload == b""

    with Mqtt(broker, topic) as receiver:
        asyncio.run(run())
        until(lambda: len(receiver.received) == 2)
        first, cleared = receiver.received
    assert first.properties.ContentType == "application/json"
    assert 590 < first.properties.MessageExpiryInterval <= 600
    assert cleared.payload == b""


@pytest.mark.parametrize("size", SIZES)
def test_aiocoap_publishes_and_observes_in_blocks(base, topic, size):
    url = f"{base}/ps/{topic}"

    async def run():
        async with context() as c:
            request = c.request(Message(code=GET, uri=url, observe=0))
            first = await asyncio.wait_for(request.response, 20)
            assert (first.code, first.payload) == (aiocoap.CONTENT, b"")
            told = aiter(request.observation)
            for payload in [body(size), b"end"]:
                assert (await ask(c, PUT, url, payload)).code == aiocoap.CHANGED
                message = await asyncio.wait_for(anext(told), 20)
                assert message.payload == payload
            request.observation.cancel()

    asyncio.run(run())


# The iterator of observations gives the newest state only.
@pytest.mark.filterwarnings("ignore:register_callback:DeprecationWarning")
def test_aiocoap_is_told_every_change_in_its_order(broker, base, topic):
    async def run(sender):
        async with context() as c:
            request = c.request(Message(code=GET, uri=f"{base}/ps/{topic}?qos=1", observe=0))
            await asyncio.wait_for(request.response, 20)
            told = asyncio.Queue()
            request.observation.register_callback(told.put_nowait)
            for number in range(100):
                sender.client.publish(topic, str(number), 1)
            for number in range(100):
                message = await asyncio.wait_for(told.get(), 20)
                assert message.payload == str(number).encode()
                # RFC 7641 section 3.4
                assert message.opt.observe is not None
            request.observation.cancel()

    with Mqtt(broker) as sender:
        asyncio.run(run(sender))


@libcoap
def test_libcoap_returns_an_echo_and_aiocoap_when_it_is_told_to(tmp_path, topic):
    configuration = '[listeners.coap.coap]\nunverified = "echo"\n'
    with running(tmp_path / "gateway", configuration) as broker:
        host, port = broker.address("coap")
        url = f"coap://{host}:{port}/ps/{topic}"
        file = tmp_path / "body"
        file.write_bytes(body(900))
        coap_client("-m", "put", "-f", file, f"{url}?retain=true")
        assert coap_client("-m", "get", url) == body(900)
        assert broker.metric("tidegate_coap_limited_total", listener="coap") == 1

        async def run():
            async with context() as c:
                asked = await ask(c, GET, url)
                assert (asked.code, asked.payload) == (aiocoap.UNAUTHORIZED, b"")
                read = await ask(c, GET, url, echo=asked.opt.echo)
                assert (read.code, read.payload) == (aiocoap.CONTENT, body(900))
                assert (await ask(c, GET, url)).code == aiocoap.CONTENT

        asyncio.run(run())
