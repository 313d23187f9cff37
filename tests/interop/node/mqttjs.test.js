// MQTT.js, MQTT 3.1.1 and 5, over TCP, TLS, WebSocket and WebSocket over TLS.
'use strict';

const assert = require('node:assert/strict');
const { execFile, spawnSync } = require('node:child_process');
const { once } = require('node:events');
const fs = require('node:fs');
const { after, before, test: run } = require('node:test');
const { promisify } = require('node:util');

const mqtt = require('mqtt');

const gateway = require('./gateway.js');

const PATIENCE = { timeout: 30_000 };
const VERSIONS = [4, 5];
/** Why no test can publish with another client and restart the gateway, if so. */
const unable =
  (process.env.TIDEGATE_TEST_ADDRESS && 'a broker that was given cannot be stopped') ||
  (spawnSync('mosquitto_pub', ['--help']).error && 'no mosquitto_pub (mosquitto-clients)');
let server;
let numbers = 0;

before(async () => {
  server = await gateway.start();
});
after(() => server?.stop());

const unique = (stem) => `${stem}-${process.pid}-${++numbers}`;

/** MQTT.js at one of the server's listeners. */
function open(scheme, protocolVersion, options = {}) {
  const secure = scheme === 'mqtts' || scheme === 'wss';
  return mqtt.connect(server.url(scheme), {
    protocolVersion,
    reconnectPeriod: 0,
    ...(secure && { ca: fs.readFileSync(server.authority) }),
    ...options,
  });
}

/** Connects; `messages` fills with what arrives, `received(count)` waits for that many. */
async function connected(scheme, protocolVersion, options) {
  const client = open(scheme, protocolVersion, options);
  await new Promise((resolve, reject) => {
    client.once('connect', resolve);
    client.once('error', reject);
    client.once('close', () => reject(new Error('closed before CONNACK')));
  });
  client.messages = [];
  client.on('message', (topic, payload, packet) => {
    client.messages.push({ topic, text: payload.toString(), packet });
    client.emit('counted');
  });
  client.received = async (count) => {
    while (client.messages.length < count) await once(client, 'counted');
    assert.equal(client.messages.length, count);
    return client.messages;
  };
  return client;
}

/** Publishes with a client of another make, over TCP. */
async function mosquitto(topic, message) {
  const [host, port] = server.addresses.mqtt.split(':');
  const address = ['-h', host, '-p', port];
  await promisify(execFile)('mosquitto_pub', [...address, '-q', '1', '-t', topic, '-m', message]);
}

for (const scheme of gateway.SCHEMES) {
  suite(scheme);
}

