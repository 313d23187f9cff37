"""Any protocol to any protocol: each publishes, each receives, at every QoS, live and retained, nothing, a reading and
a hundred kilobytes, with what travels beside the payload."""

import asyncio
import base64
import http.client
import json
import queue
import re
import shutil
import ssl
import subprocess
import tempfile
import threading
import time
import urllib.parse

import aiocoap
import paho.mqtt.client as paho
import pytest
from aiocoap import GET, PUT, Message
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

import test_quic as quic
from conftest import PSK

PATIENCE = 20
SIZES = [0, 64, 100_000]
QOS = [0, 1, 2]
CONTENT_TYPE = "application/json"
EXPIRY = 600


def body(size):
    return bytes(ord("a") + at // 7 % 26 for at in range(size))


class Loop:
    """An event loop in a thread, for the clients that need one."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(PATIENCE * 2)

    def close(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


class Received:
    """A message as a receiver got it; `None` is what its protocol does not carry."""

    def __init__(self, topic, payload, qos=None, content_type=None, expiry=None, retain=None):
        self.topic, self.payload, self.qos = topic, payload, qos
        self.content_type, self.expiry, self.retain = content_type, expiry, retain


class Mqtt:
    """Paho, over what the listener of this name speaks."""

    def __init__(self, broker, _loop, listener):
        websockets = listener in ("ws", "wss")
        self.client = paho.Client(
            paho.CallbackAPIVersion.VERSION2,
            protocol=paho.MQTTv5,
            transport="websockets" if websockets else "tcp",
        )
        if websockets:
            self.client.ws_set_options(path="/mqtt")
        if listener in ("mqtts", "wss"):
            self.client.tls_set(ca_certs=str(broker.authority), cert_reqs=ssl.CERT_REQUIRED)
        self.messages, self.happened = queue.Queue(), queue.Queue()
        self.client.on_message = lambda _c, _u, message: self.messages.put(message)
        self.client.on_connect = lambda *_: self.happened.put("connected")
        self.client.on_subscribe = lambda *_: self.happened.put("subscribed")
        host, port = broker.address(listener)
        self.client.connect("localhost" if listener in ("mqtts", "wss") else host, port)
        self.client.loop_start()
        self.happened.get(timeout=PATIENCE)

    def publish(self, topic, payload, qos, retain):
        properties = Properties(PacketTypes.PUBLISH)
        properties.ContentType = CONTENT_TYPE
        properties.MessageExpiryInterval = EXPIRY
        self.client.publish(topic, payload, qos, retain, properties).wait_for_publish(PATIENCE)

    def subscribe(self, topic):
        # The retain flag as it was published tells what is retained from what is live.
        self.client.subscribe(topic, options=SubscribeOptions(qos=2))
        self.happened.get(timeout=PATIENCE)

    def receive(self):
        message = self.messages.get(timeout=PATIENCE)
        return Received(
            message.topic,
            message.payload,
            message.qos,
            getattr(message.properties, "ContentType", None) or "",
            getattr(message.properties, "MessageExpiryInterval", 0),
            bool(message.retain),
        )

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


class Quic:
    """aioquic, with the packets of MQTT 5 that this takes."""

    def __init__(self, broker, loop, _listener):
        self.loop = loop
        self.entered = quic.device(broker)
        self.device = loop.run(self.entered.__aenter__())
        loop.run(self.device.begin())
        self.waiting = []
        self.identifier = 0

    def next_identifier(self):
        self.identifier += 1
        return self.identifier

    async def answer(self, first):
        """The next packet of this kind; what is published meanwhile waits."""
        while True:
            async with asyncio.timeout(PATIENCE):
                kind, content = await self.device.packets.get()
            if kind & 0xF0 == 0x30 and first != 0x30:
                self.waiting.append((kind, content))
            else:
                assert kind & 0xF0 == first, (hex(kind), content)
                return kind, content

    def publish(self, topic, payload, qos, retain):
        async def run():
            number = self.next_identifier()
            properties = b"\x02" + EXPIRY.to_bytes(4, "big") + b"\x03" + quic.text(CONTENT_TYPE)
            head = quic.text(topic) + (number.to_bytes(2, "big") if qos else b"")
            content = head + quic.length(len(properties)) + properties + payload
            self.device.send(quic.packet(0x30 | qos << 1 | int(retain), content))
            if qos == 1:
                await self.answer(0x40)
            elif qos == 2:
                await self.answer(0x50)
                self.device.send(quic.acknowledge(0x62, number))
                await self.answer(0x70)

        self.loop.run(run())

    def subscribe(self, topic):
        async def run():
            self.device.send(quic.subscribe(topic, 2, self.next_identifier()))
            await self.answer(0x90)

        self.loop.run(run())

    def receive(self):
        async def run():
            if self.waiting:
                kind, content = self.waiting.pop(0)
            else:
                kind, content = await self.answer(0x30)
            qos = kind >> 1 & 3
            size = int.from_bytes(content[:2], "big")
            topic, rest = content[2 : 2 + size].decode(), content[2 + size :]
            if qos:
                number, rest = int.from_bytes(rest[:2], "big"), rest[2:]
                self.device.send(quic.acknowledge(0x40 if qos == 1 else 0x50, number))
                if qos == 2:
                    await self.answer(0x60)
                    self.device.send(quic.acknowledge(0x70, number))
            # There are fewer than 128 bytes of properties.
            properties, payload = rest[1 : 1 + rest[0]], rest[1 + rest[0] :]
            found = {"content_type": "", "expiry": 0}
            while properties:
                if properties[0] == 0x02:
                    found["expiry"] = int.from_bytes(properties[1:5], "big")
                    properties = properties[5:]
                else:
                    assert properties[0] == 0x03, properties
                    size = int.from_bytes(properties[1:3], "big")
                    found["content_type"] = properties[3 : 3 + size].decode()
                    properties = properties[3 + size :]
            return Received(topic, payload, qos, retain=bool(kind & 1), **found)

        return self.loop.run(run())

    def close(self):
        self.loop.run(self.entered.__aexit__(None, None, None))


class Coap:
    """aiocoap: PUT publishes, an observation receives."""

    TRANSPORTS = {"coap": "simple6", "coap+tcp": "tcpclient", "coaps+tcp": "tlsclient"}

    def __init__(self, broker, loop, scheme):
        self.loop = loop
        host, port = broker.address(scheme.replace("+", "_"))
        # The certificate has the name.
        base = f"{scheme}://{'localhost' if scheme == 'coaps+tcp' else host}:{port}"
        self.base = f"{base}/ps/"

        async def run():
            transports = [self.TRANSPORTS[scheme]]
            context = await aiocoap.Context.create_client_context(transports=transports)
            trust = {"tlscert": {"certfile": str(broker.authority)}}
            context.client_credentials.load_from_dict({f"{base}/*": trust})
            return context

        self.context = loop.run(run())
        self.observed = {}
        self.told = queue.Queue()

    def publish(self, topic, payload, qos, retain):
        async def run():
            query = f"qos={qos}&retain={str(retain).lower()}&expiry={EXPIRY}"
            uri = f"{self.base}{topic}?{query}"
            message = Message(code=PUT, uri=uri, payload=payload, content_format=50)
            answer = await asyncio.wait_for(self.context.request(message).response, PATIENCE)
            assert answer.code == aiocoap.CHANGED, answer

        self.loop.run(run())

    def subscribe(self, topic):
        async def run():
            message = Message(code=GET, uri=f"{self.base}{topic}?qos=2", observe=0)
            request = self.context.request(message)
            first = await asyncio.wait_for(request.response, PATIENCE)
            assert first.code == aiocoap.CONTENT
            self.observed[topic] = request
            request.observation.register_callback(lambda told: self.told.put((topic, told)))
            # A topic without a value has an empty one: nothing was received.
            if first.opt.content_format is not None:
                self.told.put((topic, first))

        self.loop.run(run())

    def receive(self):
        topic, told = self.told.get(timeout=PATIENCE)
        format = told.opt.content_format
        content_type = {None: "", 50: "application/json"}[None if format is None else int(format)]
        return Received(
            topic, told.payload, content_type=content_type, expiry=told.opt.max_age or 0
        )

    def close(self):
        async def run():
            for request in self.observed.values():
                request.observation.cancel()
            await self.context.shutdown()

        self.loop.run(run())


class Libcoap:
    """libcoap's client with a pre-shared key: a process publishes, another observes and logs all it is told."""

    PROGRAM = "coap-client-openssl"
    # A response: its identifier, its options, and its payload, which is text here.
    RESPONSE = re.compile(r"v:1 t:(?:ACK|CON) c:2\.05 i:(\w+) {\w*} \[ (.*?) \](?: :: '(.*)')?\n")

    def __init__(self, broker, _loop, _scheme):
        if not shutil.which(self.PROGRAM):
            pytest.skip("Debian's libcoap3-bin is not installed")
        host, port = broker.address("psk")
        self.base = f"coaps://{host}:{port}/ps/"
        identity, key = PSK
        self.command = [self.PROGRAM, "-u", identity, "-k", key, "-B", str(PATIENCE)]
        self.observers = []
        self.told = queue.Queue()

    def publish(self, topic, payload, qos, retain):
        query = f"qos={qos}&retain={str(retain).lower()}&expiry={EXPIRY}"
        put = [*self.command, "-m", "put", "-t", "50"]
        with tempfile.NamedTemporaryFile() as body:
            body.write(payload)
            body.flush()
            put += ["-f", body.name] if payload else []
            put.append(f"{self.base}{topic}?{query}")
            done = subprocess.run(put, capture_output=True, timeout=PATIENCE * 2, check=True)
        # A refusal would be printed.
        assert (done.stdout + done.stderr).strip() == b"", done

    def subscribe(self, topic):
        url = f"{self.base}{topic}?qos=2"
        process = subprocess.Popen(
            [*self.command, "-v", "7", "-s", "60", "-o", "/dev/null", "-m", "get", url],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        begun = threading.Event()
        thread = threading.Thread(target=self.read, args=(process, topic, begun), daemon=True)
        thread.start()
        self.observers.append((process, thread))
        assert begun.wait(PATIENCE)

    def read(self, process, topic, begun):
        """Puts together what the log tells block by block."""
        parts = first = last = None
        for line in process.stdout:
            if not (response := self.RESPONSE.fullmatch(line)):
                continue
            identifier, options, payload = response.groups()
            options = dict(option.split(":", 1) for option in options.split(", "))
            number, more, _ = options.get("Block2", "0/_/").split("/")
            # What is repeated because its acknowledgement was late is logged again.
            if "Observe" in options and identifier != last:
                parts, first, last = [], options, identifier
            # The last block is logged once more as the end of all.
            if parts is None or int(number) != len(parts):
                continue
            parts.append(payload or "")
            if more == "M":
                continue
            # A topic without a value has an empty one: nothing was received.
            if begun.is_set() or "Content-Format" in first:
                content_type, expiry = first.get("Content-Format", ""), int(first["Max-Age"])
                body = "".join(parts).encode()
                self.told.put(Received(topic, body, content_type=content_type, expiry=expiry))
            begun.set()
            parts = None

    def receive(self):
        return self.told.get(timeout=PATIENCE)

    def close(self):
        for process, thread in self.observers:
            process.terminate()
            process.wait(PATIENCE)
            thread.join(PATIENCE)
            process.stdout.close()


class Http:
    """A request publishes, Server-Sent Events receive."""

    def __init__(self, broker, _loop, _listener):
        self.address = broker.address("http")
        self.events = queue.Queue()
        self.streams = []

    def publish(self, topic, payload, qos, retain):
        query = {"topic": topic, "qos": qos, "retain": str(retain).lower()}
        query["message_expiry_interval"] = EXPIRY
        connection = http.client.HTTPConnection(*self.address, timeout=PATIENCE)
        path = "/api/v1/publish?" + urllib.parse.urlencode(query)
        connection.request("POST", path, payload, {"Content-Type": CONTENT_TYPE})
        answer = connection.getresponse()
        assert answer.status == 202, answer.read()
        connection.close()

    def subscribe(self, topic):
        connection = http.client.HTTPConnection(*self.address, timeout=PATIENCE * 3)
        query = urllib.parse.urlencode({"filter": topic, "qos": 2})
        connection.request("GET", f"/api/v1/subscribe?{query}")
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        begun = threading.Event()
        thread = threading.Thread(target=self.read, args=(answer, begun), daemon=True)
        thread.start()
        assert begun.wait(PATIENCE)
        self.streams.append((connection, thread))

    def read(self, answer, begun):
        kind = data = None
        try:
            for line in answer:
                line = line.rstrip(b"\n").decode()
                if line.startswith("event: "):
                    kind = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    data = line.removeprefix("data: ")
                elif not line and kind:
                    if kind == "session":
                        begun.set()
                    elif kind == "message":
                        self.events.put(json.loads(data))
                    kind = data = None
        except (OSError, ValueError, AttributeError):
            # It was closed.
            pass

    def receive(self):
        event = self.events.get(timeout=PATIENCE)
        payload = event["payload"].encode()
        if event.get("encoding") == "base64":
            payload = base64.b64decode(payload)
        return Received(
            event["topic"],
            payload,
            event["qos"],
            event.get("content_type", ""),
            event.get("message_expiry_interval", 0),
            event["retain"],
        )

    def close(self):
        for connection, thread in self.streams:
            if connection.sock:
                connection.sock.shutdown(2)
            thread.join(PATIENCE)
            connection.close()


PROTOCOLS = {
    "mqtt": Mqtt,
    "mqtts": Mqtt,
    "ws": Mqtt,
    "wss": Mqtt,
    "quic": Quic,
    "coap": Coap,
    "coaps": Libcoap,
    "coap+tcp": Coap,
    "coaps+tcp": Coap,
    "http": Http,
}


@pytest.fixture(scope="module")
def loop():
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture
def clients(broker, loop, sender, receiver):
    opened = [PROTOCOLS[name](broker, loop, name) for name in (sender, receiver)]
    yield opened
    for client in opened:
        client.close()


def same(received, topic, payload, qos):
    """What is received is what was published, as far as the receiver's protocol carries it."""
    assert (received.topic, received.payload) == (topic, payload)
    assert received.qos in (None, qos)
    assert received.content_type == CONTENT_TYPE
    assert EXPIRY - 60 < received.expiry <= EXPIRY


pytestmark = [
    pytest.mark.filterwarnings("ignore:register_callback:DeprecationWarning"),
    pytest.mark.parametrize("receiver", PROTOCOLS),
    pytest.mark.parametrize("sender", PROTOCOLS),
]


def test_live(clients, topic, sender, receiver):
    publisher, subscriber = clients
    subscriber.subscribe(topic)
    for size in SIZES:
        for qos in QOS:
            publisher.publish(topic, body(size), qos, False)
            received = subscriber.receive()
            same(received, topic, body(size), qos)
            assert received.retain in (None, False)


def test_retained(clients, topic, sender, receiver):
    publisher, subscriber = clients
    for size in SIZES:
        for qos in QOS:
            this = f"{topic}/{size}/{qos}"
            publisher.publish(this, b"{}", qos, True)
            publisher.publish(this, body(size), qos, True)
            if qos == 0:
                # Nothing tells when that has arrived; what is acknowledged behind it does.
                publisher.publish(f"{this}/behind", b"behind", 1, False)
            if size == 0:
                # Nothing is retained, so the first that comes is what is published now.
                subscriber.subscribe(this)
                publisher.publish(this, b"live", qos, False)
                same(subscriber.receive(), this, b"live", qos)
                continue
            subscriber.subscribe(this)
            received = subscriber.receive()
            same(received, this, body(size), qos)
            assert received.retain in (None, True)

