"""A gateway for these suites, or the broker that TIDEGATE_TEST_ADDRESS names."""

import itertools
import json
import os
import subprocess
import time
from pathlib import Path

import pytest

NUMBERS = itertools.count(1)
CONFIGURATION = """
[listeners.mqtt]
kind = "mqtt"
bind = "127.0.0.1:0"
[http]
bind = "127.0.0.1:0"
"""


@pytest.fixture(scope="session")
def address(tmp_path_factory):
    """Host and port where MQTT is spoken."""
    given = os.environ.get("TIDEGATE_TEST_ADDRESS")
    if given:
        host, _, port = given.rpartition(":")
        yield host, int(port)
        return
    binary = os.environ.get("TIDEGATE_BIN")
    if not binary:
        pytest.fail("set TIDEGATE_BIN or TIDEGATE_TEST_ADDRESS, or use cargo xtask test")
    directory = tmp_path_factory.mktemp("gateway")
    configuration = directory / "tidegate.toml"
    configuration.write_text(CONFIGURATION)
    ready, log = directory / "ready.json", directory / "log"
    arguments = ["run", "--config", configuration, "--data-dir", directory / "data"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [binary, *arguments, "--ready-file", ready],
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )
    try:
        host, _, port = bound(process, ready, log).rpartition(":")
        yield host, int(port)
        assert process.poll() is None, f"the gateway died:\n{log.read_text()}"
        process.terminate()
        assert process.wait(timeout=20) == 0, f"the gateway did not end well:\n{log.read_text()}"
        assert "panicked at" not in log.read_text(), log.read_text()
    finally:
        process.kill()
        process.wait()


def bound(process, ready: Path, log: Path) -> str:
    """Waits for the ready file; returns the address of the MQTT listener."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        try:
            return json.loads(ready.read_text())["listeners"]["mqtt"]["address"]
        except (FileNotFoundError, json.JSONDecodeError):
            time.sleep(0.01)
    pytest.fail(f"the gateway is not ready:\n{log.read_text()}")


@pytest.fixture
def topic(request):
    """A topic that no other test uses."""
    return f"interop/{os.getpid()}/{next(NUMBERS)}"
