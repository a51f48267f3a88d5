'use strict';

// Asks a scripted server things and prints what sofa-rpc-node makes of the answers (see ../../sofa-java/probe).
// Usage: node probe.js PORT KIND:TEXT...   KIND is hessian or protobuf

const { RpcClient } = require('sofa-rpc-node').client;
const { protocol, SHOP, PROTO_SHOP, quiet, text } = require('./peers');

async function main() {
  const [ port, ...commands ] = process.argv.slice(2);
  const client = new RpcClient({ logger: quiet, protocol });
  client.on('error', () => {});
  const consumer = interfaceName => client.createConsumer({ interfaceName, serverHost: `127.0.0.1:${port}` });
  for (const command of commands) {
    const [ kind, what ] = command.split(/:(.*)/s);
    const start = Date.now();
    let outcome;
    try {
      const answer = kind === 'protobuf'
        ? await consumer(PROTO_SHOP).invoke('echo', [{ text: what }], { codecType: 'protobuf', responseTimeout: 2000 })
        : await consumer(SHOP).invoke('echo', [ text(what) ], { responseTimeout: 2000 });
      outcome = 'ok ' + JSON.stringify(answer);
    } catch (err) {
      outcome = `${err.name}: ${String(err.message).split('\n')[0]}`;
    }
    console.log(`${command} | ${Date.now() - start} ms | ${outcome}`);
  }
  process.exit(0);
}

main();
