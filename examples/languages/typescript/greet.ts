// Greets whoever the event names: the event is on standard input, the answer on
// standard output, and what is written to standard error becomes the log.
import { readFileSync } from "node:fs";

function greeting(name: string): string {
  if (!name) throw new Error("there is nobody to greet");
  return `Hello, ${name}!`;
}

const name = readFileSync(0, "utf8").trim();
console.error(`${process.env.FC_REQUEST_ID} greeting '${name}'`);
process.stdout.write(greeting(name));
