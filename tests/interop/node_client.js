// Node's HTTP/2 client, for test_node_client.py: it takes the steps it is told, one after another,
// and prints what came of each, and what the session has told, as JSON.
//
// node node_client.js URL STEPS [OPTIONS]
//
// STEPS and OPTIONS are JSON. Of the options, `ca` and `body` are files, `socket` is a Unix socket;
// `hasty` closes the session while pushes come; and the others go to connect().
'use strict';

const { createHash } = require('node:crypto');
const fs = require('node:fs');
const http2 = require('node:http2');
const net = require('node:net');

const [url, steps, { ca, body, socket, hasty, ...options }] =
  [process.argv[2], JSON.parse(process.argv[3]), JSON.parse(process.argv[4] || '{}')];
if (ca) options.ca = fs.readFileSync(ca);
if (socket) options.createConnection = () => net.connect(socket);
const upload = body && fs.readFileSync(body);
const session = http2.connect(url, options);
// The bytes that have come, by path.
const lengths = {};
const events = { altsvc: [], origin: [], ping: [], goaway: [] };
const pushes = [];

for (const name of ['altsvc', 'origin', 'ping', 'goaway']) {
  session.on(name, (...values) => events[name].push(values.map(String)));
}
session.on('stream', (stream, headers) => pushes.push(outcome(stream, headers[':path'])));

// What came of a stream: it ends where the stream does.
function outcome(stream, path) {
  return new Promise((resolve) => {
    const got = { interim: [], trailers: {}, length: 0 };
    const hash = createHash('sha256');
    stream.on('headers', (headers) => got.interim.push({ ...headers }));
    for (const name of ['response', 'push']) {
      stream.on(name, (headers) => { got.headers = { ...headers }; });
    }
    stream.on('trailers', (headers) => { got.trailers = { ...headers }; });
    stream.on('data', (chunk) => {
      got.length += chunk.length;
      lengths[path] = got.length;
      hash.update(chunk);
    });
    stream.on('end', () => { got.lengths = { ...lengths }; });
    stream.on('error', (error) => { got.error = error.message; });
    stream.on('close', () => {
      resolve({ ...got, path, code: stream.rstCode, sha256: hash.digest('hex') });
    });
  });
}

const take = {
  // A request, with the file's first bytes, and with trailers.
  fetch({ fetch: headers, bytes, trailers, options }) {
    const more = { waitForTrailers: !!trailers, ...options };
    const stream = session.request(headers, { endStream: bytes === undefined, ...more });
    stream.on('wantTrailers', () => stream.sendTrailers(trailers));
    if (bytes !== undefined) stream.end(upload.subarray(0, bytes));
    return outcome(stream, headers[':path']);
  },
  // An upload that is left when the response has begun, or has ended.
  leave({ leave: headers, bytes, when }) {
    const stream = session.request(headers);
    stream.on(when, () => stream.close(http2.constants.NGHTTP2_CANCEL));
    stream.write(upload.subarray(0, bytes));
    return outcome(stream, headers[':path']);
  },
  // A tunnel: each text goes out when the one before it has come back.
  async tunnel({ tunnel: headers, texts }) {
    const stream = session.request(headers);
    await new Promise((resolve) => { stream.once('response', resolve); });
    const replies = [];
    for (const text of texts) {
      stream.write(text);
      replies.push(await new Promise((resolve) => { stream.once('data', resolve); }));
    }
    stream.end();
    return { replies: replies.map(String), ...await outcome(stream, headers[':path']) };
  },
  together: ({ together }) => Promise.all(together.map(run)),
  // New settings; what is true of `acked` tells whether to wait.
  settings: ({ settings, acked }) => new Promise((resolve) => {
    session.settings(settings, acked ? resolve : undefined);
    if (!acked) resolve();
  }),
  remoteSettings: () => new Promise((resolve) => {
    session.once('remoteSettings', resolve);
  }),
  ping: ({ ping }) => new Promise((resolve, reject) => {
    session.ping(Buffer.from(ping), (error, duration, payload) => {
      if (error) reject(error);
      else resolve(String(payload));
    });
  }),
};

const run = (step) => take[Object.keys(step)[0]](step);

async function main() {
  const results = [];
  for (const step of steps) results.push(await run(step) ?? null);
  events.push = hasty ? [] : await Promise.all(pushes);
  console.log(JSON.stringify({ results, events, alpn: session.alpnProtocol }));
  session.close();
}

main();
