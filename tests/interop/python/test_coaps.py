"""CoAP over DTLS with libcoap's clients, over OpenSSL and over GnuTLS, and MQTT on the other side."""

import contextlib
import re
import select
import shutil
import socket
import subprocess
import threading

import pytest

from conftest import make_certificates, running
from test_coap import Mqtt, body, until

CLIENTS = ["coap-client-openssl", "coap-client-gnutls"]
pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, CLIENTS)), reason="Debian's libcoap3-bin is not installed"
)

KEYS = {"meter-7": "0123456789abcdef", "urn:dev:8": "another key of 8"}
LISTENERS = """
[telemetry]
log = "info,tidegate=debug,tidegate_dtls=debug"
[listeners.psk]
kind = "coaps"
bind = "{host}:0"
dtls.psk_file = "{keys}"
dtls.psk_hint = "which meter?"
{psk}
[listeners.guarded]
kind = "coaps"
bind = "127.0.0.1:0"
tls.client_ca = "{ca}"
"""


def write_keys(file, keys):
    lines = [f"{identity}:{key.encode().hex()}\n" for identity, key in keys.items()]
    # In one step, so that no half of it is read.
    new = file.with_suffix(".new")
    new.write_text("".join(lines))
    new.chmod(0o600)
    new.rename(file)


@contextlib.contextmanager
def gateway(directory, psk="", host="127.0.0.1"):
    """A gateway with listeners for who has a key, of which `psk` says more, and for who has a certificate."""
    directory.mkdir(exist_ok=True)
    certificates = directory / "certificates"
    make_certificates(certificates)
    keys = directory / "keys"
    write_keys(keys, KEYS)
    ca = certificates / "clients.crt"
    configuration = LISTENERS.format(keys=keys, ca=ca, psk=psk, host=host)
    with running(directory, configuration) as broker:
        broker.certificates = certificates
        broker.directory = directory
        yield broker


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    with gateway(tmp_path_factory.mktemp("coaps")) as broker:
        yield broker


@pytest.fixture(params=CLIENTS)
def client(request):
    return request.param


def url(broker, listener, topic="", address=None):
    host, port = address or broker.address(listener)
    return f"coaps://{host}:{port}/ps/{topic}"


def key(identity="meter-7", secret=None):
    return ["-u", identity, "-k", secret or KEYS[identity]]


def certificate(broker, name, authority=None):
    files = ["-c", broker.certificates / f"{name}.crt", "-j", broker.certificates / f"{name}.key"]
    return [*files, "-R", authority or broker.authority]


def run(client, *arguments, wait=20):
    """What a client printed of the answer, and all that it said."""
    command = [client, "-B", str(wait), *arguments]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    return done.stdout.removesuffix(b"\n"), (done.stdout + done.stderr).decode(errors="replace")


class Observer:
    """A client that observes; what it writes comes byte by byte."""

    def __init__(self, broker, client, *arguments):
        before = broker.metric("tidegate_subscriptions")
        command = [client, "-m", "get", "-s", "60", *arguments]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        until(lambda: broker.metric("tidegate_subscriptions") > before)

    def read(self, size):
        return self.process.stdout.read(size)

    def read_until(self, text):
        said = b""
        while text not in said:
            ready, _, _ = select.select([self.process.stdout], [], [], 20)
            assert ready, said
            more = self.process.stdout.read1()
            assert more, said
            said += more
        return said

    def vanish(self):
        """As a device does that loses its power: nobody is told."""
        self.process.kill()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.vanish()
        self.process.stdout.close()


def failed(broker, listener, reason):
    return broker.metric("tidegate_dtls_handshakes_failed_total", listener=listener, reason=reason)


@pytest.mark.parametrize("identity", KEYS)
@pytest.mark.parametrize("options", [[], ["-N"]], ids=["con", "non"])
def test_who_has_a_key_publishes_to_mqtt(broker, client, topic, identity, options):
    with Mqtt(broker, topic) as receiver:
        _, said = run(
            client, "-m", "put", *options, *key(identity), "-e", "21.5", url(broker, "psk", topic)
        )
        until(lambda: receiver.received)
        [message] = receiver.received
    assert message.payload == b"21.5", said
    assert message.qos == (0 if options else 1)


