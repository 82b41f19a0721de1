'use strict'

/**
 * fastify on pooled Buffers: its parsers, its hooks and its headers work as usual.
 *
 *     node examples/fastify.js [port]
 *     curl --data-binary @package.json http://127.0.0.1:8000/echo
 */

const { createHash } = require('node:crypto')
const fastify = require('fastify')
const { BufferPool } = require('cistern')
const { end, pumpFile, readBody } = require('cistern/io')

const pool = new BufferPool({ name: 'fastify', onExhausted: 'throw' })
const app = fastify({ bodyLimit: 1024 * 1024 })

/** Releases a lease when its response is out, or the connection is gone. */
function releaseAfter({ raw }, lease) {
  if (raw.closed) lease.release()
  else raw.once('close', () => lease.release())
}

/**
 * Lets other code than fastify's write the response, with its headers and its status.
 */
function hijack(reply) {
  for (const [name, value] of Object.entries(reply.getHeaders())) reply.raw.setHeader(name, value)
  reply.raw.statusCode = reply.statusCode
  reply.hijack()
  return reply.raw
}

// Parsers that collect a body would read it before we can. This one gives `request.body` as a
// lease. After a refusal fastify closes the connection: a client that goes on sending may see that,
// and not the 413.
app.removeAllContentTypeParsers()
app.addContentTypeParser('*', async (request, payload) => {
  const { bodyLimit } = request.routeOptions
  return readBody(pool, payload, { limit: bodyLimit, signal: AbortSignal.timeout(30_000) })
})

// The lease lives until the response is over, whatever the handler does.
app.addHook('preHandler', async (request, reply) => {
  if (request.body) releaseAfter(reply, request.body)
})

app.addHook('onRequest', async (_request, reply) => {
  reply.header('x-sent', 'by fastify')
})

app.addHook('onSend', async (_request, reply) => {
  reply.header('x-on-send', 'ran')
})

app.post('/hash', async ({ body }) => {
  return { sha256: createHash('sha256').update(body.buffer).digest('hex') }
})

// All hooks run. A `finally` must not release the block, because fastify sends the response later.
app.post('/echo', async ({ body }, reply) => reply.send(body.buffer))

// All but `onSend` run. `end` releases the block itself.
app.get('/page', (_request, reply) => {
  reply.header('content-type', 'text/plain')
  const page = pool.allocUnsafe(1024 * 1024).fill('page ')
  end(pool, hijack(reply), page)
})

app.get('/source', async (_request, reply) => {
  reply.type('text/javascript')
  const res = hijack(reply)
  try {
    await pumpFile(pool, __filename, res)
    res.end()
  } catch {
    // No error handler can answer any more.
    res.destroy()
  }
})

app.get('/stats', async () => pool.stats())

app.listen({ port: process.argv[2] ?? 8000, host: '127.0.0.1' }, (error, url) => {
  if (error) throw error
  console.log(`${url}/`)
})
