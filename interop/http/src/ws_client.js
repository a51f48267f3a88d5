'use strict';
// Talks to a WebSocket server by `ws`: `ws_client.js OUT URL`, or `ws_client.js OUT URL hold SECONDS`.
// The outcome of a case is one line of text, equal for every peer and way that does it right.

const fs = require('fs');
const WebSocket = require('ws');

const MIB = 1 << 20;
const PATIENCE_MS = 15000;
const [out, url, mode, seconds] = process.argv.slice(2);

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** A connection whose messages are taken one by one. */
class Talk {
  constructor(path, protocols, options) {
    this.socket = new WebSocket(url + path, protocols, { maxPayload: 8 * MIB, ...options });
    this.heard = [];
    this.closed = null;
    this.waiting = () => {};
    this.open = new Promise((resolve, reject) => {
      this.socket.on('open', () => resolve(this));
      this.socket.on('error', reject);
      this.socket.on('unexpected-response', (request, response) => {
        const parts = [];
        response.on('data', (part) => parts.push(part));
        response.on('end', () => reject(Object.assign(new Error(), {
          response: [response.statusCode, Buffer.concat(parts).toString()] })));
      });
    });
    this.socket.on('upgrade', (response) => { this.response = response; });
    this.socket.on('message', (data, binary) => { this.heard.push(binary ? data : data.toString()); this.waiting(); });
    this.socket.on('close', (code, reason) => { this.closed = [code, reason.toString()]; this.waiting(); });
  }

  async recv() {
    while (!this.heard.length && !this.closed) await new Promise((resolve) => { this.waiting = resolve; });
    if (!this.heard.length) throw new Error(`closed with ${this.closed}`);
    return this.heard.shift();
  }

  async untilClosed() {
    while (!this.closed) await new Promise((resolve) => { this.waiting = resolve; });
    return [this.heard.splice(0), this.closed];
  }

  async close(...how) {
    this.socket.close(...how);
    return (await this.untilClosed())[1];
  }
}

const opened = (path, protocols, options) => new Talk(path, protocols, options).open;

async function echoed(...messages) {
  const talk = await opened('/echo');
  const heard = [];
  for (const message of messages) {
    talk.socket.send(message);
    heard.push(await talk.recv());
  }
  await talk.close(1000);
  return heard;
}

/** How the server says a named connection ended, as soon as it knows. */
async function ended(name) {
  const until = Date.now() + 5000;
  while (Date.now() < until) {
    const talk = await opened(`/ended?name=${name}`);
    const how = JSON.parse(await talk.recv());
    await talk.untilClosed();
    if (how) return how;
    await pause(20);
  }
  return 'not at all within 5 s';
}

const equal = (one, other) => JSON.stringify(one) === JSON.stringify(other);
const numbers = (count) => Array.from({ length: count }, (_, n) => n);

const cases = {
  'message.text': () => echoed('tea 茶 \u{1f375}', '', 'a\nb'),
  'message.binary': async () => (await echoed(Buffer.from(numbers(256)), Buffer.alloc(0))).map((one) => one.toString('hex')),
  'message.1 MiB in fragments': async () => {
    const talk = await opened('/echo');
    const parts = numbers(64).map((n) => Buffer.alloc(16384, n));
    parts.forEach((part, n) => talk.socket.send(part, { fin: n === 63, binary: true }));
    const heard = await talk.recv();
    await talk.close(1000);
    return [heard.length, heard.equals(Buffer.concat(parts))];
  },
  'message.1 MiB at once': async () => {
    const talk = await opened('/echo', [], { perMessageDeflate: false });
    talk.socket.send('x'.repeat(MIB));
    const heard = await talk.recv();
    await talk.close(1000);
    return heard.length;
  },
  'message.100 in turn': async () => equal(await echoed(...numbers(100).map(String)), numbers(100).map(String)),
  'message.the server speaks first': async () => (await opened('/push')).untilClosed(),
  'message.50 connections at once': async () => {
    const one = async (number) => {
      const sent = numbers(5).map((n) => `${number} ${n}`);
      return equal(await echoed(...sent), sent);
    };
    return (await Promise.all(numbers(50).map(one))).filter(Boolean).length;
  },
  'ping.by the client': async () => {
    const talk = await opened('/echo');
    const pong = new Promise((resolve) => talk.socket.once('pong', resolve));
    talk.socket.ping('hello');
    const data = await pong;
    await talk.close(1000);
    return data.toString() === 'hello' ? 'pong came' : data.toString();
  },
  'ping.by the server': async () => (await opened('/ping')).recv(),
  'handshake.subprotocol': async () => {
    const talk = await opened('/echo', ['tea.v1', 'coffee']);
    await talk.close(1000);
    return talk.socket.protocol;
  },
  'handshake.compression': async () => {
    const talk = await opened('/echo');
    await talk.close(1000);
    return (talk.response.headers['sec-websocket-extensions'] || 'none').split(';')[0];
  },
  'handshake.headers': async () => {
    const sent = { 'X-Tea': 'green', Cookie: 'a=1; b=2', Origin: 'http://shop.test' };
    const talk = await opened('/headers', [], { headers: sent });
    return JSON.parse(await talk.recv()).sort();
  },
  'handshake.refused': async () => {
    try {
      await opened('/refuse');
      return 'let in';
    } catch (error) {
      return error.response;
    }
  },
  'close.by the client': async () => {
    const closed = await (await opened('/echo?name=c1')).close(1000, 'done');
    return [closed[0], await ended('c1')];
  },
  'close.by the client, its own code': async () => {
    const closed = await (await opened('/echo?name=c2')).close(4321, 'späß');
    return [closed[0], await ended('c2')];
  },
  'close.by the server': async () => {
    const seen = [];
    for (const code of [1000, 1001, 4000]) {
      const talk = await opened(`/close/${code}?name=s${code}`);
      talk.socket.send('go');
      seen.push(await talk.untilClosed(), await ended(`s${code}`));
    }
    return seen;
  },
  'close.the client is gone': async () => {
    const talk = await opened('/echo?name=gone');
    talk.socket.send('a');
    const heard = await talk.recv();
    talk.socket.terminate();
    return [heard, await ended('gone')];
  },
  'close.the server is gone': async () => {
    const talk = await opened('/abort');
    talk.socket.send('a');
    return talk.untilClosed();
  },
};

/** One connection kept for long, with a message every 20 ms. */
async function hold() {
  const talk = await opened('/echo?name=hold');
  console.log('STARTED');
  const until = Date.now() + Number(seconds) * 1000;
  let sent = 0;
  let right = 0;
  while (Date.now() < until) {
    talk.socket.send(String(sent));
    if (await talk.recv() === String(sent)) right += 1;
    sent += 1;
    await pause(20);
  }
  const closed = await talk.close(1000);
  return { sent, right, ended: [closed[0], await ended('hold')] };
}

async function outcome(work) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not done after ${PATIENCE_MS} ms`)), PATIENCE_MS);
  });
  try {
    return `ok ${JSON.stringify(await Promise.race([work(), late]))}`;
  } catch (error) {
    return `surprise ${error}`;
  } finally {
    clearTimeout(timer);
  }
}

async function main() {
  let results = {};
  if (mode) results = await hold();
  else for (const [name, work] of Object.entries(cases)) results[name] = await outcome(work);
  fs.writeFileSync(out, JSON.stringify(results, null, 1));
  process.exit(0);
}

main();
