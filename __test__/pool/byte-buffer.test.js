'use strict'

/**
 * The growable buffer, with the lessons of similar programs in Go. A pool does not store a buffer
 * that grew large forever, it learns sizes, and a buffer that is never released leaks nothing.
 */

const assert = require('node:assert/strict')
const { constants } = require('node:buffer')
const { once } = require('node:events')
const { describe, test } = require('node:test')
const { Worker, markAsUntransferable } = require('node:worker_threads')
const fc = require('fast-check')
const { BufferPool } = require('../..')
const { Calibration } = require('../../lib/pool/calibration')
const {
  balanced,
  collectUntil,
  external,
  inEveryMode,
  marksHold,
  posts,
  settle
} = require('../support/helpers')

const KIB = 1024
const MIB = 1024 * KIB
const RELEASES = 42_000

const ENCODINGS = /** @type {BufferEncoding[]} */ ([
  'utf8',
  'utf-8',
  'latin1',
  'binary',
  'ascii',
  'hex',
  'base64',
  'base64url',
  'utf16le',
  'ucs2',
  'ucs-2'
])

const TEXTS = [
  '',
  'a',
  'häß',
  '€uro',
  '😀 and \ud800 alone',
  '0aFf',
  '0aF',
  'YWJj',
  'x'.repeat(5000)
]

/**
 * Runs `meanwhile` once, within the next lease that is sampled.
 *
 * @param {() => unknown} meanwhile
 * @param {() => void} use
 */
function withinLease(meanwhile, use) {
  const saved = Error.prepareStackTrace
  let isToCome = true
  Error.prepareStackTrace = (_error, frames) => {
    if (isToCome) meanwhile()
    isToCome = false
    return frames.join('\n')
  }
  try {
    use()
  } finally {
    Error.prepareStackTrace = saved
  }
  assert.equal(isToCome, false, 'nothing was leased')
}

describe('append', () => {
  for (const encoding of [undefined, ...ENCODINGS]) {
    test(
      `writes strings as Buffer.from does, in ${encoding ?? 'the default encoding'}`,
      inEveryMode((pool) => {
        for (const sizeHint of [0, 1, 64, 100_000]) {
          const bytes = pool.byteBuffer(sizeHint)
          const expected = []
          for (const text of [...TEXTS, ...TEXTS]) {
            bytes.append(text, encoding)
            expected.push(Buffer.from(text, encoding))
          }
          assert.deepEqual(bytes.toBuffer(), Buffer.concat(expected))
          assert.equal(bytes.length, Buffer.concat(expected).length)
          bytes.release()
        }
      })
    )
  }

  test(
    'takes bytes, its own included, across growth',
    inEveryMode((pool) => {
      const bytes = pool.byteBuffer(10)
      bytes
        .append(Buffer.from('0123456789'))
        .append(new Uint8Array([65, 66]))
        .append('')
      for (let i = 0; i < 10; i++) bytes.append(bytes.view())
      assert.equal(bytes.length, 12 * 1024)
      assert.equal(bytes.toBuffer().toString(), '0123456789AB'.repeat(1024))
      bytes.append(bytes.view().subarray(3, 5))
      assert.equal(bytes.toBuffer().subarray(-2).toString(), '34')
      bytes.release()
    })
  )

  test('refuses what is neither, and an unknown encoding, and changes nothing', () => {
    const bytes = new BufferPool().byteBuffer().append('kept')
    for (const wrong of [5, null, undefined, {}, [1], new ArrayBuffer(1), new Uint16Array(1)]) {
      const error = { code: 'ERR_INVALID_ARG_TYPE', message: /"data" argument.*Received/ }
      assert.throws(() => bytes.append(wrong), error)
    }
    const unknown = /** @type {BufferEncoding} */ ('utf7')
    assert.throws(() => bytes.append('x', unknown), { code: 'ERR_UNKNOWN_ENCODING' })
    assert.equal(bytes.toBuffer().toString(), 'kept')
    bytes.release()
  })

  /** Memory whose length changes while the buffer grows, and how many bytes are appended then. */
  const CHANGES = {
    'shared memory that grows': () => {
      const memory = new SharedArrayBuffer(200, { maxByteLength: 100_000 })
      return { memory, change: () => memory.grow(100_000), isRefused: false }
    },
    'memory that grows': () => {
      const memory = new ArrayBuffer(200, { maxByteLength: 100_000 })
      return { memory, change: () => memory.resize(100_000), isRefused: false }
    },
    'memory that shrinks': () => {
      const memory = new ArrayBuffer(200, { maxByteLength: 100_000 })
      return { memory, change: () => memory.resize(100), isRefused: true }
    },
    'memory that is transferred': () => {
      const memory = new ArrayBuffer(200)
      const change = () => structuredClone(memory, { transfer: [memory] })
      return { memory, change, isRefused: true }
    }
  }

  for (const [name, make] of Object.entries(CHANGES)) {
    test(
      `takes ${name} meanwhile as it was when it was called, or not at all`,
      inEveryMode(
        (pool) => {
          const { memory, change, isRefused } = make()
          const data = new Uint8Array(memory).fill(7)
          const bytes = pool.byteBuffer(100).append(Buffer.alloc(100, 1))
          const append = () => withinLease(change, () => bytes.append(data))
          if (isRefused) assert.throws(append, { code: 'ERR_INVALID_ARG_VALUE' })
          else append()
          const expected = Buffer.alloc(isRefused ? 100 : 300, 7).fill(1, 0, 100)
          assert.deepEqual(bytes.toBuffer(), expected)
          assert.equal(pool.stats().inUseCount, 1)
          bytes.append('more')
          assert.equal(bytes.length, expected.length + 4)
          bytes.release()
          assert.equal(pool.stats().inUseCount, 0)
        },
        { leakSampleRate: 1 }
      )
    )
  }

  test('takes memory that another thread lets grow, and loses no block', async () => {
    const maxByteLength = 2 ** 20
    const memory = new SharedArrayBuffer(64, { maxByteLength })
    const worker = new Worker(
      `const { workerData } = require('node:worker_threads')
      for (let length = 64; length <= workerData.maxByteLength; length += 64) workerData.grow(length)`,
      { eval: true, workerData: memory }
    )
    const ended = once(worker, 'exit')
    const pool = new BufferPool()
    const data = new Uint8Array(memory)
    while (data.length < maxByteLength) {
      for (let i = 0; i < 100; i++) {
        const bytes = pool.byteBuffer(64).append(data)
        assert.ok(bytes.length <= data.length)
        bytes.release()
      }
      await settle()
    }
    await ended
    assert.equal((await balanced(pool)).inUseCount, 0)
  })

  test('is not misled by a length of the data’s own', () => {
    const data = Buffer.from('four')
    Object.defineProperty(data, 'length', { value: 1000 })
    const bytes = new BufferPool().byteBuffer().append(data)
    assert.equal(bytes.length, 4)
  })
})

