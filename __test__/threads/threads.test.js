'use strict'

/**
 * Several threads and contexts at once, and threads that end at any moment.
 *
 * A block has one owner. A block that an ended thread had, and that another thread may still read,
 * is never handed out again.
 */

const assert = require('node:assert/strict')
const { once } = require('node:events')
const path = require('node:path')
const { describe, test } = require('node:test')
const vm = require('node:vm')
const { Worker } = require('node:worker_threads')
const { BufferPool, shared } = require('../..')
const {
  balanced,
  collectUntil,
  endsShow,
  external,
  givenBack,
  posts,
  settle
} = require('../support/helpers')

const ENTRY = JSON.stringify(path.join(__dirname, '..', '..'))

/**
 * Starts a worker that runs a script, with `shared`, `BufferPool` and `parentPort` in scope.
 *
 * @param {string} script
 * @param {import('node:worker_threads').WorkerOptions} [options]
 */
function startWorker(script, options) {
  const source = `
    const { parentPort, workerData } = require('node:worker_threads')
    const { shared, BufferPool } = require(${ENTRY})
    ${script}
  `
  return new Worker(source, { ...options, eval: true })
}

describe('threads', () => {
  test('share one depot through the shared pool', { skip: !external }, async () => {
    const before = shared.stats()
    const worker = startWorker(`
      const buffers = Array.from({ length: 20 }, () => shared.allocUnsafe(300_000).fill(1))
      for (const buffer of buffers) shared.release(buffer)
      parentPort.postMessage(shared.stats().allocCount)
    `)
    const [[count]] = await Promise.all([once(worker, 'message'), once(worker, 'exit')])
    assert.equal(count, before.allocCount + 20)
    const { freshCount, inUseCount } = await balanced(shared)
    assert.equal(inUseCount, 0)
    const buffers = Array.from({ length: 20 }, () => shared.allocUnsafe(300_000))
    assert.equal(shared.stats().freshCount, freshCount, "the worker's blocks are used again")
    for (const buffer of buffers) shared.release(buffer)
  })

  test('each have pools of their own', async () => {
    const script = `
      for (const detachOnRelease of [true, false]) {
        const pool = new BufferPool({ detachOnRelease })
        for (let i = 0; i < 20_000; i++) {
          const buffer = pool.allocUnsafe(1 + (i * 7919) % 100_000)
          buffer[0] = buffer[buffer.length - 1] = i
          if (i % 3 > 0) pool.release(buffer)
          if (i % 1000 === 0) await new Promise(setImmediate)
        }
      }
      parentPort.postMessage('done')
    `
    const workers = Array.from({ length: 6 }, () => startWorker(`;(async () => { ${script} })()`))
    const ends = workers.map((worker) => once(worker, 'exit'))
    const messages = await Promise.all(workers.map((worker) => once(worker, 'message')))
    assert.deepEqual(messages, Array(workers.length).fill(['done']))
    await Promise.all(ends)
  })

  test('do not take each other for the owner', async () => {
    const worker = startWorker(`
      parentPort.once('message', (buffer) => {
        try {
          shared.release(buffer)
        } catch (error) {
          parentPort.postMessage(error.code)
        }
      })
    `)
    worker.postMessage(shared.allocUnsafe(100))
    const [[code]] = await Promise.all([once(worker, 'message'), once(worker, 'exit')])
    assert.equal(code, 'ERR_CISTERN_NOT_POOLED')
    await collectUntil(() => shared.stats().inUseCount === 0, 'the dropped lease is back')
  })
})

describe('contexts', () => {
  test('may load the addon several times in one thread', { skip: !external }, async () => {
    const resolved = require.resolve('../..')
    const folder = path.dirname(resolved)
    const load = () => {
      for (const file of Object.keys(require.cache)) {
        if (file.startsWith(folder) && !file.includes('node_modules')) delete require.cache[file]
      }
      return require(resolved)
    }
    const copies = [require('../..'), load(), load()]
    for (const copy of copies) {
      const buffer = copy.shared.allocUnsafe(1000).fill(1)
      for (const other of copies) assert.ok(other.shared.owns(buffer))
      copies[0].shared.release(buffer)
      for (const other of copies) assert.equal(other.shared.owns(buffer), false)
      assert.equal(buffer.length, 0)
    }
    await givenBack()
    assert.deepEqual(copies[0].shared.stats(), copies[2].shared.stats(), 'and share the pool')
  })

  test('may use a Buffer of another', () => {
    const pool = new BufferPool()
    const buffer = pool.allocUnsafe(100)
    vm.runInNewContext('for (let i = 0; i < buffer.length; i++) buffer[i] = 7', { buffer })
    const view = vm.runInNewContext('new Uint8Array(buffer.buffer, 1, 2)', { buffer })
    assert.ok(buffer.every((byte) => byte === 7))
    pool.release(view)
    assert.equal(pool.stats().inUseCount, 0)
  })
})

