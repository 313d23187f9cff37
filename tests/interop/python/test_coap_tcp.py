"""CoAP over TCP and TLS (RFC 8323) with libcoap's client and with aiocoap, and MQTT on the other side; and bytes on
sockets, from somebody who does not keep to the rules."""

import asyncio
import contextlib
import shutil
import socket
import ssl
import subprocess

import aiocoap
import pytest
from aiocoap import DELETE, GET, PUT, Message
from conftest import make_certificates, running
from test_coap import Mqtt, ask, body, until

libcoap = pytest.mark.skipif(
    not shutil.which("coap-client-openssl"), reason="Debian's libcoap3-bin is not installed"
)

SIZES = [0, 64, 100_000]
SCHEMES = ["coap+tcp", "coaps+tcp"]


@pytest.fixture(params=SCHEMES)
def scheme(request):
    return request.param


def url(broker, scheme):
    host, port = broker.address(scheme.replace("+", "_"))
    # The certificate has the name, too.
    return f"{scheme}://{'localhost' if scheme == 'coaps+tcp' else host}:{port}"


class Libcoap:
    """libcoap's client for one scheme."""

    def __init__(self, broker, scheme, *identity):
        self.scheme, self.base = scheme, url(broker, scheme)
        is_tls = scheme == "coaps+tcp"
        program = "coap-client-openssl" if is_tls else "coap-client-notls"
        trust = ["-C", str(broker.authority)] if is_tls else []
        self.command = [program, *trust, *identity]

    def run(self, path, *arguments):
        command = [*self.command, *arguments, f"{self.base}{path}"]
        done = subprocess.run(command, capture_output=True, timeout=60, check=True)
        return done.stdout.removesuffix(b"\n")

    @contextlib.contextmanager
    def observe(self, broker, path):
        def registrations():
            listener = self.scheme.replace("+", "_")
            return broker.metric("tidegate_coap_requests_total", listener=listener)

        # Counted when it stands; a count of observers would go down when an earlier one is gone.
        before = registrations()
        command = [*self.command, "-m", "get", "-s", "60", f"{self.base}{path}"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        try:
            until(lambda: registrations() > before)
            yield process.stdout
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


@contextlib.asynccontextmanager
async def context(broker, scheme):
    transport = {"coap+tcp": "tcpclient", "coaps+tcp": "tlsclient"}[scheme]
    made = await aiocoap.Context.create_client_context(transports=[transport])
    trust = {"tlscert": {"certfile": str(broker.authority)}}
    made.client_credentials.load_from_dict({f"{url(broker, 'coaps+tcp')}/*": trust})
    try:
        yield made
    finally:
        await made.shutdown()


# ---- libcoap ------------------------------------------------------------------------------------


@libcoap
@pytest.mark.parametrize("size", SIZES)
def test_libcoap_publishes_to_mqtt(broker, scheme, topic, tmp_path, size):
    file = tmp_path / "body"
    file.write_bytes(body(size))
    with Mqtt(broker, topic) as receiver:
        client = Libcoap(broker, scheme)
        client.run(f"/ps/{topic}", "-m", "put", "-t", "42", "-f", file)
        until(lambda: receiver.received)
        [message] = receiver.received
    assert message.payload == body(size)
    assert message.properties.ContentType == "application/octet-stream"
    assert message.qos == 1


@libcoap
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("qos", [0, 1])
def test_libcoap_observes_what_mqtt_publishes(broker, scheme, topic, size, qos):
    client = Libcoap(broker, scheme)
    with client.observe(broker, f"/ps/{topic}") as told, Mqtt(broker) as sender:
        sender.publish(topic, body(size), qos)
        sender.publish(topic, "end", qos)
        assert told.read(size + 3) == body(size) + b"end"


@libcoap
@pytest.mark.parametrize("size", SIZES)
def test_libcoap_reads_and_clears_what_is_retained(broker, scheme, topic, size):
    client = Libcoap(broker, scheme)
    with Mqtt(broker) as sender:
        sender.publish(topic, body(size) or b"kept", retain=True)
    assert client.run(f"/ps/{topic}", "-m", "get") == body(size) or b"kept"
    client.run(f"/ps/{topic}", "-m", "delete")
    assert client.run(f"/ps/{topic}", "-m", "get") == b""


@libcoap
@pytest.mark.parametrize("qos", [1, 2])
def test_libcoap_comes_back_to_its_session_after_it_and_the_gateway_were_gone(
    tmp_path, scheme, topic, qos
):
    directory = tmp_path / "gateway"
    path = f"/ps/{topic}?c=pump&qos={qos}"

    def pending(broker):
        return broker.metric("tidegate_messages_pending")

    with running(directory, "") as broker, Mqtt(broker) as sender:
        with Libcoap(broker, scheme).observe(broker, path) as told:
            for number in range(50):
                sender.publish(topic, f"{number};", qos)
            expected = "".join(f"{number};" for number in range(50)).encode()
            assert told.read(len(expected)) == expected
            # Its pongs are the acknowledgements.
            until(lambda: pending(broker) == 0)
        # The client was killed and has said nothing.
        for text in ["a;", body(30_000), "b;"]:
            sender.publish(topic, text, qos)
    with running(directory, "") as broker, Mqtt(broker) as sender:
        assert broker.metric("tidegate_subscriptions") == 1
        sender.publish(topic, "c;", qos)
        with Libcoap(broker, scheme).observe(broker, path) as told:
            assert told.read(30_006) == b"a;" + body(30_000) + b"b;c;"
            until(lambda: pending(broker) == 0)


@libcoap
def test_libcoap_shows_the_certificate_that_is_asked_for(tmp_path, topic):
    certificates = tmp_path / "certificates"
    make_certificates(certificates)
    ca = certificates / "clients.crt"
    configuration = f'[listeners.coaps_tcp]\ntls.client_ca = "{ca}"\n'
    with running(tmp_path / "gateway", configuration) as broker, Mqtt(broker, topic) as receiver:
        identity = ["-c", str(certificates / "device.crt"), "-j", str(certificates / "device.key")]
        Libcoap(broker, "coaps+tcp", *identity).run(f"/ps/{topic}", "-m", "put", "-e", "shown")
        until(lambda: receiver.received)
        # libcoap's client ends well all the same.
        Libcoap(broker, "coaps+tcp").run(f"/ps/{topic}", "-m", "put", "-e", "lost", "-B", "2")
        assert broker.metric("tidegate_coap_requests_total", listener="coaps_tcp") == 1
        assert [message.payload for message in receiver.received] == [b"shown"]


# ---- aiocoap ------------------------------------------------------------------------------------


def test_aiocoap_publishes_reads_and_is_refused(broker, scheme, topic):
    base = url(broker, scheme)
    uri = f"{base}/ps/{topic}"

    async def run():
        async with context(broker, scheme) as c:
            published = await ask(c, PUT, f"{uri}?retain=true&expiry=600", b"{}", content_format=50)
            assert published.code == aiocoap.CHANGED
            read = await ask(c, GET, uri)
            assert (read.code, read.payload) == (aiocoap.CONTENT, b"{}")
            assert read.opt.content_format == 50
            assert (await ask(c, GET, uri, accept=0)).code == aiocoap.NOT_ACCEPTABLE
            assert (await ask(c, PUT, f"{base}/ps/$SYS/a")).code == aiocoap.FORBIDDEN
            assert (await ask(c, GET, f"{base}/elsewhere")).code == aiocoap.NOT_FOUND
            assert (await ask(c, DELETE, uri)).code == aiocoap.DELETED
            assert (await ask(c, GET, uri)).payload == b""

    with Mqtt(broker, topic) as receiver:
        asyncio.run(run())
        until(lambda: len(receiver.received) == 2)
        first, cleared = receiver.received
    assert first.properties.ContentType == "application/json"
    assert cleared.payload == b""


@pytest.mark.parametrize("size", SIZES)
def test_aiocoap_publishes_and_observes_bodies_of_any_size(broker, scheme, topic, size):
    uri = f"{url(broker, scheme)}/ps/{topic}"

    async def run():
        async with context(broker, scheme) as c:
            request = c.request(Message(code=GET, uri=uri, observe=0))
            first = await asyncio.wait_for(request.response, 20)
            assert (first.code, first.payload) == (aiocoap.CONTENT, b"")
            told = aiter(request.observation)
            for payload in [body(size), b"end"]:
                assert (await ask(c, PUT, uri, payload)).code == aiocoap.CHANGED
                message = await asyncio.wait_for(anext(told), 20)
                assert message.payload == payload
            request.observation.cancel()

    asyncio.run(run())


@pytest.mark.filterwarnings("ignore:register_callback:DeprecationWarning")
def test_aiocoap_is_told_every_change_in_its_order(broker, scheme, topic):
    async def run(sender):
        async with context(broker, scheme) as c:
            uri = f"{url(broker, scheme)}/ps/{topic}"
            # Where it may come in blocks, aiocoap hands on the newest state only.
            message = Message(code=GET, uri=uri, observe=0)
            request = c.request(message, handle_blockwise=False)
            await asyncio.wait_for(request.response, 20)
            told = asyncio.Queue()
            request.observation.register_callback(told.put_nowait)
            for number in range(100):
                sender.client.publish(topic, str(number), 1)
            for number in range(100):
                message = await asyncio.wait_for(told.get(), 20)
                assert message.payload == str(number).encode()
            request.observation.cancel()

    with Mqtt(broker) as sender:
        asyncio.run(run(sender))


@pytest.mark.filterwarnings("ignore:register_callback:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:Initializing messages with a token:DeprecationWarning")
def test_aiocoap_comes_back_to_its_session(broker, scheme, topic):
    client = topic.rpartition("/")[2]
    uri = f"{url(broker, scheme)}/ps/{topic}?c={client}&qos=1"

    @contextlib.asynccontextmanager
    async def observer():
        async with context(broker, scheme) as c:
            message = Message(code=GET, uri=uri, observe=0)
            request = c.request(message, handle_blockwise=False)
            told = asyncio.Queue()
            request.observation.register_callback(told.put_nowait)
            await asyncio.wait_for(request.response, 20)
            yield told

    async def take(told, expected):
        for payload in expected:
            message = await asyncio.wait_for(told.get(), 20)
            assert message.payload == payload

    async def run(sender):
        async with observer() as told:
            sender.publish(topic, "1")
            await take(told, [b"1"])
            while broker.metric("tidegate_messages_pending") > 0:
                await asyncio.sleep(0.02)
        numbers = [str(number).encode() for number in range(2, 100)]
        for number in numbers:
            sender.publish(topic, number)
        async with observer() as told:
            await take(told, numbers)
            while broker.metric("tidegate_messages_pending") > 0:
                await asyncio.sleep(0.02)

    with Mqtt(broker) as sender:
        asyncio.run(run(sender))


# ---- bytes --------------------------------------------------------------------------------------


CSM, PING, PONG, RELEASE, ABORT = (7 << 5 | detail for detail in range(1, 6))
CONTENT = 2 << 5 | 5


class Raw:
    """A connection that speaks bytes, and reads messages."""

    def __init__(self, broker, scheme, alpn=("coap",)):
        self.socket = socket.create_connection(broker.address(scheme.replace("+", "_")), 20)
        if scheme == "coaps+tcp":
            trust = ssl.create_default_context(cafile=str(broker.authority))
            if alpn:
                trust.set_alpn_protocols(list(alpn))
            self.socket = trust.wrap_socket(self.socket, server_hostname="localhost")
        self.stream = self.socket.makefile("rb")

    def send(self, bytes):
        self.socket.sendall(bytes)

    def message(self):
        """Code, token and all behind it; None at the end."""
        head = self.stream.read(1)
        if not head:
            return None
        length, token = head[0] >> 4, head[0] & 15
        more, base = {13: (1, 13), 14: (2, 269), 15: (4, 65805)}.get(length, (0, length))
        extended = self.stream.read(more)
        length = base + int.from_bytes(extended, "big")
        code = self.stream.read(1)[0]
        return code, self.stream.read(token), self.stream.read(length)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stream.close()
        self.socket.close()


def test_rfc_8323_5_3_nothing_goes_before_csm(broker, scheme):
    with Raw(broker, scheme) as raw:
        # GET /.well-known/core would be this long.
        raw.send(bytes([0x31, 1, 7]) + b"\xb2ps")
        assert raw.message()[0] == CSM
        code, _, why = raw.message()
        assert code == ABORT and b"CSM" in why
        assert raw.message() is None


def test_rfc_8323_5_4_and_5_5_a_ping_a_release_and_everything_byte_by_byte(broker, scheme, topic):
    path = b"\xb2ps" + bytes([len(topic)]) + topic.encode()
    if len(topic) > 12:
        path = b"\xb2ps\x0d" + bytes([len(topic) - 13]) + topic.encode()
    put = path + b"\xff21.5"
    assert 13 <= len(put) < 269
    put = bytes([0xD1, len(put) - 13, 3, 9]) + put
    everything = bytes([0, CSM, 1, PING, 5]) + put + bytes([0, RELEASE])
    with Mqtt(broker, topic) as receiver, Raw(broker, scheme) as raw:
        for byte in everything:
            raw.send(bytes([byte]))
        assert raw.message()[0] == CSM
        assert raw.message()[:2] == (PONG, b"\x05")
        assert raw.message() == (2 << 5 | 4, b"\x09", b"")
        assert raw.message() is None
        until(lambda: receiver.received)
        assert receiver.received[0].payload == b"21.5"


def test_rfc_8323_5_6_what_is_too_long_or_not_known_is_refused_with_a_reason(broker, scheme):
    for bytes_, why in [
        (b"\xf0\xff\xff\xff\xff\x03", b"longer"),
        (b"\x0f\x01", b"token"),
        (bytes([0x10, CSM, 0x10]), b"critical"),
        (bytes([0, 7 << 5 | 9]), b"not known"),
    ]:
        with Raw(broker, scheme) as raw:
            raw.send(bytes([0, CSM]) + bytes_)
            assert raw.message()[0] == CSM
            code, _, text = raw.message()
            assert code == ABORT and why in text, text
            assert raw.message() is None


def test_rfc_8323_8_2_the_protocol_is_named_coap_or_not_at_all(broker):
    for alpn in [["coap"], []]:
        with Raw(broker, "coaps+tcp", alpn) as raw:
            assert raw.message()[0] == CSM
    with pytest.raises(ssl.SSLError):
        Raw(broker, "coaps+tcp", ["mqtt"])


def test_who_speaks_something_else_is_counted(broker):
    def counted():
        labels = {"listener": "coap_tcp", "reason": "not_coap"}
        return broker.metric("tidegate_listener_refused_total", **labels)

    before = counted()
    with Raw(broker, "coap+tcp") as raw:
        raw.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        while raw.message():
            pass
    until(lambda: counted() == before + 1)


def test_at_the_end_clients_are_released(tmp_path, topic):
    with contextlib.ExitStack() as stack:
        with running(tmp_path / "gateway", "") as broker:
            raws = [stack.enter_context(Raw(broker, scheme)) for scheme in SCHEMES]
            for raw in raws:
                raw.send(bytes([0, CSM]))
                assert raw.message()[0] == CSM
                raw.send(bytes([0, PING]))
                assert raw.message()[0] == PONG
        for raw in raws:
            assert raw.message()[0] == RELEASE
            assert raw.message() is None


def test_a_load_balancer_says_where_a_client_is_and_places_are_limited(tmp_path):
    configuration = """
[listeners.coap_tcp]
proxy_networks = ["127.0.0.1"]
max_connections_per_ip = 1
"""
    with running(tmp_path / "gateway", configuration) as broker:
        with Raw(broker, "coap+tcp") as first, Raw(broker, "coap+tcp") as second:
            first.send(b"PROXY TCP4 10.1.1.1 127.0.0.1 4000 5683\r\n" + bytes([0, CSM]))
            assert first.message()[0] == CSM
            second.send(b"PROXY TCP4 10.1.1.1 127.0.0.1 4001 5683\r\n" + bytes([0, CSM]))
            # It is told to come again after a while.
            assert second.message()[0] == CSM
            assert second.message()[0] == RELEASE
            assert second.message() is None
