'use strict';

// What server and client share: names, the protobuf schema, and how values of Java classes are written.

const path = require('path');
const antpb = require('antpb');
const protocol = require('sofa-bolt-node');

const proto = antpb.loadAll(path.join(__dirname, '..', '..', 'lib'));
protocol.setOptions({ proto });

const SHOP = 'io.raddle.interop.api.ShopService';
const PROTO_SHOP = 'io.raddle.interop.proto.ShopProtoService';
const VERSION = '1.0';

const quiet = { info() {}, debug() {}, log() {}, warn() {}, error() {} };

const java = ($class, $) => ({ $class, $ });
const int = value => java('int', value);
const text = value => java('java.lang.String', value);

// A plain user object as io.raddle.interop.api.User: Java needs the class names, at every level.
function typedUser(user) {
  if (user == null) return null;
  return java('io.raddle.interop.api.User', {
    name: user.name,
    age: int(user.age || 0),
    id: java('long', user.id || 0),
    score: java('double', user.score || 0),
    vip: Boolean(user.vip),
    born: user.born == null ? null : java('java.util.Date', new Date(user.born)),
    items: user.items == null ? null : java('java.util.ArrayList', user.items.map(item =>
      java('io.raddle.interop.api.User$Item', { sku: item.sku, count: int(item.count) }))),
    tags: user.tags == null ? null : java('java.util.HashMap', user.tags),
    parent: typedUser(user.parent),
  });
}

const sampleUser = {
  name: 'Ada 洛芙莱斯',
  age: 36,
  id: 9007199254740991,
  score: 3.25,
  vip: true,
  born: 1000000000000,
  items: [{ sku: 'book', count: 2 }, { sku: '笔', count: 300 }],
  tags: { langs: [ 'en', '中文' ], none: [] },
  parent: { name: 'George', age: -1 },
};

module.exports = { protocol, proto, SHOP, PROTO_SHOP, VERSION, quiet, java, int, text, typedUser, sampleUser };
