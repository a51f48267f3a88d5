'use strict';
// A WebSocket server by `ws`: `ws_server.js NAME PORT`.

const { WebSocketServer } = require('ws');

const [name, port] = process.argv.slice(2);
const ended = new Map();

const server = new WebSocketServer({
  port: Number(port), host: '127.0.0.1', maxPayload: 8 << 20, perMessageDeflate: true,
  handleProtocols: (offered) => ['tea.v2', 'tea.v1'].find((one) => offered.has(one)) || false,
  verifyClient: ({ req }, decide) => decide(!req.url.startsWith('/refuse'), 403, 'not you\n'),
});

server.on('connection', (socket, request) => {
  const url = new URL(request.url, 'http://shop.test');
  const [, page, part] = url.pathname.split('/');
  const called = url.searchParams.get('name') || '';
  socket.on('error', () => {});
  // Connections that only ask about another one must not stand for it.
  if (page !== 'ended') socket.on('close', (code, reason) => ended.set(called, [code, reason.toString()]));
  if (page === 'ended') {
    socket.send(JSON.stringify(ended.get(called) || null));
    socket.close(1000);
  } else if (page === 'push') {
    for (let number = 0; number < 3; number += 1) socket.send(`push ${number}`);
    socket.close(1000);
  } else if (page === 'ping') {
    socket.once('pong', () => { socket.send('pong came'); socket.close(1000); });
    socket.ping('are you there');
  } else if (page === 'headers') {
    const raw = request.rawHeaders;
    const lines = raw.filter((_, n) => n % 2 === 0).map((key, n) => `${key.toLowerCase()}: ${raw[2 * n + 1]}`);
    socket.send(JSON.stringify(lines.filter((line) => /^(x-|origin|cookie)/.test(line))));
    socket.close(1000);
  } else if (page === 'abort') {
    socket.once('message', () => socket.terminate());
  } else if (page === 'close') {
    socket.once('message', () => socket.close(Number(part), 'bye ü'));
  } else {
    socket.on('message', (message, binary) => socket.send(message, { binary }));
  }
});
server.on('listening', () => console.log(`READY ${name}`));
