'use strict'

/**
 * `readBody` while random code runs within it: at every place where code of a user's can run,
 * anything that such code can do. A failure names its seed.
 */

const assert = require('node:assert/strict')
const { subscribe, unsubscribe } = require('node:diagnostics_channel')
const { PassThrough } = require('node:stream')
const { test } = require('node:test')
const { setImmediate: turn } = require('node:timers/promises')
const { BufferPool } = require('../..')
const { readBody } = require('../../lib/io')
const { MODES, until } = require('../support/helpers')
const { allBack } = require('../support/io-servers')

const KIB = 1024
const ROUNDS = 200
const SEED = Number(process.env.CISTERN_SEED ?? 1)

/** The places where code runs that may do anything. */
const HOOKS = ['newListener', 'removeListener', 'pause', 'resume', 'data']

/** How deep such code may run within such code. */
const DEPTH = 3

/**
 * Numbers from 0 to below `n`, the same for the same seed.
 *
 * @param {number} seed
 */
function randomFrom(seed) {
  return (/** @type {number} */ n) => {
    seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) | 0
    return Math.floor(((seed >>> 8) / 2 ** 24) * n)
  }
}

/** A body that is read, and those who interfere with it. */
class Upload {
  sent = 0
  /** True if other code has given bytes of its own. */
  isForged = false
  aborting = new AbortController()

  /**
   * @param {BufferPool} pool
   * @param {(n: number) => number} random
   * @param {() => void} interfere
   */
  constructor(pool, random, interfere) {
    const length = random(120_000)
    this.body = Buffer.alloc(length, `${length} `)
    this.req = new PassThrough({ highWaterMark: 1024 * KIB }).on('error', () => {})
    const way = random(3)
    if (way === 0) Object.assign(this.req, { headers: { 'content-length': String(length) } })
    for (const hook of HOOKS) if (random(3) === 0) this.req.on(hook, interfere)
    const { signal } = this.aborting
    const options = way === 1 ? { signal, length } : { signal }
    this.outcome = readBody(pool, this.req, options).then(
      (lease) => {
        const isWhole = lease.buffer.equals(this.body)
        lease.release()
        if (!isWhole && !this.isForged) throw new Error('the body is wrong')
        return 'whole'
      },
      (error) => error.code ?? error.message
    )
    this.outcome.catch(() => {})
  }

  /** @param {number} count */
  send(count) {
    if (!this.req.writable || this.sent === this.body.length) return
    this.req.write(this.body.subarray(this.sent, this.sent + count))
    this.sent = Math.min(this.body.length, this.sent + count)
  }

  end() {
    this.send(this.body.length)
    if (this.req.writable) this.req.end()
  }
}

/** Leases of others, which nothing may touch. */
class Others {
  /** @type {{ lease: import('../..').Lease, mark: number }[]} */
  #held = []

  /**
   * @param {BufferPool} pool
   * @param {number} size
   * @param {number} mark
   */
  lease(pool, size, mark) {
    try {
      const lease = pool.lease(size)
      lease.buffer.fill(mark)
      this.#held.push({ lease, mark })
    } catch (error) {
      assert.equal(error.code, 'ERR_CISTERN_EXHAUSTED')
    }
  }

  /** @param {BufferPool} pool */
  release(pool) {
    const held = this.#held.shift()
    if (held === undefined) return false
    const { lease, mark } = held
    assert.ok(pool.owns(lease.buffer), "another's lease was ended")
    assert.ok(
      lease.buffer.every((byte) => byte === mark),
      "another's memory was written to"
    )
    lease.release()
    return true
  }
}

/** @param {number} seed */
async function round(seed) {
  const random = randomFrom(seed)
  const pool = new BufferPool({
    ...MODES[random(MODES.length)].options,
    maxBytes: (64 + random(200)) * KIB,
    leakSampleRate: random(2),
    onExhausted: random(2) === 0 ? 'throw' : 'unpooled'
  })
  const others = new Others()
  const rarity = 3 + random(30)
  let depth = 0
  /** @type {Upload[]} */
  const uploads = []
  const ACTS = [
    ({ aborting }) => aborting.abort(),
    ({ req }) => req.emit('end'),
    ({ req }) => req.emit('close'),
    ({ req }) => req.emit('error', new Error('forged')),
    ({ req }) => req.destroy(),
    ({ req }) => req.resume(),
    ({ req }) => {
      req.pause()
      setImmediate(() => req.resume())
    },
    (upload) => {
      upload.isForged = true
      upload.req.emit('data', Buffer.alloc(random(30_000)))
    },
    () => others.lease(pool, 1 + random(40_000), random(256)),
    () => others.lease(pool, 1 + random(40_000), random(256)),
    () => others.release(pool)
  ]
  const interfere = () => {
    const upload = uploads[random(uploads.length)]
    if (upload === undefined || depth === DEPTH || random(rarity) > 0) return
    depth++
    try {
      ACTS[random(ACTS.length)](upload)
    } finally {
      depth--
    }
  }
  const saved = Error.prepareStackTrace
  Error.prepareStackTrace = (error, frames) => {
    interfere()
    return `${error}\n${frames.join('\n')}`
  }
  subscribe('cistern:exhausted', interfere)
  try {
    for (let i = 0; i <= random(2); i++) uploads.push(new Upload(pool, random, interfere))
    for (let i = 0; i < 30; i++) {
      uploads[random(uploads.length)].send(1 + random(30_000))
      if (random(3) === 0) await turn()
      interfere()
    }
    for (const upload of uploads) upload.end()
    for (let i = 0; i < 5; i++) await turn()
  } finally {
    unsubscribe('cistern:exhausted', interfere)
    Error.prepareStackTrace = saved
  }
  while (others.release(pool));
  let count = 0
  for (const { outcome } of uploads) outcome.finally(() => count++).catch(() => {})
  await until(() => count === uploads.length, 'every body has an outcome')
  for (const { outcome, req } of uploads) {
    await outcome
    assert.equal(req.listeners('data').filter((listener) => listener !== interfere).length, 0)
  }
  await allBack(pool)
  // The queue of waiters is empty.
  pool.release(await pool.acquire(100))
}

test('readBody leaves nothing leased, and ends no lease of others, whatever code runs within it', async () => {
  for (let seed = SEED; seed < SEED + ROUNDS; seed++) {
    try {
      await round(seed * 7919)
    } catch (error) {
      throw new Error(`CISTERN_SEED=${seed}: ${error.message}`, { cause: error })
    }
  }
})
