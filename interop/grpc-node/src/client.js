'use strict';
// Calls everything with grpc-js and writes what came of it: `client.js OUT TARGET NARROW_TARGET [CASE]`.
// The outcome of a case is one line of text, equal for every peer and way that does it right.

const crypto = require('crypto');
const fs = require('fs');
const grpc = require('@grpc/grpc-js');
const { services, shown } = require('./proto');
const healthClient = require('./health');

const LARGE = 4 << 20;
const RAISED = { 'grpc.max_receive_message_length': 16 << 20, 'grpc.max_send_message_length': 16 << 20 };
const PINGS = { 'grpc.keepalive_time_ms': 100, 'grpc.keepalive_timeout_ms': 2000, 'grpc.keepalive_permit_without_calls': 1 };
const STREAMS = 100;
const ROUNDS = 10;
// Longer than any case takes on a busy machine; a case that needs it hangs.
const PATIENCE_MS = 20000;

const [out, target, narrowTarget, ...only] = process.argv.slice(2);
const insecure = grpc.credentials.createInsecure();
const echo = new services.Echo(target, insecure, RAISED);
const narrow = new services.Narrow(narrowTarget, insecure);
const missing = new services.Missing(target, insecure);
const dead = new services.Dead(target, insecure);
const health = healthClient.client(target, insecure);

const digest = (size) => crypto.createHash('sha1').update(Buffer.alloc(size)).digest('hex');
const numbers = (count) => Array.from({ length: count }, (_, n) => n);
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const code = (error) => grpc.status[error.code];

function metadata(...pairs) {
  const made = new grpc.Metadata();
  for (const [name, value] of pairs) made.add(name, value);
  return made;
}
const WANT = () => metadata(['shop-want', 'yes']);
const soon = (ms = PATIENCE_MS) => ({ deadline: Date.now() + ms });

/** A unary call: resolves to its answer with the metadata, rejects with the error. */
function call(client, ask, meta = new grpc.Metadata(), options = soon()) {
  let running;
  const done = new Promise((resolve, reject) => {
    let initial;
    let answer;
    running = client.Unary(ask, meta, options, (error, value) => {
      if (error) { error.initial = initial; reject(error); } else { answer = value; }
    });
    running.on('metadata', (value) => { initial = value; });
    running.on('status', (status) => resolve({ answer, initial, trailing: status.metadata }));
  });
  return { done, cancel: () => running.cancel() };
}
const unary = async (...args) => (await call(...args).done).answer;
const failure = (promise) => promise.then(() => { throw new Error('it succeeded'); }, (error) => error);

/** A streaming call whose messages are sent and heard one by one. */
class Talk {
  constructor(stream) {
    this.stream = stream;
    this.heard = [];
    this.waiting = null;
    this.over = null;
    stream.on('metadata', (value) => { this.initial = value; this.wake(); });
    stream.on('data', (answer) => { this.heard.push(answer); this.wake(); });
    stream.on('error', (error) => { this.error = error; this.wake(); });
    stream.on('status', (status) => { this.status = status; this.wake(); });
  }

  wake() {
    if (this.waiting) this.waiting();
  }

  async until(condition) {
    while (!condition()) await new Promise((resolve) => { this.waiting = resolve; });
  }

  say(ask) {
    this.stream.write(ask);
  }

  async answer() {
    await this.until(() => this.heard.length || this.status);
    if (this.heard.length) return this.heard.shift();
    throw this.error || new Error('the stream ended');
  }

  async hear() {
    return (await this.answer()).text;
  }

  /** All that is still to come; throws if the call fails. */
  async rest() {
    await this.until(() => this.status);
    if (this.status.code) throw Object.assign(new Error(), this.status);
    return this.heard.splice(0).map((answer) => answer.text);
  }
}

const chat = (meta = new grpc.Metadata(), options = soon()) => new Talk(echo.Chat(meta, options));
const download = (ask, meta = new grpc.Metadata()) => new Talk(echo.Download(ask, meta, soon()));

function upload(meta = new grpc.Metadata()) {
  let stream;
  const done = new Promise((resolve, reject) => {
    stream = echo.Upload(meta, soon(), (error, answer) => (error ? reject(error) : resolve(answer)));
  });
  return { stream, done };
}

/** How the server says a watched call ended, as soon as it knows. */
async function ended(name) {
  const until = Date.now() + 5000;
  while (Date.now() < until) {
    const answer = await new Promise((resolve, reject) => echo.Ended(
      { watch: name }, soon(), (error, value) => (error ? reject(error) : resolve(value))));
    if (answer.text) return answer.text;
    await pause(20);
  }
  return 'not at all within 5 s';
}

