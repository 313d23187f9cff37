// MQTT.js in a page of a real browser, over WebSocket with and without TLS.
'use strict';

const assert = require('node:assert/strict');
const { execFile, spawn } = require('node:child_process');
const dgram = require('node:dgram');
const { once } = require('node:events');
const fs = require('node:fs');
const http = require('node:http');
const os = require('node:os');
const path = require('node:path');
const { after, before, test } = require('node:test');
const { promisify } = require('node:util');

const { chromium } = require('playwright-core');

const gateway = require('./gateway.js');

const run = promisify(execFile);
const PATIENCE = { timeout: 90_000 };
/** How long the page may take for a step. */
const STEP = { timeout: 20_000 };
/** Debian's names of it, and the one elsewhere. */
const BROWSERS = ['chromium', 'chromium-browser', 'google-chrome'];
/** A web site that the gateway knows nothing about. */
const ELSEWHERE = 'elsewhere.example';
const QUIET = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  // Nothing but this machine can be reached, and it has one more name.
  `--host-resolver-rules=MAP ${ELSEWHERE} 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1`,
];

/** The file of a program on the search path. */
const program = (name) =>
  process.env.PATH.split(path.delimiter)
    .map((directory) => path.join(directory, name))
    .find((file) => fs.existsSync(file));

const executable = BROWSERS.map(program).find(Boolean);
const missing =
  (!executable && 'no chromium') ||
  (!program('certutil') && 'no certutil (libnss3-tools)') ||
  (!program('mosquitto_pub') && 'no mosquitto_pub (mosquitto-clients)') ||
  (process.env.TIDEGATE_TEST_ADDRESS && 'a broker that was given cannot be stopped');
const options = { ...PATIENCE, skip: missing };

let home;
let server;
let pages;
let browser;

before(async () => {
  if (missing) return;
  server = await gateway.start();
  // Chromium trusts what the user's NSS database trusts: the gateway's own authority, no exception.
  home = fs.mkdtempSync(path.join(os.tmpdir(), 'tidegate-browser-'));
  const database = path.join(home, '.pki', 'nssdb');
  fs.mkdirSync(database, { recursive: true });
  await run('certutil', ['-N', '-d', `sql:${database}`, '--empty-password']);
  const trust = ['-A', '-n', 'gateway', '-t', 'C,,', '-i', server.authority];
  await run('certutil', [...trust, '-d', `sql:${database}`]);
  pages = await serve();
  browser = await chromium.launch({
    executablePath: executable,
    args: QUIET,
    env: { ...process.env, HOME: home },
  });
}, PATIENCE);

after(async () => {
  await browser?.close();
  pages?.close();
  await server?.stop();
  if (home) fs.rmSync(home, { recursive: true, force: true, maxRetries: 5 });
}, PATIENCE);

/** Serves the page and the bundle of MQTT.js that a web site would use. */
async function serve() {
  const bundle = fs.readFileSync(
    path.join(path.dirname(require.resolve('mqtt/package.json')), 'dist', 'mqtt.min.js'),
  );
  const listener = http.createServer((request, response) => {
    if (request.url === '/mqtt.min.js') {
      response.setHeader('Content-Type', 'text/javascript');
      response.end(bundle);
    } else {
      response.setHeader('Content-Type', 'text/html');
      response.end('<!doctype html><title>MQTT</title><script src="/mqtt.min.js"></script>');
    }
  });
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  return listener;
}

/** Opens the page and lets it connect and subscribe, as often as it has to. */
async function subscribe(url, topic, protocolVersion) {
  const page = await browser.newPage();
  await page.goto(`http://localhost:${pages.address().port}/`, STEP);
  await page.evaluate(
    ([target, filter, version]) => {
      globalThis.seen = { messages: [], subscriptions: 0, errors: [] };
      const client = globalThis.mqtt.connect(target, {
        protocolVersion: version,
        reconnectPeriod: 200,
        resubscribe: false,
      });
      client.on('connect', () => {
        client.subscribe(filter, { qos: 1 }, (error) => {
          if (error) globalThis.seen.errors.push(String(error));
          else globalThis.seen.subscriptions += 1;
        });
      });
      client.on('error', (error) => globalThis.seen.errors.push(String(error)));
      client.on('message', (_topic, payload) => {
        globalThis.seen.messages.push(payload.toString());
      });
      globalThis.client = client;
    },
    [url, topic, protocolVersion],
  );
  return page;
}

