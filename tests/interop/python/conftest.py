"""A gateway for these suites, or the broker that TIDEGATE_TEST_ADDRESS names."""

import contextlib
import itertools
import json
import os
import subprocess
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pytest

NUMBERS = itertools.count(1)
BINDS = [
    "listeners.mqtt",
    "listeners.mqtts",
    "listeners.ws",
    "listeners.wss",
    "listeners.quic",
    "listeners.coap",
    "listeners.coaps",
    "listeners.coap_tcp",
    "listeners.coaps_tcp",
    "http",
]
# A key for coaps, as libcoap takes it.
PSK = ("meter-7", "0123456789abcdef")
# Besides those that are there anyway: listeners that ask their clients for a certificate, one at an
# address that the local certificate does not name, and one for clients with a key.
LISTENERS = """
[listeners.guarded-mqtts]
kind = "mqtts"
bind = "127.0.0.1:0"
tls.client_ca = "{ca}"
[listeners.guarded-wss]
kind = "wss"
bind = "127.0.0.1:0"
tls.client_ca = "{ca}"
[listeners.elsewhere-mqtts]
kind = "mqtts"
bind = "127.0.0.2:0"
[listeners.psk]
kind = "coaps"
bind = "127.0.0.1:0"
dtls.psk_file = "{keys}"
"""


@dataclass
class Broker:
    """Where a broker is: host and port by name of the listener, and what its clients need for TLS."""

    addresses: dict
    # The authority of the broker's certificate.
    authority: Path
    # A directory with device.crt and device.key, for listeners that ask for them.
    certificates: Path | None = None

    def address(self, listener):
        if listener not in self.addresses:
            pytest.skip(f"the broker that was given has no {listener}")
        return self.addresses[listener]

    def metric(self, name, **labels):
        """The value of a sample of the gateway's metrics."""
        host, port = self.address("http")
        with urllib.request.urlopen(f"http://{host}:{port}/metrics", timeout=10) as response:
            samples = response.read().decode().splitlines()
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        for sample in samples:
            found, _, value = sample.rpartition(" ")
            if found.split("{")[0] == name and all(label in found for label in wanted):
                return float(value)
        pytest.fail(f"there is no {name} with {labels}")

    @property
    def identity(self):
        return self.certificates / "device.crt", self.certificates / "device.key"


def parse(address: str):
    host, _, port = address.rpartition(":")
    return host, int(port)


def given():
    """The broker that the environment describes."""
    names = {
        "mqtt": "TIDEGATE_TEST_ADDRESS",
        "mqtts": "TIDEGATE_TEST_MQTTS",
        "ws": "TIDEGATE_TEST_WS",
        "wss": "TIDEGATE_TEST_WSS",
    }
    found = {name: os.environ.get(variable) for name, variable in names.items()}
    addresses = {name: parse(address) for name, address in found.items() if address}
    return Broker(addresses, Path(os.environ.get("TIDEGATE_TEST_CA", "")))


def openssl(*arguments):
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=60)


def make_certificates(directory: Path):
    """An authority for clients, a device's certificate of it, and one of somebody else's."""
    directory.mkdir()
    for authority in ["clients", "strangers"]:
        key, certificate = directory / f"{authority}.key", directory / f"{authority}.crt"
        new = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc"]
        subject = ["-days", "30", "-subj", f"/CN={authority}"]
        openssl("req", *new, *subject, "-keyout", key, "-out", certificate)
    extensions = directory / "extensions"
    extensions.write_text("basicConstraints=CA:FALSE\nextendedKeyUsage=clientAuth\n")
    for name, authority in [("device", "clients"), ("stranger", "strangers")]:
        key, request = directory / f"{name}.key", directory / f"{name}.csr"
        new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc"]
        openssl("req", *new, "-subj", f"/CN={name}", "-keyout", key, "-out", request)
        signer = ["-CA", directory / f"{authority}.crt", "-CAkey", directory / f"{authority}.key"]
        options = ["-CAcreateserial", "-days", "30", "-extfile", extensions]
        out = ["-out", directory / f"{name}.crt"]
        openssl("x509", "-req", "-in", request, *signer, *options, *out)


@pytest.fixture(scope="session")
def broker(tmp_path_factory):
    """A broker with all its listeners."""
    if os.environ.get("TIDEGATE_TEST_ADDRESS"):
        yield given()
        return
    directory = tmp_path_factory.mktemp("gateway")
    certificates = directory / "certificates"
    make_certificates(certificates)
    keys = directory / "keys"
    identity, key = PSK
    keys.write_text(f"{identity}:{key.encode().hex()}\n")
    keys.chmod(0o600)
    configuration = LISTENERS.format(ca=certificates / "clients.crt", keys=keys)
    with running(directory, configuration) as broker:
        broker.certificates = certificates
        yield broker


@contextlib.contextmanager
def running(directory: Path, configuration: str):
    """A gateway of this configuration, with its data in this directory."""
    binary = os.environ.get("TIDEGATE_BIN")
    if not binary:
        pytest.fail("set TIDEGATE_BIN or TIDEGATE_TEST_ADDRESS, or use cargo xtask test")
    directory.mkdir(exist_ok=True)
    file = directory / "tidegate.toml"
    file.write_text(configuration)
    ready, log = directory / "ready.json", directory / "log"
    # Of the gateway before it, if this is another start.
    ready.unlink(missing_ok=True)
    arguments = ["run", "--config", file, "--data-dir", directory / "data"]
    for bind in BINDS:
        arguments += ["--set", f"{bind}.bind=127.0.0.1:0"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [binary, *arguments, "--ready-file", ready],
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )
    try:
        addresses = bound(process, ready, log)
        yield Broker(addresses, directory / "data" / "tls" / "ca.crt")
        assert process.poll() is None, f"the gateway died:\n{log.read_text()}"
        process.terminate()
        assert process.wait(timeout=20) == 0, f"the gateway did not end well:\n{log.read_text()}"
        assert "panicked at" not in log.read_text(), log.read_text()
    finally:
        process.kill()
        process.wait()


def bound(process, ready: Path, log: Path) -> dict:
    """Waits for the ready file; returns the address of each listener."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        try:
            listeners = json.loads(ready.read_text())["listeners"]
            return {name: parse(listener["address"]) for name, listener in listeners.items()}
        except (FileNotFoundError, json.JSONDecodeError):
            time.sleep(0.01)
    pytest.fail(f"the gateway is not ready:\n{log.read_text()}")


@pytest.fixture(scope="session")
def address(broker):
    """Host and port where MQTT is spoken over TCP."""
    return broker.address("mqtt")


@pytest.fixture
def topic(request):
    """A topic that no other test uses."""
    return f"interop/{os.getpid()}/{next(NUMBERS)}"
