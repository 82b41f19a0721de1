'use strict'

/**
 * The leases that one thread has of a pool, by number. Each thread runs the same code, so a model
 * can give any of them any task. All arguments and results can be posted.
 */

const assert = require('node:assert/strict')
const diagnostics = require('node:diagnostics_channel')
const { setImmediate: turn } = require('node:timers/promises')
const { MessageChannel, markAsUntransferable } = require('node:worker_threads')

// Without sampling no warning of a dropped lease appears.
diagnostics.subscribe('cistern:leak', () => {})

/** Ways to lease, as code: each gives the Buffer, or what has it. */
const LEASES = {
  'allocUnsafe(%)': (pool, size) => pool.allocUnsafe(size),
  'alloc(%)': (pool, size) => pool.alloc(size),
  "alloc(%, 'text')": (pool, size) => pool.alloc(size, 'text'),
  'lease(%)': (pool, size) => pool.lease(size),
  'lease(%, { zero: true })': (pool, size) => pool.lease(size, { zero: true })
}

/** The same where a lease may have to wait. */
const ACQUIRES = {
  'acquire(%)': (pool, size, signal) => pool.acquire(size, { signal }),
  'acquire(%, { zero: true })': (pool, size, signal) => pool.acquire(size, { signal, zero: true })
}

/** The calls that promise zeros. */
const ZEROED = new Set(['alloc(%)', 'lease(%, { zero: true })', 'acquire(%, { zero: true })'])

/** From here up are the bytes of pools that do not scrub. */
const FOREIGN = 128

/** @param {number} byte */
const isScrubbed = (byte) => byte === 0 || byte >= FOREIGN

const STALE = 'nothing is left of an earlier owner'

/** Views of a Buffer by which it may be released. */
const VIEWS = {
  buffer: ({ bytes }) => bytes,
  subarray: ({ bytes }) => bytes.subarray(bytes.length >> 1),
  Uint8Array: ({ bytes }) => new Uint8Array(bytes.buffer, bytes.byteLength),
  DataView: ({ bytes }) => new DataView(bytes.buffer),
  Float64Array: ({ bytes }) => new Float64Array(bytes.buffer, 0, bytes.buffer.byteLength >> 3),
  ArrayBuffer: ({ bytes }) => bytes.buffer
}

/**
 * A lease, or what was one.
 *
 * @typedef {object} Held
 * @property {Uint8Array} bytes as they were asked for; of a ByteBuffer none
 * @property {Uint8Array} all of the ArrayBuffer; of a ByteBuffer none
 * @property {ArrayBuffer} [arrayBuffer] of a ByteBuffer only where it is no secret
 * @property {import('../../..').Lease} [lease]
 * @property {import('../../..').ByteBuffer} [byteBuffer]
 */

class Holder {
  /** @type {Map<number, Held>} */
  #held = new Map()
  /**
   * Leases that were released or moved away, each with the error of another release.
   *
   * @type {{ id: number, held: Held, code: string }[]}
   */
  #stale = []
  /** @type {Map<number, AbortController>} */
  #waiting = new Map()

  /**
   * @param {import('../../..').BufferPool} pool
   * @param {boolean} detaches whether a release leaves all views empty
   * @param {boolean} scrubs whether what was released or dropped is zero
   */
  constructor(pool, detaches, scrubs) {
    this.pool = pool
    this.detaches = detaches
    this.scrubs = scrubs
  }

  /**
   * @param {number} id
   * @param {string} how
   * @param {number} size
   */
  lease(id, how, size) {
    const before = this.#hits
    return this.#take(id, how, size, LEASES[how](this.pool, size), before)
  }

  /**
   * @param {number} id
   * @param {string} how
   * @param {number} size
   */
  async acquire(id, how, size) {
    const controller = new AbortController()
    this.#waiting.set(id, controller)
    const before = this.#hits
    try {
      const acquired = ACQUIRES[how](this.pool, size, controller.signal)
      return this.#take(id, how, size, await acquired, before)
    } finally {
      this.#waiting.delete(id)
    }
  }