/** Waits for the page's n-th subscription or message; says what the page saw if it does not come. */
async function reaches(page, what, count) {
  const check = ([name, wanted]) => [globalThis.seen[name]].flat().length >= wanted;
  const number = ([name, wanted]) => globalThis.seen[name] >= wanted;
  try {
    await page.waitForFunction(what === 'messages' ? check : number, [what, count], STEP);
  } catch (error) {
    const seen = await page.evaluate(() => globalThis.seen);
    throw new Error(`${what} did not reach ${count}: ${JSON.stringify(seen)}`, { cause: error });
  }
}

async function publish(topic, message) {
  const [host, port] = server.addresses.mqtt.split(':');
  const address = ['-h', host, '-p', port];
  await run('mosquitto_pub', [...address, '-q', '1', '-t', topic, '-m', message], STEP);
}

for (const scheme of ['ws', 'wss']) {
  for (const version of [4, 5]) {
    const name = `${scheme}, MQTT ${version}: a page sees a message, also after a restart`;
    test(name, options, async () => {
      const topic = `browser/${scheme}/${version}`;
      const page = await subscribe(server.url(scheme), topic, version);
      await reaches(page, 'subscriptions', 1);
      await publish(topic, 'first');
      await reaches(page, 'messages', 1);

      await server.halt();
      await server.run();
      await reaches(page, 'subscriptions', 2);
      await publish(topic, 'after the restart');
      await reaches(page, 'messages', 2);

      const seen = await page.evaluate(() => globalThis.seen.messages);
      assert.deepEqual(seen, ['first', 'after the restart']);
      await page.evaluate(() => globalThis.client.endAsync());
      await page.close();
    });
  }
}

const README = path.join(__dirname, '..', '..', '..', 'README.md');

/** The file that a command of the README writes. */
function readme(name) {
  const text = fs.readFileSync(README, 'utf8');
  const begin = `cat > target/try/${name} <<'END'\n`;
  assert.ok(text.includes(begin), `the README has no ${name}`);
  return text.split(begin)[1].split('\nEND\n')[0];
}

/** The lines that a process prints, one at a time. */
async function* lines(stream) {
  let rest = '';
  for await (const chunk of stream) {
    const parts = (rest + chunk).split('\n');
    rest = parts.pop();
    yield* parts;
  }
}