function suite(scheme) {
  const test = (name, options, body) =>
    run(`${scheme}, ${name}`, options, (context) => {
      if (server.addresses[scheme]) return body();
      return context.skip(`the broker that was given has no ${scheme}`);
    });
  const connect = (version, options) => connected(scheme, version, options);

  for (const version of VERSIONS) {
    for (const qos of [0, 1, 2]) {
      test(`MQTT ${version}: messages of QoS ${qos} arrive in order`, PATIENCE, async () => {
        const topic = unique('order');
        const receiver = await connect(version);
        const [granted] = await receiver.subscribeAsync(`${topic}/#`, { qos });
        assert.equal(granted.qos, qos);
        const sender = await connect(version);
        // MQTT.js does not keep to a server's Receive Maximum: ten at a time is below anybody's.
        for (let number = 0; number < 200; number += 10) {
          const sent = Array.from({ length: 10 }, (_, offset) => number + offset);
          await Promise.all(
            sent.map((each) => sender.publishAsync(`${topic}/${each % 3}`, String(each), { qos })),
          );
        }
        const messages = await receiver.received(200);
        assert.deepEqual(
          messages.map(({ topic: name, text }) => [name, text]),
          Array.from({ length: 200 }, (_, number) => [`${topic}/${number % 3}`, String(number)]),
        );
        assert.ok(messages.every(({ packet }) => packet.qos === qos && !packet.retain));
        await Promise.all([receiver.endAsync(), sender.endAsync()]);
      });
    }

    test(`MQTT ${version}: retained messages are marked`, PATIENCE, async () => {
      const topic = unique('retained');
      const sender = await connect(version);
      await sender.publishAsync(topic, 'kept', { qos: 1, retain: true });
      const receiver = await connect(version);
      await receiver.subscribeAsync(topic, { qos: 1 });
      const [{ text, packet }] = await receiver.received(1);
      assert.deepEqual([text, packet.retain], ['kept', true]);
      await sender.publishAsync(topic, '', { qos: 1, retain: true });
      await Promise.all([receiver.endAsync(), sender.endAsync()]);
    });

    test(`MQTT ${version}: a session waits for its client`, PATIENCE, async () => {
      const topic = unique('session');
      const lasting = { clean: false, clientId: unique('lasting') };
      if (version === 5) lasting.properties = { sessionExpiryInterval: 300 };
      const first = await connect(version, lasting);
      await first.subscribeAsync(topic, { qos: 2 });
      await first.endAsync();
      const sender = await connect(version);
      for (let number = 0; number < 10; number++) {
        await sender.publishAsync(topic, String(number), { qos: 1 });
      }
      // The messages may come before connectAsync returns: listen from the beginning.
      const second = open(scheme, version, lasting);
      const texts = [];
      const all = new Promise((resolve) => {
        second.on('message', (_topic, payload) => {
          if (texts.push(payload.toString()) === 10) resolve();
        });
      });
      const [connack] = await once(second, 'connect');
      assert.equal(connack.sessionPresent, true);
      await all;
      assert.deepEqual(texts, Array.from({ length: 10 }, (_, number) => String(number)));
      await second.unsubscribeAsync(topic);
      await Promise.all([second.endAsync(), sender.endAsync()]);
    });

    test(`MQTT ${version}: the will of a client that vanishes arrives`, PATIENCE, async () => {
      const topic = unique('will');
      const receiver = await connect(version);
      await receiver.subscribeAsync(topic, { qos: 1 });
      const doomed = await connect(version, { will: { topic, payload: 'gone', qos: 1 } });
      doomed.on('error', () => {});
      doomed.stream.destroy();
      const [{ text }] = await receiver.received(1);
      assert.equal(text, 'gone');
      await receiver.endAsync();
    });

    const restarted = { ...PATIENCE, skip: unable };
    test(`MQTT ${version}: a client comes back by itself after a restart`, restarted, async () => {
      const topic = unique('restart');
      // Whoever comes back may subscribe again by itself: each connection does it here, to be awaited.
      const client = open(scheme, version, { reconnectPeriod: 200, resubscribe: false });
      const messages = [];
      client.on('message', (_topic, payload) => {
        messages.push(payload.toString());
        client.emit('counted');
      });
      // Nobody is there for a while.
      client.on('error', () => {});
      client.on('connect', async () => {
        await client.subscribeAsync(topic, { qos: 1 });
        client.emit('subscribed');
      });
      const happens = (event, cause) => {
        const seen = new Promise((resolve) => client.once(event, resolve));
        return Promise.all([seen, cause?.()]);
      };
      try {
        await happens('subscribed');
        await happens('counted', () => mosquitto(topic, 'first'));
        await happens('subscribed', async () => {
          await server.halt();
          await server.run();
        });
        await happens('counted', () => mosquitto(topic, 'after the restart'));
        assert.deepEqual(messages, ['first', 'after the restart']);
      } finally {
        await client.endAsync(true);
      }
    });
  }

  test('MQTT 5: request and response with correlation', PATIENCE, async () => {
    const [asked, answers] = [unique('asked'), unique('answers')];
    const responder = await connect(5);
    responder.on('message', (_topic, payload, { properties }) => {
      const { responseTopic, correlationData, userProperties } = properties;
      responder.publish(responseTopic, `re: ${payload}`, {
        qos: 1,
        properties: { correlationData, userProperties },
      });
    });
    await responder.subscribeAsync(asked, { qos: 1 });
    const requester = await connect(5);
    await requester.subscribeAsync(answers, { qos: 1 });
    await requester.publishAsync(asked, 'question', {
      qos: 1,
      properties: {
        responseTopic: answers,
        correlationData: Buffer.from([0, 255, 7]),
        userProperties: { name: ['first', 'second'] },
      },
    });
    const [{ text, packet }] = await requester.received(1);
    assert.equal(text, 're: question');
    assert.deepEqual([...packet.properties.correlationData], [0, 255, 7]);
    assert.deepEqual({ ...packet.properties.userProperties }, { name: ['first', 'second'] });
    await Promise.all([responder.endAsync(), requester.endAsync()]);
  });

  test('MQTT 5: topic aliases in both directions', PATIENCE, async () => {
    const topic = unique('alias');
    // MQTT.js resolves the server's aliases and assigns its own.
    const receiver = await connect(5, { properties: { topicAliasMaximum: 10 } });
    await receiver.subscribeAsync(`${topic}/+`, { qos: 1 });
    const sender = await connect(5, { autoAssignTopicAlias: true });
    for (let number = 0; number < 60; number++) {
      await sender.publishAsync(`${topic}/${number % 20}`, String(number), { qos: number % 2 });
    }
    // Each topic carries its own messages, whichever alias stood for it.
    for (const { topic: name, text } of await receiver.received(60)) {
      assert.equal(name, `${topic}/${Number(text) % 20}`);
    }
    await Promise.all([receiver.endAsync(), sender.endAsync()]);
  });

  test('MQTT 5: subscription identifiers of overlapping filters', PATIENCE, async () => {
    const topic = unique('overlap');
    const client = await connect(5);
    await client.subscribeAsync(topic, { qos: 1, properties: { subscriptionIdentifier: 7 } });
    await client.subscribeAsync(`${topic}/#`, { qos: 1, properties: { subscriptionIdentifier: 9 } });
    await client.publishAsync(topic, 'both', { qos: 1 });
    await client.publishAsync(topic, 'fence', { qos: 1 });
    const seen = () =>
      client.messages
        .filter(({ text }) => text === 'both')
        .flatMap(({ packet }) => packet.properties.subscriptionIdentifier)
        .sort();
    while (!client.messages.some(({ text }) => text === 'fence')) await once(client, 'counted');
    assert.deepEqual(seen(), [7, 9]);
    await client.endAsync();
  });

  test('MQTT 5: a filter that is not valid is refused with its reason', PATIENCE, async () => {
    const client = await connect(5);
    await assert.rejects(client.subscribeAsync('$share/group/', { qos: 1 }));
    await client.endAsync(true);
  });
}
