"""`tidegate pub` and `tidegate sub` over CoAP with aiocoap's server, and across the gateway with mosquitto's clients."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess

import aiocoap
import aiocoap.resource
import pytest
from aiocoap import CHANGED, CONTENT, DELETED, NOT_FOUND, PUT, Message

import test_mosquitto as mosquitto

pytestmark = pytest.mark.skipif(
    not os.environ.get("TIDEGATE_BIN"), reason="TIDEGATE_BIN does not say where the client is"
)

LARGE = bytes(ord("a") + at // 7 % 26 for at in range(100_000))


class Topic(aiocoap.resource.ObservableResource):
    """A value that can be put, read, observed and deleted."""

    def __init__(self):
        super().__init__()
        self.value = None
        self.format = None
        self.version = 0
        self.queries = []
        self.observed = asyncio.Event()

    def change(self, value, content_format=None):
        self.value, self.format = value, content_format
        self.version += 1
        self.updated_state()

    def update_observation_count(self, newcount):
        if newcount:
            self.observed.set()
        else:
            self.observed.clear()

    async def render_put(self, request):
        self.queries.append(request.opt.uri_query)
        self.change(request.payload, request.opt.content_format)
        return Message(code=CHANGED)

    async def render_get(self, request):
        if self.value is None:
            return Message(code=NOT_FOUND, payload=b"nothing was put here")
        return Message(code=CONTENT, payload=self.value, content_format=self.format)

    async def render_delete(self, request):
        self.value = None
        self.updated_state(Message(code=NOT_FOUND, payload=b"it is gone"))
        return Message(code=DELETED)


class Parted(Topic):
    """Over UDP a large value must go in blocks, also as what an observer is told (RFC 7959 sections 2.6 and 3.4).

    aiocoap 0.4.17 does not do that by itself. To a GET with Observe it answers with the whole value in one message, and
    so it notifies (aiocoap/interfaces.py, `ObservableResource._render_to_pipe`: "If block2 were to happen here"). What is
    longer than a datagram of UDP may be, sendmsg() refuses with EMSGSIZE. transports/udp6.py reports that to everybody
    who waits for this client, while `Pipe._add_event` (pipe.py) is calling the very callback that sends: the pipe ends
    underneath it, and `Pipe._any_interest` iterates over the False that stands where the callbacks were ("TypeError:
    'bool' object is not iterable"). Saying so fails as well (`self.log.error(..., exception=...)`, a keyword that loggers
    do not have). The client gets no answer, repeats its request and gives up, as it should.
    """

    def __init__(self):
        super().__init__()
        self.later = []

    async def needs_blockwise_assembly(self, request):
        return request.code == PUT

    async def render_get(self, request):
        whole = await super().render_get(request)
        asked = request.opt.block2
        number, exponent = (asked.block_number, asked.size_exponent) if asked else (0, 6)
        if number:
            self.later.append(request)
        size = 1 << (exponent + 4)
        rest = whole.payload[number * size :]
        if whole.code != CONTENT or (number == 0 and len(rest) <= size):
            return whole
        return Message(
            code=CONTENT,
            payload=rest[:size],
            content_format=self.format,
            etag=self.version.to_bytes(4, "big"),
            block2=(number, len(rest) > size, exponent),
        )


def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.asynccontextmanager
async def serving(scheme, port, topics):
    """A server of these topics."""
    site = aiocoap.resource.Site()
    for name, topic in topics.items():
        site.add_resource(["some", "where", name], topic)
    # The first serves any address, of IPv4 as one of IPv6.
    transport, bind = {
        "coap": ("udp6", "::ffff:127.0.0.1"),
        "coap+tcp": ("tcpserver", "127.0.0.1"),
    }[scheme]
    context = await aiocoap.Context.create_server_context(
        site, bind=(bind, port), transports=[transport]
    )
    try:
        yield f"{scheme}://127.0.0.1:{port}/some/where"
    finally:
        await context.shutdown()


@contextlib.asynccontextmanager
async def server(scheme):
    """The URL of a server with the topics a and b, of which b may be large, and these."""
    topics = {"a": Topic(), "b": Parted() if scheme == "coap" else Topic()}
    async with serving(scheme, free_port(), topics) as url:
        yield url, topics


async def client(*arguments):
    return await asyncio.create_subprocess_exec(
        os.environ["TIDEGATE_BIN"],
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        # Lines of what is published may be long.
        limit=1 << 20,
    )


async def observer(*arguments):
    """A subscriber whose filter is observed."""
    subscriber = await client("sub", *arguments, "--debug")
    while b"subscribed to" not in (line := await subscriber.stderr.readline()):
        assert line
    return subscriber


async def told(subscriber):
    """The next line that it prints."""
    line = await asyncio.wait_for(subscriber.stdout.readline(), 30)
    assert line.endswith(b"\n"), line
    return line[:-1]


async def leaves(subscriber):
    """It is interrupted, and says goodbye to the server."""
    subscriber.send_signal(signal.SIGINT)
    out, said = await asyncio.wait_for(subscriber.communicate(), 30)
    assert (subscriber.returncode, out) == (0, b"")
    return said.decode()


async def run(*arguments):
    process = await client(*arguments)
    out, said = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode, out, said.decode()


async def works(*arguments):
    code, out, said = await run(*arguments)
    assert (code, said) == (0, "")
    return out


@pytest.mark.parametrize("scheme", ["coap", "coap+tcp"])
def test_aiocoap_takes_what_is_published_and_tells_it(scheme, tmp_path):
    async def story():
        async with server(scheme) as (url, topics):
            at = ["--url", url]
            options = ["--content-type", "application/json", "-i", "me", "-q", "1"]
            await works("pub", *at, "-t", "a", "-m", "1", *options)
            assert topics["a"].queries == [("qos=1", "c=me")]
            subscriber = await observer(*at, "-t", "a", "-n", "2", "--json")
            await works("pub", *at, "-t", "a", "-m", "2", *options)
            out, _ = await asyncio.wait_for(subscriber.communicate(), 60)
            messages = [json.loads(line) for line in out.splitlines()]
            assert [(it["payload"], it["retain"]) for it in messages] == [("1", True), ("2", False)]
            assert messages[1]["properties"]["content_type"] == "application/json"

            large = tmp_path / "large"
            large.write_bytes(LARGE)
            await works("pub", *at, "-t", "b", "-f", large)
            assert topics["b"].value == LARGE
            assert await works("sub", *at, "-t", "b", "-n", "1") == LARGE + b"\n"

            await works("pub", *at, "-t", "a", "--null", "-r")
            code, _, said = await run("sub", *at, "-t", "a")
            assert code == 3
            assert "the filter a: 4.04 Not Found: nothing was put here" in said

    asyncio.run(story())


def test_an_observation_that_aiocoap_ends_is_said():
    async def story():
        async with server("coap") as (url, _):
            at = ["--url", url]
            await works("pub", *at, "-t", "a", "-m", "1")
            subscriber = await observer(*at, "-t", "a")
            await works("pub", *at, "-t", "a", "--null", "-r")
            out, said = await asyncio.wait_for(subscriber.communicate(), 60)
            assert (subscriber.returncode, out) == (3, b"1\n")
            assert b"refused the filter a: 4.04 Not Found: it is gone" in said

    asyncio.run(story())


def numbered(number, size):
    """A value from which one sees whether parts of two are mixed."""
    return b"%d " % number + bytes([ord("a") + number % 26]) * size


@pytest.mark.parametrize("name", ["a", "b"], ids=["whole", "parted"])
def test_rfc7959_2_6_hundreds_of_notifications_of_aiocoap_are_told_large_ones_too(name):
    async def story():
        async with server("coap") as (url, topics):
            topic = topics[name]
            topic.change(numbered(0, 10_000))
            subscriber = await observer("--url", url, "-t", name)
            assert await told(subscriber) == numbered(0, 10_000)
            # One after the other: each is told.
            for number in range(1, 200):
                value = numbered(number, 10_000 if number % 2 else 10)
                topic.change(value)
                assert await told(subscriber) == value
            # Faster than they can be told: the last one is, and none before it that is older or is not whole.
            for number in range(200, 500):
                topic.change(numbered(number, 10_000 if number % 2 else 10))
                await asyncio.sleep(0)
            last = 199
            while last < 499:
                value = await told(subscriber)
                number = int(value.split()[0])
                assert value == numbered(number, 10_000 if number % 2 else 10)
                assert number > last
                last = number
            await leaves(subscriber)
            assert not topic.observed.is_set()
            if name == "b":
                # The rest of a value is read, and not observed once more.
                assert len(topic.later) > 900
                assert {request.opt.observe for request in topic.later} == {None}

    asyncio.run(story())


def test_a_subscriber_of_aiocoap_comes_back_to_a_server_that_has_started_anew():
    async def story():
        port, topic = free_port(), Parted()
        topic.change(numbered(0, 3_000))
        subscriber = None
        for number in range(1, 5):
            async with serving("coap", port, {"b": topic}) as url:
                if subscriber is None:
                    soon = ["-k", "1", "--ack-timeout", "100ms", "--reconnect"]
                    subscriber = await observer("--url", url, "-t", "b", *soon)
                    assert await told(subscriber) == numbered(0, 3_000)
                await asyncio.wait_for(topic.observed.wait(), 30)
                topic.change(numbered(number, 3_000))
                # After the loss of a connection the value that is there is told as well.
                while (value := await told(subscriber)) != numbered(number, 3_000):
                    assert value == numbered(number - 1, 3_000)
            assert not topic.observed.is_set()
        # Nobody is there to say goodbye to.
        subscriber.kill()
        await subscriber.communicate()

    asyncio.run(story())


needs_mosquitto = pytest.mark.skipif(
    not (shutil.which("mosquitto_sub") and shutil.which("mosquitto_pub")),
    reason="Debian's mosquitto-clients is not installed",
)
LISTENERS = ["coap", "coaps", "coap+tcp", "coaps+tcp"]


def door(broker, scheme):
    """The listener of this scheme as an argument of ours, and what its certificate takes."""
    host, port = broker.address(scheme.replace("+", "_"))
    trust = ["--ca", broker.authority] if scheme.startswith("coaps") else []
    return ["--url", f"{scheme}://{host}:{port}", *trust]


def ours(*arguments):
    done = subprocess.run(
        [os.environ["TIDEGATE_BIN"], *arguments], capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout.decode()


@needs_mosquitto
@pytest.mark.parametrize("scheme", LISTENERS)
def test_what_is_published_over_coap_reaches_mosquitto(broker, topic, scheme, tmp_path):
    at = door(broker, scheme)
    large = tmp_path / "large"
    large.write_bytes(LARGE)
    options = ["-q", "2", "-F", "> %t %q %r %p"]
    address = broker.address("mqtt")
    subscriber = mosquitto.Subscriber(address, "mqttv5", f"{topic}/#", *options, count=4)
    ours("pub", *at, "-t", f"{topic}/a/b", "-m", "zero", "-q", "0")
    ours("pub", *at, "-t", f"{topic}/a/b", "-m", "one", "-q", "1")
    ours("pub", *at, "-t", f"{topic}/empty", "-m", "", "-q", "1")
    ours("pub", *at, "-t", f"{topic}/large", "-f", large, "-q", "1", "-r")
    body = LARGE.decode()
    assert subscriber.lines() == [
        f"> {topic}/a/b 0 0 zero",
        f"> {topic}/a/b 1 0 one",
        f"> {topic}/empty 1 0 ",
        f"> {topic}/large 1 0 {body}",
    ]
    kept = mosquitto.Subscriber(address, "mqttv5", f"{topic}/#", *options)
    assert kept.lines() == [f"> {topic}/large 1 1 {body}"]


@needs_mosquitto
@pytest.mark.parametrize("qos", ["0", "1"])
@pytest.mark.parametrize("scheme", LISTENERS)
def test_what_mosquitto_publishes_is_observed_over_coap(broker, topic, scheme, qos, tmp_path):
    at = door(broker, scheme)
    large = tmp_path / "large"
    large.write_bytes(LARGE)

    async def story():
        filters = ["-t", f"{topic}/+/b", "-t", f"{topic}/large", "-q", qos]
        command = ["sub", *at, *filters, "-v", "-n", "4", "--debug"]
        subscriber = await client(*command)
        for _ in range(2):
            while b"subscribed to" not in (line := await subscriber.stderr.readline()):
                assert line
        address = broker.address("mqtt")
        for level, text in [("a", "first"), ("a", ""), ("c", "third")]:
            mosquitto.publish(address, "mqttv5", f"{topic}/{level}/b", text, "-q", "1")
        mosquitto.publish(address, "mqttv5", f"{topic}/elsewhere", "no", "-q", "1")
        host, port = address
        to = ["-h", host, "-p", str(port), "-V", "mqttv5", "-t", f"{topic}/large"]
        subprocess.run(["mosquitto_pub", *to, "-f", large, "-q", "1"], check=True, timeout=40)
        out, _ = await asyncio.wait_for(subscriber.communicate(), 60)
        expected = [f"{topic}/a/b first", f"{topic}/a/b ", f"{topic}/c/b third"]
        lines = out.decode().splitlines()
        assert [line for line in lines if "/large" not in line] == expected
        assert f"{topic}/large {LARGE.decode()}" in lines

    asyncio.run(story())
