"""`tidegate pub` and `tidegate sub` over CoAP with aiocoap's server, and across the gateway with mosquitto's clients."""

import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess

import aiocoap
import aiocoap.resource
import pytest
from aiocoap import CHANGED, CONTENT, DELETED, NOT_FOUND, Message

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
        self.queries = []

    async def render_put(self, request):
        self.queries.append(request.opt.uri_query)
        self.value, self.format = request.payload, request.opt.content_format
        self.updated_state()
        return Message(code=CHANGED)

    async def render_get(self, request):
        if self.value is None:
            return Message(code=NOT_FOUND, payload=b"nothing was put here")
        return Message(code=CONTENT, payload=self.value, content_format=self.format)

    async def render_delete(self, request):
        self.value = None
        self.updated_state(Message(code=NOT_FOUND, payload=b"it is gone"))
        return Message(code=DELETED)


@contextlib.asynccontextmanager
async def server(scheme):
    """The URL of a server with the topics a and b, and these."""
    topics = {"a": Topic(), "b": Topic()}
    site = aiocoap.resource.Site()
    for name, topic in topics.items():
        site.add_resource(["some", "where", name], topic)
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # The first serves any address, of IPv4 as one of IPv6.
    transport, bind = {
        "coap": ("udp6", "::ffff:127.0.0.1"),
        "coap+tcp": ("tcpserver", "127.0.0.1"),
    }[scheme]
    context = await aiocoap.Context.create_server_context(
        site, bind=(bind, port), transports=[transport]
    )
    try:
        yield f"{scheme}://127.0.0.1:{port}/some/where", topics
    finally:
        await context.shutdown()


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


async def run(*arguments):
    process = await client(*arguments)
    out, said = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode, out, said.decode()


async def works(*arguments):
    code, out, said = await run(*arguments)
    assert (code, said) == (0, "")
    return out


@pytest.mark.parametrize("scheme", ["coap+tcp"])
def test_aiocoap_takes_what_is_published_and_tells_it(scheme, tmp_path):
    async def story():
        async with server(scheme) as (url, topics):
            at = ["--url", url]
            options = ["--content-type", "application/json", "-i", "me", "-q", "1"]
            await works("pub", *at, "-t", "a", "-m", "1", *options)
            assert topics["a"].queries == [("qos=1", "c=me")]
            subscriber = await client("sub", *at, "-t", "a", "-n", "2", "--json", "--debug")
            while b"subscribed to" not in (line := await subscriber.stderr.readline()):
                assert line
            await works("pub", *at, "-t", "a", "-m", "2", *options)
            out, _ = await asyncio.wait_for(subscriber.communicate(), 60)
            told = [json.loads(line) for line in out.splitlines()]
            assert [(it["payload"], it["retain"]) for it in told] == [("1", True), ("2", False)]
            assert told[1]["properties"]["content_type"] == "application/json"

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
            subscriber = await client("sub", *at, "-t", "a", "--debug")
            while b"subscribed to" not in (line := await subscriber.stderr.readline()):
                assert line
            await works("pub", *at, "-t", "a", "--null", "-r")
            out, said = await asyncio.wait_for(subscriber.communicate(), 60)
            assert (subscriber.returncode, out) == (3, b"1\n")
            assert b"refused the filter a: 4.04 Not Found: it is gone" in said

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