/** The ways in which a worker ends. */
const ENDS = {
  returns: 'void 0',
  'calls process.exit': 'process.exit(0)',
  throws: 'throw new Error("on purpose")',
  'is terminated': 'parentPort.postMessage("ready"); for (;;) shared.release(shared.allocUnsafe(9))'
}

describe('a worker that ends', () => {
  for (const [name, script] of Object.entries(ENDS)) {
    test(`and ${name} leaves the totals in balance, and its idle blocks`, async () => {
      const before = await balanced(shared)
      const worker = startWorker(`
        const idle = Array.from({ length: 30 }, () => shared.allocUnsafe(20_000))
        globalThis.leased = Array.from({ length: 10 }, () => shared.allocUnsafe(40_000))
        for (const buffer of idle) shared.release(buffer)
        for (let i = 0; i < 5; i++) shared.allocUnsafe(50_000)
        ${script}
      `)
      worker.on('error', () => {})
      worker.once('message', () => worker.terminate())
      await new Promise((resolve) => worker.once('exit', resolve))
      const after = await balanced(shared)
      assert.equal(after.inUseCount, before.inUseCount)
      const classOf = (stats, blockSize) =>
        stats.classes.find((figures) => figures.blockSize === blockSize) ?? {}
      const idle = classOf(after, 20_480)
      if (external) assert.ok(idle.idleCount >= 30, 'its idle blocks are in the depot')
      assert.equal(idle.quarantinedBytes, 0)
      const leased = classOf(after, 40_960)
      const { quarantinedBytes = 0 } = classOf(before, 40_960)
      const isSetAside = external && !endsShow
      assert.equal(
        leased.quarantinedBytes - quarantinedBytes,
        isSetAside ? 10 * 40_960 : 0,
        'nobody else had what was leased, or it is set aside for good'
      )
      if (external && !isSetAside) assert.ok(leased.idleCount >= 10)
    })
  }

  test('has nothing in common with later owners of its posted memory', {
    skip: !posts
  }, async () => {
    for (let round = 0; round < 10; round++) {
      const worker = startWorker(`
        shared.release(shared.allocUnsafe(100_000))
        const buffer = shared.allocUnsafe(100_000).fill(42)
        parentPort.postMessage(buffer, [buffer.buffer])
        setInterval(() => {}, 1000)
      `)
      const [received] = await once(worker, 'message')
      await worker.terminate()
      const others = Array.from({ length: 20 }, () => shared.allocUnsafe(100_000).fill(round))
      assert.ok(
        received.every((byte) => byte === 42),
        'the bytes are still the sender’s'
      )
      received.fill(43)
      assert.ok(others.every((other) => other.every((byte) => byte === round)))
      for (const other of others) shared.release(other)
    }
    await balanced(shared)
  })

  test('while its posted Buffer is read, and terminated at any moment', {
    skip: !posts
  }, async () => {
    const held = []
    for (let round = 0; round < 40; round++) {
      const worker = startWorker(`
        let mark = 0
        const post = () => {
          for (let i = 0; i < 4; i++) {
            shared.release(shared.allocUnsafe(5000))
            const buffer = shared.allocUnsafe(5000).fill(++mark)
            parentPort.postMessage({ buffer, mark }, [buffer.buffer])
          }
          setImmediate(post)
        }
        post()
      `)
      worker.on('message', ({ buffer, mark }) => held.push({ buffer, mark: mark & 255 }))
      await once(worker, 'message')
      await new Promise((resolve) => setTimeout(resolve, round % 8))
      await worker.terminate()
      for (let i = 0; i < 50; i++) shared.release(shared.allocUnsafe(5000).fill(255))
    }
    assert.ok(held.length >= 40)
    for (const { buffer, mark } of held) assert.ok(buffer.every((byte) => byte === mark))
    await balanced(shared)
  })

  test('while it creates a pool, a hundred times over', async () => {
    for (let i = 0; i < 25; i++) {
      const workers = Array.from({ length: 4 }, () =>
        startWorker(
          `
          const pool = new BufferPool({ detachOnRelease: workerData % 2 === 0 })
          for (;;) {
            const buffers = Array.from({ length: 40 }, (_, i) => pool.allocUnsafe(1 + i * 500))
            for (const buffer of buffers) if (buffer.length % 3 > 0) pool.release(buffer)
            parentPort.postMessage(0)
          }
        `,
          { workerData: i }
        )
      )
      if (i % 2 === 0) await Promise.all(workers.map((worker) => once(worker, 'message')))
      await Promise.all(workers.map((worker) => worker.terminate()))
    }
    await settle()
  })
})
