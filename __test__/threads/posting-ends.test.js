'use strict'

/**
 * Pooled Buffers that were posted, and a thread that ends: the lender, the receiver, or any of many
 * workers.
 *
 * No block stays in use forever, and none is handed out while a thread can still read it.
 */

const assert = require('node:assert/strict')
const { once } = require('node:events')
const path = require('node:path')
const { describe, test } = require('node:test')
const { setTimeout: sleep } = require('node:timers/promises')
const { MessageChannel, Worker, receiveMessageOnPort } = require('node:worker_threads')
const { BufferPool } = require('../..')
const {
  balanced,
  endsShow,
  eventually,
  external,
  inEveryMode,
  posts,
  settle
} = require('../support/helpers')
const { anySize, below, check, mark } = require('../soak/marks')
const {
  NOT_POOLED,
  held,
  holds,
  isAll,
  keep,
  lend,
  overwrite,
  startThread
} = require('../support/posting')

const ENTRY = JSON.stringify(path.join(__dirname, '..', '..'))
const MARKS = JSON.stringify(require.resolve('../soak/marks'))

const MIB = 1024 * 1024

/** The number of workers that are ended in a row. */
const TERMINATIONS = Number(process.env.CISTERN_TERMINATIONS ?? 1000)

/** The number of workers that live at a time. */
const WAVE = 4

/** The ways in which a lender ends. */
const ENDS = {
  'is terminated': 'setInterval(() => {}, 1000)',
  'calls process.exit': 'setTimeout(() => process.exit(0), 5)',
  throws: 'setTimeout(() => { throw new Error("on purpose") }, 5)',
  returns: 'void 0'
}

/** The Buffers of a thread, its own and others', each with the seed that it is marked by. */
class Holdings {
  #lastSeed = 0x80000000
  own = []
  received = []
  receivedCount = 0

  /** @param {BufferPool} pool */
  constructor(pool) {
    this.pool = pool
  }

  /** Continues with leases of this thread, while other threads start and end. */
  work() {
    const { own, pool } = this
    for (let i = 0; i < 5; i++) {
      const seed = ++this.#lastSeed
      own.push({ buffer: mark(pool.allocUnsafe(anySize()), seed), seed })
    }
    while (own.length > 40) {
      const [{ buffer, seed }] = own.splice(below(own.length), 1)
      // The leases of this thread are unchanged.
      check(buffer, seed)
      if (below(4) > 0) pool.release(buffer)
    }
  }

  /** Keeps what another thread has posted, or releases it, or drops it. */
  receive({ buffer, seed }) {
    this.receivedCount++
    // A Buffer arrives as it was posted.
    check(buffer, seed)
    const fate = below(4)
    if (fate < 2) {
      this.received.push({ buffer, seed })
    } else if (fate === 2 && external) {
      this.pool.release(buffer)
      assert.equal(buffer.length, 0)
    }
    this.work()
  }

  verify() {
    for (const { buffer } of this.received) overwrite(this.pool, buffer.length, 2)
    for (const { buffer, seed } of [...this.own, ...this.received]) {
      // The bytes are unchanged at the end.
      check(buffer, seed)
    }
  }

  letGo() {
    for (const { buffer } of this.own) this.pool.release(buffer)
    this.own = []
    this.received = []
  }
}

