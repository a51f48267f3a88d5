'use strict';

// One connection that speaks a chosen version of Bolt through sofa-bolt-node's own encoder and decoder:
// sofa-rpc-node itself only ever sends version 1.

const net = require('net');
const { protocol, quiet, VERSION } = require('./peers');

const VERSIONS = {
  'v1': { protocolType: 'bolt', boltVersion: 1, crcEnable: false },
  'v2': { protocolType: 'bolt2', boltVersion: 1, crcEnable: false },
  'v2-crc': { protocolType: 'bolt2', boltVersion: 2, crcEnable: true },
  'v2-crc-off': { protocolType: 'bolt2', boltVersion: 2, crcEnable: false },
};

class BoltConnection {
  constructor(port, version) {
    this.nextId = 1;
    this.sentReqs = new Map();
    this.waiting = new Map();
    this.unasked = 0;
    this.closed = false;
    this.answeredIn = new Set();
    this.socket = net.connect(port, '127.0.0.1');
    this.socket.setNoDelay(true);
    const options = { sentReqs: this.sentReqs, classCache: new Map(), logger: quiet };
    this.encoder = protocol.encoder(options);
    Object.assign(this.encoder, VERSIONS[version]);
    this.decoder = protocol.decoder(options);
    this.decoder.on('response', frame => this.settle(frame, frame.data));
    this.decoder.on('heartbeat_ack', frame => this.settle(frame, { error: null, appResponse: 'ack' }));
    this.decoder.on('error', err => this.fail(err));
    this.socket.on('error', err => this.fail(err));
    this.socket.on('close', () => {
      this.closed = true;
      this.fail(new Error('the connection was closed'));
    });
    this.encoder.pipe(this.socket);
    this.socket.pipe(this.decoder);
  }

  settle(frame, data) {
    // Which version the answer came in: it must be the one asked in.
    this.answeredIn.add(`${frame.options.protocolType}/${frame.options.boltVersion || 1}` +
      `${frame.options.crcEnable ? '+crc' : ''}`);
    const wait = this.waiting.get(frame.packetId);
    this.waiting.delete(frame.packetId);
    this.sentReqs.delete(frame.packetId);
    if (!wait) this.unasked++;
    else if (data.error) wait.reject(data.error);
    else wait.resolve(data.appResponse);
  }

  fail(err) {
    for (const wait of this.waiting.values()) wait.reject(err);
    this.waiting.clear();
  }

  answer(id) {
    return new Promise((resolve, reject) => this.waiting.set(id, { resolve, reject }));
  }

  request(service, method, args, extra) {
    return Object.assign({
      serverSignature: `${service}:${VERSION}`,
      methodName: method,
      args,
      timeout: 5000,
      requestProps: { service: `${service}:${VERSION}` },
    }, extra);
  }

  call(service, method, args, extra) {
    const id = this.nextId++;
    const req = this.request(service, method, args, extra);
    this.sentReqs.set(id, { req });
    const answer = this.answer(id);
    this.encoder.writeRequest(id, req, err => err && this.fail(err));
    return answer;
  }

  oneway(service, method, args) {
    const id = this.nextId++;
    this.encoder.writeRequest(id, this.request(service, method, args, { oneway: true }));
  }

  heartbeat() {
    const id = this.nextId++;
    const answer = this.answer(id);
    this.encoder.writeHeartbeat(id, { timeout: 3000 });
    return answer;
  }

  close() {
    this.socket.destroy();
  }
}

module.exports = { BoltConnection, VERSIONS };
