'use strict'

/**
 * Tries everything that cistern does once, on this runtime: `npm run test:matrix` runs it on all.
 *
 *     node --expose-gc __test__/support/smoke.js [trial]
 *
 * Without a name, all trials, and exit code 1 unless each is ok. With one, a line of JSON that
 * tells how it went.
 */

const assert = require('node:assert/strict')
const { once } = require('node:events')
const { mkdtempSync, readFileSync, rmSync, writeFileSync } = require('node:fs')
const http = require('node:http')
const { tmpdir } = require('node:os')
const path = require('node:path')
const { setTimeout: sleep } = require('node:timers/promises')
const { Worker, isMainThread, parentPort, workerData } = require('node:worker_threads')

const README = path.join(__dirname, '..', '..', 'README.md')

/** Above what any runtime keeps inside of its own objects. */
const SIZE = 100_000

/** Each gives what to say in place of "ok", if anything. */
const TRIALS = {
  'owner of the memory': ({ BufferPool }) => {
    const { external } = new BufferPool().stats()
    return external ? "cistern's" : "the runtime's"
  },

  'lease, release, lease again': ({ BufferPool }) => {
    const pool = new BufferPool()
    const stale = pool.allocUnsafe(SIZE).fill(1)
    pool.release(stale.subarray(10))
    assert.equal(stale.length, 0)
    const buffer = pool.alloc(SIZE)
    assert.ok(Buffer.isBuffer(buffer) && buffer.every((byte) => byte === 0))
    assert.equal(pool.stats().freshCount, 1)
    pool.release(buffer)
    pool.trim()
    assert.equal(pool.stats().idleBytes, 0)
  },

  'a dropped Buffer comes back': async ({ BufferPool }) => {
    const pool = new BufferPool()
    // This is a function, and runs often: a collector that scans the stack byte by byte may still
    // find the last.
    const drop = () => pool.allocUnsafe(SIZE).fill(1).length
    for (let i = 0; i < 20; i++) drop()
    for (let i = 0; i < 50 && pool.stats().collectedCount === 0; i++) {
      await sleep(10)
      collectGarbage()
    }
    const { collectedCount, quarantinedBytes } = pool.stats()
    assert.ok(collectedCount > 0, `none has come back, ${quarantinedBytes} bytes are set aside`)
  },

  'waiting at the ceiling': async ({ BufferPool }) => {
    const pool = new BufferPool({ maxBytes: 2 ** 20, onExhausted: 'throw' })
    const first = pool.allocUnsafe(2 ** 20)
    assert.throws(() => pool.allocUnsafe(SIZE), { code: 'ERR_CISTERN_EXHAUSTED' })
    const second = pool.acquire(2 ** 20)
    pool.release(first)
    pool.release(await second)
  },

  'a buffer that grows': ({ BufferPool }) => {
    const bytes = new BufferPool().byteBuffer()
    for (let i = 0; i < 1000; i++) bytes.append('line ').append(Buffer.from(`${i}\n`))
    assert.equal(bytes.view().toString().split('\n')[999], 'line 999')
    bytes.release()
  },

  "the README's server": async () => {
    const code = /```js\n(const http.*?)```/s
      .exec(readFileSync(README, 'utf8'))[1]
      .replace('cistern/io', 'cistern/lib/io')
      .replace('8000', '0')
    const load = (name) => require(name.replace(/^cistern/, '../..'))
    const address = await new Promise((resolve) => {
      new Function('require', 'console', code)(load, { log: resolve })
    })
    for (let i = 0; i < 20; i++) {
      const body = await ask(`${address}path`)
      assert.equal(body.length, 2 ** 20)
      assert.ok(body.toString().startsWith('You asked for /path. You asked'))
    }
  },

  'readBody and end': async ({ BufferPool }, { end, readBody }) => {
    const pool = new BufferPool()
    const address = await serve(async (req, res) => {
      try {
        const body = await readBody(pool, req, { limit: 2 ** 20 })
        end(pool, res, body.buffer)
      } catch (error) {
        res.writeHead(error.statusCode ?? 500, { connection: 'close' }).end()
      }
    })
    const sent = Buffer.alloc(2 ** 20, 'what is sent comes back ')
    for (let i = 0; i < 5; i++) assert.deepEqual(await ask(address, sent), sent)
    assert.equal(await ask(address, Buffer.alloc(2 ** 20 + 1)), 413)
    await settled(pool)
  },

  pumpFile: async ({ BufferPool }, { pumpFile }) => {
    const pool = new BufferPool()
    const folder = mkdtempSync(path.join(tmpdir(), 'cistern-smoke-'))
    const file = path.join(folder, 'file')
    const contents = Buffer.alloc(3 * 2 ** 20, 'of a file ')
    writeFileSync(file, contents)
    try {
      const address = await serve(async (_, res) => {
        await pumpFile(pool, file, res)
        res.end()
      })
      assert.deepEqual(await ask(address), contents)
    } finally {
      rmSync(folder, { recursive: true })
    }
    await settled(pool)
  },

  'the same pool in a worker': async ({ BufferPool }) => {
    const pool = new BufferPool()
    const { worker, bytes } = await postedBy(pool)
    assert.equal(pool.stats().inUseCount, 1)
    pool.release(bytes)
    await worker.terminate()
  },

  'a Buffer that an ended worker posted': async ({ BufferPool }) => {
    const pool = new BufferPool()
    // In a function, as above.
    await (async () => {
      const { worker, bytes } = await postedBy(pool)
      await worker.terminate()
      for (let i = 0; i < 100; i++) pool.allocUnsafe(SIZE).fill(1)
      assert.ok(bytes.every((byte) => byte === 5))
    })()
    const isBack = () => {
      const { inUseCount, quarantinedBytes } = pool.stats()
      return inUseCount === 0 && quarantinedBytes === 0
    }
    for (let i = 0; i < 50 && !isBack(); i++) {
      await sleep(10)
      collectGarbage()
    }
    return isBack() ? 'comes back' : 'intact, in quarantine for good'
  }
}

