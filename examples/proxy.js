'use strict'

/**
 * A reverse proxy: each body, of the request and of the response, in one pooled block for as long as it
 * takes to send it on.
 *
 *     node examples/proxy.js http://127.0.0.1:8000 [port]
 */

const http = require('node:http')
const { once } = require('node:events')
const { BufferPool } = require('cistern')
const { end, readBody } = require('cistern/io')

const upstream = new URL(process.argv[2] ?? 'http://127.0.0.1:8000')
const agent = new http.Agent({ keepAlive: true })
const pool = new BufferPool({ name: 'proxy', onExhausted: 'unpooled' })
const LIMIT = 32 * 1024 * 1024

/** Headers that are about one connection, and the length, which is known anew. */
const OF_THE_HOP = 'connection expect keep-alive te trailer transfer-encoding upgrade'.split(' ')

function passedOn(headers, length) {
  const kept = Object.entries(headers).filter(([name]) => !OF_THE_HOP.includes(name))
  return { ...Object.fromEntries(kept), ...(length > 0 && { 'content-length': length }) }
}

async function pass(req, res) {
  const body = await readBody(pool, req, { limit: LIMIT })
  const headers = passedOn(req.headers, body.buffer.length)
  const { method, url: path } = req
  const outgoing = http.request(upstream, { agent, path, method, headers })
  // Later errors show in the response's body, too.
  outgoing.on('error', () => {})
  // From here on `end` releases the block, also where either side breaks off.
  end(pool, outgoing, body.buffer)
  res.once('close', () => outgoing.destroy())
  const [incoming] = await once(outgoing, 'response')
  const answer = await readBody(pool, incoming, { limit: LIMIT })
  const told = incoming.headers['content-length'] ?? answer.buffer.length
  res.writeHead(incoming.statusCode, passedOn(incoming.headers, told))
  end(pool, res, answer.buffer)
}

const server = http.createServer((req, res) => {
  pass(req, res).catch((error) => {
    if (res.headersSent) res.destroy()
    else res.writeHead(error.statusCode ?? 502, { connection: 'close' }).end(`${error.message}\n`)
  })
})

server.listen(process.argv[3] ?? 8001, '127.0.0.1', () => {
  console.log(`http://127.0.0.1:${server.address().port}/`)
})
