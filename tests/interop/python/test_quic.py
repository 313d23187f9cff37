"""aioquic speaks MQTT to the gateway: one stream, another port in the middle of an exchange, resumption, early
data, and what must be refused."""

import asyncio
import contextlib
import itertools
import queue

import paho.mqtt.client as paho
import pytest
from aioquic import tls
from aioquic.asyncio import QuicConnectionProtocol
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import (
    ConnectionTerminated,
    HandshakeCompleted,
    StopSendingReceived,
    StreamDataReceived,
    StreamReset,
)

PATIENCE = 15
# A CRYPTO_ERROR is 0x100 and the alert (RFC 9001 section 4.8); no_application_protocol is 120.
NO_APPLICATION_PROTOCOL = 0x100 + 120
NUMBERS = itertools.count(1)


def length(number):
    """A variable byte integer (MQTT 5.0 section 1.5.5)."""
    out = bytearray()
    while True:
        number, digit = number // 128, number % 128
        out.append(digit | (0x80 if number else 0))
        if not number:
            return bytes(out)


def text(value):
    encoded = value.encode()
    return len(encoded).to_bytes(2, "big") + encoded


def packet(first, body):
    return bytes([first]) + length(len(body)) + body


def connect(client, keep_alive=60, clean=True, expiry=0):
    properties = bytes([0x11]) + expiry.to_bytes(4, "big")
    flags = 0x02 if clean else 0
    head = text("MQTT") + bytes([5, flags]) + keep_alive.to_bytes(2, "big")
    return packet(0x10, head + length(len(properties)) + properties + text(client))


def subscribe(topic, qos, identifier=1):
    return packet(0x82, identifier.to_bytes(2, "big") + b"\0" + text(topic) + bytes([qos]))


def publish(topic, payload, qos=0, identifier=None):
    number = b"" if identifier is None else identifier.to_bytes(2, "big")
    return packet(0x30 | qos << 1, text(topic) + number + b"\0" + payload)


def acknowledge(first, identifier):
    return packet(first, identifier.to_bytes(2, "big"))


DISCONNECT = packet(0xE0, b"")


