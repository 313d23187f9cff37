"""CoAP where a fifth of the datagrams is lost, some come twice, some late, and a NAT forgets: aiocoap through a relay."""

import asyncio
import collections
import random

import aiocoap
import pytest
from aiocoap import GET, PUT, Message
from aiocoap.numbers import TransportTuning

from test_coap import Mqtt, base, context, until  # noqa: F401 (base is a fixture)


class Quick(TransportTuning):
    """Repeats early: the tests have no two seconds for each loss."""

    ACK_TIMEOUT = 0.15
    MAX_RETRANSMIT = 8


class Relay:
    """Passes datagrams on between one client and the gateway, with losses of which the seed decides."""

    def __init__(self, gateway, seed):
        self.gateway = gateway
        self.random = random.Random(seed)
        self.client = None
        self.front = self.back = None
        self.counts = collections.Counter()

    async def start(self):
        loop = asyncio.get_running_loop()
        self.front, _ = await loop.create_datagram_endpoint(
            lambda: Side(self.from_client), local_addr=("127.0.0.1", 0)
        )
        await self.rebind()
        return self.front.get_extra_info("sockname")[1]

    async def rebind(self):
        """A NAT forgets: from now on the client comes from another port."""
        if self.back:
            self.back.close()
        loop = asyncio.get_running_loop()
        self.back, _ = await loop.create_datagram_endpoint(
            lambda: Side(self.from_gateway), remote_addr=self.gateway
        )

    def from_client(self, data, address):
        self.client = address
        self.pass_on(lambda: self.back.sendto(data))

    def from_gateway(self, data, _address):
        self.pass_on(lambda: self.front.sendto(data, self.client))

    def pass_on(self, send):
        luck = self.random.random()
        if luck < 0.2:
            self.counts["lost"] += 1
            return
        times = 2 if luck < 0.3 else 1
        self.counts["twice"] += times - 1
        for _ in range(times):
            late = self.random.random() < 0.2
            self.counts["late"] += late
            asyncio.get_running_loop().call_later(0.05 if late else 0.001, send)

    def close(self):
        self.front.close()
        self.back.close()


class Side(asyncio.DatagramProtocol):
    def __init__(self, received):
        self.datagram_received = received

    def error_received(self, _error):
        pass


async def ask(context, code, uri, payload=b"", **options):
    message = Message(code=code, uri=uri, payload=payload, transport_tuning=Quick(), **options)
    return await asyncio.wait_for(context.request(message).response, 60)


@pytest.mark.parametrize("seed", [1, 2])
def test_every_publish_comes_once_whatever_is_lost(broker, topic, seed):
    sent = [str(number) for number in range(25)]

    async def run():
        relay = Relay(broker.address("coap"), seed)
        port = await relay.start()
        async with context() as c:
            for payload in sent:
                answer = await ask(c, PUT, f"coap://127.0.0.1:{port}/ps/{topic}", payload.encode())
                assert answer.code == aiocoap.CHANGED
        relay.close()
        assert relay.counts["lost"] > 3 and relay.counts["twice"] > 2, relay.counts

    with Mqtt(broker, topic) as receiver:
        asyncio.run(run())
        until(lambda: len(receiver.received) >= len(sent))
        assert [message.payload.decode() for message in receiver.received] == sent


def test_a_body_in_blocks_is_whole_or_not_there(broker, topic):
    body = bytes(at % 251 for at in range(1_000))

    async def run():
        relay = Relay(broker.address("coap"), 3)
        port = await relay.start()
        url = f"coap://127.0.0.1:{port}/ps/{topic}"
        async with context() as c:
            assert (await ask(c, PUT, f"{url}?retain=true", body)).code == aiocoap.CHANGED
            assert (await ask(c, GET, url)).payload == body
        relay.close()

    with Mqtt(broker, topic) as receiver:
        asyncio.run(run())
        until(lambda: receiver.received)
        assert [message.payload for message in receiver.received] == [body]


def test_an_observer_has_the_newest_state_in_the_end_and_a_nat_that_forgets_leaves_nothing(
    broker, topic
):
    ended = {"reason": "timeout", "listener": "coap"}
    before = broker.metric("tidegate_coap_observations_ended_total", **ended)

    async def run(sender):
        relay = Relay(broker.address("coap"), 4)
        port = await relay.start()
        url = f"coap://127.0.0.1:{port}/ps/{topic}"
        async with context() as c:
            told = []

            async def observe():
                message = Message(code=GET, uri=url, observe=0, transport_tuning=Quick())
                request = c.request(message)
                told.append((await asyncio.wait_for(request.response, 60)).payload)
                return request, asyncio.create_task(collect(request))

            async def collect(request):
                async for message in request.observation:
                    told.append(message.payload)

            async def comes(payload):
                async with asyncio.timeout(60):
                    while told[-1] != payload:
                        await asyncio.sleep(0.05)

            first, collecting = await observe()
            for number in range(30):
                sender.client.publish(topic, f"first {number}", 1, retain=True)
                await asyncio.sleep(0.02)
            await comes(b"first 29")
            # The gateway cannot know that the client is the same: it observes anew.
            await relay.rebind()
            collecting.cancel()
            first.observation.cancel()
            second, collecting = await observe()
            assert told[-1] == b"first 29"
            for number in range(30):
                sender.client.publish(topic, f"second {number}", 1, retain=True)
                await asyncio.sleep(0.02)
            await comes(b"second 29")
            collecting.cancel()
            second.observation.cancel()
        relay.close()

    with Mqtt(broker) as sender:
        asyncio.run(run(sender))
    # Who is gone is found out: the last one was told something and did not acknowledge it.
    assert broker.metric("tidegate_coap_observations_ended_total", **ended) >= before
