// A gateway for these suites, or the broker that TIDEGATE_TEST_ADDRESS names.
'use strict';

const { spawn } = require('node:child_process');
const { once } = require('node:events');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { setTimeout: pause } = require('node:timers/promises');

const CONFIGURATION = `
[listeners.mqtt]
kind = "mqtt"
bind = "127.0.0.1:0"
[http]
bind = "127.0.0.1:0"
`;

/** Starts a gateway; resolves to its MQTT address and a function that ends it. */
async function start() {
  if (process.env.TIDEGATE_TEST_ADDRESS) {
    return { address: process.env.TIDEGATE_TEST_ADDRESS, stop: async () => {} };
  }
  const binary = process.env.TIDEGATE_BIN;
  if (!binary) {
    throw new Error('set TIDEGATE_BIN or TIDEGATE_TEST_ADDRESS, or use cargo xtask test');
  }
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'tidegate-node-'));
  const file = (name) => path.join(directory, name);
  fs.writeFileSync(file('tidegate.toml'), CONFIGURATION);
  const log = fs.openSync(file('log'), 'w');
  const child = spawn(
    binary,
    ['run', '--config', file('tidegate.toml'), '--data-dir', file('data')].concat([
      '--ready-file',
      file('ready.json'),
    ]),
    { stdio: ['ignore', log, log] },
  );
  const ended = once(child, 'exit');
  const output = () => fs.readFileSync(file('log'), 'utf8');
  try {
    const address = await bound(child, file('ready.json'), output);
    return { address, stop: () => stop(child, ended, directory, output) };
  } catch (error) {
    child.kill('SIGKILL');
    throw error;
  }
}

async function bound(child, ready, output) {
  for (const end = Date.now() + 20_000; Date.now() < end && child.exitCode === null; ) {
    try {
      return JSON.parse(fs.readFileSync(ready, 'utf8')).listeners.mqtt.address;
    } catch (error) {
      if (error.code !== 'ENOENT' && !(error instanceof SyntaxError)) throw error;
      await pause(10);
    }
  }
  throw new Error(`the gateway is not ready:\n${output()}`);
}

async function stop(child, ended, directory, output) {
  const late = setTimeout(() => child.kill('SIGKILL'), 20_000);
  child.kill('SIGTERM');
  const [code] = await ended;
  clearTimeout(late);
  const log = output();
  fs.rmSync(directory, { recursive: true });
  if (code !== 0 || log.includes('panicked at')) {
    throw new Error(`the gateway ended with ${code}:\n${log}`);
  }
}

module.exports = { start };