describe('growth', () => {
  test(
    'copies a byte less than twice in the mean, and gives the smaller blocks back',
    inEveryMode(async (pool) => {
      const bytes = pool.byteBuffer(1)
      const chunk = Buffer.alloc(1000, 7)
      const capacities = new Set()
      for (let i = 0; i < 2000; i++) {
        bytes.append(chunk)
        capacities.add(bytes.capacity)
        assert.ok(bytes.capacity >= bytes.length)
      }
      assert.ok(capacities.size <= 14, `${capacities.size} blocks for 2 MB`)
      assert.ok(bytes.toBuffer().every((byte) => byte === 7))
      assert.equal(pool.stats().inUseCount, 1)
      assert.equal(pool.stats().releaseCount, capacities.size - (capacities.has(64) ? 1 : 0))
      bytes.release()
      assert.equal((await balanced(pool)).inUseCount, 0)
    })
  )

  test('goes on in memory of V8’s above the largest block, and at the ceiling', () => {
    for (const options of [{ maxBlockSize: 1000 }, { maxBytes: 10 * KIB }]) {
      const pool = new BufferPool(options)
      const bytes = pool.byteBuffer()
      const chunk = Buffer.from('0123456789')
      for (let i = 0; i < 2000; i++) bytes.append(chunk)
      assert.equal(bytes.toBuffer().toString(), '0123456789'.repeat(2000))
      assert.ok(pool.stats().unpooledCount > 0)
      assert.ok(pool.owns(bytes.view()))
      bytes.release()
      assert.equal(pool.stats().inUseCount, 0)
    }
  })

  test('leaves a block that can not be given back to its user', { skip: !marksHold }, () => {
    const pool = new BufferPool()
    const bytes = pool.byteBuffer(100).append('kept')
    const view = bytes.view()
    markAsUntransferable(view.buffer)
    bytes.append(Buffer.alloc(1000, 7))
    assert.equal(bytes.length, 1004)
    assert.equal(view.toString(), 'kept')
    bytes.release()
    assert.equal(pool.stats().inUseCount, 1)
    assert.ok(pool.owns(view))
  })

  test('that is refused changes nothing', () => {
    const pool = new BufferPool({ maxBytes: 10 * KIB, onExhausted: 'throw' })
    const bytes = pool.byteBuffer(1000).append('kept')
    assert.throws(() => bytes.append(Buffer.alloc(20 * KIB)), { code: 'ERR_CISTERN_EXHAUSTED' })
    assert.throws(() => bytes.append('x'.repeat(20 * KIB)), { code: 'ERR_CISTERN_EXHAUSTED' })
    assert.equal(bytes.append('!').toBuffer().toString(), 'kept!')
    bytes.release()
    assert.equal(pool.stats().inUseCount, 0)
  })
})

