'use strict';
// Calls at a steady pace until SIGTERM: `steady.js TARGET PER_SECOND`; TARGET may be xds:///SERVICE.
// A line of JSON every 100 ms: when (ms since the epoch), who answered how often, and what failed how often.

const grpc = require('@grpc/grpc-js');
const { services } = require('./proto');

const PATIENCE_MS = 5000;
const PERIOD_MS = 100;

const [target, perSecond] = process.argv.slice(2);
if (target.startsWith('xds:')) require('@grpc/grpc-js-xds').register();

let by = {};
let failed = {};
const echo = new services.Echo(target, grpc.credentials.createInsecure(), {
  'grpc.enable_retries': 0, 'grpc.max_reconnect_backoff_ms': 500 });

function call() {
  echo.Unary({ text: '?' }, { deadline: Date.now() + PATIENCE_MS }, (error, answer) => {
    if (!error) {
      by[answer.text] = (by[answer.text] || 0) + 1;
      return;
    }
    const text = `${grpc.status[error.code]}: ${error.details}`;
    failed[text] = (failed[text] || 0) + 1;
  });
}

function say() {
  console.log(JSON.stringify({ at: Date.now(), by, failed }));
  by = {};
  failed = {};
}

const began = Date.now();
let sent = 0;
console.log('STARTED');
const pace = setInterval(() => {
  const due = Math.floor((Date.now() - began) * Number(perSecond) / 1000);
  for (; sent < due; sent += 1) call();
}, 10);
const saying = setInterval(say, PERIOD_MS);
process.on('SIGTERM', () => {
  clearInterval(pace);
  clearInterval(saying);
  say();
  process.exit(0);
});
