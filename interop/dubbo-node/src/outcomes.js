'use strict';

// What every case came to, as text that two runs can be compared by: a value, or the error.

const fs = require('fs');
const crypto = require('crypto');

const LONGEST_SHOWN = 400;

function show(value) {
  if (Buffer.isBuffer(value)) return `${value.length} bytes, sha1 ${sha1(value)}`;
  const plain = (_, inner) => (inner instanceof Map ? Object.fromEntries(inner) : inner);
  const text = value === undefined ? 'undefined' : JSON.stringify(value, plain);
  return text.length <= LONGEST_SHOWN ? text : `text of ${Buffer.byteLength(text)} bytes, sha1 ${sha1(text)}`;
}

function sha1(data) {
  return crypto.createHash('sha1').update(data).digest('hex').slice(0, 12);
}

// Addresses, ids and durations differ from run to run and are replaced by their kind.
function normalise(message) {
  return String(message).trim().split('\n')[0]
    .replace(/(localhost)?\/?127\.0\.0\.1:\d+/g, 'ADDR')
    .replace(/(traceid[ =:]+)\w+/gi, '$1N')
    .replace(/(id[ =:]+)\d+/gi, '$1N')
    .replace(/\d+ ?ms/g, 'N ms');
}

class Outcomes {
  constructor() {
    this.byCase = {};
  }

  async run(name, body) {
    if (this.byCase[name]) throw new Error('two cases are called ' + name);
    try {
      this.byCase[name] = 'ok ' + show(await body());
    } catch (err) {
      this.byCase[name] = `throw ${err.name}: ${normalise(err.message)}`;
    }
  }

  write(file) {
    const sorted = Object.fromEntries(Object.entries(this.byCase).sort(([ a ], [ b ]) => (a < b ? -1 : 1)));
    fs.writeFileSync(file, JSON.stringify(sorted, null, 2) + '\n');
    return Object.keys(sorted).length;
  }
}

module.exports = { Outcomes };
