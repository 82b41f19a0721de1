'use strict'

/**
 * An everyday program on cistern: one scenario, to be run in every environment. It waits for events
 * alone, so it needs no timer.
 */

const assert = require('node:assert/strict')
const { execFileSync } = require('node:child_process')
const { createHash, randomBytes } = require('node:crypto')
const { once } = require('node:events')
const fs = require('node:fs')
const http = require('node:http')
const net = require('node:net')
const os = require('node:os')
const path = require('node:path')
const { Readable, Writable } = require('node:stream')
const { setImmediate: turn } = require('node:timers')
const { isArrayBuffer } = require('node:util').types
const promClient = require('prom-client')

const HOST = '127.0.0.1'

/** Larger than a few chunks, and no multiple of a chunk. */
const BYTES = randomBytes(700_001)

/**
 * @typedef {object} Cistern
 * @property {typeof import('../..')} cistern
 * @property {typeof import('../../lib/io')} io
 * @property {typeof import('../../lib/metrics')} metrics
 */

/**
 * Fails if anything is not as it is everywhere else.
 *
 * @param {Cistern} modules
 */
async function everyday(modules) {
  const { BufferPool } = modules.cistern
  for (const detachOnRelease of [true, false]) {
    const pool = new BufferPool({ name: 'everyday', detachOnRelease, maxBytes: 64 * 1024 * 1024 })
    leaseAndRelease(pool, detachOnRelease)
    await acquireInTurn(modules)
    await refuseAborted(pool)
    await inFolder(async (folder) => {
      const file = path.join(folder, 'file')
      fs.writeFileSync(file, BYTES)
      await readFiles(modules, pool, file)
      await serve(modules, pool, file)
      await abortAtFifo(modules, pool, path.join(folder, 'fifo'))
    })
    await scrape(modules, pool)
    assert.equal(pool.stats().inUseCount, 0)
  }
}

/**
 * @param {import('../..').BufferPool} pool
 * @param {boolean} detaches
 */
function leaseAndRelease(pool, detaches) {
  for (let i = 0; i < 3; i++) {
    const buffer = pool.allocUnsafe(1000)
    assert.ok(Buffer.isBuffer(buffer) && buffer.length === 1000)
    assert.ok(isArrayBuffer(buffer.buffer))
    const view = new DataView(buffer.buffer)
    buffer.fill(i)
    pool.release(buffer)
    if (detaches) {
      assert.equal(buffer.length, 0)
      assert.throws(() => view.byteLength, TypeError)
    }
    assert.throws(() => pool.release(buffer), { code: 'ERR_CISTERN_ALREADY_RELEASED' })
  }
  const zeros = pool.alloc(100)
  assert.ok(zeros.every((byte) => byte === 0))
  pool.release(zeros)
  const text = pool.byteBuffer()
  for (let i = 0; i < 1000; i++) text.append('a line\n')
  assert.equal(text.toBuffer().toString(), 'a line\n'.repeat(1000))
  text.release()
  const lease = pool.lease(10)
  lease.release()
  assert.throws(() => pool.release(Buffer.alloc(1)), { code: 'ERR_CISTERN_NOT_POOLED' })
}

/** @param {Cistern} modules */
async function acquireInTurn({ cistern: { BufferPool } }) {
  const pool = new BufferPool({ maxBytes: 1024 * 1024 })
  const first = await pool.acquire(700_000)
  const second = pool.acquire(700_000)
  await new Promise((resolve) => turn(resolve))
  pool.release(first)
  pool.release(await second)
}

/** @param {import('../..').BufferPool} pool */
async function refuseAborted(pool) {
  const aborted = AbortSignal.abort(new Error('enough'))
  await assert.rejects(pool.acquire(10, { signal: aborted }), (error) => {
    assert.equal(error.name, 'AbortError')
    assert.equal(error.code, 'ABORT_ERR')
    assert.equal(error.cause.message, 'enough')
    return true
  })
}

/**
 * @param {Cistern} modules
 * @param {import('../..').BufferPool} pool
 * @param {string} file
 */
async function readFiles({ io }, pool, file) {
  assert.equal(await hashOf(io.chunks(pool, file)), hashOf.of(BYTES))
  assert.equal(await hashOf(io.chunks(pool, piecemeal())), hashOf.of(BYTES))
  const handle = await fs.promises.open(file)
  assert.equal(await hashOf(io.chunks(pool, handle)), hashOf.of(BYTES))
  await handle.close()
  const hash = createHash('sha256')
  // A writable that gets copies, and does not call back for its writes.
  const writable = new Writable({ write: (chunk, _, done) => done(void hash.update(chunk)) })
  const { write } = writable
  writable.write = (chunk, encoding) => write.call(writable, chunk, encoding)
  assert.equal(await io.pumpFile(pool, file, writable), BYTES.length)
  assert.equal(hash.digest('hex'), hashOf.of(BYTES))
  await assert.rejects(io.pumpFile(pool, `${file}\0`, writable), { code: 'ERR_INVALID_ARG_VALUE' })
  await assert.rejects(io.chunks(pool, path.join(file, 'none')).next(), { code: 'ENOTDIR' })
}

