'use strict'

/**
 * A file server: each response through two pooled blocks, read ahead by one, as fast as its client takes it.
 *
 *     node examples/files.js [folder] [port]
 *     curl --range 10-99 http://127.0.0.1:8000/package.json
 */

const { open } = require('node:fs/promises')
const http = require('node:http')
const path = require('node:path')
const { shared } = require('cistern')
const { pumpFile } = require('cistern/io')

const root = path.resolve(process.argv[2] ?? '.')

/** First and last byte that `bytes=first-last` asks for; the whole file for anything else. */
function rangeOf(header, size) {
  const [, first, last] = /^bytes=(\d+)-(\d*)$/.exec(header ?? '') ?? []
  const start = Number(first ?? 0)
  const end = last ? Math.min(Number(last), size - 1) : size - 1
  return { start, end, isPart: first !== undefined, isThere: start <= end || first === undefined }
}

async function send(req, res) {
  // Joined and not normalized: two slashes in front would name a server on Windows, and lead out of the root.
  const name = path.join(root, path.join('/', decodeURIComponent(req.url.split('?')[0])))
  const file = await open(name)
  try {
    const stat = await file.stat()
    if (!stat.isFile()) throw Object.assign(new Error('no file'), { code: 'ENOENT' })
    const { start, end, isPart, isThere } = rangeOf(req.headers.range, stat.size)
    res.setHeader('accept-ranges', 'bytes')
    if (isPart)
      res.setHeader('content-range', `bytes ${isThere ? `${start}-${end}` : '*'}/${stat.size}`)
    if (!isThere) return res.writeHead(416).end()
    res.writeHead(isPart ? 206 : 200, { 'content-length': end - start + 1 })
    if (req.method !== 'HEAD' && stat.size > 0) await pumpFile(shared, file, res, { start, end })
    res.end()
  } finally {
    await file.close()
  }
}

const server = http.createServer((req, res) => {
  send(req, res).catch((error) => {
    // In the middle of a response only its end can tell.
    if (res.headersSent) res.destroy()
    else res.writeHead(error.code === 'ENOENT' ? 404 : 400).end(`${error.code ?? error.message}\n`)
  })
})

server.listen(process.argv[3] ?? 8000, '127.0.0.1', () => {
  console.log(`http://127.0.0.1:${server.address().port}/`)
})