  /**
   * Leases something, and fails at filling it.
   *
   * @param {number} size
   */
  fillBadly(size) {
    const { classes } = this.pool.stats()
    const before = new Map(classes.map(({ blockSize, allocCount }) => [blockSize, allocCount]))
    try {
      this.pool.alloc(size, 'z', 'hex')
    } catch (error) {
      if (error.code !== 'ERR_INVALID_ARG_VALUE') throw error
      const isUsed = ({ blockSize, allocCount }) => allocCount > (before.get(blockSize) ?? 0)
      return this.pool.stats().classes.find(isUsed)?.blockSize ?? size
    }
    return assert.fail('it is filled')
  }

  /** @param {number} id */
  abort(id) {
    this.#waiting.get(id)?.abort()
  }

  /** The number of leases whose memory others had before. */
  get #hits() {
    return this.pool.stats().hitCount
  }

  /**
   * Returns the byte that fills the lease with a number: pools that scrub have bytes of their own,
   * which nobody may see later. Bytes of pools that do not scrub may be seen once they are freed.
   *
   * @param {number} id
   */
  #byteOf(id) {
    return this.scrubs ? id : id + FOREIGN
  }

  #take(id, how, size, leased, before) {
    const isLease = how.startsWith('lease')
    const bytes = isLease ? leased.buffer : leased
    assert.equal(bytes.length, size)
    assert.ok(Buffer.isBuffer(bytes))
    const all = new Uint8Array(bytes.buffer)
    if (ZEROED.has(how)) assert.ok(isAll(all, 0), 'all of it is zero-filled')
    if (how.includes('text')) {
      assert.ok(bytes.equals(Buffer.alloc(size, 'text')))
      assert.ok(isAll(all.subarray(size), 0), 'nothing is beyond the text')
    }
    // This includes the bytes beyond the requested length.
    else if (this.scrubs && this.#hits > before) assert.ok(all.every(isScrubbed), STALE)
    for (const [other, held] of this.#held) {
      assert.notEqual(held.arrayBuffer, all.buffer, `${id} is ${other}`)
    }
    all.fill(this.#byteOf(id))
    const lease = isLease ? leased : undefined
    this.#held.set(id, { bytes, all, arrayBuffer: all.buffer, lease })
    return all.length
  }

  /**
   * @param {number} id
   * @param {number} [sizeHint]
   */
  byteBuffer(id, sizeHint) {
    const byteBuffer = this.pool.byteBuffer(sizeHint)
    assert.equal(byteBuffer.length, 0)
    const none = new Uint8Array(0)
    this.#held.set(id, { bytes: none, all: none, byteBuffer })
    return this.#learn(id)
  }

  /**
   * Learns which ArrayBuffer a ByteBuffer has, if its former owners can still reach that.
   *
   * @param {number} id
   */
  #learn(id) {
    const held = this.#get(id)
    if (!this.detaches) held.arrayBuffer = held.byteBuffer.view().buffer
    return held.byteBuffer.capacity
  }

  /**
   * Appends a ByteBuffer's number to it `count` times.
   *
   * @param {number} id
   * @param {number} count
   * @param {string} as
   */
  append(id, count, as) {
    const { byteBuffer } = this.#get(id)
    const data = Buffer.alloc(count, this.#byteOf(id))
    if (as === 'string') byteBuffer.append(data.toString('latin1'), 'latin1')
    else byteBuffer.append(data)
    return this.#learn(id)
  }

  /** @param {number} id of a ByteBuffer */
  appendWrong(id) {
    const { byteBuffer } = this.#get(id)
    const code = 'ERR_INVALID_ARG_TYPE'
    assert.throws(() => byteBuffer.append(5), { code })
    assert.throws(() => byteBuffer.append('x', 5), { code })
    assert.throws(() => byteBuffer.append('x', 'none'), { code: 'ERR_UNKNOWN_ENCODING' })
  }

  /** @param {number} id of a ByteBuffer */
  reset(id) {
    this.#get(id).byteBuffer.reset()
  }

  /**
   * Asserts that a ByteBuffer shows `length` bytes, each of them its number.
   *
   * @param {number} id
   * @param {number} length
   */
  show(id, length) {
    const view = this.#get(id).byteBuffer.view()
    assert.equal(view.length, length)
    assert.ok(isAll(view, this.#byteOf(id)))
  }

  /**
   * @param {number} id
   * @param {string} by
   */
  release(id, by) {
    const held = this.#get(id)
    const { lease, byteBuffer } = held
    if (byteBuffer !== undefined) {
      if (by === 'buffer') {
        byteBuffer.release()
        // The ByteBuffer no longer refers to it.
        held.arrayBuffer = undefined
      } else {
        this.pool.release(byteBuffer.view())
      }
    } else if (by === 'lease' && lease !== undefined) {
      lease.release()
    } else {
      // Called by name, because a variable would outlive this call in an interpreter's frame.
      this.pool.release((VIEWS[by] ?? VIEWS.buffer)(held))
    }
    this.#leave(id, 'ERR_CISTERN_ALREADY_RELEASED')
  }

  /**
   * Returns the number of a lease that is released already, or was moved away, if there is one.
   *
   * @param {number} which
   */
  staleAt(which) {
    return this.#staleAt(which)?.id
  }

  #staleAt(which) {
    return this.#stale.at(-1 - (which % this.#stale.length))
  }

  /**
   * Releases that again.
   *
   * @param {number} which
   * @param {string} by
   */
  releaseAgain(which, by) {
    const { held, code } = this.#staleAt(which) ?? assert.fail('nothing is stale')
    const { bytes, arrayBuffer, lease, byteBuffer } = held
    if (byteBuffer === undefined) {
      lease?.release()
      // Through a view this would release the lease that has the same ArrayBuffer now.
      if (this.#isReused(held)) return
      // An empty ArrayBuffer can have no other view.
      const view = by === 'ArrayBuffer' ? arrayBuffer : bytes
      assert.throws(() => this.pool.release(view), { code })
      return
    }
    assert.throws(() => byteBuffer.release(), { code })
    assert.throws(() => byteBuffer.append('x'), { code })
    assert.throws(() => byteBuffer.view(), { code })
    byteBuffer[Symbol.dispose]()
  }

  /** @param {Held} held stale */
  #isReused({ arrayBuffer }) {
    return [...this.#held.values()].some((other) => other.arrayBuffer === arrayBuffer)
  }

  /**
   * Drops a lease without releasing it, and all stale views that lead to it.
   *
   * @param {number} id
   */
  drop(id) {
    const { arrayBuffer } = this.#get(id)
    this.#held.delete(id)
    if (arrayBuffer === undefined) return
    this.#stale = this.#stale.filter(({ held }) => held.arrayBuffer !== arrayBuffer)
  }

  /** @param {number} id */
  mark(id) {
    markAsUntransferable(this.#get(id).all.buffer)
  }

  /**
   * Asserts that something can't be moved.
   *
   * @param {number} id
   */
  refuses(id) {
    const { all } = this.#get(id)
    const name = 'DataCloneError'
    assert.throws(() => structuredClone(all, { transfer: [all.buffer] }), { name })
  }

  /** @param {number} keepBytes */
  trim(keepBytes) {
    return this.pool.trim(keepBytes)
  }

  /** Closes the pool. Returns the idle bytes after that. */
  close() {
    this.pool.close()
    return this.pool.stats().idleBytes
  }

  /** Waits until the requests of other threads are handled. */
  async settle() {
    for (let i = 0; i < 5; i++) await turn()
  }

  /** @param {number} id of what is to be posted */
  bytesOf(id) {
    return this.#get(id).all
  }

  /**
   * Takes what was posted, or moved, here.
   *
   * @param {number} id
   * @param {Uint8Array} bytes
   */
  put(id, bytes) {
    this.#held.set(id, { bytes, all: bytes, arrayBuffer: bytes.buffer })
  }

  /**
   * Asserts that something is gone from here, though leased.
   *
   * @param {number} id
   * @param {string | undefined} code the error of its release; without a code nothing of it may be
   *   left here
   */
  sent(id, code) {
    const held = this.#get(id)
    const { bytes, all, lease } = held
    assert.equal(all.buffer.byteLength, 0)
    for (const view of [bytes, all, all.buffer]) {
      assert.equal(this.pool.owns(view), false)
      if (code !== undefined) assert.throws(() => this.pool.release(view), { code })
    }
    lease?.release()
    if (code === undefined) {
      this.drop(id)
      return
    }
    for (const stale of this.#stale) {
      if (stale.held.arrayBuffer === all.buffer) stale.code = code
    }
    this.#leave(id, code)
  }

  /**
   * Moves memory to another ArrayBuffer of this thread.
   *
   * @param {number} id
   * @param {string | undefined} code as in `sent`
   */
  move(id, code) {
    const { all } = this.#get(id)
    const moved = structuredClone(all, { transfer: [all.buffer] })
    this.sent(id, code)
    this.put(id, moved)
  }

  /**
   * Moves memory into a message that nobody receives.
   *
   * @param {number} id
   * @param {string | undefined} code as in `sent`
   */
  misaddress(id, code) {
    const { port1, port2 } = new MessageChannel()
    const { all } = this.#get(id)
    port1.postMessage(all, [all.buffer])
    port1.close()
    port2.close()
    this.sent(id, code)
  }

  /**
   * Asserts that a copy is as its original, and nothing to this pool.
   *
   * @param {number} id
   * @param {Uint8Array} copy
   */
  isCopy(id, copy) {
    assert.ok(copy.length > 0 && isAll(copy, this.#byteOf(id)), 'the copy has the bytes')
    assert.equal(this.pool.owns(copy), false)
    assert.throws(() => this.pool.release(copy), { code: 'ERR_CISTERN_NOT_POOLED' })
  }

  /**
   * Asserts that all is as it should be, then overwrites all leases and asserts it again, which
   * shows two leases of the same memory. First waits for the effects of other threads.
   *
   * @param {Expected[]} expected
   */
  async check(expected) {
    await this.settle()
    for (let i = 0; i < 2; i++) {
      this.#verify(expected)
      for (const [id, { all }] of this.#held) all.fill(this.#byteOf(id))
    }
  }

  /**
   * @typedef {object} Expected
   * @property {number} id
   * @property {string} name
   * @property {number} length of the whole ArrayBuffer; of a ByteBuffer, of what was appended
   * @property {boolean} isOwned whether the pool owns it
   */

  /** @param {Expected[]} expected */
  #verify(expected) {
    assert.equal(this.#held.size, expected.length)
    for (const { id, name, length, isOwned } of expected) {
      const { all, byteBuffer } = this.#get(id)
      const bytes = byteBuffer?.toBuffer() ?? all
      assert.equal(bytes.length, length, `the length of ${name}`)
      assert.ok(isAll(bytes, this.#byteOf(id)), `the bytes of ${name} are another's`)
      if (byteBuffer !== undefined) continue
      assert.equal(this.pool.owns(all), isOwned, `whether the pool owns ${name}`)
      assert.equal(this.pool.owns(all.buffer), isOwned)
    }
    for (const { held } of this.#stale) {
      if (held.byteBuffer !== undefined) continue
      const { bytes, all } = held
      if (this.detaches) assert.equal(all.length + bytes.length, 0, 'a stale view is empty')
      assert.equal(this.pool.owns(bytes), this.#isReused(held), 'what is stale is not owned')
    }
  }

  /**
   * @param {number} id
   * @returns {Held}
   */
  #get(id) {
    return this.#held.get(id) ?? assert.fail(`there is no ${id} here`)
  }

  #leave(id, code) {
    const held = this.#get(id)
    this.#held.delete(id)
    this.#stale.push({ id, held, code })
  }
}

/**
 * @param {Uint8Array} bytes
 * @param {number} byte
 */
function isAll(bytes, byte) {
  // Does the same as `bytes.every`, a hundred times as fast.
  const { length } = bytes
  if (length === 0) return true
  const all = Buffer.from(bytes.buffer, bytes.byteOffset, length)
  return all[0] === byte && all.compare(all, 1, length, 0, length - 1) === 0
}

module.exports = { ACQUIRES, Holder, LEASES }