def split(read, packets):
    """Moves whole packets from what was read to a queue, as type and body."""
    while len(read) >= 2:
        size, shift, at = 0, 0, 1
        while True:
            if at >= len(read):
                return
            byte = read[at]
            size |= (byte & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if byte < 0x80:
                break
        if len(read) < at + size:
            return
        packets.put_nowait((read[0], bytes(read[at : at + size])))
        del read[: at + size]


class Device(QuicConnectionProtocol):
    """A connection of aioquic, its events turned into futures and its control stream into packets."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.completed = asyncio.get_event_loop().create_future()
        self.terminated = asyncio.get_event_loop().create_future()
        self.bytes, self.packets = bytearray(), asyncio.Queue()
        self.finished = asyncio.Event()
        self.stream = None
        # Further streams, by their identifiers.
        self.further = {}

    def quic_event_received(self, event):
        if getattr(event, "stream_id", None) in self.further:
            self.further[event.stream_id].happened(event)
        elif isinstance(event, HandshakeCompleted) and not self.completed.done():
            self.completed.set_result(event)
        elif isinstance(event, ConnectionTerminated) and not self.terminated.done():
            self.terminated.set_result(event)
            if not self.completed.done():
                self.completed.cancel()
        elif isinstance(event, StreamDataReceived) and event.stream_id == self.stream:
            self.bytes += event.data
            split(self.bytes, self.packets)
            if event.end_stream:
                self.finished.set()
        elif isinstance(event, (StreamReset, StopSendingReceived)):
            self.finished.set()

    def send(self, *packets):
        if self.stream is None:
            self.stream = self._quic.get_next_available_stream_id()
        self._quic.send_stream_data(self.stream, b"".join(packets))
        self.transmit()

    async def answer(self, first):
        """The next packet, which must be of this kind; its body."""
        async with asyncio.timeout(PATIENCE):
            kind, body = await self.packets.get()
        assert kind & 0xF0 == first & 0xF0, (hex(kind), body)
        return body

    async def begin(self, client=None, **options):
        self.send(connect(client or f"quic-{next(NUMBERS)}", **options))
        body = await self.answer(0x20)
        assert body[1] == 0, body
        return body[0] & 1

    async def end(self):
        """The code of whoever has ended the connection."""
        async with asyncio.timeout(PATIENCE):
            return (await self.terminated).error_code


@contextlib.asynccontextmanager
async def device(broker, wait=True, **options):
    host, port = broker.address("quic")
    configuration = QuicConfiguration(is_client=True, **{"alpn_protocols": ["mqtt"], **options})
    configuration.load_verify_locations(cafile=str(broker.authority))
    configuration.server_name = "localhost"
    ticket = options.get("session_ticket")
    tickets = []
    connection = QuicConnection(
        configuration=configuration, session_ticket_handler=tickets.append
    )
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(
        lambda: Device(connection), local_addr=("127.0.0.1", 0)
    )
    protocol.tickets = tickets
    protocol.connect((host, port), transmit=ticket is None or wait)
    try:
        if wait:
            async with asyncio.timeout(PATIENCE):
                await protocol.completed
        yield protocol
    finally:
        protocol.close()
        async with asyncio.timeout(PATIENCE):
            await protocol.wait_closed()
        protocol._transport.close()


async def move(protocol):
    """Goes on from another port, as after a NAT has forgotten the old one."""
    before, loop = protocol._transport, asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(
        lambda: Relay(protocol), local_addr=("127.0.0.1", 0)
    )
    ports = [one.get_extra_info("sockname")[1] for one in (before, transport)]
    assert ports[0] != ports[1]
    protocol._transport = transport
    before.close()


class Relay(asyncio.DatagramProtocol):
    """Hands datagrams of a second socket over."""

    def __init__(self, protocol):
        self.protocol = protocol

    def datagram_received(self, data, address):
        self.protocol.datagram_received(data, address)


class Neighbour:
    """Paho over TCP, or as a browser would over WebSocket."""

    def __init__(self, broker, listener, client=""):
        websockets = listener == "ws"
        self.paho = paho.Client(
            paho.CallbackAPIVersion.VERSION2,
            client_id=client,
            protocol=paho.MQTTv5,
            transport="websockets" if websockets else "tcp",
        )
        if websockets:
            self.paho.ws_set_options(path="/mqtt")
        self.subscribed, self.messages = queue.Queue(), queue.Queue()
        self.paho.on_subscribe = lambda *event: self.subscribed.put(event[3])
        self.paho.on_message = lambda _c, _u, message: self.messages.put(message)
        self.paho.connect(*broker.address(listener), keepalive=60)
        self.paho.loop_start()

    def subscribe(self, topic, qos):
        self.paho.subscribe(topic, qos)
        self.subscribed.get(timeout=PATIENCE)

    def message(self):
        message = self.messages.get(timeout=PATIENCE)
        return message.topic, message.payload

    def close(self):
        self.paho.disconnect()
        self.paho.loop_stop()


@pytest.fixture(params=["mqtt", "ws"])
def neighbour(broker, request):
    neighbour = Neighbour(broker, request.param)
    yield neighbour
    neighbour.close()


def test_what_is_published_over_quic_is_received_elsewhere_and_back(broker, neighbour):
    large = bytes(range(256)) * 800

    async def exchange():
        async with device(broker) as quic:
            assert (await quic.completed).alpn_protocol == "mqtt"
            # The control stream, and `quic.max_streams` beside it.
            assert quic._quic._remote_max_streams_bidi == 17
            await quic.begin()
            quic.send(subscribe("to/quic/#", 2))
            assert (await quic.answer(0x90))[-1] == 2
            for qos in range(3):
                quic.send(publish(f"from/quic/{qos}", large, qos, qos or None))
                if qos == 1:
                    await quic.answer(0x40)
                if qos == 2:
                    await quic.answer(0x50)
                    quic.send(acknowledge(0x62, 2))
                    await quic.answer(0x70)
            for qos in range(3):
                sent = neighbour.paho.publish(f"to/quic/{qos}", large, qos)
                body = await quic.answer(0x30)
                assert large in body
                if qos:
                    identifier = int.from_bytes(body[11:13], "big")
                    quic.send(acknowledge(0x40 if qos == 1 else 0x50, identifier))
                if qos == 2:
                    await quic.answer(0x60)
                    quic.send(acknowledge(0x70, identifier))
                await asyncio.to_thread(sent.wait_for_publish, PATIENCE)
            quic.send(DISCONNECT)
            assert await quic.end() == 0

    neighbour.subscribe("from/quic/#", 2)
    asyncio.run(exchange())
    assert [neighbour.message() for _ in range(3)] == [(f"from/quic/{q}", large) for q in range(3)]


def test_a_client_that_moves_goes_on_in_the_middle_of_qos_2(broker, neighbour):
    async def exchange():
        async with device(broker) as quic:
            await quic.begin()
            quic.send(subscribe("moving/back", 2))
            await quic.answer(0x90)
            quic.send(publish("moving/there", b"once", 2, 7))
            await quic.answer(0x50)
            await move(quic)
            quic.send(acknowledge(0x62, 7))
            assert await quic.answer(0x70) == acknowledge(0x70, 7)[2:]
            neighbour.paho.publish("moving/back", b"again", 2)
            body = await quic.answer(0x30)
            identifier = int.from_bytes(body[13:15], "big")
            quic.send(acknowledge(0x50, identifier))
            await quic.answer(0x60)
            await move(quic)
            quic.send(acknowledge(0x70, identifier))
            # Nothing is sent again: a ping is answered before anything else comes.
            quic.send(packet(0xC0, b""))
            await quic.answer(0xD0)
            assert quic.packets.empty()

    neighbour.subscribe("moving/there", 2)
    asyncio.run(exchange())
    assert neighbour.message() == ("moving/there", b"once")
    assert neighbour.messages.empty()


def test_a_session_goes_on_over_another_connection(broker):
    async def exchange():
        async with device(broker) as quic:
            assert await quic.begin("quic-returns", expiry=60) == 0
            quic.send(subscribe("kept/#", 1))
            await quic.answer(0x90)
        async with device(broker) as quic:
            await quic.begin()
            quic.send(publish("kept/meanwhile", b"waits", 1, 1))
            await quic.answer(0x40)
        async with device(broker) as quic:
            assert await quic.begin("quic-returns", clean=False) == 1
            assert b"waits" in await quic.answer(0x30)

    asyncio.run(exchange())


def test_rfc8446_2_2_a_ticket_resumes_without_a_full_handshake(broker):
    async def exchange():
        async with device(broker) as quic:
            assert not (await quic.completed).session_resumed
            await quic.begin()
            tickets = quic.tickets
        assert tickets
        async with device(broker, session_ticket=tickets[0]) as quic:
            assert (await quic.completed).session_resumed
            await quic.begin()

    asyncio.run(exchange())


def test_rfc9001_4_6_early_data_is_not_offered(broker):
    async def exchange():
        async with device(broker) as quic:
            await quic.begin()
            tickets = quic.tickets
        assert tickets and all(not ticket.max_early_data_size for ticket in tickets)
        # A client that sends some all the same: it is not taken, and sent again after the handshake.
        tickets[0].max_early_data_size = 0xFFFFFFFF
        async with device(broker, wait=False, session_ticket=tickets[0]) as quic:
            quic.send(connect("early"))
            async with asyncio.timeout(PATIENCE):
                completed = await quic.completed
            assert not completed.early_data_accepted
            await quic.answer(0x20)

    asyncio.run(exchange())


def test_rfc9001_6_a_client_updates_its_keys_again_and_again(broker):
    async def exchange():
        async with device(broker) as quic:
            await quic.completed
            await quic.begin()
            for number in range(1, 6):
                before = quic._quic._cryptos[tls.Epoch.ONE_RTT].key_phase
                quic._quic.request_key_update()
                quic.send(publish("keys/updated", b"as before", 1, number))
                assert (await quic.answer(0x40))[:2] == bytes([0, number])
                # What was answered was read with the new keys.
                assert quic._quic._cryptos[tls.Epoch.ONE_RTT].key_phase != before

    asyncio.run(exchange())


def test_rfc7301_another_protocol_is_refused(broker):
    async def exchange():
        async with device(broker, wait=False, alpn_protocols=["h3"]) as quic:
            assert await quic.end() == NO_APPLICATION_PROTOCOL

    asyncio.run(exchange())


def test_mqtt_over_one_connection_ends_with_a_reason_and_then_quic_does(broker):
    async def exchange():
        async with device(broker) as quic:
            await quic.begin()
            # The first packet may not come twice (MQTT-3.1.0-2).
            quic.send(connect("twice"))
            assert (await quic.answer(0xE0))[0] == 0x82
            async with asyncio.timeout(PATIENCE):
                await quic.finished.wait()
            assert await quic.end() == 0

    asyncio.run(exchange())


def test_a_stream_that_is_reset_ends_the_connection(broker):
    async def exchange():
        async with device(broker) as quic:
            await quic.begin()
            quic._quic.reset_stream(quic.stream, 0)
            quic.transmit()
            assert await quic.end() == 0

    asyncio.run(exchange())
