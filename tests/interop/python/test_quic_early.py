"""aioquic comes back: with tickets that lead to another gateway, and with early data, once. Whoever records early
data and sends it again gets nothing by it."""

import asyncio
import base64
import contextlib
import dataclasses
import socket
import time

import pytest
from conftest import running
from test_quic import PATIENCE, Neighbour, connect, device, packet, publish

EARLY = """
[listeners.quic.tls]
resumption = "early_data"
handshake_timeout = "1s"
"""


def write_key(path, letter):
    path.write_text(base64.b64encode(bytes(range(32)) + letter * 16).decode())
    path.chmod(0o600)


def sharing(*keys):
    names = ", ".join(f'"{key}"' for key in keys)
    return f"[listeners.quic.tls]\nticket_keys = [{names}]\n"


def handshakes(broker):
    """How many were full, and how many were not."""
    kinds = ["full", "resumed"]
    name = "tidegate_tls_handshakes_total"
    return [broker.metric(name, listener="quic", kind=kind) for kind in kinds]


def early(broker):
    """How many times early data was taken, and how many times it was not."""
    results = ["accepted", "refused"]
    name = "tidegate_quic_early_data_total"
    return [broker.metric(name, listener="quic", result=result) for result in results]


async def tickets(broker):
    """What a client gets with a full handshake."""
    async with device(broker) as quic:
        assert not (await quic.completed).session_resumed
        await quic.begin()
        assert quic.tickets
        return quic.tickets


async def resumes(broker, ticket):
    async with device(broker, session_ticket=ticket) as quic:
        await quic.begin()
        return (await quic.completed).session_resumed


async def until(true):
    """Waits until something is true."""
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, "it does not become true"
        await asyncio.sleep(0.02)


def test_a_ticket_leads_to_another_gateway_with_the_key_and_outlives_a_restart(tmp_path):
    key, other = tmp_path / "ticket.key", tmp_path / "other.key"
    write_key(key, b"a")
    write_key(other, b"b")
    with running(tmp_path / "first", sharing(key)) as first:
        one, two = asyncio.run(tickets(first))
        assert handshakes(first) == [1, 0]
        with running(tmp_path / "second", sharing(key)) as second:
            assert asyncio.run(resumes(second, one))
            assert handshakes(second) == [0, 1]
        with running(tmp_path / "third", sharing(other)) as third:
            assert not asyncio.run(resumes(third, one))
            assert handshakes(third) == [1, 0]
    with running(tmp_path / "first", sharing(key)) as first:
        assert asyncio.run(resumes(first, two))
        assert handshakes(first) == [0, 1]


def test_a_ticket_key_is_changed_by_its_file(tmp_path):
    front, back = tmp_path / "1.key", tmp_path / "2.key"
    write_key(front, b"a")
    write_key(back, b"b")

    async def change(broker):
        before = await tickets(broker)
        # A ticket begins with the name of its key.
        named = [before[0].ticket[:16]]
        write_key(front, b"b")
        write_key(back, b"a")
        while named[-1] == named[0]:
            named.append((await tickets(broker))[0].ticket[:16])
        assert await resumes(broker, before[0])
        reloads = broker.metric("tidegate_tls_reloads_total", listener="quic", result="success")
        write_key(back, b"c")

        def reloaded():
            name = "tidegate_tls_reloads_total"
            return broker.metric(name, listener="quic", result="success") > reloads

        await until(reloaded)
        assert not await resumes(broker, before[1])

    with running(tmp_path / "gateway", sharing(front, back)) as broker:
        asyncio.run(change(broker))


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    with running(tmp_path_factory.mktemp("early") / "gateway", EARLY) as broker:
        yield broker


@pytest.fixture
def listener(gateway, topic):
    """Somebody who hears what is published."""
    neighbour = Neighbour(gateway, "mqtt")
    neighbour.subscribe(f"{topic}/#", 1)
    yield neighbour
    neighbour.close()


@contextlib.asynccontextmanager
async def early_device(broker, ticket, client, topic):
    """Sends CONNECT and PUBLISH with its first packets."""
    async with device(broker, wait=False, session_ticket=ticket) as quic:
        quic.send(connect(client), publish(topic, client.encode(), 1, 7))
        yield quic


