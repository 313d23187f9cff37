"""aiomqtt: Paho under asyncio, as services use it."""

import asyncio

import aiomqtt
import pytest

VERSIONS = [
    pytest.param(aiomqtt.ProtocolVersion.V311, id="v311"),
    pytest.param(aiomqtt.ProtocolVersion.V5, id="v5"),
]


def client(address, version, **options):
    return aiomqtt.Client(*address, protocol=version, timeout=15, **options)


@pytest.mark.parametrize("version", VERSIONS)
def test_many_publish_at_once_to_one_subscriber(address, topic, version):
    async def scenario():
        async with client(address, version) as receiver:
            await receiver.subscribe(f"{topic}/+", qos=1)

            async def sender(number):
                async with client(address, version) as publisher:
                    for count in range(20):
                        await publisher.publish(f"{topic}/{number}", str(count), qos=1)

            await asyncio.gather(*(sender(number) for number in range(10)))
            found = {}
            async for message in receiver.messages:
                sender_topic = str(message.topic)
                found.setdefault(sender_topic, []).append(int(message.payload))
                if sum(map(len, found.values())) == 200:
                    break
            # Each sender's messages in its order, whatever the others did.
            assert found == {f"{topic}/{number}": list(range(20)) for number in range(10)}

    asyncio.run(asyncio.wait_for(scenario(), 60))


@pytest.mark.parametrize("version", VERSIONS)
def test_the_will_is_not_published_after_a_disconnect(address, topic, version):
    async def scenario():
        async with client(address, version) as receiver:
            await receiver.subscribe(topic, qos=1)
            will = aiomqtt.Will(topic, "must not come", qos=1)
            async with client(address, version, will=will):
                pass
            await receiver.publish(topic, "marker", qos=1)
            message = await anext(aiter(receiver.messages))
            assert message.payload == b"marker"

    asyncio.run(asyncio.wait_for(scenario(), 60))
