'use strict'

/** A process or a worker that ends in the middle of everything. Nothing is lost in the others. */

const assert = require('node:assert/strict')
const { spawnSync } = require('node:child_process')
const path = require('node:path')
const { describe, test } = require('node:test')
const { flagsOf } = require('../../scripts/project')
const { onOwnMemory, smallFile } = require('../support/fault-processes')

describe('A process or worker that ends in the middle of everything', () => {
  /**
   * Thousands of Buffers leased, released and dropped, and every helper at work; then calls `end`.
   *
   * @param {typeof import('../support/faults')} faults
   * @param {{ file: string, detachOnRelease: boolean }} given
   * @param {() => void} end
   * @param {import('../..').BufferPool} [pool]
   */
  async function beBusy(
    { BufferPool, io },
    { file, detachOnRelease },
    end,
    pool = new BufferPool({ detachOnRelease, leakSampleRate: 0 })
  ) {
    const fs = require('node:fs')
    const net = require('node:net')
    const { devNull } = require('node:os')
    const { Readable } = require('node:stream')
    const small = new BufferPool({ detachOnRelease, maxBytes: 65_536 })
    const kept = Array.from({ length: 3000 }, (_, i) => pool.allocUnsafe((i % 100) * 300 + 1))
    for (let i = 0; i < 1000; i++) pool.release(kept.pop())
    // Of the dropped Buffers, some are collected already, some are not, and some wait for their
    // finalizers.
    for (let i = 0; i < 3000; i++) pool.allocUnsafe(3000)
    globalThis.gc()
    await new Promise((resolve) => setImmediate(resolve))
    for (let i = 0; i < 1000; i++) pool.allocUnsafe(3000)
    const waiting = [small.allocUnsafe(65_536), small.acquire(1)]
    const busy = []
    // A client that does not read, and one that writes and never ends.
    const server = net.createServer((socket) => {
      socket.on('error', () => {}).unref()
      busy.push(io.pumpFile(pool, file, socket).catch(() => {}))
    })
    await new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(undefined)))
    const { port } = /** @type {import('node:net').AddressInfo} */ (server.address())
    const client = net.connect(port, '127.0.0.1').pause()
    const body = new Readable({ read() {} })
    body.push(Buffer.alloc(100_000))
    busy.push(io.readBody(pool, body))
    for (let i = 0; i < 4; i++) {
      busy.push(io.pumpFile(pool, file, fs.createWriteStream(devNull)).catch(() => {}))
      busy.push(
        (async () => {
          for await (const chunk of io.chunks(pool, file)) busy.push(chunk.length)
        })()
      )
    }
    const bytes = pool.byteBuffer().append('cistern')
    Object.assign(globalThis, { kept, waiting, busy, client, bytes })
    globalThis.gc()
    setImmediate(end)
    // The process ends by itself.
    server.unref()
    client.unref()
  }

  const ENDS = {
    'process.exit()': { end: '() => process.exit(7)', code: 7 },
    'process.reallyExit()': { end: '() => process.reallyExit(7)', code: 7 },
    'an uncaught exception': { end: '() => { throw new Error("on purpose") }', code: 1 },
    'an unhandled rejection': { end: '() => Promise.reject(new Error("on purpose"))', code: 1 },
    'no more to do': { end: '() => globalThis.client.destroy()', code: 0 },
    'an exit handler that leases and releases': {
      end: `() => {
        process.on('exit', () => {
          const { shared } = faults
          for (let i = 0; i < 100; i++) shared.release(shared.allocUnsafe(5000))
          globalThis.kept = shared.allocUnsafe(100)
        })
        process.exit(7)
      }`,
      code: 7
    }
  }

  /** Runs a script, and asserts how it ends and what it says. */
  function assertEnd(script, code, says = '') {
    const faults = JSON.stringify(path.join(__dirname, '..', 'support', 'faults'))
    const { status, signal, stdout, stderr } = spawnSync(
      process.execPath,
      [
        '--expose-gc',
        ...flagsOf(process.version),
        '-e',
        `const faults = require(${faults})\n${script}`
      ],
      { encoding: 'utf8', timeout: 120_000 }
    )
    assert.deepEqual({ status, signal }, { status: code, signal: null }, `${stderr}\n${stdout}`)
    assert.equal(stdout, says)
    // The output is Node's own text of the exception, and nothing else.
    if (code === 1)
      assert.match(
        // Node prints them by C's functions, which end lines as Windows does.
        stderr.replaceAll('\r\n', '\n'),
        /^[\s\S]{0,300}Error: on purpose\n( +at .*\n)+\n?Node\.js v\S+\n*$/
      )
    else assert.equal(stderr, '')
  }

  for (const [name, { end, code }] of Object.entries(ENDS)) {
    test(`by ${name}`, () => {
      for (const detachOnRelease of [true, false]) {
        const given = JSON.stringify({ file: smallFile, detachOnRelease })
        assertEnd(`;(${beBusy})(faults, ${given}, ${end})`, code)
      }
    })
  }

  test('a worker, at any moment, with the pool shared: nothing is lost', onOwnMemory, () => {
    const work = async (faults, busyWorker, file) => {
      const { BufferPool, assert, assertWhole, eventually } = faults
      const { setTimeout: sleep } = require('node:timers/promises')
      const { Worker } = require('node:worker_threads')
      for (const detachOnRelease of [true, false]) {
        const pool = new BufferPool({ detachOnRelease, leakSampleRate: 0 })
        const codes = {
          '() => process.exit(7)': 7,
          '() => { throw new Error("on purpose") }': 1,
          '() => globalThis.client.destroy()': 0,
          '() => { for (;;) globalThis.kept.push(pool.allocUnsafe(100)) }': 1,
          '() => { for (;;) pool.release(pool.allocUnsafe(50_000)) }': 1
        }
        for (const [end, expected] of Object.entries(codes)) {
          for (let round = 0; round < 2; round++) {
            const isEndless = end.includes('for (;;)')
            const workerData = { file, handle: pool.handle }
            const worker = new Worker(busyWorker.replace('END', end), { eval: true, workerData })
            const errors = []
            worker.on('error', ({ message }) => errors.push(message))
            const exit = new Promise((resolve) => worker.on('exit', resolve))
            if (isEndless || round === 1) {
              await Promise.race([sleep(30 + 40 * Math.random() + 100 * round), exit])
              await worker.terminate()
            }
            const code = await exit
            // Node reports 0 for a worker that was terminated before it had begun.
            if (round === 0 && !(isEndless && code === 0)) assert.equal(code, expected)
            assert.ok(
              errors.every((message) => message === 'on purpose'),
              errors.join()
            )
            const own = Array.from({ length: 200 }, (_, i) => pool.allocUnsafe(i * 300 + 2))
            faults.mark(own)
            await faults.settle()
            faults.assertMarks(own)
            for (const buffer of own) pool.release(buffer)
          }
        }
        await eventually(() => pool.stats().inUseCount === 0, 'what the workers had is back')
        await assertWhole(pool, { afterEnds: true })
        await eventually(() => faults.openFiles(file).length === 0, 'no file is open')
      }
    }
    const worker = `
      const { workerData } = require('node:worker_threads')
      const faults = require(${JSON.stringify(path.join(__dirname, '..', 'support', 'faults'))})
      const pool = faults.BufferPool.attach(workerData.handle)
      ;(${beBusy})(faults, { file: workerData.file }, END, pool)
    `
    // Workers do not have this function.
    const script = `;(${work})(faults, ${JSON.stringify(worker)}, ${JSON.stringify(smallFile)})`
    assertEnd(`${script}.then(() => console.log('done'))`, 0, 'done\n')
  })
})
