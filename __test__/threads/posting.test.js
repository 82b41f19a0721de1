'use strict'

/**
 * Pooled Buffers that are posted to another thread.
 *
 * What must hold: whoever has the bytes keeps them as they are, whichever thread ends meanwhile; and
 * the block comes back to the pool once nobody has it, or who has it releases it.
 */

const assert = require('node:assert/strict')
const { once } = require('node:events')
const path = require('node:path')
const { after, describe, test } = require('node:test')
const { setTimeout: sleep } = require('node:timers/promises')
const {
  BroadcastChannel,
  MessageChannel,
  Worker,
  receiveMessageOnPort
} = require('node:worker_threads')
const { BufferPool } = require('../..')
const {
  balanced,
  endsShow,
  eventually,
  external,
  givenBack,
  inEveryMode,
  posts,
  settle
} = require('../support/helpers')
const { Thread } = require('../support/thread')
const { anySize, below, check, mark } = require('../soak/marks')

const ENTRY = JSON.stringify(path.join(__dirname, '..', '..'))
const MARKS = JSON.stringify(require.resolve('../soak/marks'))

const MIB = 1024 * 1024

/** How many workers are ended in a row. */
const TERMINATIONS = Number(process.env.CISTERN_TERMINATIONS ?? 1000)

/** How many workers live at a time. */
const WAVE = 4

const ALREADY_RELEASED = { name: 'Error', code: 'ERR_CISTERN_ALREADY_RELEASED' }
const DETACHED = { name: 'Error', code: 'ERR_CISTERN_DETACHED' }
const NOT_POOLED = { name: 'TypeError', code: 'ERR_CISTERN_NOT_POOLED' }

/** What is posted of a Buffer, and how its bytes are read at the other end. */
const CARRIERS = {
  'a Buffer': { of: (buffer) => buffer, bytes: (received) => received },
  'a Uint8Array': { of: (buffer) => new Uint8Array(buffer.buffer), bytes: (received) => received },
  'a subarray': {
    of: (buffer) => buffer.subarray(10, 20),
    bytes: (received) => new Uint8Array(received.buffer)
  },
  'a DataView': {
    of: (buffer) => new DataView(buffer.buffer),
    bytes: (received) => new Uint8Array(received.buffer)
  },
  'a Float64Array': {
    of: (buffer) => new Float64Array(buffer.buffer),
    bytes: (received) => new Uint8Array(received.buffer)
  },
  'the ArrayBuffer': { of: ({ buffer }) => buffer, bytes: (received) => new Uint8Array(received) }
}

/** Ways to send something within a thread. */
const WAYS = {
  'a MessageChannel': (value, transfer) => {
    const { port1, port2 } = new MessageChannel()
    port1.postMessage(value, transfer)
    const { message } = receiveMessageOnPort(port2)
    port1.close()
    return message
  },
  structuredClone: (value, transfer) => structuredClone(value, { transfer })
}

/** @type {Set<Thread>} */
const threads = new Set()

/**
 * A thread that ends with this file, if not before.
 *
 * @param {BufferPool} [pool] that it attaches to
 */
function startThread(pool) {
  const thread = new Thread(pool?.handle)
  threads.add(thread)
  return thread
}

after(() => Promise.all([...threads].map((thread) => thread.terminate())))

/** A task: leases, fills, and answers with the Buffer itself. */
const lend = ({ pool, transfer }, { size, byte }) => {
  const buffer = pool.allocUnsafe(size).fill(byte)
  transfer.push(buffer.buffer)
  return buffer
}

/** A task: keeps what it is sent. */
const keep = (self, buffer) => {
  self.kept = buffer
}

/** A task: lets go of that. */
const drop = (self) => {
  self.kept = undefined
}

/** A task: whether every byte of it is `byte`. */
const holds = ({ kept }, byte) => kept.length > 0 && kept.every((each) => each === byte)

/** A task: releases it, and says what is left. */
const release = ({ pool, kept }) => {
  const before = pool.owns(kept)
  pool.release(kept)
  return { before, after: pool.owns(kept), length: kept.byteLength }
}

/**
 * Something that is received, in a place of its own: an async function that is suspended holds on to
 * what it has seen.
 *
 * @template T
 * @param {Promise<T>} received
 * @returns {Promise<{ it: T | undefined }>}
 */
function held(received) {
  return received.then((it) => ({ it }))
}

