// A server that speaks HTTP/1.1 and nothing else, for test_node_server.py: it prints its port.
'use strict';

const fs = require('node:fs');
const http = require('node:http');
const https = require('node:https');

const { key, cert } = JSON.parse(process.argv[2]);
const server = key
  ? https.createServer({ key: fs.readFileSync(key), cert: fs.readFileSync(cert) })
  : http.createServer();

server.listen(0, '127.0.0.1', () => console.log(`listening on port ${server.address().port}`));
