"""A session of paho that is kept over connections and crashes: it does what it is told and reports
what happens to it."""

import random
import time
import zlib

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

HOUR = 3600
# Between two attempts to connect when nobody listens and nobody has said that somebody does.
RETRY = 0.1
# PUBCOMP 0x92: the packet identifier is not known any more, because the message was released before
# the connection was lost.
NOT_FOUND = 0x92


def number(payload):
    """The number of a message; None where there is no payload."""
    return int(payload.split(b":", 1)[0]) if payload else None


def body(message, size):
    """A payload that nothing else has, with the number in front."""
    head = f"{message}:".encode()
    return head + random.Random(message).randbytes(max(0, size - len(head)))


def measured(payload):
    return {"size": len(payload), "sum": zlib.crc32(payload)}


class Careful(paho.Client):
    """Lets no PUBREC leave before the message is on record. Paho keeps what it has answered so in
    memory only: when its process is killed, such a message is lost by the client, not by the gateway."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.unanswered = []

    def _send_pubrec(self, mid):
        self.unanswered.append(mid)
        return paho.MQTT_ERR_SUCCESS

    def answer(self, record):
        answered, self.unanswered = self.unanswered, []
        for mid in answered:
            record(number(self._in_messages[mid].payload))
            if self.socket() is not None:
                super()._send_pubrec(mid)


class Session:
    def __init__(self, plan, crew, report):
        self.name = plan["client"]
        self.report = lambda what, **fields: report(what, client=self.name, **fields)
        self.address = crew["address"]
        self.filters = [tuple(wanted) for wanted in plan["filters"]]
        self.subscribed = plan["subscribed"]
        self.careful = crew["careful"]
        self.writes, self.will = plan["writes"], plan["will"]
        self.wanted = self.connected = self.begun = False
        self.retry = 0.0
        self.random = random.Random(f"{crew['seed']}/{self.name}")
        self.credit, self.window, self.count = 0, 1, 0
        # The message of each packet identifier that is not acknowledged.
        self.open = {}
        version = plan["version"]
        self.modern = version == paho.MQTTv5
        kind = Careful if self.careful else paho.Client
        options = {} if self.modern else {"clean_session": False}
        self.paho = kind(
            paho.CallbackAPIVersion.VERSION2, client_id=self.name, protocol=version, **options
        )
        self.paho.on_connect, self.paho.on_disconnect = self.on_connect, self.on_disconnect
        self.paho.on_subscribe, self.paho.on_message = self.on_subscribe, self.on_message
        self.paho.on_publish = self.on_publish

    # ---- what it is told ----

    def come(self):
        self.wanted = True
        self.retry = 0.0

    def up(self):
        """The gateway listens again."""
        self.retry = 0.0

    def go(self, polite):
        """Leaves, with a DISCONNECT or without, and stays away until it is told to come."""
        self.wanted = False
        if self.paho.socket() is not None:
            if polite:
                self.paho.disconnect()
            else:
                self.cut()
        self.report("left")

    def drop(self):
        """Loses its connection and opens another one in the same moment."""
        if self.connected:
            self.cut()

    def publish(self, count, window):
        self.credit += count
        self.window = window

    # ---- the loop ----

    def socket(self):
        return self.paho.socket()

    def step(self):
        if self.wanted and self.paho.socket() is None and time.monotonic() >= self.retry:
            self.connect()
        while self.connected and self.credit > 0 and len(self.open) < self.window:
            self.credit -= 1
            self.write()

    def read(self):
        self.paho.loop_read()
        if self.careful:
            self.paho.answer(self.hold)

    def hold(self, message):
        # Without a payload there is nothing to recognize it by.
        if message is not None:
            self.report("held", message=message)

    def flush(self):
        self.paho.loop_write()

    def misc(self):
        self.paho.loop_misc()

    def connect(self):
        # What paho would forget if a connection ended before its CONNACK: that a message has reached
        # PUBREL. It would publish it anew (MQTT-4.3.3-6 of 5.0).
        for message in self.paho._out_messages.values():
            if message.state == paho.mqtt_ms_resend_pubrel:
                message.state = paho.mqtt_ms_wait_for_pubcomp
        try:
            if self.begun:
                self.paho.reconnect()
                return
            self.set_will()
            properties = {}
            if self.modern:
                connect = Properties(PacketTypes.CONNECT)
                connect.SessionExpiryInterval = HOUR
                properties = {"clean_start": False, "properties": connect}
            self.begun = True
            self.paho.connect(*self.address, keepalive=60, **properties)
        except OSError:
            self.retry = time.monotonic() + RETRY

    def set_will(self):
        if not self.will:
            return
        payload = body(self.will["message"], self.will["size"])
        options = {}
        if self.modern:
            options["properties"] = Properties(PacketTypes.WILLMESSAGE)
            options["properties"].WillDelayInterval = self.will["delay"]
        self.paho.will_set(self.will["topic"], payload, self.will["qos"], **options)
        told = {name: self.will[name] for name in ["message", "topic", "qos", "delay"]}
        self.report("willed", **told, **measured(payload))

    def cut(self):
        """Closes the socket; what was not read or not written is gone."""
        self.paho.socket().close()
        self.paho.loop_read()
        assert self.paho.socket() is None

    def write(self):
        target = self.random.choice(self.writes["topics"])
        message = self.writes["first"] + self.count
        self.count += 1
        payload = body(message, self.size())
        if target["retain"] and self.random.random() < 0.15:
            payload = b""
        told = {"message": message, "topic": target["topic"], "qos": target["qos"]}
        self.report("sent", **told, retain=target["retain"], **measured(payload))
        info = self.paho.publish(target["topic"], payload, target["qos"], target["retain"])
        self.open[info.mid] = message

    def size(self):
        kind = self.random.random()
        if kind < 0.6:
            return self.random.randint(1, 64)
        if kind < 0.9:
            return self.random.randint(64, 1500)
        return self.random.randint(1500, 16384)

    # ---- what happens to it ----

    def on_connect(self, _client, _user, flags, reason, _properties):
        if reason != 0:
            self.retry = time.monotonic() + RETRY
            self.report("turned_away", why=str(reason))
            return
        self.connected = True
        self.report("connected", present=flags.session_present)
        if self.filters and not self.subscribed:
            self.paho.subscribe(self.filters)

    def on_disconnect(self, _client, _user, _flags, reason, _properties):
        if self.connected:
            self.report("lost", why=str(reason))
        self.connected = False

    def on_subscribe(self, _client, _user, _mid, reasons, _properties):
        granted = [reason.value for reason in reasons]
        assert granted == [qos for _, qos in self.filters], granted
        self.subscribed = True
        self.report("subscribed", filters=self.filters)

    def on_message(self, _client, _user, message):
        flags = {"qos": message.qos, "dup": message.dup, "retain": message.retain}
        told = {"message": number(message.payload), "topic": message.topic}
        self.report("arrived", **told, **flags, **measured(message.payload))

    def on_publish(self, _client, _user, mid, reason, _properties):
        message = self.open.pop(mid)
        if reason.value < 0x80 or reason.value == NOT_FOUND:
            self.report("acked", message=message)
        else:
            self.report("refused", message=message, reason=reason.value)
