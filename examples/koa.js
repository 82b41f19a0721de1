'use strict'

/**
 * koa on pooled Buffers: code after `next()` still runs, and koa sends the answer.
 *
 *     node examples/koa.js [port]
 *     curl --data-binary @package.json http://127.0.0.1:8000/echo
 */

const { createHash } = require('node:crypto')
const Koa = require('koa')
const { BufferPool } = require('cistern')
const { pumpFile, readBody } = require('cistern/io')

const pool = new BufferPool({ name: 'koa', onExhausted: 'throw' })
const app = new Koa()

/** Releases a lease when its response is out, or the connection is gone. */
function releaseAfter({ res }, lease) {
  if (res.closed) lease.release()
  else res.once('close', () => lease.release())
}

/** Returns the whole body, as a lease that ends with the response. */
async function bodyOf(ctx) {
  const signal = AbortSignal.timeout(30_000)
  const lease = await readBody(pool, ctx.req, { limit: 1024 * 1024, signal })
  releaseAfter(ctx, lease)
  return lease
}

const routes = {
  async 'POST /hash'(ctx) {
    const { buffer } = await bodyOf(ctx)
    ctx.body = { sha256: createHash('sha256').update(buffer).digest('hex') }
  },

  // koa sends it when all middleware has run. So it is not released in `finally`.
  async 'POST /echo'(ctx) {
    const { buffer } = await bodyOf(ctx)
    ctx.body = buffer
  },

  'GET /page'(ctx) {
    const lease = pool.lease(1024 * 1024)
    releaseAfter(ctx, lease)
    ctx.type = 'text'
    ctx.body = lease.buffer.fill('page ')
  },

  async 'GET /source'(ctx) {
    ctx.status = 200
    ctx.type = 'js'
    // This code writes the response, and not koa.
    ctx.respond = false
    try {
      await pumpFile(pool, __filename, ctx.res)
      ctx.res.end()
    } catch {
      ctx.res.destroy()
    }
  },

  'GET /stats'(ctx) {
    ctx.body = pool.stats()
  }
}

app.use(async (ctx, next) => {
  ctx.set('x-sent', 'by koa')
  await next()
})

app.use(async (ctx) => {
  await routes[`${ctx.method} ${ctx.path}`]?.(ctx)
})

app.on('error', (error) => {
  // An error with a status goes to the client, and ECONNRESET means that the client is gone.
  if (error.statusCode === undefined && error.code !== 'ECONNRESET') console.error(error)
})

const server = app.listen(process.argv[2] ?? 8000, '127.0.0.1', () => {
  console.log(`http://127.0.0.1:${server.address().port}/`)
})
