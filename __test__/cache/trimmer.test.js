'use strict'

/**
 * The trimmer as a user of a pool sees it: which idle memory goes back to the operating system, and
 * when.
 *
 * - A block that nobody has needed for `idleTimeout` goes back. One that is leased never does.
 * - With 0 an idle block goes back at the end of the event-loop turn, with `Infinity` only when
 *   `trim` asks for it.
 * - `trim(bytes)` leaves that much idle, and gives back the largest blocks first.
 * - At the ceiling an idle block makes room for a request of another size.
 * - A closed pool holds nothing idle.
 *
 * Only the first of these takes a clock. `idle.test.js` has the same with threads, a depot and a
 * steady load.
 */

const assert = require('node:assert/strict')
const { describe, test } = require('node:test')
const { givenBack, inEveryMode, roomFor, settle, until } = require('../support/helpers')

const KIB = 1024

/** Leases blocks of one size and releases them: afterwards that many are idle. */
async function makeIdle(pool, count, size) {
  const buffers = Array.from({ length: count }, () => pool.allocUnsafe(size))
  for (const buffer of buffers) pool.release(buffer)
  await givenBack()
}

describe('Idle memory goes back', () => {
  test(
    'once nobody has needed it for idleTimeout',
    inEveryMode(
      async (pool) => {
        await makeIdle(pool, 10, 64 * KIB)
        await until(() => pool.stats().idleBytes === 0, 'nothing is idle any more')
        assert.equal(pool.stats().freedBytes, 10 * 64 * KIB)
      },
      { idleTimeout: 200 }
    )
  )

  test(
    'at the end of the turn, with an idleTimeout of 0',
    inEveryMode(
      async (pool) => {
        await makeIdle(pool, 10, 64 * KIB)
        await settle()
        assert.equal(pool.stats().idleBytes, 0)
      },
      { idleTimeout: 0 }
    )
  )

  test(
    'when trim asks for it, and not before, with an idleTimeout of Infinity',
    inEveryMode(
      async (pool) => {
        await makeIdle(pool, 10, 64 * KIB)
        await settle()
        assert.equal(pool.stats().idleBytes, 10 * 64 * KIB)
        assert.equal(pool.trim(), 10 * 64 * KIB)
        await settle()
        assert.equal(pool.stats().idleBytes, 0)
      },
      { idleTimeout: Infinity }
    )
  )

  test(
    'when the pool is closed',
    inEveryMode(
      async (pool) => {
        await makeIdle(pool, 10, 64 * KIB)
        pool.close()
        await settle()
        assert.equal(pool.stats().idleBytes, 0)
      },
      { idleTimeout: Infinity }
    )
  )
})

test(
  'A leased block stays as it is, however its pool is trimmed',
  inEveryMode(
    async (pool) => {
      const buffer = pool.allocUnsafe(64 * KIB).fill(7)
      assert.equal(pool.trim(), 0)
      await settle()
      assert.ok(buffer.every((byte) => byte === 7))
      assert.equal(pool.stats().inUseBytes, 64 * KIB)
      pool.release(buffer)
    },
    { idleTimeout: Infinity }
  )
)

test(
  'trim leaves as much idle as it is told to, of the smallest blocks',
  inEveryMode(
    async (pool) => {
      await makeIdle(pool, 4, 64 * KIB)
      await makeIdle(pool, 4, 256 * KIB)
      assert.equal(pool.trim(4 * 64 * KIB), 4 * 256 * KIB)
      await settle()
      const idle = pool.stats().classes.filter(({ idleCount }) => idleCount > 0)
      assert.deepEqual(
        idle.map(({ blockSize, idleCount }) => [blockSize, idleCount]),
        [[64 * KIB, 4]]
      )
    },
    { idleTimeout: Infinity }
  )
)

test(
  'At the ceiling idle blocks make room for a request of another size',
  inEveryMode(
    async (pool) => {
      await makeIdle(pool, 8, 64 * KIB)
      const buffer = await roomFor(() => pool.allocUnsafe(256 * KIB))
      assert.ok(pool.stats().freedBytes >= 256 * KIB, 'as much as that is back')
      pool.release(buffer)
    },
    { maxBytes: 512 * KIB, onExhausted: 'throw', idleTimeout: Infinity }
  )
)
