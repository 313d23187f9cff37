// A gateway for these suites, or the broker that TIDEGATE_TEST_ADDRESS names.
'use strict';

const { spawn } = require('node:child_process');
const { once } = require('node:events');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { setTimeout: pause } = require('node:timers/promises');

/** The listeners that exist when nobody says anything, by the names that URLs have for them. */
const LISTENERS = ['mqtt', 'mqtts', 'ws', 'wss', 'quic', 'coap', 'coaps', 'coap_tcp', 'coaps_tcp'];
/** Those that MQTT.js can speak to. */
const SCHEMES = LISTENERS.filter((name) => !/quic|coap/.test(name));

/**
 * Starts a gateway on free ports. Its `addresses` are by name of the listener, `authority` is the file
 * of its certificate authority, `url(scheme)` leads to a listener.
 */
async function start() {
  const server = process.env.TIDEGATE_TEST_ADDRESS ? given() : await Gateway.start();
  server.url = (scheme) => {
    const address = server.addresses[scheme].replace('127.0.0.1', 'localhost');
    return `${scheme}://${address}${scheme.startsWith('ws') ? '/mqtt' : ''}`;
  };
  return server;
}

/** The broker that the environment describes. */
function given() {
  const variables = {
    mqtt: 'TIDEGATE_TEST_ADDRESS',
    mqtts: 'TIDEGATE_TEST_MQTTS',
    ws: 'TIDEGATE_TEST_WS',
    wss: 'TIDEGATE_TEST_WSS',
  };
  const addresses = Object.entries(variables)
    .map(([scheme, variable]) => [scheme, process.env[variable]])
    .filter(([, address]) => address);
  return {
    addresses: Object.fromEntries(addresses),
    authority: process.env.TIDEGATE_TEST_CA,
    stop: async () => {},
  };
}

class Gateway {
  static async start() {
    const gateway = new Gateway();
    await gateway.run();
    return gateway;
  }

  constructor() {
    this.binary = process.env.TIDEGATE_BIN;
    if (!this.binary) {
      throw new Error('set TIDEGATE_BIN or TIDEGATE_TEST_ADDRESS, or use cargo xtask test');
    }
    this.directory = fs.mkdtempSync(path.join(os.tmpdir(), 'tidegate-node-'));
    this.addresses = {};
  }

  file(name) {
    return path.join(this.directory, name);
  }

  get authority() {
    return this.file('data/tls/ca.crt');
  }

  output() {
    return fs.readFileSync(this.file('log'), 'utf8');
  }

  /** Starts the process: on free ports, or on those that it had before. */
  async run() {
    fs.rmSync(this.file('ready.json'), { force: true });
    const binds = [...LISTENERS.map((name) => [name, `listeners.${name}.bind`]), ['http', 'http.bind']];
    const sets = binds.flatMap(([name, key]) => [
      '--set',
      `${key}=${this.addresses[name] ?? '127.0.0.1:0'}`,
    ]);
    const log = fs.openSync(this.file('log'), 'a');
    this.child = spawn(
      this.binary,
      ['run', '--data-dir', this.file('data'), '--ready-file', this.file('ready.json'), ...sets],
      { stdio: ['ignore', log, log], cwd: this.directory },
    );
    fs.closeSync(log);
    this.ended = once(this.child, 'exit');
    try {
      await this.bound();
    } catch (error) {
      this.child.kill('SIGKILL');
      throw error;
    }
  }

  async bound() {
    for (const end = Date.now() + 20_000; Date.now() < end && this.child.exitCode === null; ) {
      try {
        const { listeners } = JSON.parse(fs.readFileSync(this.file('ready.json'), 'utf8'));
        for (const [name, { address }] of Object.entries(listeners)) this.addresses[name] = address;
        return;
      } catch (error) {
        if (error.code !== 'ENOENT' && !(error instanceof SyntaxError)) throw error;
        await pause(10);
      }
    }
    throw new Error(`the gateway is not ready:\n${this.output()}`);
  }

  /** Ends the process as an operator does; it can be run again. */
  async halt() {
    const late = setTimeout(() => this.child.kill('SIGKILL'), 20_000);
    this.child.kill('SIGTERM');
    const [code] = await this.ended;
    clearTimeout(late);
    const log = this.output();
    if (code !== 0 || log.includes('panicked at')) {
      throw new Error(`the gateway ended with ${code}:\n${log}`);
    }
  }

  async stop() {
    try {
      await this.halt();
    } finally {
      fs.rmSync(this.directory, { recursive: true });
    }
  }
}

module.exports = { SCHEMES, start };
