'use strict'

/** A thread that waits for memory goes on for as long as others can end its wait, and no longer. */

const assert = require('node:assert/strict')
const { once } = require('node:events')
const fs = require('node:fs')
const path = require('node:path')
const { describe, test } = require('node:test')
const { pathToFileURL } = require('node:url')
const { Worker } = require('node:worker_threads')
const { BufferPool } = require('../..')
const { balanced, eventually, external, posts, until } = require('../support/helpers')
const { folder, runProgram, writeProgram } = require('../support/programs')

const KIB = 1024
const MIB = 1024 * KIB

/** The time limit for a wait in vain, in milliseconds. */
const LIMIT = { timeout: 120_000 }

/** The exit code of a thread that awaits a promise that never settles. */
const UNSETTLED = { cjs: 0, mjs: 13 }

const ROOT = path.join(__dirname, '..', '..')

let files = 0

/**
 * Writes a program that has `cistern`, `io`, `threads` and, in a worker, its `pool` at hand.
 *
 * @param {'cjs' | 'mjs'} kind
 * @param {string} body which may await
 */
function write(kind, body) {
  const attach = `
    const pool = threads.workerData?.handle && cistern.BufferPool.attach(threads.workerData.handle)
    const { data } = threads.workerData ?? {}
    const tell = (value, list) => threads.parentPort.postMessage(value, list)
  `
  const head =
    kind === 'cjs'
      ? `const cistern = require(${JSON.stringify(ROOT)})
         const io = require(${JSON.stringify(path.join(ROOT, 'lib', 'io', 'index.js'))})
         const threads = require('node:worker_threads')`
      : `import cistern from ${JSON.stringify(pathToFileURL(path.join(ROOT, 'index.js')).href)}
         import io from ${JSON.stringify(pathToFileURL(path.join(ROOT, 'lib', 'io', 'index.js')).href)}
         import threads from 'node:worker_threads'`
  const run = kind === 'cjs' ? `;(async () => {${body}})()` : body
  return writeProgram(`program-${++files}.${kind}`, `${head}\n${attach}\n${run}\n`)
}

/**
 * Runs a program in a worker that nothing keeps alive but what the program awaits.
 *
 * @param {BufferPool} pool
 * @param {'cjs' | 'mjs'} kind
 * @param {string} body
 * @param {unknown} [data]
 */
function start(pool, kind, body, data) {
  const workerData = { handle: pool.handle, data }
  const worker = new Worker(write(kind, body), { workerData })
  /** @type {any[]} */
  const told = []
  worker.on('message', (value) => told.push(value))
  const failed = once(worker, 'error').then(([error]) => assert.fail(error))
  const exited = once(worker, 'exit').then(([code]) => code)
  return { worker, told, ended: Promise.race([exited, failed]) }
}

/**
 * Runs a program as a process. Returns what it printed, and its exit code.
 *
 * @param {'cjs' | 'mjs'} kind
 * @param {string} body
 */
function runProcess(kind, body) {
  const flags = ['--expose-gc', '--no-warnings']
  const { status, stdout, stderr } = runProgram(write(kind, body), flags)
  // Node warns of an await that never settled.
  assert.ok(status === 0 || status === 13, stderr)
  return { status, stdout: stdout.trim() }
}

/** @param {BufferPool} pool */
const someoneWaits = (pool) => () => pool.stats().waitingCount > 0

/**
 * Waits until a thread has waited for longer than it takes to look whether anyone can end its wait.
 *
 * @param {BufferPool} pool
 */
async function hasWaited(pool) {
  await until(() => pool.stats().longestWaitMs > 400, 'it waits for a while')
}

