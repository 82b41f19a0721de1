'use strict'

/**
 * Pooled Buffers that are posted to another thread while their lender lives.
 *
 * The bytes stay as they are for each thread that has them. The block returns to the pool once
 * nobody has it any more, or once its holder releases it.
 */

const assert = require('node:assert/strict')
const { once } = require('node:events')
const { describe, test } = require('node:test')
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
const {
  NOT_POOLED,
  closed,
  held,
  holds,
  isAll,
  keep,
  lend,
  overwrite,
  startThread
} = require('../support/posting')

const ALREADY_RELEASED = { name: 'Error', code: 'ERR_CISTERN_ALREADY_RELEASED' }
const DETACHED = { name: 'Error', code: 'ERR_CISTERN_DETACHED' }

/** The parts of a Buffer that are posted, and how the receiver reads their bytes. */
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

/** A task: drops that. */
const drop = (self) => {
  self.kept = undefined
}

/** A task: releases it, and returns what is left. */
const release = ({ pool, kept }) => {
  const before = pool.owns(kept)
  pool.release(kept)
  return { before, after: pool.owns(kept), length: kept.byteLength }
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
          // The length of a detached DataView throws.
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

  test('is scrubbed before the next owner, however it was released', {
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
