'use strict';

const path = require('path');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const definition = loader.loadSync(path.join(__dirname, '../../lib/echo.proto'), {
  keepCase: true, longs: Number, defaults: true,
});

exports.services = grpc.loadPackageDefinition(definition).raddle.interop;

/** The tests' own metadata as sorted text; binary values in hexadecimal. */
exports.shown = (metadata, separator = '=') => {
  if (!metadata) return [];
  const lines = [];
  for (const name of Object.keys(metadata.getMap())) {
    if (!name.startsWith('shop-')) continue;
    for (const value of metadata.get(name)) {
      lines.push(`${name}${separator}${Buffer.isBuffer(value) ? value.toString('hex') : value}`);
    }
  }
  return lines.sort();
};
