'use strict';

// The callee: a sofa-rpc-node server with the Hessian and the protobuf service on one port.
// Usage: node server.js PORT NAME; prints READY when it accepts.

const { RpcServer } = require('sofa-rpc-node').server;
const { protocol, SHOP, PROTO_SHOP, quiet, typedUser } = require('./peers');

// The published server listens on every interface; a test server stays on loopback.
class LoopbackServer extends RpcServer {
  get listenPorts() {
    return [{ port: this.options.port, host: '127.0.0.1' }];
  }
}

const sleep = millis => new Promise(resolve => setTimeout(resolve, millis));

function shop(name) {
  const counters = new Map();
  return {
    async plus(a, b) { return (a + b) | 0; },
    async echo(text) { return text; },
    async echoBytes(bytes) { return bytes; },
    async echoUser(user) { return typedUser(user); },
    async echoMap(map) { return map; },
    async boom(text) { throw new Error('boom: ' + text); },
    async slow(millis) {
      await sleep(millis);
      return 'slept ' + millis;
    },
    async count(key) { counters.set(key, (counters.get(key) || 0) + 1); },
    async counted(key) { return counters.get(key) || 0; },
    async whoami() { return name; },
  };
}

const protoShop = {
  async echo(request) { return request.toObject(); },
  async plus(request) { return { sum: request.a + request.b }; },
  async boom(request) { throw new Error('boom: ' + request.text); },
  async slow(request) {
    await sleep(request.a);
    return { text: 'slept ' + request.a };
  },
};

async function main() {
  const [ port, name ] = process.argv.slice(2);
  const server = new LoopbackServer({ logger: quiet, protocol, port: Number(port), appName: 'order' });
  // Failures of calls are also emitted here; the caller sees them, the process must live on.
  server.on('error', () => {});
  server.addService({ interfaceName: SHOP }, shop(name));
  server.addService({ interfaceName: PROTO_SHOP }, protoShop);
  await server.start();
  console.log('READY ' + name);
}

main().catch(err => {
  console.error(err);
  process.exit(1);
});