/**
 * Posts a new lease to a thread, which keeps it; nothing is left of it here.
 *
 * @param {Thread} thread
 * @param {BufferPool} pool
 * @param {number} size
 * @param {number} byte that it is filled with
 */
function sendNew(thread, pool, size, byte) {
  const buffer = pool.allocUnsafe(size)
  new Uint8Array(buffer.buffer).fill(byte)
  return thread.run(keep, buffer, [buffer.buffer])
}

/**
 * Waits until nothing is leased, where V8 has the memory and only the books are to be closed.
 *
 * @param {BufferPool} pool
 */
function closed(pool) {
  return eventually(() => pool.stats().inUseCount === 0, 'the books are closed')
}

/**
 * Whether all of what is held is `byte`.
 *
 * @param {{ it: Uint8Array }} held
 * @param {number} byte
 */
function isAll({ it }, byte) {
  return it.length > 0 && it.every((each) => each === byte)
}

/**
 * Leases as many blocks of a size as there may be, writes all over them and releases them.
 *
 * @param {BufferPool} pool
 * @param {number} size
 */
function overwrite(pool, size, count = 20) {
  const buffers = Array.from({ length: count }, () => pool.allocUnsafe(size).fill(0xee))
  for (const buffer of buffers) pool.release(buffer)
}