/** Starts a worker that leases a Buffer. Returns the worker, and the Buffer that it has posted. */
async function postedBy(pool) {
  const worker = new Worker(__filename, { workerData: pool.handle })
  const [bytes] = await once(worker, 'message')
  if (bytes.code !== undefined) throw Object.assign(new Error(bytes.message), bytes)
  assert.ok(bytes.every((byte) => byte === 5))
  return { worker, bytes }
}

/** Runs the worker of the last trials: leases a Buffer, and posts it. */
function work() {
  try {
    const { BufferPool } = require('../..')
    const buffer = BufferPool.attach(workerData).allocUnsafe(SIZE).fill(5)
    parentPort.postMessage(buffer, [buffer.buffer])
    // The other side ends it: the posted Buffer belongs to its lender until it is back.
    setInterval(() => {}, 1000)
  } catch ({ code, message }) {
    parentPort.postMessage({ code: String(code), message })
  }
}

/** @param {http.RequestListener} answer */
async function serve(answer) {
  const server = http.createServer(answer).listen(0, '127.0.0.1')
  await once(server, 'listening')
  return `http://127.0.0.1:${server.address().port}/`
}

/**
 * Returns the body of an answer, or its status if that is no success.
 *
 * @param {string} url
 * @param {Buffer} [body]
 * @returns {Promise<Buffer | number>}
 */
async function ask(url, body) {
  const response = await fetch(url, body && { method: 'POST', body })
  const bytes = Buffer.from(await response.arrayBuffer())
  return response.ok ? bytes : response.status
}

/** Waits for the end of a response, which cistern sees a moment after its last byte. */
async function settled(pool) {
  for (let i = 0; i < 6000 && pool.stats().inUseCount > 0; i++) await sleep(10)
  assert.equal(pool.stats().inUseCount, 0)
}

function collectGarbage() {
  if (typeof globalThis.Bun === 'object') globalThis.Bun.gc(true)
  else globalThis.gc()
}

/** @param {string} name */
async function outcomeOf(name) {
  try {
    return { outcome: (await TRIALS[name](require('../..'), require('../../lib/io'))) ?? 'ok' }
  } catch (error) {
    const { code, message } = error
    return { outcome: code?.startsWith?.('ERR_CISTERN_') ? 'refused' : 'fails', code, message }
  }
}

async function main([name]) {
  if (name !== undefined) {
    console.log(JSON.stringify(await outcomeOf(name)))
    process.exit(0)
  }
  let failed = false
  for (const name of Object.keys(TRIALS)) {
    const { outcome, message = '' } = await outcomeOf(name)
    console.log(`${name}: ${outcome} ${message}`)
    failed ||= outcome === 'refused' || outcome === 'fails'
  }
  process.exit(failed ? 1 : 0)
}

if (!isMainThread) work()
else if (require.main === module) main(process.argv.slice(2))

module.exports = { trials: Object.keys(TRIALS) }
