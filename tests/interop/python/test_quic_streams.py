"""aioquic speaks MQTT to the gateway on several streams of one connection: what belongs to a stream, what does not,
and what becomes of an exchange whose stream ends."""

import asyncio
import itertools
import random

import pytest
from aioquic.quic.events import StopSendingReceived, StreamDataReceived, StreamReset
from test_quic import (
    DISCONNECT,
    PATIENCE,
    Neighbour,
    acknowledge,
    device,
    move,
    packet,
    publish,
    split,
    subscribe,
)

PING = packet(0xC0, b"")


class Stream:
    """A data stream."""

    def __init__(self, quic):
        self.quic, self.number = quic, quic._quic.get_next_available_stream_id()
        # Taken, so that the next one gets another.
        quic._quic.send_stream_data(self.number, b"")
        quic.further[self.number] = self
        self.bytes, self.packets = bytearray(), asyncio.Queue()
        self.over = asyncio.get_running_loop().create_future()

    def happened(self, event):
        if isinstance(event, StreamDataReceived):
            self.bytes += event.data
            split(self.bytes, self.packets)
            if event.end_stream and not self.over.done():
                self.over.set_result("finished")
        elif isinstance(event, (StreamReset, StopSendingReceived)) and not self.over.done():
            self.over.set_result("reset")

    def send(self, *packets, end=False):
        self.quic._quic.send_stream_data(self.number, b"".join(packets), end)
        self.quic.transmit()

    def reset(self):
        """Gives it up in both directions, as an application does that has failed."""
        self.quic._quic.reset_stream(self.number, 1)
        self.quic._quic.stop_stream(self.number, 1)
        self.quic.transmit()

    async def answer(self, first):
        async with asyncio.timeout(PATIENCE):
            kind, body = await self.packets.get()
        assert kind & 0xF0 == first & 0xF0, (hex(kind), body)
        return body

    async def end(self):
        async with asyncio.timeout(PATIENCE):
            return await self.over


async def quiet(quic):
    """Nothing is on its way on the control stream: a ping is answered before anything else comes."""
    quic.send(PING)
    assert await quic.answer(0xD0) == b""
    assert quic.packets.empty()


def hex_of_first(packet):
    return hex(packet[0])


def number_of(body, topic):
    """The packet identifier of a PUBLISH."""
    return int.from_bytes(body[2 + len(topic) :][:2], "big")


@pytest.fixture
def neighbour(broker):
    neighbour = Neighbour(broker, "ws")
    yield neighbour
    neighbour.close()


async def received(stream, topic, step, quic):
    """Takes a delivery at QoS 2 up to `step` of its exchange; its payload."""
    body = await stream.answer(0x30)
    identifier = number_of(body, topic)
    if step > 0:
        stream.send(acknowledge(0x50, identifier))
        await stream.answer(0x60)
    if step > 1:
        stream.send(acknowledge(0x70, identifier))
    return body[2 + len(topic) + 3 :]


def test_deliveries_and_answers_are_on_the_stream_of_the_request(broker, neighbour):
    async def exchange():
        async with device(broker) as quic:
            await quic.begin()
            streams = [Stream(quic) for _ in range(3)]
            for at, stream in enumerate(streams):
                # The identifier of a request is the stream's, too.
                stream.send(subscribe(f"to/stream/{at}", 1, identifier=7))
                assert (await stream.answer(0x90))[:2] == b"\0\7"
            quic.send(subscribe("to/control", 1, identifier=7))
            await quic.answer(0x90)
            places = {f"to/stream/{at}": stream for at, stream in enumerate(streams)}
            places["to/control"] = quic
            identifiers = set()
            for topic, place in places.items():
                neighbour.paho.publish(topic, b"down", 1)
                identifiers.add(number_of(await place.answer(0x30), topic))
            # Those of the gateway are unique in the connection, whatever the stream.
            assert len(identifiers) == 4
            for place, identifier in zip(places.values(), identifiers, strict=True):
                # And acknowledged on whatever stream.
                place.send(acknowledge(0x40, identifier))
            for at, stream in enumerate(streams):
                # One identifier on each stream: they are not the same message.
                stream.send(publish("from/stream", b"up %d" % at, 2, 9))
                await stream.answer(0x50)
            for stream in streams:
                stream.send(acknowledge(0x62, 9))
                assert await stream.answer(0x70) == b"\0\x09"
            await quiet(quic)
            assert all(stream.packets.empty() for stream in streams)
            quic.send(DISCONNECT)
            assert await quic.end() == 0

    neighbour.subscribe("from/stream", 2)
    asyncio.run(exchange())
    assert [neighbour.message()[1] for _ in range(3)] == [b"up 0", b"up 1", b"up 2"]
    assert neighbour.messages.empty()


