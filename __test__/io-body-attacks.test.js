'use strict'

/** `readBody` while other code runs within it: nothing stays leased, and nobody else's lease ends. */

const assert = require('node:assert/strict')
const { subscribe, unsubscribe } = require('node:diagnostics_channel')
const { once } = require('node:events')
const http = require('node:http')
const { PassThrough, Readable } = require('node:stream')
const { describe, test } = require('node:test')
const { setImmediate: turn } = require('node:timers/promises')
const { BufferPool } = require('..')
const { readBody } = require('../io')
const { inEveryMode, until } = require('./helpers')
const { allBack, pieces, randomBytes, serving } = require('./io-servers')

const KIB = 1024
const EVENTS = ['data', 'end', 'error', 'close']

/**
 * Asserts that nothing of ours listens to a stream.
 *
 * @param {import('node:stream').Readable} req
 */
async function assertUnheard(req) {
  const fresh = new PassThrough()
  // One that was destroyed is heard until it is closed.
  await turn()
  for (const event of EVENTS) {
    assert.equal(req.listenerCount(event), fresh.listenerCount(event), event)
  }
}

/**
 * Calls back within each stack that is formatted, until `restore` is called.
 *
 * @param {() => void} callback
 */
function onStack(callback) {
  const saved = Error.prepareStackTrace
  let isWithin = false
  Error.prepareStackTrace = (_error, frames) => {
    if (!isWithin) {
      isWithin = true
      callback()
      isWithin = false
    }
    return frames.join('\n')
  }
  return () => {
    Error.prepareStackTrace = saved
  }
}

/**
 * A stream that announces a length, and gives what it is told to.
 *
 * @param {number} [length]
 */
function announcing(length) {
  const headers = length === undefined ? {} : { 'content-length': String(length) }
  return Object.assign(new PassThrough({ highWaterMark: 64 * KIB }), { headers })
}

describe('readBody, aborted while it grows,', () => {
  for (const announced of [undefined, 100_000]) {
    const kind = announced === undefined ? 'of unknown length' : 'of an announced length'

    for (const isReleasing of [true, false]) {
      test(
        `${kind}, by a subscriber of cistern:exhausted, ends no other's lease${isReleasing ? '' : ', and waits for none'}`,
        inEveryMode(
          async (pool) => {
            const aborting = new AbortController()
            let victim
            let count = 0
            const subscriber = () => {
              if (victim !== undefined || count++ > 0) return
              aborting.abort()
              if (isReleasing) victim = pool.allocUnsafe(16_384).fill(7)
            }
            const source = announcing(announced)
            const body = readBody(pool, source, { signal: aborting.signal })
            const rest = announced === undefined ? undefined : pool.allocUnsafe(50_000)
            body.catch(() => {})
            subscribe('cistern:exhausted', subscriber)
            try {
              for (const piece of pieces(randomBytes(90_000), 10_000)) source.write(piece)
              await assert.rejects(body, { name: 'AbortError' })
            } finally {
              unsubscribe('cistern:exhausted', subscriber)
            }
            assert.equal(count, 1)
            if (victim !== undefined) {
              assert.ok(pool.owns(victim))
              assert.ok(victim.every((byte) => byte === 7))
              pool.release(victim)
            }
            // Nobody stands in line before this one.
            if (!isReleasing) pool.release(await pool.acquire(64))
            if (rest !== undefined) pool.release(rest)
            await assertUnheard(source)
            await allBack(pool)
          },
          { maxBytes: announced === undefined ? 20_480 : 128 * KIB }
        )
      )
    }

    test(
      `${kind}, by a formatter of stacks, ends no other's lease`,
      inEveryMode(
        async (pool) => {
          const aborting = new AbortController()
          const source = announcing(announced)
          const body = readBody(pool, source, { signal: aborting.signal })
          body.catch(() => {})
          source.write(randomBytes(10_000))
          await turn()
          assert.equal(pool.stats().inUseCount, 1)
          const leases = []
          const restore = onStack(() => {
            if (leases.length > 0) return
            aborting.abort()
            for (const size of [16 * KIB, 32 * KIB, 64 * KIB]) {
              leases.push(pool.lease(size))
              leases.at(-1).buffer.fill(leases.length)
            }
          })
          try {
            source.write(randomBytes(60_000))
            await assert.rejects(body, { name: 'AbortError' })
          } finally {
            restore()
          }
          assert.equal(leases.length, 3)
          for (const [i, lease] of leases.entries()) {
            assert.ok(pool.owns(lease.buffer))
            assert.ok(lease.buffer.every((byte) => byte === i + 1))
            lease.release()
          }
          await assertUnheard(source)
          await allBack(pool)
        },
        { leakSampleRate: 1 }
      )
    )
  }
})