describe('a pooled Buffer that is posted', { skip: !posts }, () => {
  for (const [way, send] of Object.entries(WAYS)) {
    for (const [name, { of, bytes }] of Object.entries(CARRIERS)) {
      test(
        `by ${way} as ${name}, at its first lease and at later ones, moves`,
        inEveryMode(async (pool) => {
          const post = (turn) => {
            const buffer = pool.allocUnsafe(1024).fill(turn + 1)
            const sent = of(buffer)
            const arrayBuffer = buffer.buffer
            const received = send(sent, [arrayBuffer])
            assert.ok(bytes(received).every((byte) => byte === turn + 1))
            assert.equal(bytes(received).byteLength, 1024)
            assert.equal(arrayBuffer.byteLength, 0)
            assert.equal(buffer.length, 0)
            for (const view of [buffer, sent, arrayBuffer]) {
              assert.throws(() => pool.release(view), DETACHED)
              assert.equal(pool.owns(view), false)
            }
            assert.equal(pool.owns(received), external)
            assert.equal(pool.stats().inUseCount, 1)
            if (external) pool.release(received)
          }
          for (let turn = 0; turn < 3; turn++) {
            for (let i = 0; i < turn; i++) pool.release(pool.allocUnsafe(1024))
            await settle()
            post(turn)
            await givenBack()
            if (!external) await closed(pool)
          }
          if (external) assert.equal(pool.stats().freshCount, 1)
        })
      )
    }
  }

  test(
    'arrives on an ordinary ArrayBuffer',
    inEveryMode(async (pool) => {
      const thread = startThread(pool)
      const { it } = await held(thread.run(lend, { size: 1000, byte: 7 }))
      assert.equal(it.length, 1000)
      assert.equal(it.constructor, Uint8Array)
      assert.equal(Object.getPrototypeOf(it.buffer), ArrayBuffer.prototype)
      assert.deepEqual(Reflect.ownKeys(it.buffer), [])
      it[0] = 8
      const copy = structuredClone(it)
      const moved = structuredClone(it, { transfer: [it.buffer] })
      assert.equal(it.length, 0)
      for (const each of [copy, moved]) {
        assert.equal(each[0], 8)
        assert.ok(each.subarray(1).every((byte) => byte === 7))
      }
      assert.equal(pool.owns(copy), false)
      assert.equal(pool.owns(moved), external)
      await thread.terminate()
    })
  )

  test('is copied without a transfer list, and stays leased', async () => {
    const pool = new BufferPool()
    const thread = startThread(pool)
    const buffer = pool.allocUnsafe(1000).fill(3)
    await thread.run(keep, buffer)
    buffer.fill(4)
    assert.ok(await thread.run(holds, 3))
    await assert.rejects(thread.run(release), NOT_POOLED)
    assert.ok(pool.owns(buffer))
    pool.release(buffer)
    await thread.terminate()
  })

  test('by a BroadcastChannel is copied, as any other, and stays leased', async () => {
    const pool = new BufferPool()
    const [sender, receiver] = [new BroadcastChannel('pooled'), new BroadcastChannel('pooled')]
    const outcomes = []
    for (const buffer of [Buffer.alloc(100, 5), pool.alloc(100, 5)]) {
      const message = new Promise((resolve) => {
        receiver.onmessage = ({ data }) => resolve(data)
      })
      let refusal
      try {
        sender.postMessage(buffer, [buffer.buffer])
      } catch (error) {
        refusal = error.name
      }
      const received = refusal ?? (await message)
      outcomes.push([received, buffer.length])
      if (pool.owns(buffer)) {
        assert.throws(() => pool.release(received), NOT_POOLED)
        pool.release(buffer)
      }
    }
    assert.deepEqual(outcomes[1], outcomes[0])
    assert.equal(pool.stats().releaseCount, 1)
    sender.close()
    receiver.close()
  })

  test(
    'and posted again through its empty view is refused, as any other',
    inEveryMode((pool) => {
      const refusals = [Buffer.alloc(100), pool.allocUnsafe(100)].map((buffer) => {
        const { buffer: arrayBuffer } = buffer
        const received = structuredClone(buffer, { transfer: [arrayBuffer] })
        let refusal
        try {
          structuredClone(buffer, { transfer: [arrayBuffer] })
        } catch ({ name, code, message }) {
          refusal = { name, code, message }
        }
        assert.equal(received.length, 100)
        return refusal
      })
      assert.ok(refusals[0] !== undefined)
      assert.deepEqual(refusals[1], refusals[0])
    })
  )

  test(
    'from main to a worker, from worker to worker, and back, arrives each time',
    inEveryMode(async (pool) => {
      const [first, second] = [startThread(pool), startThread(pool)]
      const { port1, port2 } = new MessageChannel()
      const takePort = (self, port) => {
        self.port = port
      }
      await first.run(takePort, port1, [port1])
      await second.run(takePort, port2, [port2])
      await sendNew(first, pool, 5000, 1)
      assert.ok(await first.run(holds, 1))
      await first.run(({ port, kept }) => {
        kept.fill(2)
        port.postMessage(kept, [kept.buffer])
      })
      await second.run(async (self) => {
        const { receiveMessageOnPort } = self.threads
        let received
        do {
          received = receiveMessageOnPort(self.port)
          await new Promise(setImmediate)
        } while (received === undefined)
        self.kept = received.message
      })
      assert.ok(await second.run(holds, 2))
      assert.equal(await first.run(({ kept }) => kept.length), 0)
      const giveBack = ({ kept, transfer }) => {
        transfer.push(kept.buffer)
        return kept.fill(3)
      }
      const received = await held(second.run(giveBack))
      assert.equal(received.it.length, 5000)
      assert.ok(isAll(received, 3))
      if (external) {
        assert.equal(pool.stats().inUseCount, 1)
        pool.release(received.it)
      } else {
        await closed(pool)
      }
      await Promise.all([first.terminate(), second.terminate()])
    })
  )

  test('as workerData arrives, too', async () => {
    const pool = new BufferPool()
    const start = () => {
      const buffer = pool.allocUnsafe(1000).fill(6)
      const worker = new Worker(
        `
        const { parentPort, workerData } = require('node:worker_threads')
        parentPort.postMessage([workerData.length, workerData.every((byte) => byte === 6)])
        `,
        { eval: true, workerData: buffer, transferList: [buffer.buffer] }
      )
      assert.equal(buffer.length, 0)
      return worker
    }
    const worker = start()
    const [[answer]] = await Promise.all([once(worker, 'message'), once(worker, 'exit')])
    assert.deepEqual(answer, [1000, true])
    await eventually(() => pool.stats().collectedCount === 1, 'the block is back')
    await balanced(pool)
  })

  test('is never handed to another while it is away', async () => {
    for (const detachOnRelease of [true, false]) {
      const pool = new BufferPool({ detachOnRelease })
      const thread = startThread(pool)
      for (let i = 0; i < 10; i++) {
        const buffer = pool.allocUnsafe(5000).fill(1)
        await thread.run(keep, buffer, [buffer.buffer])
        overwrite(pool, 5000)
        await thread.run(({ pool }) => {
          for (let i = 0; i < 20; i++) pool.release(pool.allocUnsafe(5000).fill(0xee))
        })
        assert.ok(await thread.run(holds, 1))
      }
      await thread.terminate()
    }
  })

  test('through a stale view, of an idle block, has one owner', async () => {
    const pool = new BufferPool({ detachOnRelease: false })
    const thread = startThread(pool)
    const stale = pool.allocUnsafe(5000)
    pool.release(stale)
    stale.fill(1)
    await thread.run(keep, stale, [stale.buffer])
    overwrite(pool, 5000)
    assert.ok(await thread.run(holds, 1))
    const received = await held(
      thread.run((self) => {
        const idle = self.pool.allocUnsafe(5000)
        self.pool.release(idle)
        self.transfer.push(idle.buffer)
        return idle.fill(2)
      })
    )
    await thread.terminate()
    overwrite(pool, 5000)
    assert.ok(isAll(received, 2))
    await balanced(pool)
    received.it = undefined
    if (!endsShow) return
    await eventually(() => pool.stats().quarantinedBytes === 0, 'the quarantine is empty')
    await balanced(pool)
  })
})

