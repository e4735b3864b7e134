// A server as Node's guides have them; it answers in pieces.
'use strict';
const { spawn } = require('node:child_process');
const { existsSync } = require('node:fs');
const http = require('node:http');

async function act(event) {
  const [word, rest] = event.subarray(0, 4096).toString('latin1').split(' ');
  if (word === 'crash') process.exit(3);
  if (word === 'hang') {
    spawn('sleep', ['61']);
    process.on('SIGTERM', () => {});
    for (;;);
  }
  while (word === 'wait' && !existsSync(rest)) await new Promise((go) => setTimeout(go, 10));
}

http.createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const event = Buffer.concat(chunks);
  console.log(`${request.headers['x-fc-request-id']} got ${event.length}`);
  await act(event);
  const half = event.length >> 1;
  response.write(event.subarray(0, half));
  response.end(event.subarray(half));
}).listen(process.env.FC_SERVER_PORT);