describe('view', () => {
  test(
    'is of the bytes so far, without a copy, and dead after release',
    inEveryMode((pool, { detachOnRelease }) => {
      const bytes = pool.byteBuffer(100).append('hello')
      const view = bytes.view()
      assert.ok(Buffer.isBuffer(view))
      view[0] = 74
      assert.equal(bytes.toBuffer().toString(), 'Jello')
      bytes.release()
      if (detachOnRelease !== false) assert.equal(view.length, 0)
    })
  )

  test('is dead after growth', () => {
    const bytes = new BufferPool().byteBuffer(10).append('hello')
    const view = bytes.view()
    bytes.append(Buffer.alloc(100_000))
    assert.equal(view.length, 0)
    assert.equal(bytes.view().subarray(0, 5).toString(), 'hello')
    bytes.release()
  })

  test('whose memory was sent away is reported', async () => {
    const pool = new BufferPool()
    const bytes = pool.byteBuffer(10).append('hello')
    structuredClone(bytes.view().buffer, { transfer: [bytes.view().buffer] })
    if (posts) {
      for (const use of [() => bytes.append('x'), () => bytes.length, () => bytes.release()]) {
        assert.throws(use, { code: 'ERR_CISTERN_DETACHED' })
      }
    } else {
      assert.equal(bytes.view().toString(), 'hello', 'it was copied')
      bytes.release()
    }
    const ofV8 = new BufferPool({ maxBlockSize: 4 }).byteBuffer(10).append('hello')
    structuredClone(ofV8.view().buffer, { transfer: [ofV8.view().buffer] })
    for (const use of [() => ofV8.append('x'), () => ofV8.length, () => ofV8.release()]) {
      assert.throws(use, { code: 'ERR_CISTERN_DETACHED' })
    }
    await collectUntil(() => pool.stats().inUseCount <= 1, 'it is back, or waits for its holder')
  })
})

describe('release', () => {
  test(
    'ends every use',
    inEveryMode((pool) => {
      const bytes = pool.byteBuffer().append('x')
      bytes.release()
      const RELEASED = {
        code: 'ERR_CISTERN_ALREADY_RELEASED',
        message: /^The "this" argument must be leased/
      }
      for (const use of [
        () => bytes.append('x'),
        () => bytes.append(Buffer.alloc(1)),
        () => bytes.view(),
        () => bytes.toBuffer(),
        () => bytes.reset(),
        () => bytes.length,
        () => bytes.capacity,
        () => bytes.release()
      ]) {
        assert.throws(use, RELEASED)
      }
      bytes[Symbol.dispose]()
      assert.equal(pool.stats().inUseCount, 0)
    })
  )

  test(
    'by its view ends every use, and keeps nobody’s Buffer from the garbage collector',
    inEveryMode(async (pool, options) => {
      const RELEASED = { code: 'ERR_CISTERN_ALREADY_RELEASED' }
      const bytes = pool.byteBuffer(1024).append('hello')
      pool.release(bytes.view())
      assert.throws(() => bytes.append('x'), RELEASED)
      // If the same ArrayBuffer serves lease after lease, a stale view keeps the next one alive.
      if (options.detachOnRelease === false) return
      pool.allocUnsafe(1024)
      await collectUntil(() => pool.stats().collectedCount === 1, 'what was dropped is back')
      bytes[Symbol.dispose]()
    })
  )

  test('of V8’s memory by its view ends every use', () => {
    for (const detachOnRelease of [true, false]) {
      const pool = new BufferPool({ detachOnRelease, maxBlockSize: 4 })
      const bytes = pool.byteBuffer(10).append('hello')
      pool.release(bytes.view())
      assert.throws(() => bytes.append('x'), { code: 'ERR_CISTERN_ALREADY_RELEASED' })
      bytes[Symbol.dispose]()
      assert.equal(pool.stats().releaseCount, 1)
    }
  })

  test('by Symbol.dispose is the same', () => {
    const pool = new BufferPool()
    pool.byteBuffer()[Symbol.dispose]()
    assert.equal(pool.stats().releaseCount, 1)
  })

  test('of a block that nobody saw gives nobody the next owner’s bytes', () => {
    const pool = new BufferPool()
    const bytes = pool.byteBuffer(1000).append(Buffer.from('mine'))
    bytes.release()
    const next = pool.allocUnsafe(1000).fill('theirs')
    assert.throws(() => bytes.view())
    assert.throws(() => bytes.append('overwritten'))
    assert.equal(next.subarray(0, 6).toString(), 'theirs')
    const other = pool.byteBuffer(1000)
    other.append('x'.repeat(500))
    assert.equal(next.subarray(0, 6).toString(), 'theirs')
    pool.release(next)
    assert.equal(other.toBuffer().toString(), 'x'.repeat(500))
    other.release()
  })

  test('scrubs where asked', () => {
    const pool = new BufferPool({ zeroOnRelease: true })
    const bytes = pool.byteBuffer(1000).append('secret')
    bytes.release()
    assert.ok(pool.allocUnsafe(1000).every((byte) => byte === 0))
  })

  test('reset empties it, and keeps the block', () => {
    const pool = new BufferPool()
    const bytes = pool.byteBuffer(5000).append('hello')
    const { capacity } = bytes
    assert.equal(bytes.reset().length, 0)
    assert.equal(bytes.append('bye').toBuffer().toString(), 'bye')
    assert.equal(bytes.capacity, capacity)
    bytes.release()
    assert.equal(pool.stats().allocCount, 1)
  })
})

