'use strict';

// The caller: runs every case against one address and writes what each came to.
// Usage: node client.js OUT.json cases|refused PORT, or node client.js OUT.json probe PORT TEXT...: echoes the texts.

const { DirectlyDubbo } = require('apache-dubbo-js');
const java = require('js-to-java');
const { randomUUID } = require('crypto');
const { Outcomes } = require('./outcomes');

const API = 'io.raddle.interop.dubbo.api.';
const TEXT = 'héllo 中文 😀 \u0000 end';
const TIMEOUT_S = 5;

const text = value => java.String(value);
const int = value => java.int(value);
const order = fields => java.combine(API + 'Order', fields);
const sampleOrder = () => order({
  id: java.long('9007199254740991'),
  buyer: java.String('Ada 洛芙莱斯'),
  gift: java.boolean(true),
  weight: java.double(3.25),
  placed: new Date(1e12),
  items: java.List([ java.combine(API + 'Order$Item', { sku: java.String('笔'), count: java.int(300) }) ]),
  replaces: order({ id: java.long(-1), buyer: java.String('George') }),
});

// Every method takes arguments that say their Java type, as this client wants.
const METHODS = [
  'plus', 'echoLong', 'echoDouble', 'not', 'echo', 'echoBytes', 'echoList', 'echoMap', 'echoOrder', 'echoItem',
  'echoState', 'echoDecimal', 'echoDate', 'boom', 'boomChecked', 'slow', 'later', 'count', 'counted', 'whoami',
  'nosuch',
];

class Shop {
  constructor(port, { service = 'ShopService', group, version = '1.0', timeout } = {}) {
    const client = DirectlyDubbo.from({
      dubboAddress: `127.0.0.1:${port}`,
      dubboVersion: '2.0.2',
      dubboInvokeTimeout: timeout || TIMEOUT_S,
    });
    this.proxy = client.proxyService({
      dubboInterface: API + service,
      version,
      group,
      timeout: timeout && timeout * 1000,
      methods: Object.fromEntries(METHODS.map(name => [ name, (...args) => args ])),
    });
  }

  // The client never throws: it hands out both.
  async call(method, ...args) {
    const { res, err } = await this.proxy[method](...args);
    if (err) throw err instanceof Error ? err : new Error(JSON.stringify(err));
    return res;
  }
}

async function values(out, shop) {
  await out.run('value.plus', () => shop.call('plus', int(1), int(2)));
  await out.run('value.long', () => shop.call('echoLong', java.long('9223372036854775807')));
  await out.run('value.double', () => shop.call('echoDouble', java.double(-0.1)));
  await out.run('value.boolean', () => shop.call('not', java.boolean(true)));
  await out.run('value.echo ascii', () => shop.call('echo', text('hello')));
  await out.run('value.echo utf-8', () => shop.call('echo', text(TEXT)));
  await out.run('value.echo empty', () => shop.call('echo', text('')));
  await out.run('value.echo null', () => shop.call('echo', text(null)));
  await out.run('value.echo 64 KiB and a byte', () => shop.call('echo', text('x'.repeat((64 << 10) + 1))));
  await out.run('value.echo 40 KiB of two kinds', () => shop.call('echo', text('中x'.repeat(10 << 10))));
  await out.run('value.echo 4 MiB', () => shop.call('echo', text('0123456789abcdef'.repeat(1 << 18))));
  await out.run('value.list', () => shop.call('echoList', java.List([ 'a', '中', '' ])));
  await out.run('value.map of lists', () => shop.call('echoMap', java.Map({ a: [ 1, -1, 70000 ], 空: [] })));
  await out.run('value.order', () => shop.call('echoOrder', sampleOrder()));
  await out.run('value.enum', () => shop.call('echoState', java.enum(API + 'Order$State', 'PAID')));
  await out.run('value.decimal', () => shop.call('echoDecimal', java.BigDecimal('-123456789.0100')));
  await out.run('value.date', () => shop.call('echoDate', { $class: 'java.util.Date', $: new Date(1234567890123) }));
}

async function kinds(out, shop, port) {
  await out.run('kind.void', async () => {
    const key = randomUUID();
    await shop.call('count', text(key));
    return shop.call('counted', text(key));
  });
  await out.run('kind.future', () => shop.call('later', text('x'), int(20)));
  await out.run('kind.group reaches the other instance', () => new Shop(port, { group: 'second' }).call('whoami'));
  await out.run('kind.answers out of order', async () => {
    const order = [];
    await Promise.all([
      shop.call('slow', int(300)).then(() => order.push('slow')),
      shop.call('echo', text('quick')).then(() => order.push('quick')),
    ]);
    return order;
  });
  await out.run('kind.500 calls at once', async () => {
    const texts = Array.from({ length: 500 }, (_, i) => `call ${i} ${'x'.repeat(i * 7 % 3000)}`);
    const answers = await Promise.all(texts.map(one => shop.call('echo', text(one))));
    return answers.filter((answer, i) => answer === texts[i]).length;
  });
}

async function failures(out, shop, port) {
  await out.run('failure.server throws', () => shop.call('boom', text(TEXT)));
  await out.run('failure.server throws a declared exception', () => shop.call('boomChecked', text('x')));
  await out.run('failure.no such method', () => shop.call('nosuch', int(1)));
  await out.run('failure.wrong argument types', () => shop.call('plus', text('x'), text('y')));
  await out.run('failure.no such service', () => new Shop(port, { service: 'MissingService' }).call('echo', text('x')));
  await out.run('failure.no such version', () => new Shop(port, { version: '9.9' }).call('echo', text('x')));
  await out.run('failure.connection still serves', () => shop.call('plus', int(3), int(4)));
  await out.run('timeout.client', () => new Shop(port, { timeout: 0.3 }).call('slow', int(1500)));
  await out.run('timeout.connection still serves', () => shop.call('plus', int(5), int(6)));
}

// What callers are told when the sidecar, not the callee, answers; see RefusalCases.java.
async function refusals(out, shop, port) {
  await out.run('unknown.sync', () => new Shop(port, { service: 'MissingService' }).call('echo', text('x')));
  await out.run('dead.sync', () => new Shop(port, { service: 'DeadService' }).call('echo', text('x')));
  await out.run('aborted.sync', () => new Shop(port, { group: 'second' }).call('echo', text('x')));
  await out.run('unknown.connection still serves', () => shop.call('plus', int(20), int(22)));
}

async function main() {
  const [ file, what, port, ...texts ] = process.argv.slice(2);
  const out = new Outcomes();
  const shop = new Shop(port);
  if (what === 'probe') {
    for (const one of texts) await out.run(one, () => shop.call('echo', text(one)));
  } else if (what === 'refused') {
    await refusals(out, shop, port);
  } else {
    await values(out, shop);
    await kinds(out, shop, port);
    await failures(out, shop, port);
  }
  console.log(`DONE ${out.write(file)} cases`);
  process.exit(0);
}

main().catch(err => {
  console.error(err);
  process.exit(1);
});
