// Node's HTTP/2 client, for test_node.py: it fetches from ORIGIN, and prints what came as JSON.
//
// node node_client.js ORIGIN BODY-FILE [AUTHORITY-FILE]
'use strict';

const { createHash } = require('node:crypto');
const fs = require('node:fs');
const http2 = require('node:http2');

const [origin, bodyFile, authority] = process.argv.slice(2);
const session = http2.connect(origin, authority ? { ca: fs.readFileSync(authority) } : {});
const body = fs.readFileSync(bodyFile);

// Make a request; what came, with the checksum of the body.
function fetch(headers, content, trailers) {
  return new Promise((resolve, reject) => {
    const got = { trailers: {}, length: 0 };
    const hash = createHash('sha256');
    const stream = session.request(headers, { endStream: !content, waitForTrailers: !!trailers });
    stream.on('response', (headers) => { got.status = headers[':status']; });
    stream.on('trailers', (headers) => { got.trailers = { ...headers }; });
    stream.on('wantTrailers', () => stream.sendTrailers(trailers));
    stream.on('data', (chunk) => { got.length += chunk.length; hash.update(chunk); });
    stream.on('error', reject);
    stream.on('close', () => resolve({ ...got, code: stream.rstCode, sha256: hash.digest('hex') }));
    if (content) stream.end(content);
  });
}

// Begin an upload, and cancel it when the response has come; the code that the stream ended with.
function cancel(headers) {
  return new Promise((resolve, reject) => {
    const stream = session.request(headers);
    stream.on('error', reject);
    stream.on('response', () => stream.close(http2.constants.NGHTTP2_CANCEL));
    stream.on('close', () => resolve(stream.rstCode));
    stream.write(body);
  });
}

async function main() {
  const post = { ':method': 'POST', ':path': '/trailers' };
  const results = {
    get: await fetch({ ':path': '/' }),
    post: await fetch({ ':method': 'POST', ':path': '/' }, body),
    trailers: await fetch(post, body, { checksum: 'abc' }),
    cancelled: await cancel(post),
    many: [],
  };
  for (let batch = 0; batch < 5; batch += 1) {
    const fetching = Array.from({ length: 100 }, (_, n) => fetch(post, Buffer.alloc(100 * n)));
    results.many.push(...(await Promise.all(fetching)).map((got) => Number(got.trailers.length)));
  }
  results.ping = await new Promise((resolve, reject) => {
    session.ping((error, duration) => (error ? reject(error) : resolve(duration)));
  });
  await new Promise((resolve) => session.close(resolve));
  return { ...results, alpn: session.alpnProtocol };
}

session.on('goaway', (code) => { if (code) throw new Error(`GOAWAY with ${code}`); });
main().then((results) => console.log(JSON.stringify(results)));
