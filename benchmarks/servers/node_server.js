// Node's own HTTP/2: node node_server.js PORT CONCURRENCY [CERT KEY]
'use strict';

const fs = require('node:fs');
const http2 = require('node:http2');

const SMALL = Buffer.from('Hello, HTTP/2!\n');
const CHUNK = Buffer.alloc(65536);
const [port, concurrency, cert, key] = process.argv.slice(2);

function count(stream) {
  let received = 0;
  stream.on('data', (chunk) => { received += chunk.length; });
  stream.on('end', () => {
    const answer = String(received);
    stream.respond({ ':status': 200, 'content-length': answer.length });
    stream.end(answer);
  });
}

function download(stream, size) {
  let left = size;
  stream.respond({ ':status': 200, 'content-length': size });
  const send = () => {
    while (left > 0) {
      const chunk = left < CHUNK.length ? CHUNK.subarray(0, left) : CHUNK;
      left -= chunk.length;
      if (left === 0) {
        stream.end(chunk);
      } else if (!stream.write(chunk)) {
        stream.once('drain', send);
        return;
      }
    }
  };
  send();
}

function onStream(stream, headers) {
  stream.on('error', () => {});
  if (headers[':method'] === 'POST') {
    count(stream);
  } else if (headers[':path'].startsWith('/download')) {
    download(stream, Number(headers[':path'].split('size=')[1]));
  } else {
    stream.respond({
      ':status': 200, 'content-type': 'text/plain', 'content-length': SMALL.length,
    });
    stream.end(SMALL);
  }
}

const options = { settings: { maxConcurrentStreams: Number(concurrency) } };
const server = cert
  ? http2.createSecureServer({
    ...options, cert: fs.readFileSync(cert), key: fs.readFileSync(key),
  })
  : http2.createServer(options);
server.on('stream', onStream);
server.on('sessionError', () => {});
server.listen(Number(port), '127.0.0.1');
process.on('SIGTERM', () => process.exit(0));
process.on('SIGINT', () => process.exit(0));