async def answered(quic):
    async with asyncio.timeout(PATIENCE):
        completed = await quic.completed
    await quic.answer(0x20)
    assert (await quic.answer(0x40))[:2] == b"\0\7"
    return completed


def heard(listener):
    return [message.payload.decode() for message in list(listener.messages.queue)]


async def hears(listener, client):
    await until(lambda: client in heard(listener))
    assert heard(listener).count(client) == 1


def test_rfc9001_4_6_early_data_is_taken_once(gateway, listener, topic):
    async def exchange():
        ticket = (await tickets(gateway))[0]
        assert ticket.max_early_data_size == 0xFFFFFFFF
        before, kinds = early(gateway), handshakes(gateway)
        async with early_device(gateway, ticket, "at-once", topic) as quic:
            completed = await answered(quic)
            assert completed.session_resumed and completed.early_data_accepted
            # It is told how to come back next time.
            assert quic.tickets
        await hears(listener, "at-once")
        assert early(gateway) == [before[0] + 1, before[1]]
        assert handshakes(gateway) == [kinds[0], kinds[1] + 1]
        # The same session once more: a full handshake, and then the same data again.
        async with early_device(gateway, ticket, "once-more", topic) as quic:
            completed = await answered(quic)
            assert not completed.session_resumed and not completed.early_data_accepted
        await hears(listener, "once-more")
        assert early(gateway) == [before[0] + 1, before[1] + 1]
        assert handshakes(gateway) == [kinds[0] + 1, kinds[1] + 1]

    asyncio.run(exchange())


def test_a_session_that_is_remembered_is_resumed_without_early_data_too(gateway):
    async def exchange():
        ticket = (await tickets(gateway))[0]
        before = early(gateway)
        # Otherwise aioquic offers early data even if it has none.
        ticket.max_early_data_size = None
        assert await resumes(gateway, ticket)
        assert not await resumes(gateway, ticket)
        assert early(gateway) == before

    asyncio.run(exchange())


class Tap(asyncio.DatagramProtocol):
    """Between a client and the gateway: keeps what the client sends, and lets it pass or not."""

    def __init__(self, gateway, passing):
        self.gateway, self.passing = gateway, passing
        # What the client sent before it heard anything.
        self.flight, self.answered = [], False
        self.client = None
        self.back = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.back.setblocking(False)
        self.back.connect(gateway)

    def connection_made(self, transport):
        self.front = transport
        asyncio.get_running_loop().add_reader(self.back, self.from_gateway)

    def datagram_received(self, data, address):
        self.client = address
        if not self.answered:
            self.flight.append(data)
        if self.passing:
            self.back.send(data)

    def from_gateway(self):
        with contextlib.suppress(OSError):
            data = self.back.recv(65536)
            self.answered = True
            self.front.sendto(data, self.client)

    def close(self):
        asyncio.get_running_loop().remove_reader(self.back)
        self.back.close()
        self.front.close()


@contextlib.asynccontextmanager
async def tapped(broker, passing):
    """A tap, and the broker as its clients see it."""
    loop = asyncio.get_running_loop()
    _, tap = await loop.create_datagram_endpoint(
        lambda: Tap(broker.address("quic"), passing), local_addr=("127.0.0.1", 0)
    )
    address = tap.front.get_extra_info("sockname")
    try:
        yield tap, dataclasses.replace(broker, addresses={**broker.addresses, "quic": address})
    finally:
        tap.close()


def has_early_data(flight):
    """Whether there are packets of 0-RTT in it (RFC 9000 section 17.2.3)."""
    return any(kind == 1 for datagram in flight for kind in long_headers(datagram))


def long_headers(datagram):
    """The types of the packets with a long header (RFC 9000 section 17.2)."""
    at = 0

    def number():
        nonlocal at
        size = 1 << (datagram[at] >> 6)
        value = int.from_bytes(datagram[at : at + size], "big") & ((1 << (size * 8 - 2)) - 1)
        at += size
        return value

    while at < len(datagram) and datagram[at] & 0x80:
        kind = datagram[at] >> 4 & 3
        at += 5
        for _ in range(2):
            at += 1 + datagram[at]
        if kind == 0:
            token = number()
            at += token
        length = number()
        at += length
        yield kind


