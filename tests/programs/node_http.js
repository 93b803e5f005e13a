// SPDX-License-Identifier: Apache-2.0
// An HTTP server that sends bodies back, alone or as a cluster, and its client:
//   node_http.js serve PORT alone|shared|handed
//   node_http.js talk PORT CONNECTIONS ROUNDS
// The server tells the digest of what it got; the client compares all three. It goes on until
// the test has seen its connections: a file tells.
'use strict';
const cluster = require('cluster');
const crypto = require('crypto');
const fs = require('fs');
const http = require('http');

const host = '127.0.0.1';
const sizes = [1, 100, 4096, 65537, 1 << 20, 10 << 20];

function digestOf(bytes) {
  return crypto.createHash('sha256').update(bytes).digest('hex');
}

function answer(request, response) {
  const parts = [];
  request.on('data', (part) => parts.push(part));
  request.on('end', () => {
    const body = Buffer.concat(parts);
    response.setHeader('x-digest', digestOf(body));
    if (request.url === '/pieces') {  // chunked, in small writes
      const size = Math.max(1, body.length >> 6);
      for (let at = 0; at < body.length; at += size) response.write(body.subarray(at, at + size));
      response.end();
    } else {
      response.setHeader('content-length', body.length);
      response.end(body);
    }
  });
}

function serve(port, how) {
  // The workers accept by themselves; else the first process does it for them and
  // hands the connections over, which then stay on TCP.
  if (how === 'shared') cluster.schedulingPolicy = cluster.SCHED_NONE;
  if (how !== 'alone' && cluster.isPrimary) {
    for (let i = 0; i < 2; ++i) cluster.fork();
    process.on('SIGTERM', () => {
      cluster.on('exit', () => Object.keys(cluster.workers).length === 0 && process.exit(0));
      for (const worker of Object.values(cluster.workers)) worker.process.kill('SIGTERM');
    });
    return;
  }
  const server = http.createServer(answer).listen(port, host);
  process.on('SIGTERM', () => {
    server.close(() => process.exit(0));
    server.closeAllConnections();
  });
}

function ask(agent, port, path, body) {
  return new Promise((resolve, reject) => {
    const options = {agent, port, host, path, method: 'POST',
                     headers: {'content-length': body.length}};
    const request = http.request(options, (response) => {
      const got = crypto.createHash('sha256');
      let size = 0;
      response.on('data', (part) => { got.update(part); size += part.length; });
      response.on('error', reject);
      response.on('end', () => {
        const sent = digestOf(body);
        if (response.headers['x-digest'] !== sent) reject(new Error('another body arrived'));
        else if (got.digest('hex') !== sent) reject(new Error(`another body came back: ${size}`));
        else resolve(size);
      });
    });
    request.on('error', reject);
    request.end(body);
  });
}

async function talk(port, connections, rounds) {
  const agent = new http.Agent({keepAlive: true, maxSockets: connections});
  let total = 0;
  async function count(path, body) {
    const size = await ask(agent, port, path, body);
    total += size;
  }
  async function converse() {
    for (let round = 0; round < rounds || !fs.existsSync('seen'); ++round) {
      for (const size of sizes) {
        for (const path of ['/whole', '/pieces']) {
          await count(path, crypto.randomBytes(size));
        }
      }
      for (let i = 0; i < 50; ++i) await count('/whole', Buffer.from(`${i}`));
    }
  }
  await Promise.all(Array.from({length: connections}, converse));
  agent.destroy();
  console.log(`bytes ${total}`);
}

const [what, port, ...rest] = process.argv.slice(2);
if (what === 'serve') serve(Number(port), rest[0]);
else talk(Number(port), ...rest.map(Number));
