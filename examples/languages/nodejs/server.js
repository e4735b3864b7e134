// Greets whoever the event names, as a server.
'use strict';
const http = require('node:http');

async function greet(request, response) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const name = Buffer.concat(chunks).toString('utf8').trim();
  console.log(`${request.headers['x-fc-request-id']} greeting '${name}'`);
  // Nobody catches what is thrown in here, so that it ends the process.
  if (name === 'crash') throw new Error('crashing');
  if (name) {
    response.end(`Hello, ${name}!`);
  } else {
    response.writeHead(404, { 'Content-Type': 'application/json', 'x-fc-status': '404' });
    response.end(JSON.stringify({ errorMessage: 'there is nobody to greet', errorType: 'NoName' }));
  }
}

const server = http.createServer(greet);
server.keepAliveTimeout = 0; // the platform keeps connections open between requests
server.listen(process.env.FC_SERVER_PORT || 9000);