class Stranger:
    """Sends from another port what somebody else has sent."""

    def __init__(self, gateway):
        self.gateway = gateway
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.connect(gateway.address("quic"))

    def send(self, flight):
        for datagram in flight:
            self.socket.send(datagram)

    def hears(self):
        with contextlib.suppress(BlockingIOError):
            return len(self.socket.recv(65536)) > 0
        return False


def standing(broker):
    """What a flight that is sent again could have changed."""
    return [
        broker.metric("tidegate_connects_total"),
        broker.metric("tidegate_takeovers_total"),
        broker.metric("tidegate_sessions"),
        broker.metric("tidegate_messages_received_total", qos="1"),
        broker.metric("tidegate_quic_streams_opened_total", listener="quic"),
        *early(broker),
        *handshakes(broker),
    ]


def held(broker):
    """What it could hold on to."""
    return [
        broker.metric("tidegate_listener_connections", listener="quic"),
        broker.metric("tidegate_tls_handshakes_in_progress", listener="quic"),
        broker.metric("tidegate_queue_memory_bytes"),
    ]


def late(broker):
    return broker.metric("tidegate_listener_refused_total", listener="quic", reason="quic_timeout")


def victim(broker, client):
    """The client whose flight it is, connected elsewhere meanwhile."""
    neighbour = Neighbour(broker, "mqtt", client)
    neighbour.subscribe("victim", 1)
    return neighbour


def still_there(neighbour):
    neighbour.paho.publish("victim", b"still there", 1)
    return neighbour.message() == ("victim", b"still there")


def test_rfc8446_8_a_flight_that_is_sent_again_has_no_effect(gateway, listener, topic):
    async def exchange():
        ticket = (await tickets(gateway))[0]
        async with tapped(gateway, passing=True) as (tap, through):
            async with early_device(through, ticket, "recorded", topic) as quic:
                assert (await answered(quic)).early_data_accepted
                flight = list(tap.flight)
                assert has_early_data(flight)
                # At once, while the connection is open.
                stranger = Stranger(gateway)
                stranger.send(flight)
                quic.send(packet(0xC0, b""))
                await quic.answer(0xD0)
        await until(lambda: held(gateway)[:2] == [0, 0])
        await hears(listener, "recorded")
        owner = await asyncio.to_thread(victim, gateway, "recorded")
        before, lates, holds = standing(gateway), late(gateway), held(gateway)
        came = gateway.metric("tidegate_listener_accepted_total", listener="quic")
        # And when it is gone.
        stranger = Stranger(gateway)

        def begun():
            stranger.send(flight)
            return gateway.metric("tidegate_listener_accepted_total", listener="quic") > came

        await until(begun)
        await until(stranger.hears)
        await until(lambda: late(gateway) > lates)
        await until(lambda: held(gateway) == holds)
        assert standing(gateway) == before
        assert await asyncio.to_thread(still_there, owner)
        owner.close()
        assert heard(listener) == ["recorded"]

    asyncio.run(exchange())


def test_rfc8446_8_a_flight_that_comes_instead_of_its_client_has_no_effect(gateway, listener, topic):
    async def exchange():
        ticket = (await tickets(gateway))[0]
        sessions = gateway.metric("tidegate_quic_early_data_sessions", listener="quic")
        async with tapped(gateway, passing=False) as (tap, through):
            owner = await asyncio.to_thread(victim, gateway, "withheld")
            before, lates, holds = standing(gateway), late(gateway), held(gateway)
            async with early_device(through, ticket, "withheld", topic) as quic:
                await until(lambda: has_early_data(tap.flight))
                stranger = Stranger(gateway)
                stranger.send(list(tap.flight))
                # The gateway knows the session and answers; the stranger cannot go on.
                await until(stranger.hears)
                name = "tidegate_quic_early_data_sessions"
                assert gateway.metric(name, listener="quic") == sessions - 1
                assert held(gateway)[:2] == [1, 1]
                await until(lambda: late(gateway) > lates)
                await until(lambda: held(gateway) == holds)
                assert standing(gateway) == before
                assert await asyncio.to_thread(still_there, owner)
                assert heard(listener) == []
                owner.close()
                # Now the client itself gets through: the session is used up, and all comes after the handshake.
                tap.passing = True
                completed = await answered(quic)
                assert not completed.early_data_accepted
            await hears(listener, "withheld")

    asyncio.run(exchange())
