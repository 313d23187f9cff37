"""mosquitto_pub and mosquitto_sub in all three versions."""

import shutil
import subprocess

import pytest

pytestmark = pytest.mark.skipif(
    not (shutil.which("mosquitto_sub") and shutil.which("mosquitto_pub")),
    reason="Debian's mosquitto-clients is not installed",
)
VERSIONS = ["mqttv31", "mqttv311", "mqttv5"]


class Subscriber:
    """mosquitto_sub, its lines, and the moment when its subscription stands."""

    def __init__(self, address, version, topic, *options, count=1):
        host, port = address
        arguments = ["-h", host, "-p", str(port), "-V", version, "-t", topic, "-C", str(count)]
        self.process = subprocess.Popen(
            ["stdbuf", "-oL", "mosquitto_sub", *arguments, "-W", "30", "-d", *options],
            stdout=subprocess.PIPE,
            text=True,
        )
        # With -d it tells of every packet: the subscription stands once SUBACK came.
        self.output = []
        for line in self.process.stdout:
            self.output.append(line.rstrip("\n"))
            if "SUBACK" in line:
                return
        pytest.fail(f"mosquitto_sub ended with {self.process.wait()} and no SUBACK")

    def lines(self):
        """What it printed of the messages; it ends by itself, by count or by its time limit."""
        self.output += self.process.stdout.read().splitlines()
        assert self.process.wait() == 0, self.output
        return [line for line in self.output if line.startswith("> ")]


def publish(address, version, topic, message, *options):
    host, port = address
    arguments = ["-h", host, "-p", str(port), "-V", version, "-t", topic, "-m", message]
    subprocess.run(["mosquitto_pub", *arguments, *options], check=True, timeout=40)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("qos", ["0", "1", "2"])
def test_a_message_arrives(address, topic, version, qos):
    options = ["-q", qos, "-F", "> %t %q %p"]
    subscriber = Subscriber(address, version, f"{topic}/#", *options, count=2)
    publish(address, version, f"{topic}/a", "first", "-q", qos)
    publish(address, version, f"{topic}/b", "second", "-q", qos)
    assert subscriber.lines() == [f"> {topic}/a {qos} first", f"> {topic}/b {qos} second"]


@pytest.mark.parametrize("receiver", VERSIONS)
@pytest.mark.parametrize("sender", VERSIONS)
def test_versions_understand_each_other(address, topic, sender, receiver):
    subscriber = Subscriber(address, receiver, topic, "-q", "1", "-F", "> %p")
    publish(address, sender, topic, f"{sender} to {receiver}", "-q", "1")
    assert subscriber.lines() == [f"> {sender} to {receiver}"]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_retained_message_is_marked(address, topic, version):
    publish(address, version, topic, "kept", "-q", "1", "-r")
    subscriber = Subscriber(address, version, topic, "-q", "1", "-F", "> %r %p")
    assert subscriber.lines() == ["> 1 kept"]


def test_properties_arrive(address, topic):
    options = ["-q", "1", "-F", "> %C|%D|%R|%P|%p"]
    subscriber = Subscriber(address, "mqttv5", topic, *options)
    properties = {
        "content-type": ["application/json"],
        "correlation-data": ["42"],
        "response-topic": ["answers"],
    }
    arguments = [
        part
        for name, values in properties.items()
        for part in ["-D", "publish", name, *values]
    ]
    user = ["-D", "publish", "user-property", "name", "value"]
    publish(address, "mqttv5", topic, "{}", "-q", "1", *arguments, *user)
    assert subscriber.lines() == ["> application/json|42|answers|name:value|{}"]
