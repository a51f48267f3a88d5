'use strict';

// The caller: runs every case against one address and writes what each came to.
// Usage: node client.js OUT.json java|node PORT

const { RpcClient } = require('sofa-rpc-node').client;
const { randomUUID } = require('crypto');
const { protocol, SHOP, PROTO_SHOP, quiet, java, int, text, typedUser, sampleUser } = require('./peers');
const { BoltConnection, VERSIONS } = require('./bolt-connection');
const { Outcomes } = require('./outcomes');

const TEXT = 'héllo 中文 😀 \u0000 end';
const MIB = '0123456789abcdef'.repeat(1 << 16);

const sleep = millis => new Promise(resolve => setTimeout(resolve, millis));

// Polls until the value is reached, for at most 3 s; the last value seen.
async function reached(wanted, value) {
  const deadline = Date.now() + 3000;
  let seen = await value();
  while (seen < wanted && Date.now() < deadline) {
    await sleep(5);
    seen = await value();
  }
  return seen;
}

async function hessianCases(out, shop, javaPeer) {
  const call = (method, ...args) => shop.invoke(method, args, { responseTimeout: 5000 });
  await out.run('hessian.plus', () => call('plus', int(1), int(2)));
  await out.run('hessian.echo', () => call('echo', text(TEXT)));
  await out.run('hessian.echo empty', () => call('echo', text('')));
  await out.run('hessian.echo null', () => call('echo', text(null)));
  await out.run('hessian.echo 40 KiB', () => call('echo', text('中x'.repeat(10 << 10))));
  await out.run('hessian.echo 1 MiB', () => call('echo', text(MIB)));
  await out.run('hessian.bytes 3 MiB', () => call('echoBytes', Buffer.alloc(3 << 20, 'pattern')));
  await out.run('hessian.user', () => call('echoUser', typedUser(sampleUser)));
  await out.run('hessian.map of lists', () => call('echoMap', java('java.util.Map', { a: [ 1, -1, 70000 ], 空: [] })));
  await out.run('hessian.void', async () => {
    const key = randomUUID();
    await call('count', text(key));
    return call('counted', text(key));
  });
  await out.run('hessian.callback', () => new Promise((resolve, reject) => {
    call('echo', text('callback')).then(resolve, reject);
  }));
  await out.run('hessian.answers out of order', async () => {
    const order = [];
    await Promise.all([
      call('slow', int(300)).then(() => order.push('slow')),
      call('echo', text('quick')).then(() => order.push('quick')),
    ]);
    return order;
  });
  await out.run('hessian.500 calls at once', async () => {
    const texts = Array.from({ length: 500 }, (_, i) => `call ${i} ${'x'.repeat(i * 7 % 3000)}`);
    const answers = await Promise.all(texts.map(one => call('echo', text(one))));
    return answers.filter((answer, i) => answer === texts[i]).length;
  });
  await out.run('hessian.server throws', () => call('boom', text(TEXT)));
  if (javaPeer) await out.run('hessian.server throws a declared exception', () => call('boomChecked', text('x')));
  await out.run('hessian.no such method', () => call('nosuch', int(1)));
  await out.run('hessian-timeout.sync', () => shop.invoke('slow', [ int(1500) ], { responseTimeout: 300 }));
  await out.run('hessian-timeout.connection still serves', () => call('plus', int(3), int(4)));
}

async function protobufCases(out, shop) {
  const call = (method, request, timeout = 5000) =>
    shop.invoke(method, [ request ], { codecType: 'protobuf', responseTimeout: timeout });
  const request = { text: TEXT, tags: [ 'a', '中' ], counts: new Map([[ 'k', -5 ]]) };
  await out.run('protobuf.plus', () => call('plus', { a: 2, b: 40 }));
  await out.run('protobuf.echo', () => call('echo', request));
  await out.run('protobuf.echo 1 MiB', () => call('echo', { text: MIB }));
  await out.run('protobuf.server throws', () => call('boom', request));
  await out.run('protobuf-timeout.sync', () => call('slow', { a: 1500 }, 300));
  await out.run('protobuf-timeout.connection still serves', () => call('echo', request));
}

// Bolt by hand: every version, one-ways, heartbeats, and the version the answers come in.
async function boltCases(out, port, version) {
  const name = `bolt-${version}.`;
  const conn = new BoltConnection(port, version);
  await out.run(name + 'plus', () => conn.call(SHOP, 'plus', [ int(1), int(2) ]));
  await out.run(name + 'echo 1 MiB', () => conn.call(SHOP, 'echo', [ text(MIB) ]));
  await out.run(name + 'protobuf', () =>
    conn.call(PROTO_SHOP, 'plus', [{ a: 2, b: 40 }], { codecType: 'protobuf' }));
  await out.run(name + 'heartbeat', () => conn.heartbeat());
  await out.run(name + 'one-way', async () => {
    const key = randomUUID();
    for (let i = 0; i < 20; i++) conn.oneway(SHOP, 'count', [ text(key) ]);
    return reached(20, () => conn.call(SHOP, 'counted', [ text(key) ]));
  });
  await out.run(name + 'server throws', () => conn.call(SHOP, 'boom', [ text('中') ]));
  await out.run(name + 'heartbeat after all', () => conn.heartbeat());
  await out.run(name + 'answers came in', async () => [ ...conn.answeredIn ].sort());
  await out.run(name + 'connection is open', async () => !conn.closed);
  await out.run(name + 'replies to one-ways', async () => conn.unasked);
  conn.close();
}

async function main() {
  const [ file, peer, port ] = process.argv.slice(2);
  const out = new Outcomes();
  const client = new RpcClient({ logger: quiet, protocol });
  client.on('error', () => {});
  const consumer = interfaceName =>
    client.createConsumer({ interfaceName, serverHost: `127.0.0.1:${port}`, targetAppName: 'order' });
  await hessianCases(out, consumer(SHOP), peer === 'java');
  await protobufCases(out, consumer(PROTO_SHOP));
  await out.run('missing.service', () =>
    consumer('io.raddle.interop.api.MissingService').invoke('echo', [ text('x') ], { responseTimeout: 3000 }));
  for (const version of Object.keys(VERSIONS)) await boltCases(out, Number(port), version);
  console.log(`DONE ${out.write(file)} cases`);
  process.exit(0);
}

main().catch(err => {
  console.error(err);
  process.exit(1);
});