for (const kind of /** @type {const} */ (['cjs', 'mjs'])) {
  describe(
    `A thread that waits, as ${kind === 'cjs' ? 'CommonJS' : 'an ES module'},`,
    LIMIT,
    () => {
      for (const [ceiling, most] of [
        [24 * MIB, 3 * MIB],
        [4 * MIB, 3 * MIB]
      ]) {
        test(`goes on where three share ${ceiling / MIB} MiB`, async () => {
          const pool = new BufferPool({ maxBytes: ceiling })
          const body = `
          let rounds = 0
          try {
            for (; rounds < 300; rounds++) {
              const size = 1024 * 1024 + Math.floor(Math.random() * (data - 1024 * 1024))
              const buffer = await pool.acquire(size)
              if (rounds % 3 === 0) await new Promise(setImmediate)
              pool.release(buffer)
            }
          } finally {
            tell(rounds)
          }
        `
          const all = Array.from({ length: 3 }, () => start(pool, kind, body, most))
          const codes = await Promise.all(all.map(({ ended }) => ended))
          assert.deepEqual(codes, [0, 0, 0])
          assert.deepEqual(
            all.map(({ told }) => told),
            [[300], [300], [300]]
          )
          await balanced(pool)
        })
      }

      test('is served by what another thread releases', async () => {
        const pool = new BufferPool({ maxBytes: MIB })
        const held = pool.allocUnsafe(MIB)
        const { told, ended } = start(pool, kind, 'tell((await pool.acquire(1000)).length)')
        await hasWaited(pool)
        pool.release(held)
        assert.equal(await ended, 0)
        assert.deepEqual(told, [1000])
      })

      test('is served by what another thread drops', async () => {
        const pool = new BufferPool({ maxBytes: MIB })
        const held = [pool.allocUnsafe(MIB)]
        const { told, ended } = start(pool, kind, 'tell((await pool.acquire(1000)).length)')
        await hasWaited(pool)
        held.length = 0
        await eventually(() => told.length > 0, 'it is served')
        assert.equal(await ended, 0)
      })

      test('ends where it waits for what it has itself', async () => {
        const pool = new BufferPool({ maxBytes: MIB })
        const { told, ended } = start(
          pool,
          kind,
          `
          const held = pool.allocUnsafe(1024 * 1024)
          tell('waits')
          try {
            await pool.acquire(1)
          } finally {
            tell(held.length)
          }
        `
        )
        assert.equal(await ended, UNSETTLED[kind])
        assert.deepEqual(told, ['waits'])
        await until(() => pool.stats().waitingCount === 0, 'its wait is over')
      })

      test('goes on where its memory has been posted to another thread', {
        skip: !posts || !external
      }, async () => {
        const pool = new BufferPool({ maxBytes: MIB })
        const { told, ended } = start(
          pool,
          kind,
          `
          for (let i = 0; i < 4; i++) {
            const buffer = pool.allocUnsafe(256 * 1024)
            tell(buffer, [buffer.buffer])
          }
          tell((await pool.acquire(1000)).length)
        `
        )
        await until(() => told.length === 4, 'all are here')
        await hasWaited(pool)
        pool.release(told[0])
        assert.equal(await ended, 0)
        assert.equal(told[4], 1000)
      })

      test('goes on where it has posted its memory after it began to wait', {
        skip: !posts || !external
      }, async () => {
        const pool = new BufferPool({ maxBytes: MIB })
        const { told, ended } = start(
          pool,
          kind,
          `
          const buffer = pool.allocUnsafe(1024 * 1024)
          const promise = pool.acquire(1000)
          setTimeout(() => tell(buffer, [buffer.buffer]), 300)
          tell((await promise).length)
        `
        )
        await until(() => told.length === 1, 'it is here')
        await hasWaited(pool)
        pool.release(told[0])
        assert.equal(await ended, 0)
        assert.equal(told[1], 1000)
      })

      test('goes on though one in ten thousand of its blocks alone is elsewhere, and ends where none is', {
        skip: !posts || !external
      }, async () => {
        for (const posted of [true, false]) {
          const pool = new BufferPool({ maxBytes: 10_000 * 64, leakSampleRate: 0 })
          const { told, ended } = start(
            pool,
            kind,
            `
            const all = Array.from({ length: 10_000 }, () => pool.allocUnsafe(64))
            const last = all.pop()
            if (data) tell(last, [last.buffer])
            const { length } = await pool.acquire(64)
            tell(length + all.length)
          `,
            posted
          )
          if (posted) {
            await until(() => told.length === 1, 'it is here')
            await hasWaited(pool)
            pool.release(told[0])
          }
          assert.equal(await ended, posted ? 0 : UNSETTLED[kind])
          assert.deepEqual(told.slice(1), posted ? [64 + 9999] : [])
        }
      })

      test('heeds a signal, which keeps no thread alive by itself', async () => {
        const pool = new BufferPool({ maxBytes: MIB })
        const held = pool.allocUnsafe(MIB)
        const { told, ended } = start(
          pool,
          kind,
          `
          try {
            await pool.acquire(1, { signal: AbortSignal.timeout(500) })
          } catch (error) {
            tell(error.code)
          }
        `
        )
        assert.equal(await ended, 0)
        assert.deepEqual(told, ['ABORT_ERR'])
        pool.release(held)
      })

      test('hears that the pool is closed', async () => {
        const pool = new BufferPool({ maxBytes: MIB })
        const held = pool.allocUnsafe(MIB)
        const { told, ended } = start(
          pool,
          kind,
          'try { await pool.acquire(1) } catch (error) { tell(error.code) }'
        )
        await hasWaited(pool)
        pool.close()
        assert.equal(await ended, 0)
        assert.deepEqual(told, ['ERR_CISTERN_CLOSED'])
        pool.release(held)
      })

      test('for a chunk of a file goes on', async () => {
        const pool = new BufferPool({ maxBytes: 128 * KIB })
        const held = [pool.allocUnsafe(64 * KIB), pool.allocUnsafe(64 * KIB)]
        const { told, ended } = start(
          pool,
          kind,
          `
          let bytes = 0
          for await (const chunk of io.chunks(pool, data, { chunkSize: 65536 })) bytes += chunk.length
          tell(bytes)
        `,
          __filename
        )
        await hasWaited(pool)
        for (const buffer of held) pool.release(buffer)
        assert.equal(await ended, 0)
        assert.deepEqual(told, [fs.statSync(__filename).size])
      })

      test('to pump a file goes on', async () => {
        const pool = new BufferPool({ maxBytes: 128 * KIB })
        const held = [pool.allocUnsafe(64 * KIB), pool.allocUnsafe(64 * KIB)]
        const copy = path.join(folder, `copy-${kind}`)
        const { told, ended } = start(
          pool,
          kind,
          `
          const { createWriteStream } = await import('node:fs')
          tell(await io.pumpFile(pool, data.file, createWriteStream(data.copy), { chunkSize: 65536 }))
        `,
          { file: __filename, copy }
        )
        await hasWaited(pool)
        for (const buffer of held) pool.release(buffer)
        assert.equal(await ended, 0)
        assert.deepEqual(told, [fs.statSync(__filename).size])
        assert.ok(fs.readFileSync(copy).equals(fs.readFileSync(__filename)))
      })

      test('and is terminated leaves no waiter behind', async () => {
        const pool = new BufferPool({ maxBytes: MIB })
        const held = pool.allocUnsafe(MIB)
        const { worker } = start(pool, kind, 'await pool.acquire(1)')
        await until(someoneWaits(pool), 'it waits')
        await worker.terminate()
        await until(() => pool.stats().waitingCount === 0, 'its wait is over')
        pool.release(held)
        pool.release(await pool.acquire(MIB))
        await balanced(pool)
      })

      test('is served as the main thread, by a worker that keeps nothing alive', () => {
        const worker = JSON.stringify(
          write(
            'cjs',
            `
            const held = pool.allocUnsafe(1024 * 1024)
            tell('has all')
            await new Promise((resolve) => setTimeout(resolve, 500))
            pool.release(held)
            await new Promise(() => threads.parentPort.on('message', () => {}))
          `
          )
        )
        const { status, stdout } = runProcess(
          kind,
          `
          const shared = new cistern.BufferPool({ maxBytes: 1024 * 1024 })
          const workerData = { handle: shared.handle }
          const worker = new threads.Worker(${worker}, { workerData })
          await new Promise((resolve) => worker.once('message', resolve))
          worker.unref()
          console.log((await shared.acquire(1000)).length)
        `
        )
        assert.deepEqual({ status, stdout }, { status: 0, stdout: '1000' })
      })

      test('goes on as the main thread, whose memory was leased before the pool had a handle', {
        skip: !posts || !external
      }, () => {
        const worker = JSON.stringify(
          write(
            'cjs',
            `
            const [handle, held] = await new Promise((r) => threads.parentPort.once('message', r))
            const own = cistern.BufferPool.attach(handle)
            await new Promise((resolve) => setTimeout(resolve, 500))
            own.release(held)
            await new Promise(() => threads.parentPort.on('message', () => {}))
          `
          )
        )
        const { status, stdout } = runProcess(
          kind,
          `
          const shared = new cistern.BufferPool({ maxBytes: 1024 * 1024 })
          const held = shared.allocUnsafe(1024 * 1024)
          const worker = new threads.Worker(${worker})
          worker.postMessage([shared.handle, held], [held.buffer])
          worker.unref()
          console.log((await shared.acquire(1000)).length)
        `
        )
        assert.deepEqual({ status, stdout }, { status: 0, stdout: '1000' })
      })

      test('ends as a process that has moved all memory to other ArrayBuffers of its own', () => {
        const { status } = runProcess(
          kind,
          `
          const own = new cistern.BufferPool({ maxBytes: 1024 * 1024 })
          const { buffer } = own.allocUnsafe(1024 * 1024)
          const moved = structuredClone(buffer, { transfer: [buffer] })
          await own.acquire(1)
          console.log(moved.byteLength)
        `
        )
        assert.equal(status, UNSETTLED[kind])
      })

      test('goes on where it has dropped its memory, and nothing else would collect it', {
        skip: !external || process.platform !== 'linux'
      }, async () => {
        const body = `
          const own = pool ?? new cistern.BufferPool({ maxBytes: 4 * 1024 * 1024 })
          for (let i = 0; i < 4; i++) own.allocUnsafe(1024 * 1024)
          const { length } = await own.acquire(1024 * 1024)
        `
        const { status, stdout } = runProcess(kind, `${body}; console.log(length)`)
        assert.deepEqual({ status, stdout }, { status: 0, stdout: '1048576' })
        const pool = new BufferPool({ maxBytes: 4 * MIB })
        const { told, ended } = start(pool, kind, `${body}; tell(length)`)
        assert.equal(await ended, 0)
        assert.deepEqual(told, [MIB])
      })

      test('ends as a process that waits for what it has itself', () => {
        const { status, stdout } = runProcess(
          kind,
          `
          const own = new cistern.BufferPool({ maxBytes: 1024 })
          const held = own.allocUnsafe(1024)
          process.on('exit', () => console.log(own.stats().waitingCount))
          await own.acquire(1)
          console.log(held.length)
        `
        )
        assert.deepEqual({ status, stdout }, { status: UNSETTLED[kind], stdout: '1' })
      })

      test('leaves nothing behind that keeps a process alive', () => {
        const { status, stdout } = runProcess(
          kind,
          `
          const own = new cistern.BufferPool({ maxBytes: 1024 })
          const held = own.allocUnsafe(1024)
          const promise = own.acquire(1)
          await new Promise((resolve) => setTimeout(resolve, 200))
          const listening = process.listenerCount('beforeExit')
          own.release(held)
          own.release(await promise)
          const start = performance.now()
          process.on('exit', () => {
            const isSoon = performance.now() - start < 40
            console.log(listening, process.listenerCount('beforeExit'), isSoon)
          })
        `
        )
        assert.deepEqual({ status, stdout }, { status: 0, stdout: '1 0 true' })
      })
    }
  )
}

