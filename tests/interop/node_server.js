// Node's HTTP/2 server, for test_node.py: it prints the port that it listens on.
//
// GET is greeted. POST gets its body back while it is coming, and then its trailers with one more.
// /close ends the session gracefully, /reset the stream, /hints sends an interim response first.
'use strict';

const fs = require('node:fs');
const http2 = require('node:http2');

const [key, cert] = process.argv.slice(2);
const server = key
  ? http2.createSecureServer({ key: fs.readFileSync(key), cert: fs.readFileSync(cert) })
  : http2.createServer();

function echo(stream) {
  let trailers = {};
  let length = 0;
  stream.on('data', (chunk) => { length += chunk.length; });
  stream.on('trailers', (headers) => { trailers = headers; });
  stream.on('wantTrailers', () => stream.sendTrailers({ ...trailers, length }));
  stream.respond({ ':status': 200 }, { waitForTrailers: true });
  stream.pipe(stream);
}

function greet(stream) {
  stream.respond({ ':status': 200, 'content-type': 'text/plain' });
  stream.end('hello, this is node\n');
}

server.on('stream', (stream, headers) => {
  stream.on('error', () => {});
  switch (headers[':path']) {
    case '/close':
      stream.session.close();
      return greet(stream);
    case '/reset':
      return stream.close(http2.constants.NGHTTP2_ENHANCE_YOUR_CALM);
    case '/hints':
      stream.additionalHeaders({ ':status': 103, 'link': '</style.css>; rel=preload' });
      return greet(stream);
  }
  return headers[':method'] === 'POST' ? echo(stream) : greet(stream);
});

server.listen(0, '127.0.0.1', () => console.log(`listening on port ${server.address().port}`));
