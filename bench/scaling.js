'use strict'

/**
 * `npm run bench`: measures the cost of one item among 10³, 10⁴ and 10⁵, each count in a process of
 * its own. If it is constant, the total grows linearly.
 *
 * To run it alone: `node --expose-gc bench/scaling.js [experiment…]`; `CISTERN=PATH` measures
 * another copy of cistern.
 */

const { fork, spawnSync } = require('node:child_process')
const http = require('node:http')
const net = require('node:net')
const { once } = require('node:events')
const { setImmediate: turn, setTimeout: sleep } = require('node:timers/promises')
const { Worker } = require('node:worker_threads')

const CISTERN = process.env.CISTERN ?? require.resolve('..')
const { BufferPool } = require(CISTERN)
const { readBody } = require(CISTERN.replace(/index\.js$/, 'lib/io/index.js'))

const COUNTS = [1000, 10_000, 100_000]

/** Bytes of a small block. */
const SIZE = 64

/** The time for which idle pools are watched, in ms. */
const WATCHED = 5000

/** Lets finalizers and wakers run. */
async function settle() {
  for (let i = 0; i < 5; i++) await turn()
}

/**
 * Returns how long an operation takes, in ms.
 *
 * @param {() => unknown} operation
 */
async function timed(operation) {
  const start = performance.now()
  await operation()
  return performance.now() - start
}

/** @param {number} count */
function leaseMany(count) {
  const pool = new BufferPool({ leakSampleRate: 0, maxBytes: Infinity })
  return { pool, buffers: Array.from({ length: count }, () => pool.allocUnsafe(SIZE)) }
}

/**
 * The experiments. Each takes a count and returns milliseconds: of all items, or of one call if its
 * unit says so.
 *
 * @type {Record<string, { unit: 'ns an item' | 'µs a call' | '% of a core', most?: number, run:
 *   (count: number) => Promise<number> }>}
 */
const experiments = {
  'waiters aborted': {
    unit: 'ns an item',
    async run(count) {
      const pool = new BufferPool({ maxBytes: SIZE, leakSampleRate: 0 })
      const held = pool.allocUnsafe(SIZE)
      const waiters = Array.from({ length: count }, () => {
        const controller = new AbortController()
        const promise = pool.acquire(SIZE, { signal: controller.signal })
        promise.catch(() => {})
        return { controller, promise }
      })
      const time = await timed(() => {
        for (const { controller } of waiters) controller.abort(null)
      })
      await Promise.allSettled(waiters.map(({ promise }) => promise))
      pool.release(held)
      return time
    }
  },
  'waiters served': {
    unit: 'ns an item',
    async run(count) {
      const pool = new BufferPool({ maxBytes: SIZE, leakSampleRate: 0 })
      const held = pool.allocUnsafe(SIZE)
      const served = Array.from({ length: count }, async () =>
        pool.release(await pool.acquire(SIZE))
      )
      return timed(async () => {
        pool.release(held)
        await Promise.all(served)
      })
    }
  },
  'blocks of an ended worker': {
    unit: 'ns an item',
    async run(count) {
      const pool = new BufferPool({ leakSampleRate: 0, maxBytes: Infinity })
      const source = `
        const { BufferPool } = require(${JSON.stringify(CISTERN)})
        const { workerData, parentPort } = require('node:worker_threads')
        const pool = BufferPool.attach(workerData.handle)
        globalThis.held = Array.from({ length: workerData.count }, () => pool.allocUnsafe(${SIZE}))
        parentPort.on('message', () => {})
        parentPort.postMessage('ready')`
      const worker = new Worker(source, {
        eval: true,
        workerData: { handle: pool.handle, count },
        // Node has a race with V8's background sweeper at the end of a thread: see SECURITY.md.
        execArgv: []
      })
      await once(worker, 'message')
      return timed(async () => {
        await worker.terminate()
        while (pool.stats().inUseCount > 0 || pool.stats().quarantinedBytes > 0) await sleep(5)
      })
    }
  },
  handles: {
    unit: 'ns an item',
    async run(count) {
      const pools = Array.from({ length: count }, () => new BufferPool({ leakSampleRate: 0 }))
      return timed(() => {
        for (const pool of pools) pool.handle
      })
    },
    most: 10_000
  },
  'pools with idle memory': {
    unit: '% of a core',
    async run(count) {
      const pools = Array.from({ length: count }, () => {
        const pool = new BufferPool({ leakSampleRate: 0 })
        pool.release(pool.allocUnsafe(SIZE))
        return pool
      })
      await sleep(100)
      const before = process.cpuUsage()
      await sleep(WATCHED)
      const { user, system } = process.cpuUsage(before)
      if (pools.length === 0) throw new Error('unreachable')
      return (user + system) / 10 / WATCHED
    },
    most: 10_000
  },
  'clients that leave at once': {
    unit: 'ns an item',
    async run(count) {
      const pool = new BufferPool({ maxBytes: 1024 * 1024, leakSampleRate: 0 })
      const held = pool.allocUnsafe(1024 * 1024)
      let open = 0
      const server = http.createServer((req, res) => {
        open++
        readBody(pool, req)
          .catch(() => {})
          .finally(() => {
            open--
            res.destroy()
          })
      })
      server.listen(0)
      await once(server, 'listening')
      const { port } = /** @type {net.AddressInfo} */ (server.address())
      // The clients have a process of their own: one process has too few descriptors.
      const clients = fork(__filename, ['--clients', String(port), String(count)])
      while (open < count) await sleep(5)
      const time = await timed(async () => {
        clients.kill('SIGKILL')
        while (open > 0) await turn()
      })
      pool.release(held)
      server.close()
      return time
    },
    most: 10_000
  },
  'stats() with so many leases': {
    unit: 'µs a call',
    async run(count) {
      const { pool, buffers } = leaseMany(count)
      for (let i = 0; i < 200; i++) pool.stats()
      const time = await timed(() => {
        for (let i = 0; i < 200; i++) pool.stats()
      })
      for (const buffer of buffers) pool.release(buffer)
      return time / 200
    }
  },
  'trim(), all of it': {
    unit: 'ns an item',
    async run(count) {
      const { pool, buffers } = leaseMany(count)
      for (const buffer of buffers) pool.release(buffer)
      return timed(async () => {
        pool.trim()
        while (pool.stats().idleBytes > 0) await turn()
      })
    }
  },
  'trim(), the call': {
    unit: 'µs a call',
    async run(count) {
      const { pool, buffers } = leaseMany(count)
      for (const buffer of buffers) pool.release(buffer)
      const time = await timed(() => pool.trim())
      await settle()
      return time
    }
  }
}