test('what runs before a process ends runs once, however long it waits before', LIMIT, () => {
  const worker = JSON.stringify(
    write(
      'cjs',
      `
        const held = pool.allocUnsafe(1024 * 1024)
        tell('has all')
        await new Promise((resolve) => setTimeout(resolve, 1000))
        pool.release(held)
        await new Promise(() => threads.parentPort.on('message', () => {}))
      `
    )
  )
  const { stdout } = runProcess(
    'cjs',
    `
      const own = new cistern.BufferPool({ maxBytes: 1024 * 1024 })
      const worker = new threads.Worker(${worker}, { workerData: { handle: own.handle } })
      await new Promise((resolve) => worker.once('message', resolve))
      worker.unref()
      process.on('beforeExit', () => console.log('before exit'))
      own.release(await own.acquire(1000))
      console.log('served')
    `
  )
  assert.equal(stdout, 'served\nbefore exit')
})

test('A wait that ends in the midst of a look leaves no timer behind', LIMIT, () => {
  const { stdout } = runProcess(
    'mjs',
    `
      const own = new cistern.BufferPool({ maxBytes: 10_000 * 64, leakSampleRate: 0 })
      const all = Array.from({ length: 10_000 }, () => own.allocUnsafe(64))
      const wait = () => {
        const controller = new AbortController()
        own.acquire(64, { signal: controller.signal }).catch(() => {})
        return controller
      }
      const first = wait()
      // This is right after the first look has begun, which takes more than one turn.
      await new Promise((resolve) => setTimeout(resolve, 50))
      first.abort()
      const second = wait()
      await new Promise((resolve) => setTimeout(resolve, 20))
      second.abort()
      const timers = process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout')
      console.log(timers.length, all.length)
    `
  )
  assert.equal(stdout, '0 10000')
})

test('A process goes on that posts its memory as the very last thing before it ends', {
  skip: !posts || !external,
  ...LIMIT
}, () => {
  const worker = JSON.stringify(
    write(
      'cjs',
      `
        threads.parentPort.on('message', (buffer) => setTimeout(() => pool.release(buffer), 300))
        tell('listens')
      `
    )
  )
  for (const last of [
    'post()',
    'Promise.resolve().then(() => 0).then(post)',
    'process.nextTick(post)'
  ]) {
    const { stdout } = runProcess(
      'cjs',
      `
        const own = new cistern.BufferPool({ maxBytes: 1024 * 1024 })
        let held = own.allocUnsafe(1024 * 1024)
        const worker = new threads.Worker(${worker}, { workerData: { handle: own.handle } })
        await new Promise((resolve) => worker.once('message', resolve))
        worker.unref()
        const post = () => {
          if (held) worker.postMessage(held, [held.buffer])
          held = undefined
        }
        const lease = own.acquire(1000)
        await new Promise((resolve) => setTimeout(resolve, 200))
        process.on('beforeExit', () => { ${last} })
        own.release(await lease)
        console.log('served')
        worker.terminate()
      `
    )
    assert.equal(stdout, 'served', last)
  }
})
