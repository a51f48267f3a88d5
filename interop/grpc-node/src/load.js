'use strict';
// Calls without end from many callers: `load.js TARGET SECONDS`. Prints STARTED, then one line of JSON with what
// became of unary calls and of short chats.

const grpc = require('@grpc/grpc-js');
const { services } = require('./proto');

const CHANNELS = 4;
const UNARY_CALLERS = 32;
const CHAT_CALLERS = 8;
const CHAT_ROUNDS = 5;
const PATIENCE_MS = 10000;

const [target, seconds] = process.argv.slice(2);
const end = Date.now() + Number(seconds) * 1000;

const tally = () => ({ sent: 0, ok: 0, wrong: 0, failed: 0, hung: 0, max_ms: 0, failures: {} });
const result = { unary: tally(), chat: tally() };

function stub() {
  // Without a pool of its own, all channels of a process share one connection.
  return new services.Echo(target, grpc.credentials.createInsecure(), {
    'grpc.use_local_subchannel_pool': 1, 'grpc.enable_retries': 0,
    'grpc.initial_reconnect_backoff_ms': 100, 'grpc.max_reconnect_backoff_ms': 500 });
}

function failed(count, error) {
  count.failed += 1;
  if (error.code === grpc.status.DEADLINE_EXCEEDED) count.hung += 1;
  const reason = error.metadata ? error.metadata.get('x-raddle-reason').join() : '';
  const text = `${grpc.status[error.code]} [${reason}] ${error.details}`;
  count.failures[text] = (count.failures[text] || 0) + 1;
}

function unary(echo, text) {
  return new Promise((resolve, reject) => echo.Unary(
    { text }, { deadline: Date.now() + PATIENCE_MS }, (error, answer) => (error ? reject(error) : resolve(answer.text === text))));
}

/** Each message answers the last reply, so that whatever holds one back holds up the chat. */
function chat(echo, text) {
  return new Promise((resolve, reject) => {
    const stream = echo.Chat({ deadline: Date.now() + PATIENCE_MS });
    const heard = [];
    stream.on('data', (answer) => {
      heard.push(answer.text);
      if (heard.length < CHAT_ROUNDS) stream.write({ text: `${text} ${heard.length}` });
      else if (heard.length === CHAT_ROUNDS) stream.end();
    });
    stream.on('error', reject);
    stream.on('status', (status) => {
      if (status.code === 0) {
        resolve(heard.length === CHAT_ROUNDS + 1 && heard.every((one, n) => one === (n < CHAT_ROUNDS ? `${text} ${n}` : 'bye')));
      }
    });
    stream.write({ text: `${text} 0` });
  });
}

async function caller(echo, index, call, count) {
  for (let number = 0; Date.now() < end; number += 1) {
    const began = Date.now();
    count.sent += 1;
    try {
      if (await call(echo, `${index}/${number}`)) count.ok += 1; else count.wrong += 1;
    } catch (error) {
      failed(count, error);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    count.max_ms = Math.max(count.max_ms, Date.now() - began);
  }
}

async function main() {
  const stubs = Array.from({ length: CHANNELS }, stub);
  console.log('STARTED');
  const callers = [];
  for (let index = 0; index < UNARY_CALLERS; index += 1) callers.push(caller(stubs[index % CHANNELS], index, unary, result.unary));
  for (let index = 0; index < CHAT_CALLERS; index += 1) callers.push(caller(stubs[index % CHANNELS], index, chat, result.chat));
  await Promise.all(callers);
  console.log(JSON.stringify(result));
  process.exit(0);
}

main();
