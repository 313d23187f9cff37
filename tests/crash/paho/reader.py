"""A client without a past that looks which messages are retained, and goes."""

import itertools
import time

import paho.mqtt.client as paho

from session import number

FILTERS = ["crash/one/keep/#", "crash/two/keep/#"]
NUMBERS = itertools.count(1)


class Reader:
    """One look. Retained messages come before what is published after the subscription, so the look is
    complete when the reader's own message arrives. One that is cut off reports nothing."""

    def __init__(self, crew, report):
        self.report = report
        self.name = f"reader-{next(NUMBERS)}"
        self.fence = f"fence/{self.name}"
        self.asked, self.found = 0, {}
        self.paho = paho.Client(paho.CallbackAPIVersion.VERSION2, self.name, protocol=paho.MQTTv5)
        self.paho.on_connect, self.paho.on_subscribe = self.on_connect, self.on_subscribe
        self.paho.on_message = self.on_message
        try:
            self.paho.connect(*crew["address"], keepalive=60, clean_start=True)
        except OSError:
            # The gateway was killed meanwhile.
            pass

    def on_connect(self, _client, _user, _flags, reason, _properties):
        if reason == 0:
            self.asked = time.monotonic_ns() // 1000
            self.paho.subscribe([(wanted, 1) for wanted in [*FILTERS, self.fence]])

    def on_subscribe(self, *_):
        self.paho.publish(self.fence, "", 1)

    def on_message(self, _client, _user, message):
        if message.topic == self.fence:
            self.report("kept", asked=self.asked, found=self.found)
            self.paho.disconnect()
        elif message.retain:
            self.found[message.topic] = number(message.payload)

    def socket(self):
        return self.paho.socket()

    def step(self):
        pass

    def read(self):
        self.paho.loop_read()

    def flush(self):
        self.paho.loop_write()

    def misc(self):
        self.paho.loop_misc()