def test_each_stream_has_its_order(broker, neighbour):
    async def exchange():
        async with device(broker) as quic:
            await quic.begin()
            streams = [Stream(quic) for _ in range(4)]
            for at, stream in enumerate(streams):
                stream.send(subscribe(f"ordered/{at}", 1))
                await stream.answer(0x90)
            for n in range(200):
                for at in range(4):
                    neighbour.paho.publish(f"ordered/{at}", b"%d" % n, 1)
            for at, stream in enumerate(streams):
                topic = f"ordered/{at}"
                for n in range(200):
                    body = await stream.answer(0x30)
                    assert body[2 + len(topic) + 3 :] == b"%d" % n
                    stream.send(acknowledge(0x40, number_of(body, topic)))

    asyncio.run(exchange())


def test_data_that_comes_before_connack_waits_unread(broker, neighbour):
    async def exchange():
        async with device(broker) as quic:
            # Numbered, and not begun.
            quic.stream = quic._quic.get_next_available_stream_id()
            quic._quic.send_stream_data(quic.stream, b"")
            early = Stream(quic)
            early.send(publish("too/early", b"waits", 1, 3))
            # The gateway has it: what is behind it is acknowledged.
            await quic.ping()
            assert neighbour.messages.empty() and early.packets.empty()
            await quic.begin()
            assert await early.answer(0x40) == b"\0\x03"

    neighbour.subscribe("too/early", 1)
    asyncio.run(exchange())
    assert neighbour.message() == ("too/early", b"waits")


def test_a_subscription_whose_stream_is_finished_falls_back_to_the_control_stream(
    broker, neighbour
):
    async def exchange():
        async with device(broker) as quic:
            await quic.begin()
            stream = Stream(quic)
            stream.send(subscribe("falls/back", 1), publish("falls/over", b"last", 1, 3), end=True)
            await stream.answer(0x90)
            await stream.answer(0x40)
            assert await stream.end() == "finished"
            neighbour.paho.publish("falls/back", b"here", 1)
            body = await quic.answer(0x30)
            quic.send(acknowledge(0x40, number_of(body, "falls/back")))
            await quiet(quic)

    neighbour.subscribe("falls/over", 1)
    asyncio.run(exchange())
    assert neighbour.message() == ("falls/over", b"last")


@pytest.mark.parametrize("step", range(3))
def test_mqtt_4_4_0_1_a_delivery_goes_on_when_its_stream_is_reset_at_each_step(
    broker, neighbour, step
):
    """PUBLISH, PUBREL and PUBCOMP were the last packet on the stream."""

    async def exchange():
        async with device(broker) as quic:
            await quic.begin(f"reset-{step}", expiry=60)
            stream, topic = Stream(quic), f"reset/{step}"
            stream.send(subscribe(topic, 2))
            await stream.answer(0x90)
            neighbour.paho.publish(topic, b"whole", 2)
            assert await received(stream, topic, step, quic) == b"whole"
            if step == 2:
                # Once it has come: a reset may overtake what was sent.
                await quic.ping()
            stream.reset()
            assert await stream.end() == "reset"
            if step == 0:
                async with asyncio.timeout(PATIENCE):
                    kind, body = await quic.packets.get()
                assert kind == 0x30 | 0x08 | 2 << 1, "with DUP"
                identifier = number_of(body, topic)
                quic.send(acknowledge(0x50, identifier))
            if step < 2:
                identifier = await quic.answer(0x60)
                quic.send(packet(0x70, identifier[:2]))
            # The subscription stands, and nothing of before comes again.
            neighbour.paho.publish(topic, b"next", 0)
            assert (await quic.answer(0x30)).endswith(b"next")
            await quiet(quic)

    asyncio.run(exchange())