describe('a posted Buffer whose lender lives', { skip: !posts }, () => {
  test(
    'comes home when the receiver has dropped it',
    inEveryMode(async (pool) => {
      const [thread, other] = [startThread(pool), startThread(pool)]
      const size = 100_000
      // From here to there, from there to here, and from there to a third.
      await sendNew(thread, pool, size, 1)
      const received = await held(thread.run(lend, { size, byte: 1 }))
      const passedOn = await held(thread.run(lend, { size, byte: 2 }))
      await other.run(keep, passedOn.it, [passedOn.it.buffer])
      if (external) assert.equal(pool.stats().inUseCount, 3)
      assert.equal(pool.stats().freshCount, 3)
      received.it = undefined
      await Promise.all([thread.run(drop), other.run(drop)])
      const isBack = () => pool.stats().collectedCount === 3
      await eventually(isBack, 'all three are back', [thread, other])
      const { inUseCount, idleCount, releaseCount } = await balanced(pool)
      assert.deepEqual([inUseCount, releaseCount], [0, 0])
      if (external) {
        assert.equal(idleCount, 3)
        const again = Array.from({ length: 3 }, () => pool.allocUnsafe(size))
        assert.equal(pool.stats().freshCount, 3, 'their blocks are used again')
        for (const each of again) pool.release(each)
      }
      await Promise.all([thread.terminate(), other.terminate()])
    })
  )

  test(
    'is released where it has arrived, and leased again',
    { skip: !external },
    inEveryMode(async (pool, { zeroOnRelease = false }) => {
      const thread = startThread(pool)
      for (let turn = 1; turn <= 5; turn++) {
        await sendNew(thread, pool, 1000, 9)
        assert.deepEqual(await thread.run(release), { before: true, after: false, length: 0 })
        const { inUseCount, releaseCount, collectedCount, idleCount } = await balanced(pool)
        assert.deepEqual([inUseCount, releaseCount, collectedCount], [0, 2 * turn - 1, 0])
        assert.equal(idleCount, 1)
        const again = pool.allocUnsafe(1024)
        assert.equal(pool.stats().freshCount, 1, 'it is the same block')
        assert.ok(again.every((byte) => byte === (zeroOnRelease ? 0 : 9)))
        pool.release(again)
      }
      await thread.terminate()
    })
  )

  test(
    'is released there by any view, and leaves every view empty',
    { skip: !external },
    inEveryMode(async (pool) => {
      const thread = startThread(pool)
      for (const view of ['Uint8Array', 'DataView', 'Float64Array', 'ArrayBuffer', 'Buffer']) {
        const buffer = pool.allocUnsafe(1024)
        await thread.run(keep, buffer, [buffer.buffer])
        const lengths = await thread.run(({ pool, kept }, view) => {
          const { buffer } = kept
          const part = kept.subarray(8, 16)
          const views = {
            Uint8Array: part,
            DataView: new DataView(buffer, 8),
            Float64Array: new Float64Array(buffer, 8, 2),
            ArrayBuffer: buffer,
            Buffer: Buffer.from(buffer)
          }
          pool.release(views[view])
          kept[0] = 1
          // That of a detached DataView throws.
          const { DataView: _, ...others } = views
          return [kept, ...Object.values(others)].map(({ byteLength }) => byteLength)
        }, view)
        assert.deepEqual(lengths, [0, 0, 0, 0, 0], view)
        await givenBack()
      }
      const { freshCount, releaseCount } = await balanced(pool)
      assert.deepEqual([freshCount, releaseCount], [1, 5])
      await thread.terminate()
    })
  )

  test(
    'is released only once there, and there only',
    { skip: !external },
    inEveryMode(async (pool) => {
      const thread = startThread(pool)
      const buffer = pool.allocUnsafe(1000)
      await thread.run(keep, buffer, [buffer.buffer])
      assert.throws(() => pool.release(buffer), DETACHED)
      await thread.run(release)
      for (let i = 0; i < 3; i++) {
        await assert.rejects(thread.run(release), ALREADY_RELEASED)
        assert.throws(() => pool.release(buffer), DETACHED)
      }
      await givenBack()
      const [next, another] = [pool.allocUnsafe(1000).fill(1), pool.allocUnsafe(1000).fill(2)]
      await assert.rejects(thread.run(release))
      assert.ok(pool.owns(next) && pool.owns(another))
      assert.ok(next.every((byte) => byte === 1))
      pool.release(next)
      pool.release(another)
      const { releaseCount, freshCount } = await balanced(pool)
      assert.deepEqual([releaseCount, freshCount], [3, 2])
      await thread.terminate()
    })
  )

  test('is not released by another pool, nor owned by one', async () => {
    const [pool, other] = [new BufferPool({ name: 'mine' }), new BufferPool({ name: 'other' })]
    const thread = startThread(other)
    const buffer = pool.allocUnsafe(1000).fill(1)
    await thread.run(keep, buffer, [buffer.buffer])
    await assert.rejects(thread.run(release), { ...NOT_POOLED, message: /pool 'other'/ })
    assert.equal(await thread.run(({ pool, kept }) => pool.owns(kept)), false)
    assert.equal(await thread.run(({ shared, kept }) => shared.owns(kept)), false)
    assert.ok(await thread.run(holds, 1))
    const attach = (self, handle) => {
      self.pool = self.BufferPool.attach(handle)
    }
    await thread.run(attach, pool.handle)
    if (external) await thread.run(release)
    else await assert.rejects(thread.run(release), NOT_POOLED)
    assert.equal(pool.stats().releaseCount, external ? 1 : 0)
    await thread.terminate()
  })

  test('is owned by its pool in every thread, where it is and nowhere else', {
    skip: !external
  }, async () => {
    const pool = new BufferPool()
    const [first, second] = [startThread(pool), startThread(pool)]
    const owns = ({ pool, kept }) => pool.owns(kept)
    const buffer = pool.allocUnsafe(1000)
    assert.ok(pool.owns(buffer))
    await first.run(keep, buffer, [buffer.buffer])
    assert.equal(pool.owns(buffer), false)
    assert.ok(await first.run(owns))
    const onward = await held(
      first.run(({ kept, transfer }) => {
        transfer.push(kept.buffer)
        return kept
      })
    )
    assert.equal(await first.run(owns), false)
    assert.ok(pool.owns(onward.it))
    await second.run(keep, onward.it, [onward.it.buffer])
    assert.ok(await second.run(owns))
    await second.run(release)
    for (const thread of [first, second]) assert.equal(await thread.run(owns), false)
    await Promise.all([first.terminate(), second.terminate()])
  })

  test(
    'is released by its lender when it has come back',
    { skip: !external },
    inEveryMode(async (pool) => {
      const thread = startThread(pool)
      for (let i = 0; i < 3; i++) {
        const buffer = pool.allocUnsafe(1000).fill(1)
        const echo = ({ transfer }, buffer) => {
          transfer.push(buffer.buffer)
          return buffer
        }
        const { it } = await held(thread.run(echo, buffer, [buffer.buffer]))
        assert.ok(it.every((byte) => byte === 1))
        assert.throws(() => pool.release(buffer), DETACHED)
        pool.release(it)
        assert.equal(it.length, 0)
        await givenBack()
      }
      const { freshCount, releaseCount, inUseCount } = await balanced(pool)
      assert.deepEqual([freshCount, releaseCount, inUseCount], [1, 3, 0])
      await thread.terminate()
    })
  )

  test('is scrubbed before the next owner, however it comes home', {
    skip: !external
  }, async () => {
    for (const detachOnRelease of [true, false]) {
      const pool = new BufferPool({ detachOnRelease, zeroOnRelease: true })
      const thread = startThread(pool)
      const comeHome = [
        () => thread.run(release),
        async () => {
          const { collectedCount } = pool.stats()
          await thread.run(drop)
          const isBack = () => pool.stats().collectedCount > collectedCount
          await eventually(isBack, 'the block is back', [thread])
        }
      ]
      for (const come of comeHome) {
        await sendNew(thread, pool, 1000, 7)
        await come()
        await givenBack()
        const next = pool.allocUnsafe(1024)
        assert.equal(pool.stats().freshCount, 1, 'it is the same block')
        assert.ok(next.every((byte) => byte === 0))
        pool.release(next)
        await settle()
      }
      await thread.terminate()
    }
  })

  test(
    'outlives trim and close, and is freed when it comes home',
    inEveryMode(async (pool) => {
      const thread = startThread(pool)
      for (let i = 0; i < 2; i++) await sendNew(thread, pool, 5000, 1)
      pool.trim()
      pool.close()
      assert.ok(await thread.run(holds, 1))
      if (external) assert.equal((await thread.run(release)).length, 0)
      else await thread.run(drop)
      await eventually(() => pool.stats().inUseCount === 0, 'both are back', [thread])
      const { freedBytes, freshBytes } = await balanced(pool)
      assert.equal(freedBytes, freshBytes)
      await thread.terminate()
    })
  )
})

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

