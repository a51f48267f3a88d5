'use strict';
// A client of grpc.health.v1, with the statuses as numbers.

const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');
const { protoPath } = require('grpc-health-check');

const loaded = grpc.loadPackageDefinition(loader.loadSync(protoPath, { keepCase: true, defaults: true, enums: Number }));
const { Health } = loaded.grpc.health.v1;

exports.client = (target, credentials) => new Health(target, credentials);
exports.check = (client, service, options) => new Promise((resolve, reject) => client.check(
  { service }, options, (error, answer) => (error ? reject(error) : resolve(answer.status))));