describe('a message that nobody receives', { skip: !posts }, () => {
  /**
   * @param {BufferPool} pool
   * @param {{ postMessage: Function }} receiver
   */
  function postTen(pool, receiver) {
    for (let i = 0; i < 10; i++) {
      const buffer = pool.allocUnsafe(5000)
      receiver.postMessage({ deep: [buffer] }, [buffer.buffer])
    }
  }

  test(
    'gives its Buffers back when the port is closed',
    inEveryMode(async (pool) => {
      const { port1, port2 } = new MessageChannel()
      postTen(pool, port1)
      assert.equal(pool.stats().inUseCount, 10)
      assert.equal(receiveMessageOnPort(port2).message.deep[0].length, 5000)
      port2.close()
      await eventually(() => pool.stats().collectedCount === 10, 'all ten are back')
      await balanced(pool)
    })
  )

  test(
    'gives them back when the worker is terminated before it reads',
    inEveryMode(async (pool) => {
      const worker = new Worker('for (;;);', { eval: true })
      await once(worker, 'online')
      const exited = once(worker, 'exit')
      postTen(pool, worker)
      assert.equal(pool.stats().inUseCount, 10)
      await worker.terminate()
      await exited
      await eventually(() => pool.stats().collectedCount === 10, 'all ten are back')
      const { freshCount } = await balanced(pool)
      const again = Array.from({ length: 10 }, () => pool.allocUnsafe(5000))
      if (external) assert.equal(pool.stats().freshCount, freshCount)
      for (const buffer of again) pool.release(buffer)
    })
  )

  test(
    'gives them back when its sender has ended, and no port is left',
    { skip: !endsShow },
    inEveryMode(async (pool) => {
      const thread = startThread(pool)
      const { port1, port2 } = new MessageChannel()
      const postAll = ({ pool }, port) => {
        for (let i = 0; i < 10; i++) {
          const buffer = pool.allocUnsafe(5000).fill(i)
          port.postMessage(buffer, [buffer.buffer])
        }
      }
      await thread.run(postAll, port1, [port1])
      await thread.terminate()
      assert.equal(pool.stats().quarantinedBytes, external ? 10 * 5120 : 0)
      overwrite(pool, 5000)
      const read = () => receiveMessageOnPort(port2).message
      for (let i = 0; i < 5; i++) assert.ok(read().every((byte) => byte === i))
      port2.close()
      await eventually(() => pool.stats().quarantinedBytes === 0, 'the quarantine is empty')
      await balanced(pool)
    })
  )
})

