'use strict'

/**
 * A reverse proxy: each body, of the request and of the response, in one pooled block for as long
 * as it takes to send it on.
 *
 *     node examples/proxy.js http://127.0.0.1:8000 [port]
 */

const http = require('node:http')
const { once } = require('node:events')
const { BufferPool } = require('cistern')
const { end, readBody } = require('cistern/io')

const upstream = new URL(process.argv[2] ?? 'http://127.0.0.1:8000')
const agent = new http.Agent({ keepAlive: true })

/** The longest body, in bytes: as long as a block can be. */
const LIMIT = 32 * 1024 * 1024

/** The longest time for a request, and for a client that takes no bytes, in ms. */
const TIMEOUT = 60_000

// At the ceiling, bodies wait in the queue, and a body that outgrows its block is refused.
const poolOf = (name) =>
  new BufferPool({ name, maxBlockSize: LIMIT, maxBytes: 4 * LIMIT, onExhausted: 'throw' })

// Two pools: an upstream may take the rest of a request only when its answer is read, which MUST
// NOT wait for requests.
const requests = poolOf('requests')
const answers = poolOf('answers')

/** Headers that are about one connection. */
const OF_THE_HOP =
  'connection expect keep-alive proxy-connection te trailer transfer-encoding upgrade'.split(' ')

/** Returns the headers to pass on, with the new length. */
function passedOn(headers, length) {
  const named = (headers.connection ?? '').toLowerCase().split(/[\s,]+/)
  const isOfTheHop = (name) => OF_THE_HOP.includes(name) || named.includes(name)
  const kept = Object.entries(headers).filter(([name]) => !isOfTheHop(name))
  return { ...Object.fromEntries(kept), ...(length > 0 && { 'content-length': length }) }
}

/** Returns the result of `prepare`; if that throws, releases the lease. */
function orRelease(lease, prepare) {
  try {
    return prepare(lease.buffer)
  } catch (error) {
    lease.release()
    throw error
  }
}

async function pass(req, res) {
  const signal = AbortSignal.timeout(TIMEOUT)
  const body = await readBody(requests, req, { limit: LIMIT, signal })
  const outgoing = orRelease(body, (buffer) => {
    const headers = passedOn(req.headers, buffer.length)
    const { method, url: path } = req
    const request = http.request(upstream, { agent, path, method, headers, signal })
    // Later errors show in the response's body, too.
    return request.on('error', () => {})
  })
  // From here on `end` releases the block, even if either side breaks off.
  end(requests, outgoing, body.buffer)
  if (res.closed) outgoing.destroy()
  else res.once('close', () => outgoing.destroy())
  const [incoming] = await once(outgoing, 'response')
  const answer = await readBody(answers, incoming, { limit: LIMIT, signal })
  orRelease(answer, (buffer) => {
    const told = incoming.headers['content-length'] ?? buffer.length
    res.writeHead(incoming.statusCode, passedOn(incoming.headers, told))
  })
  end(answers, res, answer.buffer)
}

/** Returns the status for a request, by its error. */
function statusOf({ code, name, statusCode }) {
  if (code === 'ERR_CISTERN_EXHAUSTED') return 503
  return name === 'AbortError' ? 504 : (statusCode ?? 502)
}

const server = http.createServer((req, res) => {
  pass(req, res).catch((error) => {
    if (res.headersSent) res.destroy()
    else res.writeHead(statusOf(error), { connection: 'close' }).end(`${error.message}\n`)
  })
})

server.setTimeout(TIMEOUT)
// V8's memory has up to a third of each body that waits for a larger block. This bounds their
// number.
server.maxConnections = 256
server.listen(process.argv[3] ?? 8001, '127.0.0.1', () => {
  console.log(`http://127.0.0.1:${server.address().port}/`)
})
