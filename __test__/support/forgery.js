'use strict'

/**
 * Shared by the tests of forged events: known contents, the next owners of a released block, and
 * the forger.
 */

const assert = require('node:assert/strict')
const { once } = require('node:events')
const fs = require('node:fs')
const net = require('node:net')
const os = require('node:os')
const path = require('node:path')
const { after, test } = require('node:test')
const { setTimeout: sleep } = require('node:timers/promises')
const tls = require('node:tls')
const { BufferPool } = require('../..')
const { MODES } = require('./helpers')
const { ALIEN, HOST, cert, hash, key, randomBytes } = require('./io-servers')

const MIB = 1024 * 1024

/** The bytes that are sent: none is the next owner's. */
const CONTENT = randomBytes(8 * MIB).map((byte) => (byte === ALIEN ? 0 : byte))

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'cistern-forged-'))
after(() => fs.rmSync(folder, { recursive: true }))

const file = path.join(folder, 'file')
fs.writeFileSync(file, CONTENT)

const [plain, secure] = [
  {
    name: 'net',
    createServer: (handler) => net.createServer(handler),
    connect: (port, options) => net.connect({ host: HOST, port, ...options })
  },
  {
    name: 'tls',
    createServer: (handler) => tls.createServer({ key, cert }, handler),
    connect: (port, options) => tls.connect({ host: HOST, port, ca: cert, ...options })
  }
]

/** Runs a test with the two ways of release. */
function inBothModes(name, run) {
  for (const { mode, options } of MODES.slice(0, 2)) {
    test(`${name}, ${mode}`, async (context) => {
      const pool = new BufferPool({ ...options, maxBytes: 1024 * MIB })
      await run(pool, context)
    })
  }
}

/** Returns a pooled Buffer with the content, or the first `length` bytes of it. */
function pooled(pool, length = CONTENT.length) {
  const buffer = pool.allocUnsafe(length)
  CONTENT.copy(buffer)
  return buffer
}

/**
 * Starts the next owners of all released blocks: they write to them at once, and again and again
 * until the test is over.
 *
 * @param {BufferPool} pool
 * @param {number} size
 */
function takeOver(pool, size, context) {
  const blocks = []
  const take = () => {
    if (blocks.length < 20) blocks.push(pool.allocUnsafe(size))
    for (const block of blocks) block.fill(ALIEN)
  }
  take()
  // A server may call this after its test is over, and then nothing stops it.
  const timer = setInterval(take, 5).unref()
  const stop = () => {
    clearInterval(timer)
    for (const block of blocks.splice(0)) pool.release(block)
  }
  context.after(stop)
  return {
    stop,
    /** Asserts that nobody else has written to them. */
    areWhole() {
      assert.ok(blocks.every((block) => block.every((byte) => byte === ALIEN)))
    }
  }
}

/** Reads what comes, slowly: most of it waits in the sender's memory. */
async function receive(readable) {
  const chunks = []
  try {
    for await (const chunk of readable) {
      chunks.push(chunk)
      if (chunks.length % 8 === 0) await sleep(1)
    }
  } catch {
    // It was cut off: the test looks at the bytes that came.
  }
  return Buffer.concat(chunks)
}

/** Asserts that bytes are the beginning of the content, or all of it. */
function assertOurs(bytes, isAll = false) {
  assert.equal(bytes.indexOf(ALIEN), -1, "the next owner's bytes were sent")
  if (isAll) assert.equal(hash(bytes), hash(CONTENT))
  else assert.ok(bytes.equals(CONTENT.subarray(0, bytes.length)))
}

/** Returns a socket that reads with an option of onread, and the end that sends to it. */
async function reading(context, option) {
  const server = net.createServer()
  context.after(() => server.close())
  server.listen(0, HOST)
  await once(server, 'listening')
  const socket = net.connect({ host: HOST, port: server.address().port, onread: option })
  context.after(() => socket.destroy())
  socket.on('error', () => {})
  const [sender] = await once(server, 'connection')
  context.after(() => sender.destroy())
  sender.on('error', () => {})
  if (socket.connecting) await once(socket, 'connect')
  return { socket, sender }
}

module.exports = {
  CONTENT,
  MIB,
  assertOurs,
  file,
  folder,
  inBothModes,
  plain,
  pooled,
  reading,
  receive,
  secure,
  takeOver
}
