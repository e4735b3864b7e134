// What call.py is, for the platform's clients for Node.
'use strict';

function fc3(port, id, secret) {
  const { default: Client, InvokeFunctionRequest, InvokeFunctionHeaders } = require('@alicloud/fc20230330');
  const { $OpenApiUtil } = require('@alicloud/openapi-core');
  const { RuntimeOptions } = require('@darabonba/typescript');
  const client = new Client(new $OpenApiUtil.Config({
    accessKeyId: id,
    accessKeySecret: secret,
    endpoint: `127.0.0.1:${port}`,
    protocol: 'http',
    regionId: 'cn-hangzhou',
  }));
  return async (call) => {
    const { Readable } = require('stream');
    const request = new InvokeFunctionRequest({
      qualifier: call.qualifier,
      body: Readable.from([Buffer.from(call.event || '')]),
    });
    const headers = new InvokeFunctionHeaders({ commonHeaders: call.headers || {} });
    const answer = await client.invokeFunctionWithOptions(
      call.function, request, headers, new RuntimeOptions({}));
    const pieces = [];
    for await (const piece of answer.body) pieces.push(Buffer.from(piece));
    return { status: answer.statusCode, headers: answer.headers, body: Buffer.concat(pieces).toString() };
  };
}

function fc2(port, id, secret) {
  const Client = require('@alicloud/fc2');
  const client = new Client('1234', {
    accessKeyID: id,
    accessKeySecret: secret,
    region: 'cn-hangzhou',
    endpoint: `http://127.0.0.1:${port}`,
    secure: false,
  });
  return async (call) => {
    const headers = call.headers || {};
    const answer = call.path
      ? await client.get(`/proxy/${call.service}/${call.function}${call.path}`, call.query || {}, headers)
      : await client.invokeFunction(call.service, call.function, call.event || '', headers, call.qualifier);
    const body = typeof answer.data === 'string' ? answer.data : JSON.stringify(answer.data);
    return { status: 200, headers: answer.headers, body };
  };
}

async function main() {
  const [client, port, id, secret, calls] = process.argv.slice(2);
  const make = { fc3, fc2 }[client](port, id, secret);
  const outcomes = [];
  for (const call of JSON.parse(calls)) {
    try {
      outcomes.push(await make(call));
    } catch (error) {
      outcomes.push({ error: { code: error.code || null, message: String(error.message) } });
    }
  }
  process.stdout.write(JSON.stringify(outcomes));
}

main();