/**
 * @param {string} name
 * @param {number} count
 */
async function measure(name, count) {
  const { unit, run } = experiments[name]
  const time = await run(count)
  if (unit === 'ns an item') return (time / count) * 1e6
  return unit === 'µs a call' ? time * 1000 : time
}

/**
 * Opens clients that announce a body and send none.
 *
 * @param {number} port
 * @param {number} count
 */
async function connect(port, count) {
  for (let i = 0; i < count; i++) {
    const socket = net.connect(port)
    socket.on('error', () => {})
    socket.write('POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n')
    // At a time, open at most as many as the backlog holds.
    if (i % 100 === 99) await sleep(5)
  }
}

async function main() {
  const [, , ...args] = process.argv
  if (args[0] === '--clients') return connect(Number(args[1]), Number(args[2]))
  if (args[0] === '--measure') {
    console.log(await measure(args[1], Number(args[2])))
    process.exit()
  }
  const names = args.length > 0 ? args : Object.keys(experiments)
  const unknown = names.find((name) => !(name in experiments))
  if (unknown !== undefined) {
    console.error(
      `There is no experiment '${unknown}': there are ${Object.keys(experiments).join(', ')}`
    )
    process.exit(2)
  }
  console.log(`\nThe cost of one item among many: Node ${process.version}\n`)
  const heads = COUNTS.map((count) => count.toLocaleString('en').padStart(12))
  console.log(`${''.padEnd(30)}${heads.join('')}`)
  for (const name of names) {
    const { unit, most = Infinity } = experiments[name]
    const cells = COUNTS.map((count) => {
      if (count > most) return '–'.padStart(12)
      const { stdout, stderr, status } = spawnSync(
        process.execPath,
        [
          '--expose-gc',
          '--no-concurrent-array-buffer-sweeping',
          __filename,
          '--measure',
          name,
          String(count)
        ],
        { encoding: 'utf8', timeout: 120_000 }
      )
      if (status !== 0) throw new Error(`'${name}' with ${count} failed:\n${stderr}`)
      return Number(stdout)
        .toFixed(unit === '% of a core' ? 1 : 0)
        .padStart(12)
    })
    console.log(`${name.padEnd(30)}${cells.join('')}  ${unit}`)
  }
}

main()
