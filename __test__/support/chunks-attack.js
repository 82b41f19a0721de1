'use strict'

/**
 * `chunks` while other code watches every prototype, in a process of its own:
 * `node chunks-attack.js SOURCE MODE ATTACK`. Ends with an error if that code gets a block before
 * its user does, or can end another user's lease.
 */

const assert = require('node:assert/strict')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const { PassThrough } = require('node:stream')
const { setImmediate: turn } = require('node:timers/promises')
const { BufferPool } = require('../..')
const { chunks } = require('../../lib/io')
const { cacheOf } = require('../../lib/pool/buffer-pool')
const { Lease } = require('../../lib/pool/lease')
const { watch } = require('./watcher')

const CHUNK = 16 * 1024
const CHUNKS = 6

const [, , kind, mode, attack] = process.argv
const contents = Buffer.alloc(CHUNKS * CHUNK + 5, 'contents')
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'cistern-attack-'))
const file = path.join(folder, 'file')
fs.writeFileSync(file, contents)
process.on('exit', () => fs.rmSync(folder, { recursive: true }))
// Functions that are called out of order may throw later.
process.on('unhandledRejection', () => {})

// The watcher must not see this file's own calls.
const { apply } = Reflect
const { isView } = ArrayBuffer
const { then } = Promise.prototype
const { release, owns } = BufferPool.prototype
const TypedArray = Object.getPrototypeOf(Uint8Array)
const { get: bufferOf } = Object.getOwnPropertyDescriptor(TypedArray.prototype, 'buffer')
const memoryOf = (value) => (isView(value) ? apply(bufferOf, value, []) : value)

const SOURCES = {
  file: () => file,
  'file, with its callbacks seen,': () => file,
  handle: () => fs.promises.open(file),
  stream: () => new PassThrough().end(contents),
  web: () => new Blob([contents]).stream(),
  generator: () =>
    (async function* pieces() {
      for (let i = 0; i < contents.length; i += 5000) yield contents.subarray(i, i + 5000)
    })()
}

async function main() {
  const pool = new BufferPool({
    detachOnRelease: mode !== 'reuse',
    maxBytes: mode === 'ceiling' ? 2 * CHUNK : 2 ** 24,
    maxBlockSize: CHUNK,
    leakSampleRate: 1
  })
  const source = await SOURCES[kind]()
  const { signal } = new AbortController()
  const given = Object.assign(new Set(), { add: Set.prototype.add, has: Set.prototype.has })
  const victims = []
  const early = []
  const more = [BufferPool.prototype, Lease.prototype, Object.getPrototypeOf(source)].filter(
    (it) => it !== String.prototype
  )
  const iterator = chunks(pool, source, { chunkSize: CHUNK, signal })
  more.push(Object.getPrototypeOf(iterator))
  // Node's own `oncomplete`; of a listed call, a lease.
  const names = ['following', 'onChunk', 'resolve', 'lease', 'idle', 'bytes']
  if (kind.includes('callbacks')) names.push('oncomplete')
  const others = []
  if (mode === 'ceiling') for (let i = 0; i < 2; i++) others.push(pool.allocUnsafe(CHUNK))
  const watcher = watch(more, names, (value) => {
    const memory = memoryOf(value)
    if (memory === value && !(value instanceof ArrayBuffer)) return
    if (apply(owns, pool, [memory]) && !given.has(memory))
      early[early.length] = new Error('seen').stack
  })
  /** Calls `next` without a promise of the user's, which other code could watch. */
  const next = (use) =>
    apply(then, iterator.next(), [
      ({ done, value }) => {
        if (!done) given.add(memoryOf(value))
        use(done, value)
      },
      (error) => use(true, error)
    ])
  const taken = new Promise((resolve) => {
    let count = 0
    const step = async (done, value) => {
      if (done || ++count === 3) {
        resolve({ done, value, count })
        return
      }
      // This lasts until the next is read; then some code waits for its block.
      for (let i = 0; i < 20; i++) await turn()
      cacheOf(pool).trimmer.giveUpForOthers()
      next(step)
    }
    next(step)
  })
  while (others.length > 0 && pool.stats().waitCount === 0) await turn()
  for (const other of others) apply(release, pool, [other])
  const result = await taken
  // The chunk that is read ahead is there by now.
  for (let i = 0; i < 20; i++) await turn()
  watcher.stop()
  assert.equal(early.length, 0, `a block that nobody has been given was seen: ${early[0]}`)
  assert.equal(result.count, 3, String(result.value))

  if (attack === 'released') apply(release, pool, [result.value])
  for (let i = 0; i < 2 && mode !== 'ceiling'; i++) victims.push(pool.allocUnsafe(CHUNK))
  if (mode === 'ceiling' && attack === 'released') victims.push(pool.allocUnsafe(CHUNK))
  const held = attack === 'released' ? victims : [...victims, result.value]
  for (const [i, buffer] of held.entries()) buffer.fill(i + 1)
  const check = () => {
    for (const [i, buffer] of held.entries()) {
      assert.ok(pool.owns(buffer), `lease ${i} of somebody else was ended`)
      assert.ok(
        buffer.every((byte) => byte === i + 1),
        `the bytes of lease ${i} were changed`
      )
    }
    const memory = new Set(held.map(({ buffer }) => buffer))
    assert.equal(memory.size, held.length, 'two owners')
  }
  let calls = 0
  const use = (call) => {
    calls++
    try {
      const outcome = call()
      if (outcome instanceof Promise) outcome.catch(() => {})
    } catch {
      // The function can't be called in this way.
    }
  }
  watcher.forEach((value) => {
    if (value === pool || value === process || given.has(memoryOf(value))) return
    if (typeof value === 'function') {
      if (isOfTheirs(value)) return
      use(() => value())
      use(() => value(null, CHUNK))
    } else {
      use(() => apply(release, pool, [value]))
      use(() => Lease.prototype.release.call(value))
    }
  })
  check()
  for (let i = 0; i < 10; i++) await turn()
  check()
  assert.ok(calls > 20, `only ${calls} calls`)
  assert.ok(mode !== 'ceiling' || pool.stats().waitCount > 0, 'it has waited')
  const last = attack === 'held' ? held.pop() : undefined
  await Promise.race([iterator.return(), new Promise((resolve) => setTimeout(resolve, 1000))])
  check()
  if (last !== undefined) assert.ok(!pool.owns(last), 'the chunk is back')
  const leases = Array.from({ length: 8 }, () => pool.allocUnsafe(CHUNK))
  assert.equal(new Set([...leases, ...held].map(({ buffer }) => buffer)).size, 8 + held.length)
  for (const lease of [...leases, ...held]) pool.release(lease)
  if (kind === 'handle') await source.close().catch(() => {})
  console.log('held')
  process.exit()
}

/** Returns true if a function is Node's own, or this file's, which is its user. */
function isOfTheirs(value) {
  return Function.prototype.toString.call(value).startsWith('class ') || value === main
}

main().catch((error) => {
  process._rawDebug(error)
  process.exit(1)
})