describe('a size hint', () => {
  test('is for the first block', () => {
    const pool = new BufferPool()
    for (const hint of [0, 1, 100, 30_000, MIB]) {
      const bytes = pool.byteBuffer(hint)
      assert.ok(bytes.capacity >= hint)
      assert.equal(bytes.length, 0)
      bytes.append('x')
      bytes.release()
    }
  })

  test('that is no size is refused', () => {
    const pool = new BufferPool()
    for (const hint of ['10', null, {}]) {
      assert.throws(() => pool.byteBuffer(hint), { code: 'ERR_INVALID_ARG_TYPE' })
    }
    for (const hint of [-1, 1.5, NaN, Infinity, constants.MAX_LENGTH + 1]) {
      assert.throws(() => pool.byteBuffer(hint), { code: 'ERR_OUT_OF_RANGE' })
    }
  })

  test('does not open a closed pool', () => {
    const pool = new BufferPool()
    const bytes = pool.byteBuffer(10)
    pool.close()
    assert.throws(() => pool.byteBuffer(), { code: 'ERR_CISTERN_CLOSED' })
    assert.throws(() => bytes.append(Buffer.alloc(1000)), { code: 'ERR_CISTERN_CLOSED' })
    bytes.release()
  })
})

describe('the pool learns', () => {
  /**
   * Buffers of these lengths, one after the other, `count` in all.
   *
   * @param {BufferPool} pool
   * @param {number} count
   * @param {(i: number) => number} lengthOf
   */
  function use(pool, count, lengthOf) {
    const data = Buffer.alloc(4 * MIB)
    for (let i = 0; i < count; i++) {
      const bytes = pool.byteBuffer()
      bytes.append(data.subarray(0, lengthOf(i)))
      bytes.release()
    }
  }

  test('the commonest size for the first block, after 42,000 releases', () => {
    const pool = new BufferPool()
    use(pool, RELEASES - 1, (i) => (i % 3 === 0 ? 100 : 6000))
    assert.equal(pool.byteBuffer().capacity, 1024)
    use(pool, 1, () => 6000)
    assert.equal(pool.byteBuffer().capacity, 6144)
  })

  test('not to store buffers above the 95th percentile: golang/go#23199', async () => {
    // The pool records no samples: Node 20 detaches each sampled lease if it can't move memory.
    const pool = new BufferPool({ idleTimeout: Infinity, leakSampleRate: 0 })
    const isLarge = (/** @type {number} */ i) => i % 100 === 0
    use(pool, RELEASES, (i) => (isLarge(i) ? MIB : 1000))
    const before = pool.stats()
    assert.ok(before.idleBytes >= (external ? MIB : 0), 'before it has learned it keeps them')
    use(pool, 300, (i) => (isLarge(i) ? MIB : 1000))
    const { classes, discardCount } = await balanced(pool)
    const large = classes.filter(({ blockSize }) => blockSize >= MIB)
    assert.ok(large.every(({ idleCount }) => idleCount === 0))
    assert.ok(discardCount >= before.discardCount + 3)
  })

  test('new sizes: buffers of a size that has become common are stored again', async () => {
    // The pool records no samples, as above.
    const pool = new BufferPool({ idleTimeout: Infinity, leakSampleRate: 0 })
    use(pool, RELEASES, () => 1000)
    use(pool, 10, () => 50_000)
    const { freshCount } = pool.stats()
    use(pool, 10, () => 50_000)
    assert.ok(pool.stats().freshCount > freshCount, 'each is got anew')
    use(pool, RELEASES, () => 50_000)
    const learned = pool.stats()
    use(pool, 100, () => 50_000)
    assert.ok(pool.stats().freshCount <= learned.freshCount + 1, 'and now it is used again')
  })

  test('bytebufferpool’s way: the commonest first, the kept ones 95 % of the releases', () => {
    const calibration = new Calibration()
    const note = (/** @type {number} */ count, /** @type {number} */ length) => {
      for (let i = 0; i < count; i++) calibration.note(length, 0)
    }
    note(0.5 * RELEASES, 300)
    note(0.3 * RELEASES, 5000)
    note(0.16 * RELEASES, 64)
    note(0.04 * RELEASES - 1, MIB)
    assert.deepEqual([calibration.firstSize, calibration.largestStored], [1024, Infinity])
    note(1, 0)
    assert.deepEqual([calibration.firstSize, calibration.largestStored], [320, 5120])
    note(RELEASES, 0)
    assert.deepEqual([calibration.firstSize, calibration.largestStored], [320, 5120])
    note(RELEASES, MIB)
    assert.deepEqual([calibration.firstSize, calibration.largestStored], [MIB, MIB])
  })

  test('A buffer that was requested by its size is stored, and no other buffer starts at that size', () => {
    const pool = new BufferPool({ leakSampleRate: 0 })
    const data = Buffer.alloc(500, 1)
    const useHinted = (count) => {
      for (let i = 0; i < count; i++)
        pool
          .byteBuffer(16 * KIB)
          .append(data)
          .release()
    }
    useHinted(RELEASES)
    const { freshCount } = pool.stats()
    useHinted(100)
    assert.equal(pool.stats().freshCount, freshCount)
    const other = pool.byteBuffer()
    assert.equal(other.capacity, 512)
    other.release()
    // The pool frees the block after its size is no longer requested.
    use(pool, RELEASES, () => 500)
    useHinted(1)
    const before = pool.stats().freshCount
    useHinted(2)
    assert.equal(pool.stats().freshCount, before + 2)
  })
})

