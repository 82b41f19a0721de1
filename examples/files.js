'use strict'

/**
 * A file server: each response goes through two pooled blocks, read ahead by one, as fast as its
 * client takes it.
 *
 *     node examples/files.js [folder] [port]
 *     curl --range 10-99 http://127.0.0.1:8000/package.json
 */

const { constants, realpathSync } = require('node:fs')
const { open, realpath } = require('node:fs/promises')
const http = require('node:http')
const path = require('node:path')
const { shared } = require('cistern')
const { pumpFile } = require('cistern/io')

/** The path without links, because each file's path is compared with it. */
const root = realpathSync(process.argv[2] ?? '.')
const inRoot = path.join(root, path.sep)

// Otherwise opening a FIFO would wait for a writer, and occupy one of four threads.
const FLAGS = constants.O_RDONLY | (constants.O_NONBLOCK ?? 0)

/** The longest time for which a client may take no bytes, in ms. */
const IDLE = 60_000

const STATUS = { ENOENT: 404, ENOTDIR: 404, EACCES: 403, EPERM: 403, EMFILE: 503, ENFILE: 503 }

const refusal = (code) => Object.assign(new Error('not to be served'), { code })

/**
 * Returns the first and the last byte that `bytes=first-last` asks for; the whole file for anything
 * else.
 */
function rangeOf(header, size) {
  const [, first, last] = /^bytes=(\d+)-(\d*)$/.exec(header ?? '') ?? []
  const start = Number(first ?? 0)
  const end = last ? Math.min(Number(last), size - 1) : size - 1
  return { start, end, isPart: first !== undefined, isThere: start <= end || first === undefined }
}

/** Opens the file that a URL names, unless it lies outside of the root, even through a link. */
async function openInRoot(url) {
  // Joins the path and does not normalize it: two slashes in front would name a server on Windows,
  // and lead out of the root.
  const name = path.join(root, path.join('/', decodeURIComponent(url.split('?')[0])))
  const real = await realpath(name)
  if (!real.startsWith(inRoot)) throw refusal('ENOENT')
  return open(real, FLAGS)
}

async function send(req, res) {
  if (req.method !== 'GET' && req.method !== 'HEAD') return res.writeHead(405).end()
  const file = await openInRoot(req.url)
  try {
    const stat = await file.stat()
    if (!stat.isFile()) throw refusal('ENOENT')
    const { start, end, isPart, isThere } = rangeOf(req.headers.range, stat.size)
    res.setHeader('accept-ranges', 'bytes')
    if (isPart)
      res.setHeader('content-range', `bytes ${isThere ? `${start}-${end}` : '*'}/${stat.size}`)
    if (!isThere) return res.writeHead(416).end()
    const length = end - start + 1
    res.writeHead(isPart ? 206 : 200, { 'content-length': length })
    if (req.method === 'GET' && length > 0) {
      const sent = await pumpFile(shared, file, res, { start, end })
      // The response was cut short: without this the client would take the next response for the
      // rest of it.
      if (sent < length) throw new Error(`${length - sent} bytes are missing`)
    }
    res.end()
  } finally {
    await file.close()
  }
}

const server = http.createServer((req, res) => {
  send(req, res).catch((error) => {
    // In the middle of a response, only closing the connection can report the error.
    if (res.headersSent) res.destroy()
    else res.writeHead(STATUS[error.code] ?? 400).end(`${error.code ?? error.message}\n`)
  })
})

server.setTimeout(IDLE)
server.listen(process.argv[3] ?? 8000, '127.0.0.1', () => {
  console.log(`http://127.0.0.1:${server.address().port}/`)
})
