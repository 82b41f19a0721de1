'use strict'

/**
 * `npm run soak -- --minutes N`: threads that lease, post, drop, wait, and are ended at any moment;
 * http traffic with broken clients; the totals and the resident memory checked each second. Ends
 * with a line of figures, and with exit code 1 if a byte was another owner's, a block was lost, or
 * memory grew.
 */

const { randomBytes } = require('node:crypto')
const { mkdtempSync, rmSync, writeFileSync } = require('node:fs')
const { tmpdir } = require('node:os')
const path = require('node:path')
const { setTimeout: sleep } = require('node:timers/promises')
const { Worker } = require('node:worker_threads')
const { commandLine } = require('../../scripts/command-line')
const { BufferPool } = require('../..')
const { canMoveMemory } = require('../../lib/runtime/native')
const { below, check } = require('./marks')
const { Traffic } = require('./traffic')

const MIB = 1024 * 1024

/** A ceiling so low that the pool reaches it now and then. */
const MAX_BYTES = 20 * MIB

const WORKERS = 3
const CLIENTS = 6

/** The lifetime of a thread in ms, if it does not end itself before. */
const LIFE = 1500

/** The number of posted Buffers that are held here. */
const RECEIVED = 100

/**
 * The growth of resident memory that is allowed between the first look and the end, when all has
 * been given back.
 */
const GROWTH_BYTES = 96 * MIB

/** The longest time that blocks may take to return at the end, in ms. */
const PATIENCE = 60_000

const { values } = commandLine({ options: { minutes: { type: 'string', default: '1' } } })
const minutes = Number(values.minutes)
if (!(minutes > 0)) {
  console.error(`--minutes must be a number above 0, and is '${values.minutes}'`)
  process.exit(2)
}

class Soak {
  #pool = new BufferPool({
    name: 'soak',
    maxBytes: MAX_BYTES,
    onExhausted: 'throw',
    idleTimeout: 2000,
    leakSampleRate: 0
  })
  #isOver = false
  /** @type {{ buffer: Buffer, seed: number }[]} */
  #received = []
  #lives = /** @type {Promise<void>[]} */ ([])
  #counts = { ended: 0, received: 0 }
  #peakRss = 0
  #firstRss = 0
  #lastNumber = 0

  async run() {
    const folder = mkdtempSync(path.join(tmpdir(), 'cistern-soak-'))
    try {
      const file = path.join(folder, 'file')
      writeFileSync(file, randomBytes(2 * MIB + 5))
      const traffic = new Traffic(this.#pool, file)
      await traffic.start(CLIENTS)
      this.#lives = Array.from({ length: WORKERS }, () => this.#keepAlive())
      await this.#watch(traffic)
      this.#isOver = true
      await Promise.all([...this.#lives, traffic.stop()])
      await this.#settle()
      this.#tell(traffic)
    } finally {
      rmSync(folder, { recursive: true })
    }
  }

  /** Keeps one thread running after the other. */
  async #keepAlive() {
    while (!this.#isOver) {
      const number = ++this.#lastNumber
      const worker = new Worker(path.join(__dirname, 'worker.js'), {
        workerData: { handle: this.#pool.handle, number }
      })
      const ended = new Promise((resolve) => worker.once('exit', resolve))
      /** @type {Error | undefined} */
      let failure
      worker.on('error', (/** @type {Error} */ error) => {
        if (error.message !== 'on purpose') failure = error
      })
      worker.on('message', (message) => {
        this.#receive(message)
        worker.postMessage('arrived')
      })
      await Promise.race([ended, sleep(below(LIFE))])
      await worker.terminate()
      await ended
      if (failure) throw failure
      this.#counts.ended++
    }
  }

  /** @param {{ buffer: Buffer, seed: number }} message whose memory another thread has leased */
  #receive({ buffer, seed }) {
    this.#counts.received++
    check(buffer, seed)
    this.#received.push({ buffer, seed })
    if (this.#received.length <= RECEIVED) return
    const [old] = this.#received.splice(below(RECEIVED), 1)
    check(old.buffer, old.seed)
    if (below(2) > 0) this.#pool.release(old.buffer)
  }

  /** @param {Traffic} traffic */
  async #watch(traffic) {
    const end = Date.now() + minutes * 60_000
    while (Date.now() < end) {
      await sleep(Math.min(1000, end - Date.now()))
      globalThis.gc?.()
      const rss = process.memoryUsage.rss()
      this.#peakRss = Math.max(this.#peakRss, rss)
      if (this.#firstRss === 0) this.#firstRss = rss
      const { inUseBytes, idleBytes, quarantinedBytes } = this.#pool.stats()
      const held = inUseBytes + idleBytes + quarantinedBytes
      if (held > MAX_BYTES) throw new Error(`${held} bytes held, above ${MAX_BYTES}`)
      if (traffic.wrong !== undefined) throw new Error(`a wrong answer: ${traffic.wrong}`)
      const seconds = Math.round((end - Date.now()) / 1000)
      const { whole, broken } = traffic.counts
      process.stderr.write(
        `${seconds} s left: ${mib(rss)} resident, ${mib(held)} held, ${this.#counts.ended} threads, ${whole} answers, ${broken} broken off\n`
      )
    }
  }

  /** This is not part of `settle`, whose frame would keep the values of its variables alive. */
  #letGo() {
    for (const { buffer, seed } of this.#received) check(buffer, seed)
    this.#received = []
  }

  /** Waits until nothing is in use and the totals balance. */
  async #settle() {
    this.#letGo()
    const end = Date.now() + PATIENCE
    for (;;) {
      globalThis.gc?.()
      await sleep(20)
      const { inUseCount, quarantinedBytes } = this.#pool.stats()
      // Elsewhere the blocks of a thread that ended stay in quarantine.
      if (inUseCount === 0 && (quarantinedBytes === 0 || !canMoveMemory())) break
      if (Date.now() > end) throw new Error(`${inUseCount} leases, ${quarantinedBytes} bytes stay`)
    }
    const { freshBytes, inUseBytes, idleBytes, freedBytes, quarantinedBytes } = this.#pool.stats()
    if (freshBytes !== inUseBytes + idleBytes + freedBytes + quarantinedBytes) {
      throw new Error(`the totals do not balance: ${JSON.stringify(this.#pool.stats())}`)
    }
    this.#pool.trim()
    await sleep(200)
    const grown = process.memoryUsage.rss() - this.#firstRss
    if (grown > GROWTH_BYTES) throw new Error(`the resident memory has grown by ${mib(grown)}`)
  }

  /** @param {Traffic} traffic */
  #tell({ counts: { whole, broken, again } }) {
    const { allocCount, freshCount, collectedCount, waitCount } = this.#pool.stats()
    const { ended, received } = this.#counts
    const rss = [this.#firstRss, this.#peakRss, process.memoryUsage.rss()].map(mib).join(', ')
    console.log(
      `soak: ${minutes} min, ${process.version}: ${allocCount} leases of ${freshCount} blocks, ${collectedCount} dropped, ${waitCount} waited; ${ended} threads ended, ${received} Buffers posted; ${whole} answers right (${again} asked again on a connection that had been closed), ${broken} clients broke off; resident at first, at most, at last: ${rss}`
    )
  }
}

/** @param {number} bytes */
function mib(bytes) {
  return `${Math.round(bytes / MIB)} MiB`
}

new Soak().run().then(
  () => process.exit(),
  (error) => {
    console.error(error)
    process.exit(1)
  }
)
