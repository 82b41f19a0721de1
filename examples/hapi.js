'use strict'

/**
 * hapi on pooled Buffers: its extensions run, and hapi sends the answer.
 *
 *     node examples/hapi.js [port]
 *     curl --data-binary @package.json http://127.0.0.1:8000/echo
 */

const { createHash } = require('node:crypto')
const Hapi = require('@hapi/hapi')
const { BufferPool } = require('cistern')
const { pumpFile, readBody } = require('cistern/io')

const pool = new BufferPool({ name: 'hapi', onExhausted: 'throw' })
const server = Hapi.server({ port: process.argv[2] ?? 8000, host: '127.0.0.1' })

/** The longest body, in bytes. */
const LIMIT = 1024 * 1024

/**
 * The route reads its body itself: by default hapi would collect it. `readBody` has the limit: hapi
 * would only answer an announced body above the limit after it has read all of it. After a refusal
 * hapi closes the connection: a client that goes on sending may see that, and not the 413.
 */
const payload = { output: 'stream', parse: false, maxBytes: Number.MAX_SAFE_INTEGER }

/** Releases a lease when its response is out, or the connection is gone. */
function releaseAfter({ raw: { res } }, lease) {
  if (res.closed) lease.release()
  else res.once('close', () => lease.release())
}

/** Returns the whole body, as a lease that ends with the response. */
async function bodyOf(request) {
  const signal = AbortSignal.timeout(30_000)
  const lease = await readBody(pool, request.payload, { limit: LIMIT, signal })
  releaseAfter(request, lease)
  return lease
}

server.route([
  {
    method: 'POST',
    path: '/hash',
    options: { payload },
    async handler(request) {
      const { buffer } = await bodyOf(request)
      return { sha256: createHash('sha256').update(buffer).digest('hex') }
    }
  },
  {
    method: 'POST',
    path: '/echo',
    options: { payload },
    // hapi sends it after the handler has returned. So it is not released in `finally`.
    handler: async (request) => (await bodyOf(request)).buffer
  },
  {
    method: 'GET',
    path: '/page',
    handler(request, h) {
      const lease = pool.lease(1024 * 1024)
      releaseAfter(request, lease)
      return h.response(lease.buffer.fill('page ')).type('text/plain')
    }
  },
  {
    method: 'GET',
    path: '/source',
    async handler(request, h) {
      const { res } = request.raw
      res.setHeader('content-type', 'text/javascript')
      res.setHeader('x-sent', 'by hapi')
      try {
        await pumpFile(pool, __filename, res)
        res.end()
      } catch {
        res.destroy()
      }
      // This code writes the response, and not hapi, whose response extensions do not see it.
      return h.abandon
    }
  },
  { method: 'GET', path: '/stats', handler: () => pool.stats() }
])

server.ext('onPreResponse', ({ response }, h) => {
  if (!response.isBoom) {
    response.header('x-sent', 'by hapi')
  } else if (response.code === 'ERR_CISTERN_BODY_TOO_LARGE') {
    // hapi treats an error without a status as an error of the server.
    response.output.statusCode = response.statusCode
    response.reformat()
  }
  return h.continue
})

server.start().then(() => console.log(`${server.info.uri}/`))