/** The NAT of the README: where it is, the ports that the gateway sees, and what makes it forget. */
async function nat(processes) {
  const [host, port] = server.addresses.quic.split(':');
  assert.equal(host, '127.0.0.1');
  const probe = dgram.createSocket('udp4');
  probe.bind(0, host);
  await once(probe, 'listening');
  const listen = probe.address().port;
  await new Promise((resolve) => probe.close(resolve));
  const script = spawn('python3', ['-c', readme('nat.py'), listen, port], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  processes.push(script);
  const forget = () => script.stdin.write('\n');
  return { url: `quic://127.0.0.1:${listen}`, ports: lines(script.stdout), forget };
}

test('README: a device on QUIC and a page see each other while the device moves', options, async () => {
  const page = await subscribe(server.url('ws'), 'hello/device', 5);
  await reaches(page, 'subscriptions', 1);
  const processes = [];
  try {
    const { url, ports, forget } = await nat(processes);
    const client = (command, ...more) => {
      const connection = ['--url', url, '--ca', server.authority, '-q', '1'];
      const child = spawn(process.env.TIDEGATE_BIN, [command, ...connection, ...more]);
      processes.push(child);
      return child;
    };
    const subscriber = client('sub', '-t', 'hello/browser', '--debug');
    for await (const line of lines(subscriber.stderr)) {
      if (line.startsWith('subscribed to')) break;
    }
    const heard = lines(subscriber.stdout);
    const device = client('pub', '-t', 'hello/device', '-l');
    for (let count = 1; count <= 3; count += 1) {
      device.stdin.write(`line ${count}\n`);
      await reaches(page, 'messages', count);
      await page.evaluate(
        (text) => globalThis.client.publishAsync('hello/browser', text, { qos: 1 }),
        `hi ${count}`,
      );
      assert.equal((await heard.next()).value, `hi ${count}`);
      // Both came out at a port of their own.
      for (const line of [await ports.next(), await ports.next()]) {
        assert.match(line.value, /^the gateway sees port \d+$/);
      }
      forget();
    }
    device.stdin.end();
    const [code] = await once(device, 'exit');
    assert.equal(code, 0);
    const messages = await page.evaluate(() => globalThis.seen.messages);
    assert.deepEqual(messages, ['line 1', 'line 2', 'line 3']);
  } finally {
    for (const child of processes) child.kill('SIGKILL');
  }
  await page.evaluate(() => globalThis.client.endAsync());
  await page.close();
});

/** A command of the README, with the addresses that this gateway has; ready for the shell. */
function command(start) {
  const text = fs.readFileSync(README, 'utf8');
  const [found] = text.match(new RegExp(`${start}[^\\n\\x60]*`)) ?? [];
  assert.ok(found, `the README has no ${start}`);
  const [host, port] = server.addresses.mqtt.split(':');
  return found
    .replace('coap://127.0.0.1/', `coap://${server.addresses.coap}/`)
    .replace('http://127.0.0.1:18083/', `http://${server.addresses.http}/`)
    .replace(/^mosquitto_\w+/, `$& -h ${host} -p ${port}`);
}

/** How many subscriptions the gateway has. */
async function subscriptions() {
  const metrics = await fetch(`http://${server.addresses.http}/metrics`);
  return Number((await metrics.text()).match(/^tidegate_subscriptions (\d+)$/m)[1]);
}

test('README: a sensor on CoAP, mosquitto, curl and a page see each other', options, async (t) => {
  if (!program('coap-client-notls')) return t.skip('no coap-client-notls (libcoap3-bin)');
  const page = await subscribe(server.url('ws'), 'hello/#', 5);
  await reaches(page, 'subscriptions', 1);
  const processes = [];
  /** Starts a command that subscribes, and waits until it has. */
  const start = async (start) => {
    const before = await subscriptions();
    const child = spawn('sh', ['-c', `exec stdbuf -oL ${command(start)}`]);
    processes.push(child);
    for (const end = Date.now() + STEP.timeout; (await subscriptions()) === before; ) {
      assert.ok(Date.now() < end, `${start} does not subscribe`);
    }
    return child.stdout;
  };
  try {
    const printed = lines(await start('mosquitto_sub -t \'hello'));
    const events = lines(await start("curl -N '"));
    const event = async () => {
      // Not for await: to leave it would end the stream.
      for (;;) {
        const { value: line, done } = await events.next();
        assert.ok(!done, 'the stream has ended');
        const data = line.match(/^data: (.*"topic".*)/);
        if (data) return JSON.parse(data[1]);
      }
    };
    await run('sh', ['-c', command('coap-client-notls -m put')], STEP);
    await reaches(page, 'messages', 1);
    assert.equal((await printed.next()).value, 'hello/coap from CoAP');
    const first = await event();
    assert.deepEqual([first.topic, first.payload], ['hello/coap', 'from CoAP']);

    const observer = await start('coap-client-notls -m get');
    await run('sh', ['-c', command('mosquitto_pub -t hello/device')], STEP);
    const [told] = await once(observer, 'data');
    assert.equal(told.toString(), 'to CoAP');
    await reaches(page, 'messages', 2);
    assert.equal((await printed.next()).value, 'hello/device to CoAP');
    assert.equal((await event()).payload, 'to CoAP');
    const messages = await page.evaluate(() => globalThis.seen.messages);
    assert.deepEqual(messages, ['from CoAP', 'to CoAP']);
  } finally {
    for (const child of processes) child.kill('SIGKILL');
  }
  await page.evaluate(() => globalThis.client.endAsync());
  await page.close();
});

/** What becomes of a WebSocket that a page opens: `open`, or why not as the browser tells it. */
async function attempt(page) {
  const reason = new Promise((resolve) => {
    page.once('websocket', (socket) => socket.once('socketerror', resolve));
  });
  const opened = await page.evaluate(
    (url) =>
      new Promise((resolve) => {
        const socket = new WebSocket(url, 'mqtt');
        socket.onopen = () => resolve(true);
        socket.onerror = () => resolve(false);
      }),
    server.url('ws'),
  );
  return opened ? 'open' : reason;
}

for (const [name, host, expected] of [
  ['a page of this machine is welcome', 'localhost', /^open$/],
  ['a page of another origin is turned away', ELSEWHERE, /response code: 403/],
  // As in a sandboxed frame: the browser says "null".
  ['a page without an origin of its own is turned away', null, /response code: 403/],
]) {
  test(name, options, async () => {
    const page = await browser.newPage();
    if (host) await page.goto(`http://${host}:${pages.address().port}/`, STEP);
    const origin = host ? `http://${host}:${pages.address().port}` : 'null';
    assert.equal(await page.evaluate(() => globalThis.origin), origin);
    assert.match(await attempt(page), expected);
    await page.close();
  });
}

/** Opens an event stream in a page, and keeps what comes on it. */
const listen = (url) => {
  globalThis.seen = { messages: [], subscriptions: 0, errors: [], ends: [] };
  globalThis.events = new EventSource(url);
  globalThis.events.addEventListener('session', () => {
    globalThis.seen.subscriptions += 1;
  });
  globalThis.events.addEventListener('message', (event) => {
    globalThis.seen.messages.push(JSON.parse(event.data).payload);
  });
  globalThis.events.addEventListener('end', (event) => {
    globalThis.seen.ends.push(JSON.parse(event.data).reason);
  });
  globalThis.events.onerror = () => globalThis.seen.errors.push(globalThis.events.readyState);
};

test('an EventSource comes back by itself and misses and repeats nothing', options, async () => {
  const page = await browser.newPage();
  // A page of the gateway's own origin: what others need is configured (CORS).
  await page.goto(`http://${server.addresses.http}/livez`, STEP);
  const query = 'filter=events/%23&client_id=desk&session_expiry=600&receive_maximum=2';
  await page.evaluate(listen, `http://${server.addresses.http}/api/v1/subscribe?${query}`);
  await reaches(page, 'subscriptions', 1);
  const expected = [];
  for (let number = 1; number <= 5; number += 1) {
    expected.push(`${number}`);
    await publish('events/one', `${number}`);
  }
  await reaches(page, 'messages', expected.length);
  // A window of two: its end is where the browser comes back, with the id of the last event.
  await reaches(page, 'subscriptions', 3);
  const seen = await page.evaluate(() => globalThis.seen);
  assert.deepEqual(seen.messages, expected);
  assert.deepEqual(seen.ends, ['window', 'window']);
  // The last of them is acknowledged by the next return only.
  await publish('events/one', '6');
  await reaches(page, 'messages', 6);
  await reaches(page, 'subscriptions', 4);
  assert.deepEqual(await page.evaluate(() => globalThis.seen.messages), [...expected, '6']);
  await page.close();
});

test('an EventSource of a foreign page is turned away and causes nothing', options, async () => {
  const page = await browser.newPage();
  await page.goto(`http://${ELSEWHERE}:${pages.address().port}/`, STEP);
  const before = await subscriptions();
  const query = 'filter=events/%23&client_id=foreign';
  await page.evaluate(listen, `http://${server.addresses.http}/api/v1/subscribe?${query}`);
  await page.waitForFunction(() => globalThis.seen.errors.length > 0, null, STEP);
  const seen = await page.evaluate(() => globalThis.seen);
  // 2: closed, and not tried again.
  assert.deepEqual([seen.errors, seen.subscriptions], [[2], 0]);
  assert.equal(await subscriptions(), before);
  await page.close();
});
