// Node's HTTP/2 server, for test_node_server.py: it prints the port that it listens on.
//
// node node_server.js [OPTIONS]
//
// OPTIONS is JSON: `key` and `cert` are files, `socket` is a Unix socket to listen on, and the
// others go to createServer(). What a path does is below; all others greet a GET, and send a POST
// its body back while it is coming, and then its trailers with one more.
'use strict';

const fs = require('node:fs');
const http2 = require('node:http2');

const { key, cert, socket, ...options } = JSON.parse(process.argv[2] || '{}');
const server = key
  ? http2.createSecureServer({ key: fs.readFileSync(key), cert: fs.readFileSync(cert), ...options })
  : http2.createServer(options);

function echo(stream) {
  let trailers = {};
  let length = 0;
  stream.on('data', (chunk) => { length += chunk.length; });
  stream.on('trailers', (headers) => { trailers = headers; });
  stream.on('wantTrailers', () => stream.sendTrailers({ ...trailers, length }));
  stream.respond({ ':status': 200 }, { waitForTrailers: true });
  stream.pipe(stream);
}

function greet(stream, headers) {
  stream.respond({ ':status': 200, 'content-type': 'text/plain', 'x-path': headers[':path'] });
  stream.end('hello, this is node\n');
}

const paths = {
  '/close'(stream, headers) {
    stream.session.close();
    greet(stream, headers);
  },
  '/reset': (stream) => stream.close(http2.constants.NGHTTP2_ENHANCE_YOUR_CALM),
  '/hints'(stream, headers) {
    stream.additionalHeaders({ ':status': 103, 'link': '</style.css>; rel=preload' });
    greet(stream, headers);
  },
  '/early-hints'(stream) {
    const response = new http2.Http2ServerResponse(stream);
    response.writeEarlyHints({ link: '</a.css>; rel=preload' });
    response.writeEarlyHints({ link: '</b.css>; rel=preload' });
    response.end('hello, this is node\n');
  },
  '/push'(stream, headers) {
    if (!stream.pushAllowed) return greet(stream, headers);
    for (const path of ['/a.css', '/b.css']) {
      stream.pushStream({ ':path': path }, (error, pushed) => {
        if (error) throw error;
        // the client may not want it
        pushed.on('error', () => {});
        pushed.respond({ ':status': 200 });
        pushed.end(path.repeat(10_000));
      });
    }
    return greet(stream, headers);
  },
  '/altsvc'(stream, headers) {
    stream.session.altsvc('h2="alt.test:8000"; ma=60', 'https://origin.test');
    stream.session.altsvc('h2=":8001"', stream.id);
    greet(stream, headers);
  },
  '/origin'(stream, headers) {
    stream.session.origin('https://a.test', 'https://b.test:8000');
    greet(stream, headers);
  },
  // Changes the settings, one after another, and answers: when they are acknowledged, or at once.
  '/settings'(stream, headers) {
    const changes = JSON.parse(headers['x-settings']);
    const last = changes.pop();
    for (const settings of changes) stream.session.settings(settings);
    stream.session.settings(last, headers['x-now'] ? undefined : () => greet(stream, headers));
    if (headers['x-now']) greet(stream, headers);
  },
  // Answers with the weight that the stream has got, and the `priority` field.
  '/priority'(stream, headers) {
    const told = () => {
      stream.respond({ 'x-weight': stream.state.weight, 'x-priority': headers.priority ?? '' });
      stream.end();
    };
    stream.on('data', () => {});
    stream.on('end', told);
  },
  '/ping'(stream, headers) {
    stream.session.ping(Buffer.from('12345678'), (error) => !error && greet(stream, headers));
  },
};

server.on('stream', (stream, headers) => {
  stream.on('error', () => {});
  const answer = paths[headers[':path']];
  if (answer) answer(stream, headers);
  else if (headers[':method'] === 'GET') greet(stream, headers);
  else if (headers[':method'] === 'POST') echo(stream);
  else if (headers[':protocol']) {
    stream.respond({ ':status': 200, 'x-protocol': headers[':protocol'] });
    stream.pipe(stream);
  } else stream.respond({ ':status': 405 }, { endStream: true });
});

const listening = () => console.log(`listening on port ${server.address().port ?? 0}`);
if (socket) server.listen(socket, listening);
else server.listen(0, '127.0.0.1', listening);
