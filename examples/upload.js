'use strict'

/**
 * An upload server: the whole body in one pooled block, its SHA-256 as the answer.
 *
 *     node examples/upload.js [port]
 *     curl --data-binary @package.json http://127.0.0.1:8000/
 */

const { createHash } = require('node:crypto')
const http = require('node:http')
const { BufferPool } = require('cistern')
const { readBody } = require('cistern/io')

/**
 * The longest body, in bytes. No more than `maxBlockSize`: V8 serves larger requests, whatever the
 * ceiling.
 */
const LIMIT = 32 * 1024 * 1024

// At the ceiling, uploads wait in the queue, and so do their clients. An upload that outgrows its
// block there is refused.
const pool = new BufferPool({
  name: 'uploads',
  maxBlockSize: LIMIT,
  maxBytes: 4 * LIMIT,
  onExhausted: 'throw'
})

async function answer(req, res) {
  const lease = await readBody(pool, req, { limit: LIMIT })
  try {
    // update() is done with the memory when it returns; an asynchronous call would not be.
    const sha256 = createHash('sha256').update(lease.buffer).digest('hex')
    res.setHeader('content-type', 'application/json')
    res.end(`${JSON.stringify({ bytes: lease.buffer.length, sha256 })}\n`)
  } finally {
    lease.release()
  }
}

const server = http.createServer((req, res) => {
  if (req.method === 'GET') {
    res.setHeader('content-type', 'application/json')
    res.end(`${JSON.stringify(pool.stats())}\n`)
    return
  }
  answer(req, res).catch((error) => {
    if (res.headersSent) return res.destroy()
    // The client went away, lied about the length, or sent too much: nothing stays leased.
    const isFull = error.code === 'ERR_CISTERN_EXHAUSTED'
    res.statusCode = isFull ? 503 : (error.statusCode ?? 400)
    res.setHeader('connection', 'close')
    res.end(`${error.message}\n`)
  })
})

// V8's memory has up to a third of each upload that waits for a larger block. This bounds their
// number.
server.maxConnections = 256

server.listen(process.argv[2] ?? 8000, '127.0.0.1', () => {
  console.log(`http://127.0.0.1:${server.address().port}/`)
})
