"""`tidegate pub` and `tidegate sub` over CoAP with aiocoap's server."""

import asyncio
import contextlib
import json
import os
import socket

import aiocoap
import aiocoap.resource
import pytest
from aiocoap import CHANGED, CONTENT, DELETED, NOT_FOUND, Message

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