/** The ways in which a lender ends. */
const ENDS = {
  'is terminated': 'setInterval(() => {}, 1000)',
  'calls process.exit': 'setTimeout(() => process.exit(0), 5)',
  throws: 'setTimeout(() => { throw new Error("on purpose") }, 5)',
  returns: 'void 0'
}

describe('a posted Buffer whose lender has ended', { skip: !posts }, () => {
  for (const detachOnRelease of [true, false]) {
    const mode = `detachOnRelease: ${detachOnRelease}`
    const size = 100_000
    const blockSize = 114_688

    /**
     * What a worker has posted before it ended.
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
      // Native code may still hold it, where that does not show.
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

    test(`is in a third thread as it was posted, and comes back when that ends, ${mode}`, async () => {
      const pool = new BufferPool({ detachOnRelease })
      const trimmer = startThread(pool)
      const buffer = await received(pool)
      await trimmer.run(keep, buffer.it, [buffer.it.buffer])
      overwrite(pool, size)
      await trimmer.run(({ pool }) => {
        for (let i = 0; i < 20; i++) pool.release(pool.allocUnsafe(100_000).fill(i))
      })
      assert.ok(await trimmer.run(holds, 42))
      await trimmer.terminate()
      if (!endsShow) return
      await eventually(() => pool.stats().quarantinedBytes === 0, 'the quarantine is empty')
      await balanced(pool)
    })

    test(`comes to who waits for it when it is dropped, ${mode}`, {
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
      // Nobody asks the pool for anything: it notices by itself.
      await eventually(() => granted === 2, 'both are served')
      await Promise.all(waiting)
      assert.ok(isAll(second, 42))
      await balanced(pool)
    })
  }

  test('leads to the pool although nobody else has it', {
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

/**
 * Runs workers, so many at a time, and ends each at some moment.
 *
 * @param {number} count
 * @param {(number: number) => { worker: Worker, ready?: Promise<unknown> }} start with what to wait for
 *   before its end may come
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

/** What a thread has, of its own and from others, each with the seed that it is marked by. */
class Holdings {
  #lastSeed = 0x80000000
  own = []
  received = []
  receivedCount = 0

  /** @param {BufferPool} pool */
  constructor(pool) {
    this.pool = pool
  }

  /** Goes on with leases of this thread's, while others come and go. */
  work() {
    const { own, pool } = this
    for (let i = 0; i < 5; i++) {
      const seed = ++this.#lastSeed
      own.push({ buffer: mark(pool.allocUnsafe(anySize()), seed), seed })
    }
    while (own.length > 40) {
      const [{ buffer, seed }] = own.splice(below(own.length), 1)
      // What this thread has leased is as it was.
      check(buffer, seed)
      if (below(4) > 0) pool.release(buffer)
    }
  }

  /** Keeps what another thread has posted, or releases it, or drops it. */
  receive({ buffer, seed }) {
    this.receivedCount++
    // What arrives is as it was posted.
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
      // To the end it is as it was.
      check(buffer, seed)
    }
  }

  letGo() {
    for (const { buffer } of this.own) this.pool.release(buffer)
    this.own = []
    this.received = []
  }
}

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
            // No more than the receiver can take in the time.
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
    // What is idle stays, so that all that is got is seen.
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
    // But for what is set aside for good, where ends don't show.
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
