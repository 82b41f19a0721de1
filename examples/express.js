'use strict'

/**
 * express on pooled Buffers: routes, middleware and error handlers work as usual.
 *
 *     node examples/express.js [port]
 *     curl --data-binary @package.json http://127.0.0.1:8000/echo
 */

const { createHash } = require('node:crypto')
const express = require('express')
const { BufferPool } = require('cistern')
const { end, pumpFile, readBody } = require('cistern/io')

const pool = new BufferPool({ name: 'express', onExhausted: 'throw' })
const app = express()

/**
 * Gives `req.body` as a lease. It replaces express.json() and similar middleware, which would read
 * the body first.
 */
async function body(req, res, next) {
  const signal = AbortSignal.timeout(30_000)
  const lease = await readBody(pool, req, { limit: 1024 * 1024, signal })
  // Runs when the response is sent, or the connection is closed. After `end` it does nothing.
  if (res.closed) lease.release()
  else res.once('close', () => lease.release())
  req.body = lease
  next()
}

app.use((_req, res, next) => {
  res.set('x-sent', 'by express')
  next()
})

app.post('/hash', body, (req, res) => {
  res.json({ sha256: createHash('sha256').update(req.body.buffer).digest('hex') })
})

// This also works if a middleware such as compression has put functions of its own on the response.
app.post('/echo', body, (req, res) => {
  end(pool, res.type('application/octet-stream'), req.body.buffer)
})

app.get('/page', (_req, res) => {
  const page = pool.allocUnsafe(1024 * 1024).fill('page ')
  end(pool, res.type('text/plain'), page)
})

app.get('/source', async (_req, res) => {
  await pumpFile(pool, __filename, res.type('text/javascript'))
  res.end()
})

app.get('/stats', (_req, res) => res.json(pool.stats()))

// The body is too long, or was broken off: nothing is leased any more.
app.use((error, _req, res, _next) => {
  if (res.headersSent) res.destroy()
  else res.status(error.statusCode ?? 500).json({ code: error.code })
})

const server = app.listen(process.argv[2] ?? 8000, '127.0.0.1', () => {
  console.log(`http://127.0.0.1:${server.address().port}/`)
})