@pytest.mark.parametrize("step", range(3))
def test_mqtt_4_3_3_10_a_publish_is_taken_once_when_its_stream_is_reset_at_each_step(
    broker, neighbour, step
):
    """PUBLISH was cut, PUBLISH or PUBREC was the last packet on the stream."""

    async def exchange():
        async with device(broker) as quic:
            await quic.begin()
            stream = Stream(quic)
            whole = publish("taken/once", b"message", 2, 7)
            if step == 0:
                stream.send(whole[:-1])
                await quic.ping()
            else:
                stream.send(whole)
                await stream.answer(0x50)
            stream.reset()
            await stream.end()
            again = Stream(quic)
            again.send(bytes([whole[0] | 0x08]) + whole[1:])
            await again.answer(0x50)
            if step == 2:
                # Once more on the control stream, without having been sent again there.
                quic.send(acknowledge(0x62, 9))
                assert (await quic.answer(0x70))[2:3] == b"\x92", "Packet Identifier not found"
            again.send(acknowledge(0x62, 7))
            assert await again.answer(0x70) == b"\0\x07"
            await quiet(quic)

    neighbour.subscribe("taken/once", 2)
    asyncio.run(exchange())
    assert neighbour.message() == ("taken/once", b"message")
    assert neighbour.messages.empty()


@pytest.mark.parametrize(
    "wrong", [PING, DISCONNECT, packet(0xF0, b""), packet(0x90, b"\0\1\0\0")], ids=hex_of_first
)
def test_mqtt_4_13_1_what_does_not_belong_on_a_data_stream_ends_the_connection(broker, wrong):
    async def exchange():
        async with device(broker) as quic:
            await quic.begin()
            stream = Stream(quic)
            stream.send(wrong)
            assert (await quic.answer(0xE0))[0] == 0x82
            assert await quic.end() == 0

    asyncio.run(exchange())


def test_losing_the_control_stream_ends_the_connection(broker, neighbour):
    async def exchange():
        async with device(broker) as quic:
            await quic.begin()
            stream = Stream(quic)
            stream.send(subscribe("lost/with/it", 1))
            await stream.answer(0x90)
            quic._quic.reset_stream(quic.stream, 1)
            quic.transmit()
            await quic.end()

    asyncio.run(exchange())


def test_a_client_that_moves_keeps_its_streams_in_the_middle_of_qos_2(broker, neighbour):
    async def exchange():
        async with device(broker) as quic:
            await quic.begin()
            stream, topic = Stream(quic), "moving/streams"
            stream.send(subscribe(topic, 2))
            await stream.answer(0x90)
            up = Stream(quic)
            neighbour.paho.publish(topic, b"one", 2)
            up.send(publish("moved/streams", b"up", 2, 1))
            body = await stream.answer(0x30)
            await up.answer(0x50)
            await move(quic)
            up.send(acknowledge(0x62, 1))
            await up.answer(0x70)
            stream.send(acknowledge(0x50, number_of(body, topic)))
            await stream.answer(0x60)
            await move(quic)
            stream.send(acknowledge(0x70, number_of(body, topic)))
            await quiet(quic)

    neighbour.subscribe("moved/streams", 2)
    asyncio.run(exchange())
    assert neighbour.message() == ("moved/streams", b"up")


def test_rfc9000_4_6_a_stream_beyond_the_limit_is_refused(broker):
    async def exchange():
        async with device(broker) as quic:
            await quic.begin()
            # As a client would that minds no limits.
            quic._quic._remote_max_streams_bidi = 1_000
            streams = [Stream(quic) for _ in range(40)]
            streams[-1].send(publish("beyond", b"", 0))
            # STREAM_LIMIT_ERROR
            assert await quic.end() == 0x04

    asyncio.run(exchange())


def test_streams_that_come_and_go_leave_room_for_others(broker, neighbour):
    async def exchange():
        async with device(broker) as quic:
            await quic.begin()
            for n in range(100):
                stream = Stream(quic)
                stream.send(publish("come/and/go", b"%d" % n, 1, 1), end=n % 2 == 0)
                await stream.answer(0x40)
                if n % 2:
                    stream.reset()
                await stream.end()

    neighbour.subscribe("come/and/go", 1)
    asyncio.run(exchange())
    assert [neighbour.message()[1] for _ in range(100)] == [b"%d" % n for n in range(100)]


