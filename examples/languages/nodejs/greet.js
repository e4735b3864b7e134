// Greets whoever the event names: the event is on standard input, the answer on
// standard output, and what is written to standard error becomes the log.
'use strict';
const { readFileSync } = require('node:fs');

const name = readFileSync(0, 'utf8').trim();
console.error(`${process.env.FC_REQUEST_ID} greeting '${name}'`);
if (!name) throw new Error('there is nobody to greet');
process.stdout.write(`Hello, ${name}!`);
