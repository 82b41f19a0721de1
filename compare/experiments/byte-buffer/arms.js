'use strict'

const { PlainBuffer } = require('./plain-buffer')

/**
 * @typedef {{ append: (data: Uint8Array) => void, readonly length: number }} Growing
 * @typedef {object} OpenArm of this experiment
 * @property {() => Growing} get
 * @property {(buffer: Growing) => void} put
 * @property {() => number} held bytes of memory held for the buffers
 * @property {() => number} [fresh] bytes that the system has supplied so far; without it each get
 *   is fresh
 * @property {() => { allocBytes: number, inUseBytes: number }} [stats]
 * @property {() => void} close
 */

function nothing() {}

/** Returns a function that tells how many more bytes V8 holds in ArrayBuffers than now. */
function v8Held() {
  const { arrayBuffers } = process.memoryUsage()
  return () => Math.max(0, process.memoryUsage().arrayBuffers - arrayBuffers)
}

/** @returns {OpenArm} */
function v8Arm(allocate) {
  return { get: () => new PlainBuffer(allocate), put: nothing, held: v8Held(), close: nothing }
}

/** @returns {OpenArm} */
function freeListArm({ firstBytes }) {
  const free = []
  let fresh = 0
  const allocate = (size) => {
    fresh += size
    return Buffer.allocUnsafeSlow(size)
  }
  return {
    get: () => free.pop() ?? new PlainBuffer(allocate, firstBytes),
    put(buffer) {
      buffer.reset()
      free.push(buffer)
    },
    held: v8Held(),
    fresh: () => fresh,
    close: nothing
  }
}

/**
 * @param {object} options of the pool
 * @param {{ firstBytes?: number, isReleased?: boolean }} use
 * @returns {OpenArm}
 */
function poolArm(options, { firstBytes, isReleased = true } = {}) {
  const { BufferPool } = require('cistern')
  const pool = new BufferPool(options)
  return {
    get: () => pool.byteBuffer(firstBytes),
    put: isReleased ? (buffer) => buffer.release() : nothing,
    held() {
      const { inUseBytes, idleBytes } = pool.stats()
      return inUseBytes + idleBytes
    },
    fresh: () => pool.stats().freshBytes,
    stats: () => pool.stats(),
    close: () => pool.close()
  }
}

/** @returns {import('../../arms').ArmKind} */
function goArm(name, way, about) {
  return {
    name,
    about,
    missing: ({ goMissing }) => goMissing,
    program: ({ go }, { work }) => [go, way, JSON.stringify(work)]
  }
}

const v8Alloc = {
  name: 'v8-alloc',
  about: 'Buffer.alloc, then a copy: zeroed memory from V8',
  open: () => v8Arm(Buffer.alloc)
}

const v8AllocUnsafe = {
  name: 'v8-allocUnsafe',
  about: 'Buffer.allocUnsafe, then a copy: the baseline',
  open: () => v8Arm(Buffer.allocUnsafe)
}

const v8Tuned = {
  name: 'v8-tuned',
  about: 'the same under the V8 flags and the allocator that win the heats',
  open: () => v8Arm(Buffer.allocUnsafe)
}

const freeList = {
  name: 'free-list',
  about: 'a list of Buffers that are used again as they are, without a cap',
  open: freeListArm
}

const poolGc = {
  name: 'pool-gc',
  about: "cistern's byteBuffer, not put: only the finalizer brings it back",
  open: () => poolArm({}, { isReleased: false })
}

const poolReuse = {
  name: 'pool-reuse',
  about: "cistern's byteBuffer with detachOnRelease: false, put",
  open: () => poolArm({ detachOnRelease: false })
}

const poolSafe = {
  name: 'pool-safe',
  about: "cistern's byteBuffer with its defaults, put",
  open: () => poolArm({})
}

const poolHinted = {
  name: 'pool-hinted',
  about: 'the same, told to begin with the block of 4 KiB',
  open: ({ firstBytes }) => poolArm({}, { firstBytes })
}

const fixed = {
  name: 'static',
  about: 'one Buffer that is never replaced: the limit',
  open: freeListArm
}

const goPut = goArm('go-put', 'put', "Go's bytebufferpool, put")
const goNotPut = goArm('go-not-put', 'not-put', "Go's bytebufferpool, not put")
const goSyncPool = goArm(
  'go-sync-pool',
  'sync-pool',
  "Go's sync.Pool of bytes.Buffer, without a cap"
)

module.exports = {
  put: [v8Alloc, v8AllocUnsafe, v8Tuned, poolGc, poolReuse, poolSafe, fixed, goPut, goNotPut],
  growth: [v8AllocUnsafe, freeList, poolReuse, poolSafe, goSyncPool, goPut],
  waste: [v8AllocUnsafe, freeList, poolHinted, poolSafe, goPut]
}