class Walk:
    """A device that opens, uses and gives up streams as it comes, and keeps to MQTT on them."""

    def __init__(self, quic, seed):
        self.quic, self.random = quic, random.Random(seed)
        self.streams, self.finishing, self.tasks = [], [], []
        # Of what is received: messages in the order they came, identifiers between PUBLISH and PUBREL.
        self.received, self.open = [], set()
        # Of what is published: what the next answer to an identifier is, and where it was asked for.
        self.numbers, self.asked = itertools.cycle(range(1, 60_000)), {}
        self.changed = asyncio.Event()

    def listen(self, place):
        self.tasks.append(asyncio.get_running_loop().create_task(self.hear(place)))

    async def hear(self, place):
        while True:
            kind, body = await place.packets.get()
            if place in self.streams or place is self.quic:
                self.packet(place, kind, body)
            elif place in self.finishing:
                self.packet(self.quic, kind, body)
            self.changed.set()

    def packet(self, place, kind, body):
        if kind & 0xF0 == 0x30:
            size = int.from_bytes(body[:2], "big")
            qos, payload = kind >> 1 & 3, body[2 + size + (2 if kind & 6 else 0) :][1:]
            identifier = body[2 + size :][:2]
            if qos == 2 and identifier not in self.open:
                self.open.add(identifier)
                self.received.append(payload)
            elif qos < 2:
                self.received.append(payload)
            if qos:
                place.send(packet(0x40 if qos == 1 else 0x50, identifier))
        elif kind == 0x62:
            self.open.discard(body[:2])
            place.send(packet(0x70, body[:2]))
        elif kind == 0x50:
            assert body[2:3] in (b"", b"\x00", b"\x10"), body
            self.asked[body[:2]] = (place, 0x62, packet(0x62, body[:2]))
            place.send(packet(0x62, body[:2]))
        elif kind in (0x40, 0x70):
            self.asked.pop(body[:2], None)

    def publish(self, place, topic, payload, qos):
        identifier = next(self.numbers)
        message = publish(topic, payload, qos, identifier)
        self.asked[identifier.to_bytes(2, "big")] = (place, 0x30, message)
        place.send(message)

    async def give_up(self, stream, how):
        self.streams.remove(stream)
        if how == "reset":
            stream.reset()
            await stream.end()
        else:
            # Answers that are owed come before the end.
            self.finishing.append(stream)
            stream.send(end=True)
            assert await stream.end() == "finished"
            while not stream.packets.empty():
                await asyncio.sleep(0)
            self.finishing.remove(stream)
        for identifier, (place, first, message) in list(self.asked.items()):
            if place is stream:
                other = self.random.choice([self.quic, *self.streams])
                if first == 0x30:
                    message = bytes([message[0] | 0x08]) + message[1:]
                self.asked[identifier] = (other, first, message)
                other.send(message)

    async def settle(self, missing):
        try:
            async with asyncio.timeout(PATIENCE):
                while missing() or self.asked:
                    self.changed.clear()
                    await self.changed.wait()
        except TimeoutError:
            pytest.fail(f"not answered: {self.asked}, missing: {missing()}")
        for task in self.tasks:
            task.cancel()


@pytest.mark.parametrize("seed", range(4))
def test_messages_are_whole_whatever_becomes_of_the_streams(broker, neighbour, seed):
    """At QoS 2 each comes once, both ways, at QoS 1 at least once, and nothing that is not the gateway's waits."""
    up, down = f"walk/{seed}/up", f"walk/{seed}/down"
    sent = {"up": [], "down": []}

    async def exchange():
        async with device(broker) as quic:
            await quic.begin(f"walk-{seed}", expiry=60)
            walk = Walk(quic, seed)
            quic.send(subscribe(f"{down}/#", 2))
            await quic.answer(0x90)
            walk.listen(quic)
            for n in range(250):
                step, payload = walk.random.random(), b"%d" % n
                place = walk.random.choice([quic, *walk.streams])
                if step < 0.4:
                    walk.publish(place, up, payload, 2)
                    sent["up"].append(payload)
                elif step < 0.8:
                    qos = walk.random.choice([1, 2, 2])
                    neighbour.paho.publish(f"{down}/{n % 3}", b"%d:%d" % (qos, n), qos)
                    sent["down"].append(b"%d:%d" % (qos, n))
                elif step < 0.9 and len(walk.streams) < 8:
                    stream = Stream(quic)
                    walk.streams.append(stream)
                    walk.listen(stream)
                    # From now on one topic comes here, or all.
                    stream.send(subscribe(f"{down}/{walk.random.choice('012#')}", 2))
                elif walk.streams:
                    stream = walk.random.choice(walk.streams)
                    await walk.give_up(stream, walk.random.choice(["reset", "finish"]))
                elif walk.random.random() < 0.3:
                    await move(quic)
                if walk.random.random() < 0.3:
                    await asyncio.sleep(0)
            await walk.settle(lambda: set(sent["down"]) - set(walk.received))
            return walk.received

    neighbour.subscribe(up, 2)
    received = asyncio.run(exchange())
    twice = [m for m in received if m.startswith(b"2") and received.count(m) > 1]
    assert not twice
    assert set(received) == set(sent["down"])
    there = [neighbour.message()[1] for _ in sent["up"]]
    assert sorted(there) == sorted(sent["up"])
    assert neighbour.messages.empty()