describe('a posted Buffer whose lender has ended', { skip: !posts }, () => {
  for (const detachOnRelease of [true, false]) {
    const mode = `detachOnRelease: ${detachOnRelease}`
    const size = 100_000
    const blockSize = 114_688

    /**
     * Returns the Buffer that a worker has posted before it ended.
     *
     * @param {BufferPool} pool
     */
    const received = async (pool) => {
      const thread = startThread(pool)
      const buffer = await held(thread.run(lend, { size, byte: 42 }))
      await thread.terminate()
      return buffer
    }

    for (const [end, script] of Object.entries(ENDS)) {
      test(`in that it ${end} keeps its bytes, ${mode}`, async () => {
        const pool = new BufferPool({ detachOnRelease })
        for (let round = 0; round < 5; round++) {
          const worker = new Worker(
            `
            const { parentPort, workerData } = require('node:worker_threads')
            const pool = require(${ENTRY}).BufferPool.attach(workerData)
            if (${round} > 2) pool.release(pool.allocUnsafe(${size}))
            const buffer = pool.allocUnsafe(${size}).fill(42)
            parentPort.postMessage(buffer, [buffer.buffer])
            ${script}
            `,
            { eval: true, workerData: pool.handle }
          )
          worker.on('error', () => {})
          const ended = new Promise((resolve) => worker.once('exit', resolve))
          const buffer = await held(new Promise((resolve) => worker.once('message', resolve)))
          if (end === 'is terminated') await worker.terminate()
          await ended
          overwrite(pool, size)
          assert.ok(isAll(buffer, 42))
          buffer.it.fill(43)
          const others = Array.from({ length: 20 }, () => pool.allocUnsafe(size).fill(round))
          buffer.it.fill(44)
          assert.ok(others.every((other) => other.every((byte) => byte === round)))
          for (const other of others) pool.release(other)
          assert.ok(isAll(buffer, 44))
          buffer.it = undefined
        }
        await balanced(pool)
        if (!endsShow) return
        await eventually(() => pool.stats().quarantinedBytes === 0, 'the quarantine is empty')
        await balanced(pool)
      })
    }

    test(`is set aside until it is dropped, and then used again, ${mode}`, {
      skip: !external
    }, async () => {
      const pool = new BufferPool({ detachOnRelease })
      const buffer = await received(pool)
      for (let i = 0; i < 5; i++) {
        globalThis.gc()
        overwrite(pool, size, 3)
        await settle()
      }
      const { quarantinedBytes, inUseCount, freshCount } = await balanced(pool)
      assert.equal(quarantinedBytes, blockSize)
      assert.equal(inUseCount, 0)
      assert.equal(freshCount, 4, 'three others were needed')
      assert.ok(isAll(buffer, 42))
      buffer.it = undefined
      if (!endsShow) return
      await eventually(() => pool.stats().quarantinedBytes === 0, 'the quarantine is empty')
      const { collectedCount } = await balanced(pool)
      assert.equal(collectedCount, 1)
      overwrite(pool, size, 4)
      assert.equal(pool.stats().freshCount, 4, 'the block is used again')
    })

    test(`is set aside until it is released, and then used again, ${mode}`, {
      skip: !external
    }, async () => {
      const pool = new BufferPool({ detachOnRelease })
      const buffer = await received(pool)
      assert.equal(pool.stats().quarantinedBytes, blockSize)
      assert.ok(pool.owns(buffer.it))
      assert.throws(() => new BufferPool().release(buffer.it), NOT_POOLED)
      pool.release(buffer.it)
      assert.equal(buffer.it.length, 0)
      assert.equal(pool.owns(buffer.it), false)
      assert.throws(() => pool.release(buffer.it), /view/)
      const { quarantinedBytes, inUseCount } = await balanced(pool)
      // Without a witness the pool must assume that native code still holds it.
      assert.deepEqual([quarantinedBytes, inUseCount], [endsShow ? 0 : blockSize, 0])
      pool.release(pool.allocUnsafe(size))
      assert.equal(pool.stats().freshCount, endsShow ? 1 : 2, 'the block is used again')
    })

    test(`is counted as released when it is, ${mode}`, { skip: !external }, async () => {
      const pool = new BufferPool({ detachOnRelease })
      const buffer = await received(pool)
      pool.release(buffer.it)
      const { releaseCount, collectedCount } = await balanced(pool)
      assert.deepEqual([releaseCount, collectedCount], [1, 0])
    })

    test(`is scrubbed before its next owner, ${mode}`, {
      skip: !external || !endsShow
    }, async () => {
      for (const letGo of [(pool, buffer) => pool.release(buffer.it), () => {}]) {
        const pool = new BufferPool({ detachOnRelease, zeroOnRelease: true })
        const buffer = await received(pool)
        letGo(pool, buffer)
        buffer.it = undefined
        await eventually(() => pool.stats().quarantinedBytes === 0, 'the quarantine is empty')
        const next = pool.allocUnsafe(size)
        assert.equal(pool.stats().freshCount, 1, 'it is the same block')
        assert.ok(next.every((byte) => byte === 0))
        pool.release(next)
      }
    })

    test(`is in a third thread as it was posted, and returns when that thread ends, ${mode}`, async () => {
      const pool = new BufferPool({ detachOnRelease })
      const receiver = startThread(pool)
      const buffer = await received(pool)
      await receiver.run(keep, buffer.it, [buffer.it.buffer])
      overwrite(pool, size)
      await receiver.run(({ pool }) => {
        for (let i = 0; i < 20; i++) pool.release(pool.allocUnsafe(100_000).fill(i))
      })
      assert.ok(await receiver.run(holds, 42))
      await receiver.terminate()
      if (!endsShow) return
      await eventually(() => pool.stats().quarantinedBytes === 0, 'the quarantine is empty')
      await balanced(pool)
    })

    test(`reaches a waiter when it is dropped, ${mode}`, {
      skip: !external || !endsShow
    }, async () => {
      const pool = new BufferPool({ detachOnRelease, maxBytes: 2 * blockSize })
      const [first, second] = [await received(pool), await received(pool)]
      let granted = 0
      const waiting = [pool.acquire(size), pool.acquire(size)].map(async (acquired) => {
        const buffer = (await acquired).fill(granted++)
        await sleep(5)
        pool.release(buffer)
      })
      for (let i = 0; i < 5; i++) {
        globalThis.gc()
        await sleep(5)
      }
      assert.equal(granted, 0)
      assert.ok(isAll(first, 42) && isAll(second, 42))
      first.it = undefined
      // No code calls the pool: it notices by itself.
      await eventually(() => granted === 2, 'both are served')
      await Promise.all(waiting)
      assert.ok(isAll(second, 42))
      await balanced(pool)
    })
  }

  test('leads to the pool although no other thread has it', {
    skip: !external || !endsShow
  }, async () => {
    const thread = startThread()
    const buffer = await held(
      thread.run((self) => {
        self.pool = new self.BufferPool({ name: 'far' })
        const buffer = self.pool.allocUnsafe(1000).fill(5)
        self.transfer.push(buffer.buffer)
        self.handle = self.pool.handle
        return buffer
      })
    )
    const handle = await thread.run(({ handle }) => handle)
    await thread.terminate()
    for (let i = 0; i < 3; i++) {
      globalThis.gc()
      await settle()
    }
    assert.ok(isAll(buffer, 5))
    const pool = BufferPool.attach(handle)
    assert.ok(pool.owns(buffer.it))
    pool.release(buffer.it)
    const { freshCount, idleCount, quarantinedBytes } = await balanced(pool)
    assert.deepEqual([freshCount, idleCount, quarantinedBytes], [1, 1, 0])
  })
})