def test_rfc7252_9_1_what_is_retained_is_read_in_another_session(broker, client, topic):
    there = url(broker, "psk", topic)
    assert run(client, "-m", "put", *key(), "-e", "kept", f"{there}?retain=true")[0] == b""
    assert run(client, "-m", "get", *key("urn:dev:8"), there)[0] == b"kept"
    methods = broker.metric("tidegate_dtls_handshakes_total", listener="psk", method="psk_1_2")
    assert methods >= 2
    # Clients close their sessions.
    until(lambda: broker.metric("tidegate_dtls_sessions", listener="psk") == 0)


@pytest.mark.parametrize("listener", ["psk", "guarded", "coaps"])
def test_rfc7641_an_observer_is_told_what_mqtt_publishes(broker, client, topic, listener):
    who = {
        "psk": key(),
        "guarded": certificate(broker, "device"),
        "coaps": ["-R", broker.authority],
    }[listener]
    there = url(broker, listener, topic)
    with Observer(broker, client, *who, there) as observer, Mqtt(broker) as sender:
        for number in range(20):
            sender.publish(topic, f"{number:04}")
            assert observer.read(4) == f"{number:04}".encode()


@pytest.mark.parametrize("size", [1_000, 100_000])
def test_rfc7959_large_bodies_go_both_ways_in_blocks(broker, client, topic, tmp_path, size):
    file = tmp_path / "body"
    file.write_bytes(body(size))
    there = url(broker, "psk", topic)
    with Mqtt(broker, topic) as receiver:
        run(client, "-m", "put", *key(), "-f", file, f"{there}?retain=true", wait=60)
        until(lambda: receiver.received)
        assert receiver.received[0].payload == body(size)
    assert run(client, "-m", "get", *key(), there, wait=60)[0] == body(size)


def test_rfc4279_2_a_wrong_key_and_an_unknown_identity_are_refused(broker, client, topic):
    with Mqtt(broker, topic) as receiver:
        for who, reason in [
            (key("meter-7", "not the key of 7"), "wrong_key"),
            (key("nobody", KEYS["meter-7"]), "unknown_identity"),
        ]:
            before = failed(broker, "psk", reason)
            run(client, "-m", "put", *who, "-e", "x", url(broker, "psk", topic), wait=3)
            until(lambda reason=reason, before=before: failed(broker, "psk", reason) > before)
        run(client, "-m", "put", *key(), "-e", "good", url(broker, "psk", topic))
        until(lambda: receiver.received)
        assert [message.payload for message in receiver.received] == [b"good"]


def test_a_listener_with_keys_only_lets_nobody_in_who_has_none(broker, client, topic):
    before = failed(broker, "psk", "no_common_suite")
    run(client, "-m", "put", "-n", "-e", "x", url(broker, "psk", topic), wait=3)
    until(lambda: failed(broker, "psk", "no_common_suite") > before)


def test_the_local_certificate_is_verified_by_who_has_its_authority(broker, client, topic):
    there = url(broker, "coaps", topic)
    with Mqtt(broker, topic) as receiver:
        stranger = broker.certificates / "strangers.crt"
        run(client, "-m", "put", "-R", stranger, "-e", "strange", there, wait=3)
        run(client, "-m", "put", "-R", broker.authority, "-e", "known", there)
        until(lambda: receiver.received)
        assert [message.payload for message in receiver.received] == [b"known"]


def test_rfc7252_9_1_3_3_clients_must_show_a_certificate_where_an_authority_is_named(
    broker, client, topic
):
    there = url(broker, "guarded", topic)
    with Mqtt(broker, topic) as receiver:
        before = failed(broker, "guarded", "certificate_issuer")
        run(client, "-m", "put", *certificate(broker, "stranger"), "-e", "x", there, wait=3)
        until(lambda: failed(broker, "guarded", "certificate_issuer") > before)
        before = failed(broker, "guarded", "no_certificate")
        run(client, "-m", "put", "-R", broker.authority, "-e", "x", there, wait=3)
        until(lambda: failed(broker, "guarded", "no_certificate") > before)
        run(client, "-m", "put", *certificate(broker, "device"), "-e", "good", there)
        until(lambda: receiver.received)
        assert [message.payload for message in receiver.received] == [b"good"]


def test_who_a_session_is_with_is_told_in_the_log(broker, client, topic):
    run(client, "-m", "get", *key(), url(broker, "psk", topic))
    run(client, "-m", "get", *certificate(broker, "device"), url(broker, "guarded", topic))
    log = (broker.directory / "log").read_text()
    log = re.sub("\x1b\\[[0-9;]*m", "", log)
    for listener, method, identity in [
        ("psk", "psk_1_2", "meter-7"),
        ("guarded", "certificate_1_2", "device"),
    ]:
        lines = [line for line in log.splitlines() if "A DTLS session begins." in line]
        words = [f'listener="{listener}"', f'method="{method}"', f'identity="{identity}"']
        assert any(all(word in line for word in words) for line in lines), lines