/** Returns a body that takes more than one turn of the event loop. */
function piecemeal() {
  let at = 0
  return new Readable({
    read() {
      const end = Math.min(at + 10_000, BYTES.length)
      turn(() => {
        this.push(at < end ? BYTES.subarray(at, end) : null)
        at = end
      })
    }
  })
}

/** @param {AsyncIterable<Buffer>} source */
async function hashOf(source) {
  const hash = createHash('sha256')
  for await (const chunk of source) hash.update(chunk)
  return hash.digest('hex')
}
hashOf.of = (/** @type {Buffer} */ bytes) => createHash('sha256').update(bytes).digest('hex')

/**
 * @param {Cistern} modules
 * @param {import('../..').BufferPool} pool
 * @param {string} file
 */
async function serve({ io }, pool, file) {
  /** @type {Promise<any>[]} */
  const broken = []
  const server = http.createServer(async (req, res) => {
    if (req.url === '/broken') {
      const reading = io.readBody(pool, req)
      broken.push(reading)
      reading.catch(() => {})
      server.emit('broken')
    } else if (req.url === '/file') {
      await io.pumpFile(pool, file, res)
      res.end()
    } else if (req.url === '/chunks') {
      res.end(await hashOf(io.chunks(pool, req)))
    } else {
      const body = await io.readBody(pool, req)
      io.end(pool, res, body.buffer)
    }
  })
  server.listen(0, HOST)
  await once(server, 'listening')
  const { port } = /** @type {net.AddressInfo} */ (server.address())
  try {
    assert.ok((await call(port, '/echo', BYTES)).equals(BYTES))
    assert.ok((await call(port, '/file')).equals(BYTES))
    assert.equal(String(await call(port, '/chunks', BYTES)), hashOf.of(BYTES))
    const socket = net.connect(port, HOST)
    socket.write('POST /broken HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nsome')
    await once(server, 'broken')
    socket.destroy()
    await assert.rejects(broken[0], { code: /ECONNRESET|ERR_STREAM_PREMATURE_CLOSE/ })
    await readPooled(io, pool, port)
  } finally {
    server.closeAllConnections()
    server.close()
    await once(server, 'close')
  }
}

/**
 * Reads an answer by `onread`.
 *
 * @param {typeof import('../../lib/io')} io
 * @param {import('../..').BufferPool} pool
 * @param {number} port
 */
async function readPooled(io, pool, port) {
  let text = ''
  const socket = net.connect({
    port,
    host: HOST,
    onread: io.onread(pool, { size: 1000 }, (length, buffer) => {
      text += buffer.toString('latin1', 0, length)
    })
  })
  socket.write('POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nConnection: close\r\n\r\nsome')
  await once(socket, 'close')
  assert.match(text, /^HTTP\/1.1 200 OK\r\n[\s\S]*some/)
}

/**
 * @param {number} port
 * @param {string} url
 * @param {Buffer} [body]
 * @returns {Promise<Buffer>}
 */
async function call(port, url, body) {
  const req = http.request({ host: HOST, port, path: url, method: body ? 'POST' : 'GET' })
  req.end(body)
  const [res] = await once(req, 'response')
  return Buffer.concat(await res.toArray())
}

/**
 * Ends a pump that waits for a FIFO without bytes: its promise does not wait for the kernel.
 *
 * @param {Cistern} modules
 * @param {import('../..').BufferPool} pool
 * @param {string} fifo
 */
async function abortAtFifo({ io }, pool, fifo) {
  if (process.platform === 'win32') return
  execFileSync('mkfifo', [fifo])
  const abort = new AbortController()
  const writable = new Writable({ write: (_chunk, _encoding, done) => done() })
  const pumping = io.pumpFile(pool, fifo, writable, { signal: abort.signal })
  pumping.catch(() => {})
  const peer = await fs.promises.open(fifo, 'w')
  abort.abort()
  await assert.rejects(pumping, { name: 'AbortError' })
  await peer.close()
  while (pool.stats().inUseCount > 0) await new Promise((resolve) => turn(resolve))
}

/**
 * @param {Cistern} modules
 * @param {import('../..').BufferPool} pool
 */
async function scrape({ metrics }, pool) {
  const registry = new promClient.Registry()
  const unregister = metrics.register(pool, promClient, { registry })
  const count = async () => {
    const found = /cistern_requested_bytes_total\{pool="everyday"\} (\d+)/.exec(
      await registry.metrics()
    )
    return Number(found?.[1])
  }
  const before = await count()
  pool.lease(123).release()
  assert.equal(await count(), before + 123)
  unregister()
}

/** @param {(folder: string) => Promise<void>} use */
async function inFolder(use) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'cistern-everyday-'))
  try {
    await use(folder)
  } finally {
    fs.rmSync(folder, { recursive: true, force: true })
  }
}

module.exports = { everyday }