const cases = {
  'unary.echo': async () => {
    const answer = await unary(echo, { text: 'tea 茶', payload: Buffer.alloc(1000) });
    return [answer.text, answer.digest === digest(1000)];
  },
  'unary.empty': async () => {
    const answer = await unary(echo, {});
    return [answer.text, answer.digest === digest(0)];
  },
  'unary.metadata': async () => {
    const sent = metadata(['shop-a', '1'], ['shop-a', '2'], ['shop-text', 'a, b; c="d" ~!%41'],
      ['shop-bytes-bin', Buffer.from([0, 255, 16])], ['shop-bytes-bin', Buffer.alloc(0)], ['shop-want', 'yes']);
    const { answer, initial, trailing } = await call(echo, {}, sent).done;
    return [answer.metadata, shown(initial), shown(trailing)];
  },
  'unary.large up': async () => (await unary(echo, { payload: Buffer.alloc(LARGE) })).digest === digest(LARGE),
  'unary.large down': async () => (await unary(echo, { reply_bytes: LARGE })).payload.length,
  'unary.large both ways': async () => {
    const answer = await unary(echo, { payload: Buffer.alloc(LARGE), reply_bytes: LARGE });
    return [answer.payload.length, answer.digest === digest(LARGE)];
  },
  'unary.gzip': async () => {
    const zipped = new services.Echo(target, insecure, {
      ...RAISED, 'grpc.default_compression_algorithm': grpc.compressionAlgorithms.gzip });
    const answer = await unary(zipped, { payload: Buffer.alloc(LARGE), reply_bytes: 1000 });
    zipped.close();
    return [answer.payload.length, answer.digest === digest(LARGE)];
  },
  'unary.100 at once': async () => {
    const answers = await Promise.all(numbers(STREAMS).map((n) => unary(echo, { text: String(n), wait_ms: 50 })));
    return answers.every((answer, n) => answer.text === String(n));
  },
  'unary.40 at once, 4 streams a connection': async () => {
    await unary(narrow, {}); // The server's settings are known after a first call.
    const answers = await Promise.all(numbers(40).map((n) => unary(narrow, { text: String(n), wait_ms: 20 })));
    return answers.every((answer, n) => answer.text === String(n));
  },
  'failure.plain': () => unary(echo, { status: 9, message: 'not now' }),
  'failure.message that is not ASCII': () => unary(echo, { status: 10, message: 'boom: 中文 100% ü %41' }),
  'failure.with metadata': async () => {
    const error = await failure(unary(echo, { status: 5, message: 'gone' }, WANT()));
    return [code(error), shown(error.initial), shown(error.metadata)];
  },
  'failure.every status': async () => {
    const seen = [];
    for (let status = 1; status <= 16; status += 1) {
      const error = await failure(unary(echo, { status, message: `m${status}` }));
      seen.push(`${error.code} ${error.details}`);
    }
    return seen;
  },
  "missing.method's service": () => unary(missing, {}),
  'missing.server': () => unary(dead, {}),
  'deadline.none': async () => (await unary(echo, {}, new grpc.Metadata(), {})).deadline_ms,
  'deadline.seen by the server': async () => {
    const left = (await unary(echo, {}, new grpc.Metadata(), soon(3000))).deadline_ms;
    return left > 2000 && left <= 3050 ? 'about 3 s' : left;
  },
  'deadline.exceeded': async () => {
    const error = await failure(unary(echo, { wait_ms: 8000, watch: 'deadline' }, new grpc.Metadata(), soon(400)));
    return [code(error), await ended('deadline')];
  },
  'deadline.exceeded in a stream': async () => {
    const talk = chat(new grpc.Metadata(), soon(600));
    talk.say({ text: 'a', watch: 'stream deadline' });
    const heard = await talk.hear();
    const error = await failure(talk.hear());
    return [heard, code(error), await ended('stream deadline')];
  },
  'cancel.unary': async () => {
    const running = call(echo, { wait_ms: 8000, watch: 'cancel' });
    const failed = failure(running.done);
    await unary(echo, {});
    await pause(100); // A call cancelled before it was sent proves nothing.
    running.cancel();
    return [code(await failed), await ended('cancel')];
  },
  'cancel.download': async () => {
    const talk = download({ text: 'x', replies: 1 << 20, reply_bytes: 1000, watch: 'cancel download' });
    const heard = [await talk.hear(), await talk.hear()];
    talk.stream.cancel();
    const error = await failure(talk.rest());
    return [heard, code(error), await ended('cancel download')];
  },
  'cancel.chat': async () => {
    const talk = chat();
    talk.say({ text: 'a', watch: 'cancel chat' });
    const heard = await talk.hear();
    talk.stream.cancel();
    const error = await failure(talk.rest());
    return [heard, code(error), await ended('cancel chat')];
  },
  'download.10': () => download({ text: 'd', replies: 10 }).rest(),
  'download.none': () => download({}).rest(),
  'download.8 MiB': async () => {
    const talk = download({ replies: 128, reply_bytes: 65536 });
    let bytes = 0;
    for (let n = 0; n < 128; n += 1) bytes += (await talk.answer()).payload.length;
    return bytes;
  },
  'download.fails after 3': async () => {
    const talk = download({ text: 'd', replies: 3, status: 8, message: 'enough' });
    const heard = [await talk.hear(), await talk.hear(), await talk.hear()];
    const error = await failure(talk.hear());
    return [heard, code(error), error.details];
  },
  'download.metadata comes first': async () => {
    const talk = download({ replies: 1, wait_ms: 500 }, WANT());
    const begun = Date.now();
    await talk.until(() => talk.initial);
    const early = Date.now() - begun < 400;
    const rest = await talk.rest();
    return [shown(talk.initial), early, rest.length, shown(talk.status.metadata)];
  },
  'upload.20': async () => {
    const { stream, done } = upload();
    for (let n = 0; n < 20; n += 1) stream.write({ text: String(n), payload: Buffer.alloc(100) });
    stream.end();
    const answer = await done;
    return [answer.text, answer.messages, answer.digest === digest(2000)];
  },
  'upload.none': async () => {
    const { stream, done } = upload();
    stream.end();
    return (await done).messages;
  },
  'upload.8 MiB': async () => {
    const { stream, done } = upload();
    for (let n = 0; n < 128; n += 1) {
      if (!stream.write({ payload: Buffer.alloc(65536) })) await new Promise((resolve) => stream.once('drain', resolve));
    }
    stream.end();
    const answer = await done;
    return [answer.messages, answer.digest === digest(8 << 20)];
  },
  'upload.fails before its end': async () => {
    const { stream, done } = upload();
    stream.write({ text: 'a' });
    stream.write({ text: 'b', status: 3, message: 'bad' });
    const error = await failure(done); // The client has not said that it is done.
    return [code(error), error.details];
  },
  'chat.ping-pong': async () => {
    const talk = chat();
    const heard = [];
    for (let n = 0; n < 50; n += 1) {
      talk.say({ text: String(n) });
      heard.push(await talk.hear());
    }
    talk.stream.end();
    return [heard.every((text, n) => text === String(n)), await talk.rest(), grpc.status[talk.status.code]];
  },
  'chat.server speaks first': async () => {
    const talk = chat(metadata(['shop-greet', 'yes'], ['shop-want', 'yes']));
    const heard = [await talk.hear()];
    heard.unshift(shown(talk.initial));
    talk.stream.end();
    return [heard, (await talk.rest())[0], shown(talk.status.metadata)];
  },
  'chat.fails': async () => {
    const talk = chat();
    talk.say({ text: 'a' });
    const heard = await talk.hear();
    talk.say({ status: 6, message: 'twice' });
    const error = await failure(talk.hear());
    return [heard, code(error), error.details];
  },
  'chat.100 streams in turn': async () => {
    const talks = numbers(STREAMS).map(() => chat());
    let right = 0;
    for (let round = 0; round < ROUNDS; round += 1) {
      talks.forEach((talk, index) => talk.say({ text: `${index} ${round}` }));
      const heard = await Promise.all(talks.map((talk) => talk.hear()));
      right += heard.filter((text, index) => text === `${index} ${round}`).length;
    }
    talks.forEach((talk) => talk.stream.end());
    const last = await Promise.all(talks.map((talk) => talk.hear()));
    return [right, last.filter((text) => text === 'bye').length];
  },
  'chat.keepalive pings while idle': async () => {
    const pinging = new services.Echo(target, insecure, PINGS);
    const talk = new Talk(pinging.Chat(soon()));
    talk.say({ text: 'a' });
    const heard = [await talk.hear()];
    await pause(1200); // Twelve pings: a peer that minds them ends the connection.
    talk.say({ text: 'b' });
    heard.push(await talk.hear());
    talk.stream.end();
    const rest = await talk.rest();
    pinging.close();
    return [heard, rest];
  },
  'health.check': async () => {
    const seen = [];
    for (const name of ['', 'raddle.interop.Echo', 'raddle.interop.Closed']) {
      seen.push(await healthClient.check(health, name, soon()));
    }
    return seen;
  },
  'health.check of an unknown service': async () => code(await failure(healthClient.check(health, 'nobody', soon()))),
  'health.watch': async () => {
    const stream = health.watch({ service: 'raddle.interop.Echo' }, soon());
    stream.on('error', () => {});
    const first = await new Promise((resolve) => stream.once('data', resolve));
    stream.cancel();
    return first.status;
  },
};

/** Why a sidecar answered in place of the server. */
function reason(error) {
  return [error.initial, error.metadata].flatMap((part) => (part ? part.get('x-raddle-reason') : []))
    .map((value) => ` [x-raddle-reason: ${value}]`).join('');
}

async function outcome(work) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not done after ${PATIENCE_MS} ms`)), PATIENCE_MS + 1000);
  });
  try {
    return `ok ${JSON.stringify(await Promise.race([work(), late]))}`;
  } catch (error) {
    if (error.code === undefined) return `surprise ${error}`;
    return `throw ${code(error)}: ${error.details}${reason(error)}`;
  } finally {
    clearTimeout(timer);
  }
}

async function main() {
  const results = {};
  for (const [name, work] of Object.entries(cases)) {
    if (only.length && !only.includes(name)) continue;
    const began = Date.now();
    results[name] = await outcome(work);
    console.log(`${((Date.now() - began) / 1000).toFixed(2).padStart(6)} s ${name}: ${results[name].slice(0, 200)}`);
  }
  fs.writeFileSync(out, JSON.stringify(results, null, 1));
  process.exit(0);
}

main();