describe('many workers that end at any moment', { skip: !posts }, () => {
  for (const detachOnRelease of [true, false]) {
    test(`leave what they have posted as it was, detachOnRelease: ${detachOnRelease}`, async () => {
      const pool = new BufferPool({ detachOnRelease })
      const holdings = new Holdings(pool)
      const start = (number) => {
        const end = ['void 0', 'process.exit()', 'throw new Error("on purpose")'][number % 3]
        const worker = new Worker(
          `
          const { parentPort, workerData } = require('node:worker_threads')
          const pool = require(${ENTRY}).BufferPool.attach(workerData)
          const { anySize, below, mark } = require(${MARKS})
          const last = below(100)
          const kept = []
          let count = 0
          const work = () => {
            for (let i = 0; i < 3; i++) {
              const seed = ${number} * 1000 + count
              const buffer = mark(pool.allocUnsafe(anySize()), seed)
              const fate = below(4)
              if (fate < 2) parentPort.postMessage({ buffer, seed }, [buffer.buffer])
              else if (fate === 2) pool.release(buffer)
              else kept.push(buffer)
              if (++count > last) { ${end} }
            }
            // This is no more than the receiver can take in the time.
            if (count < 100) setImmediate(work)
            else setInterval(() => {}, 1000)
          }
          work()
          `,
          { eval: true, workerData: pool.handle }
        )
        worker.on('message', (message) => holdings.receive(message))
        const first = new Promise((resolve) => worker.once('message', () => resolve()))
        return { worker, ready: number % 2 > 0 ? first : undefined }
      }
      await runAndEnd(48, start)
      for (let i = 0; i < 10; i++) holdings.work()
      assert.ok(holdings.receivedCount >= 48, `${holdings.receivedCount} have arrived`)
      await balanced(pool)
      holdings.verify()
      holdings.letGo()
      await allBack(pool)
    })
  }

  test(`${TERMINATIONS} in a row leave nothing behind`, async () => {
    // Idle blocks stay, so that each fresh block is seen.
    const pool = new BufferPool({ idleTimeout: Infinity })
    const start = (number) => {
      const worker = new Worker(
        `
        const { parentPort, workerData } = require('node:worker_threads')
        const pool = require(${ENTRY}).BufferPool.attach(workerData)
        const buffers = Array.from({ length: 10 }, (_, i) => pool.allocUnsafe(65_536).fill(i))
        for (let i = 0; i < 3; i++) pool.release(buffers.pop())
        for (let i = 0; i < 3; i++) {
          const buffer = buffers.pop()
          parentPort.postMessage(buffer, [buffer.buffer])
        }
        globalThis.kept = buffers
        setInterval(() => pool.release(pool.allocUnsafe(65_536)), 1)
        `,
        { eval: true, workerData: pool.handle }
      )
      // A quarter of what they post is released, a half dropped, and the rest never read.
      if (number % 4 === 0) return { worker }
      const receive = (buffer) => {
        assert.ok(buffer.every((byte) => byte === buffer[0]))
        if (external && number % 4 === 1) pool.release(buffer)
      }
      worker.on('message', receive)
      const first = new Promise((resolve) => worker.once('message', () => resolve()))
      return { worker, ready: number % 4 === 1 ? undefined : first }
    }
    /** @param {number} count */
    const run = async (count) => {
      await runAndEnd(count, start)
      const stats = await allBack(pool)
      for (let i = 0; i < 3; i++) {
        globalThis.gc()
        await settle()
      }
      return { ...stats, rss: process.memoryUsage.rss() }
    }

    const warmUp = Math.round(TERMINATIONS / 5)
    const before = await run(warmUp)
    const end = await run(TERMINATIONS - warmUp)
    assert.equal(end.inUseCount, 0)
    assert.ok(end.allocCount - before.allocCount > TERMINATIONS, 'they had something to lose')
    // Except blocks that stay in quarantine, where the end of a holder can't be seen.
    const [least, most] = [before, end].map(({ rss, quarantinedBytes }) => rss - quarantinedBytes)
    assert.ok(
      most < least + 30 * MIB,
      `${least / MIB} MiB after ${warmUp} workers, ${most / MIB} MiB after all`
    )
    if (!external || !endsShow) return
    assert.equal(end.quarantinedBytes, 0)
    // Each has up to 11 at a time; what one collection leaves, a later one takes.
    const blocks = 4 * WAVE * 11
    assert.ok(before.freshCount <= blocks, `${before.freshCount} blocks after ${warmUp} workers`)
    assert.ok(end.freshCount <= blocks, `${end.freshCount} blocks after all`)
  })
})

/**
 * Runs workers, a fixed number at a time, and ends each at some moment.
 *
 * @param {number} count
 * @param {(number: number) => { worker: Worker, ready?: Promise<unknown> }} start returns the
 *   worker, and a promise to await before it may be ended
 */
async function runAndEnd(count, start) {
  const runOne = async (number) => {
    const { worker, ready } = start(number)
    // Some throw.
    worker.on('error', () => {})
    const exited = new Promise((resolve) => worker.once('exit', resolve))
    await new Promise((resolve) => worker.once('online', resolve))
    await Promise.race([ready, exited])
    await sleep(below(20))
    await worker.terminate()
    await exited
  }
  for (let number = 0; number < count; number += WAVE) {
    await Promise.all(Array.from({ length: WAVE }, (_, i) => runOne(number + i)))
    globalThis.gc()
    await settle()
  }
}

/**
 * Waits until nothing is leased, and nothing set aside.
 *
 * @param {BufferPool} pool
 */
async function allBack(pool) {
  const areBack = () => {
    const { inUseCount, quarantinedBytes } = pool.stats()
    return inUseCount === 0 && (quarantinedBytes === 0 || !endsShow)
  }
  await eventually(areBack, 'all blocks are back')
  return balanced(pool)
}
