'use strict';

// Calls at a steady pace until SIGTERM. A line of JSON every 100 ms: when (ms since the epoch), how many were answered
// rightly, and what failed how often.
// Usage: node steady.js PORT PER_SECOND

const { RpcClient } = require('sofa-rpc-node').client;
const { protocol, SHOP, quiet, text } = require('./peers');

const TICK_MS = 10;
const PATIENCE_MS = 5000;

let by = {};
let failed = {};
const count = (counts, key) => { counts[key] = (counts[key] || 0) + 1; };

function tell() {
  console.log(JSON.stringify({ at: Date.now(), by, failed }));
  by = {};
  failed = {};
}

async function call(shop, number) {
  const said = `call ${number} ${'x'.repeat(number % 300)}`;
  try {
    const answer = await shop.invoke('echo', [ text(said) ], { responseTimeout: PATIENCE_MS });
    if (answer === said) count(by, 'right');
    else count(failed, 'wrong answer');
  } catch (err) {
    count(failed, `${err.name}: ${err.message}`.split('\n')[0].slice(0, 300));
  }
}

async function main() {
  const [ port, perSecond ] = process.argv.slice(2).map(Number);
  const client = new RpcClient({ logger: quiet, protocol });
  client.on('error', () => {});
  const shop = client.createConsumer({ interfaceName: SHOP, serverHost: `127.0.0.1:${port}`, targetAppName: 'order' });
  await shop.ready();
  let stopped = false;
  for (const signal of [ 'SIGTERM', 'SIGINT' ]) process.on(signal, () => { stopped = true; });
  console.log('STARTED');
  const telling = setInterval(tell, 100);
  const running = new Set();
  const began = Date.now();
  let sent = 0;
  while (!stopped) {
    for (; sent < (Date.now() - began) * perSecond / 1000; sent++) {
      const one = call(shop, sent).then(() => running.delete(one));
      running.add(one);
    }
    await new Promise(resolve => setTimeout(resolve, TICK_MS));
  }
  await Promise.all(running);
  clearInterval(telling);
  tell();
  process.exit(0);
}

main().catch(err => {
  console.error(err);
  process.exit(1);
});