test('Get without put leaks nothing', async () => {
  const pool = new BufferPool()
  const data = Buffer.alloc(30_000, 1)
  for (let round = 0; round < 20; round++) {
    for (let i = 0; i < 50; i++) pool.byteBuffer().append(data)
    globalThis.gc()
    await new Promise(setImmediate)
  }
  await collectUntil(() => pool.stats().inUseCount === 0, 'all are collected')
  const { collectedCount, freshBytes } = await balanced(pool)
  assert.ok(collectedCount >= 1000)
  if (external) assert.ok(freshBytes < 30 * MIB, `${freshBytes} bytes for 30 MB in all`)
})

test('Any sequence gives what Buffer.concat gives', () => {
  const pools = [new BufferPool(), new BufferPool({ detachOnRelease: false, maxBytes: 64 * KIB })]
  const step = fc.oneof(
    { weight: 6, arbitrary: fc.uint8Array({ maxLength: 3000 }) },
    { weight: 4, arbitrary: fc.string({ unit: 'grapheme', maxLength: 500 }) },
    { weight: 1, arbitrary: fc.constantFrom('view', 'reset', 'self').map((what) => ({ what })) }
  )
  const property = fc.property(fc.nat(5000), fc.array(step, { maxLength: 40 }), (hint, steps) => {
    for (const pool of pools) {
      const bytes = pool.byteBuffer(hint)
      let expected = Buffer.alloc(0)
      for (const data of steps) {
        if (typeof data === 'string' || data instanceof Uint8Array) {
          bytes.append(data)
          expected = Buffer.concat([expected, Buffer.from(data)])
        } else if (data.what === 'reset') {
          bytes.reset()
          expected = Buffer.alloc(0)
        } else if (data.what === 'view') {
          assert.deepEqual(bytes.view(), expected)
        } else if (expected.length < 20_000) {
          bytes.append(bytes.view())
          expected = Buffer.concat([expected, expected])
        }
        assert.equal(bytes.length, expected.length)
      }
      assert.deepEqual(bytes.toBuffer(), expected)
      bytes.release()
      assert.equal(pool.stats().inUseCount, 0)
    }
  })
  fc.assert(property, { numRuns: 150 })
})