def test_keys_are_read_again_when_their_file_changes_and_sessions_go_on(tmp_path, client, topic):
    with gateway(tmp_path / "gateway") as broker, Mqtt(broker, f"{topic}/new") as receiver:
        there = url(broker, "psk", topic)
        with Observer(broker, client, *key(), there) as observer, Mqtt(broker) as sender:
            write_keys(broker.directory / "keys", {"meter-9": "the key of meter 9"})
            reloads = {"listener": "psk", "result": "success"}
            until(lambda: broker.metric("tidegate_tls_reloads_total", **reloads) == 1)
            run(client, "-m", "put", *key(), "-e", "old", f"{there}/new", wait=3)
            until(lambda: failed(broker, "psk", "unknown_identity") > 0)
            new = key("meter-9", "the key of meter 9")
            run(client, "-m", "put", *new, "-e", "new", f"{there}/new")
            until(lambda: receiver.received)
            assert [message.payload for message in receiver.received] == [b"new"]
            sender.publish(topic, "still")
            assert observer.read(5) == b"still"
        (broker.directory / "keys").write_text("nonsense\n")
        until(lambda: broker.metric("tidegate_tls_reload_failing", listener="psk") == 1)
        run(client, "-m", "put", *new, "-e", "kept", f"{there}/new")
        until(lambda: len(receiver.received) == 2)


def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_rfc6347_4_2_8_a_client_that_starts_anew_does_not_hear_what_it_asked_for_before(
    broker, client, topic
):
    ended = {"listener": "psk", "reason": "session"}
    before = broker.metric("tidegate_coap_observations_ended_total", **ended)
    subscriptions = broker.metric("tidegate_subscriptions")
    here = ["-a", "127.0.0.1", "-p", str(free_port())]
    observer = Observer(broker, client, *here, *key(), url(broker, "psk", topic))
    with observer, Mqtt(broker) as sender:
        sender.publish(topic, "first")
        assert observer.read(5) == b"first"
        observer.vanish()
        # Somebody else may have got its address: another identity is at the same port.
        read, said = run(
            client, "-m", "get", *here, *key("urn:dev:8"), url(broker, "psk", f"{topic}/other")
        )
        assert read == b"", said
        replaced = {"listener": "psk", "reason": "replaced"}
        assert broker.metric("tidegate_dtls_sessions_ended_total", **replaced) >= 1
        assert broker.metric("tidegate_coap_observations_ended_total", **ended) == before + 1
        assert broker.metric("tidegate_subscriptions") == subscriptions


def test_a_session_that_ends_takes_its_observations_with_it(tmp_path, client, topic):
    limits = 'dtls.idle_timeout = "1s"'
    with gateway(tmp_path / "gateway", limits) as broker:
        with Observer(broker, client, *key(), url(broker, "psk", topic)):
            ended = {"listener": "psk", "reason": "idle"}
            until(lambda: broker.metric("tidegate_dtls_sessions_ended_total", **ended) == 1)
            assert broker.metric("tidegate_dtls_sessions", listener="psk") == 0
            cancelled = {"listener": "psk", "reason": "session"}
            assert broker.metric("tidegate_coap_observations_ended_total", **cancelled) == 1
            assert broker.metric("tidegate_subscriptions") == 0


def test_what_is_said_leaves_from_the_address_that_was_spoken_to(tmp_path, client, topic):
    everywhere = "[access]\nallow_anonymous = true"
    with gateway(tmp_path / "gateway", everywhere, "0.0.0.0") as broker:
        _, port = broker.address("psk")
        # Its socket takes nothing that comes from elsewhere.
        there = url(broker, "psk", topic, ("127.0.0.2", port))
        with Observer(broker, client, *key(), there) as observer, Mqtt(broker) as sender:
            sender.publish(topic, "heard")
            assert observer.read(5) == b"heard"


def test_sessions_are_bounded(tmp_path, client, topic):
    limits = "dtls.max_sessions = 1"
    with gateway(tmp_path / "gateway", limits) as broker:
        there = url(broker, "psk", topic)
        with Observer(broker, client, *key(), there) as observer, Mqtt(broker) as sender:
            assert broker.metric("tidegate_dtls_sessions", listener="psk") == 1
            run(client, "-m", "get", *key(), there, wait=3)
            until(lambda: failed(broker, "psk", "too_many_sessions") > 0)
            sender.publish(topic, "still")
            assert observer.read(5) == b"still"


