'use strict';
// A grpc-js server with everything the clients ask for: `server.js NAME PORT NARROW_PORT`.
// SIGTERM stops it as servers should stop: a GOAWAY, and the calls in flight are finished.

const crypto = require('crypto');
const grpc = require('@grpc/grpc-js');
const { HealthImplementation } = require('grpc-health-check');
const { services, shown } = require('./proto');

const LARGE = 16 << 20;
const NARROW_STREAMS = 4;
const GRACE_MS = 5000;
const OPTIONS = { 'grpc.max_receive_message_length': LARGE, 'grpc.max_send_message_length': LARGE };

const ended = new Map();
const after = (ms, work) => (ms ? setTimeout(work, ms) : work());

/** Metadata of the answer, if the call wants some; the trailing part is the result. */
function begin(call) {
  const trailing = new grpc.Metadata();
  if (call.metadata.get('shop-want').length) {
    const initial = new grpc.Metadata();
    initial.add('shop-initial', 'first');
    initial.add('shop-initial', 'second');
    initial.add('shop-initial-bin', Buffer.from([0, 1, 254, 255]));
    call.sendMetadata(initial);
    trailing.add('shop-trailing', 'last');
    trailing.add('shop-trailing-bin', Buffer.from([255, 0]));
  }
  return trailing;
}

function seenMetadata(call) {
  const agent = String(call.metadata.get('user-agent')[0]).split('/')[0];
  return [...shown(call.metadata, ': '), `user-agent: ${agent}`].sort();
}

function remainingMs(call) {
  const deadline = call.getDeadline();
  if (deadline === Infinity) return -1;
  return (deadline instanceof Date ? deadline.getTime() : deadline) - Date.now();
}

const failure = (ask, metadata) => ({ code: ask.status, details: ask.message, metadata });

/** Notes a cancelled call; the result notes a completed one. */
function watch(call, name) {
  call.on('cancelled', () => ended.set(name(), 'cancelled'));
  // A reset is first seen as the end of the caller's messages, and only then as what it is.
  return () => setTimeout(() => { if (!call.cancelled) ended.set(name(), 'completed'); }, 50);
}

function unary(call, callback) {
  const ask = call.request;
  const left = remainingMs(call);
  const completed = watch(call, () => ask.watch);
  const trailing = begin(call);
  after(ask.wait_ms, () => {
    completed();
    if (ask.status) return callback(failure(ask, trailing));
    callback(null, {
      text: ask.text, payload: Buffer.alloc(ask.reply_bytes), metadata: seenMetadata(call), deadline_ms: left,
      digest: crypto.createHash('sha1').update(ask.payload).digest('hex'), messages: 1,
    }, trailing);
  });
}

function download(call) {
  const ask = call.request;
  const completed = watch(call, () => ask.watch);
  const trailing = begin(call);
  let sent = 0;
  const more = () => {
    while (sent < ask.replies && !call.cancelled) {
      const room = call.write({ text: `${ask.text} ${sent}`, payload: Buffer.alloc(ask.reply_bytes) });
      sent += 1;
      if (!room) return call.once('drain', more);
    }
    completed();
    if (ask.status) call.emit('error', failure(ask, trailing));
    else call.end(trailing);
  };
  after(ask.wait_ms, more);
}

function upload(call, callback) {
  const trailing = begin(call);
  const digest = crypto.createHash('sha1');
  const texts = [];
  let over = false;
  call.on('data', (ask) => {
    if (over) return;
    digest.update(ask.payload);
    texts.push(ask.text);
    if (ask.status) {
      over = true;
      callback(failure(ask, trailing));
    }
  });
  call.on('end', () => {
    if (!over) callback(null, { text: texts.join(' '), digest: digest.digest('hex'), messages: texts.length }, trailing);
  });
}

function chat(call) {
  let name = '';
  const completed = watch(call, () => name);
  const trailing = begin(call);
  let over = false;
  if (call.metadata.get('shop-greet').length) call.write({ text: 'hello' });
  call.on('data', (ask) => {
    name = ask.watch || name;
    after(ask.wait_ms, () => {
      if (over) return;
      if (ask.status) {
        over = true;
        call.emit('error', failure(ask, trailing));
      } else {
        call.write({ text: ask.text, payload: Buffer.alloc(ask.reply_bytes) });
      }
    });
  });
  call.on('error', () => { over = true; });
  call.on('end', () => {
    if (over || call.cancelled) return;
    call.write({ text: 'bye' });
    completed();
    call.end(trailing);
  });
}

const howEnded = (call, callback) => callback(null, { text: ended.get(call.request.watch) || '' });

function start(port, options, add) {
  const server = new grpc.Server({ ...OPTIONS, ...options });
  add(server);
  new HealthImplementation({ '': 'SERVING', 'raddle.interop.Echo': 'SERVING', 'raddle.interop.Closed': 'NOT_SERVING' })
    .addToServer(server);
  return new Promise((resolve, reject) => server.bindAsync(
    `127.0.0.1:${port}`, grpc.ServerCredentials.createInsecure(), (error) => (error ? reject(error) : resolve(server))));
}

async function main() {
  const [name, port, narrow] = process.argv.slice(2);
  const servers = [await start(port, {}, (server) => server.addService(services.Echo.service, {
    Unary: unary, Download: download, Upload: upload, Chat: chat, Ended: howEnded }))];
  if (Number(narrow)) {
    servers.push(await start(narrow, { 'grpc.max_concurrent_streams': NARROW_STREAMS },
      (server) => server.addService(services.Narrow.service, { Unary: unary })));
  }
  process.on('SIGTERM', () => {
    for (const server of servers) server.tryShutdown(() => {});
    setTimeout(() => process.exit(0), GRACE_MS).unref();
  });
  console.log(`READY ${name}`);
}

main().catch((error) => { console.error(error); process.exit(1); });