class Relay:
    """Passes on so many datagrams of clients, and what is answered to them; then a cable is cut."""

    def __init__(self, to, most):
        self.to, self.most = to, most
        self.inside = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.inside.bind(("127.0.0.1", 0))
        self.outside = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.outside.connect(to)
        self.address = self.inside.getsockname()
        self.stopped, self.stop = socket.socketpair()
        self.thread = threading.Thread(target=self.pass_on)
        self.thread.start()

    def pass_on(self):
        client, passed = None, 0
        while True:
            ready, _, _ = select.select([self.inside, self.outside, self.stopped], [], [])
            if self.stopped in ready:
                return
            if self.inside in ready:
                data, client = self.inside.recvfrom(65_535)
                passed += 1
                if passed <= self.most:
                    self.outside.send(data)
            if self.outside in ready:
                data = self.outside.recv(65_535)
                if client and passed <= self.most:
                    self.inside.sendto(data, client)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop.send(b"x")
        self.thread.join()
        for one in [self.inside, self.outside, self.stopped, self.stop]:
            one.close()


def test_handshakes_that_are_not_finished_are_bounded_and_forgotten(tmp_path, topic):
    limits = 'dtls.max_handshakes = 2\ndtls.handshake_timeout = "3s"'
    client = CLIENTS[0]
    with gateway(tmp_path / "gateway", limits) as broker, contextlib.ExitStack() as stack:
        handshakes = {"name": "tidegate_dtls_handshakes_in_progress", "listener": "psk"}
        clients = []
        for number in [1, 2]:
            # The hello, and the hello with the cookie.
            relay = stack.enter_context(Relay(broker.address("psk"), 2))
            there = url(broker, "psk", topic, relay.address)
            clients.append(subprocess.Popen([client, "-B", "2", *key(), there]))
            until(lambda number=number: broker.metric(**handshakes) >= number)
        run(client, "-m", "get", *key(), url(broker, "psk", topic), wait=1)
        assert failed(broker, "psk", "too_many_handshakes") >= 1
        until(lambda: broker.metric(**handshakes) == 0)
        assert failed(broker, "psk", "timeout") == 2
        for process in clients:
            process.wait(20)
        with Mqtt(broker, topic) as receiver:
            run(client, "-m", "put", *key(), "-e", "x", url(broker, "psk", topic))
            until(lambda: receiver.received)


def test_what_is_no_dtls_disturbs_nobody(broker, client, topic):
    dropped = {"listener": "psk", "reason": "malformed"}
    before = broker.metric("tidegate_dtls_datagrams_dropped_total", **dropped)
    there = url(broker, "psk", topic)
    with (
        Observer(broker, client, *key(), there) as observer,
        Mqtt(broker) as sender,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger,
    ):
        stranger.connect(broker.address("psk"))
        for number in range(200):
            # A confirmable GET of plain CoAP, a record that is cut off, alerts and data of nobody.
            for data in [
                b"\x40\x01\x12\x34\xb2ps",
                b"\x16\xfe\xfd\x00",
                b"\x15\xfe\xfd" + bytes(8) + b"\x00\x02\x02\x28",
                b"\x17\xfe\xfd\x00\x01" + bytes(6) + b"\x00\x20" + bytes(32),
                bytes([number]) * number,
            ]:
                with contextlib.suppress(ConnectionRefusedError):
                    stranger.send(data)
            if number % 20 == 0:
                sender.publish(topic, f"{number:04}")
                assert observer.read(4) == f"{number:04}".encode()
        stranger.setblocking(False)
        with pytest.raises(BlockingIOError):
            stranger.recv(65_535)
    assert broker.metric("tidegate_dtls_datagrams_dropped_total", **dropped) >= before + 400


def test_when_the_gateway_ends_observers_hear_5_03_and_the_end_of_their_session(
    tmp_path, client, topic
):
    with contextlib.ExitStack() as stack:
        broker = stack.enter_context(gateway(tmp_path / "gateway"))
        there = url(broker, "psk", topic)
        observer = Observer(broker, client, "-v", "7", *key(), there)
        with observer:
            stack.close()
            said = observer.read_until(b"session disconnected")
            assert b"c:5.03" in said
