'use strict'

/**
 * The expected state of a pool after any sequence of calls in two threads: the place and the bytes
 * of each lease, and the totals.
 */

const assert = require('node:assert/strict')
const { writeSync } = require('node:fs')
const { setTimeout: sleep } = require('node:timers/promises')
const { endsShow, external, givesAtOnce, settle } = require('../helpers')
const { Holder } = require('./holder')

/** Larger requests come from V8. */
const MAX_BLOCK_SIZE = 8192

/** The first capacity of a `byteBuffer()` as long as the pool has learned no size. */
const FIRST_SIZE = 1024

/** The number of garbage collections after which dropped leases must be back. */
const COLLECTIONS = 30

/** The number of times that both threads are heard before a waiter must be served. */
const TURNS = 100

/** Ways in which a thread ends. */
const ENDINGS = {
  terminate: (thread) => thread.terminate(),
  exit: (thread) => thread.run(() => process.exit()),
  throw: (thread) =>
    thread.run(() => {
      setImmediate(() => {
        throw new Error('on purpose')
      })
      return new Promise(() => {})
    })
}

/**
 * Returns the size of the block that serves a request: 64 bytes apart up to 256, then four in each
 * doubling.
 *
 * @param {number} size
 */
function blockSizeOf(size) {
  const step = size <= 256 ? 64 : 2 ** (Math.ceil(Math.log2(size)) - 3)
  return Math.ceil(size / step) * step
}

/**
 * Returns a name: from `a` to `z`, and on with `a2`.
 *
 * @param {number} id
 */
function nameOf(id) {
  const letter = String.fromCharCode(97 + ((id - 1) % 26))
  return id <= 26 ? letter : `${letter}${Math.ceil(id / 26)}`
}

/** @typedef {'here' | 'there'} Place a thread */

/**
 * @param {Place} place
 * @returns {Place}
 */
function otherOf(place) {
  return place === 'here' ? 'there' : 'here'
}

/**
 * @typedef {object} Held
 * @property {number} id also each of its bytes
 * @property {string} name
 * @property {Place} place where it is
 * @property {number} length of the whole ArrayBuffer; of a ByteBuffer, of what was appended
 * @property {number} capacity
 * @property {boolean} isPooled whether it has a block
 * @property {boolean} isOwned whether the pool takes it back
 * @property {boolean} isMoved whether it is on another ArrayBuffer than it was leased with
 * @property {boolean} isMarked whether it can't be moved
 * @property {boolean} isByteBuffer
 * @property {Place} lender
 * @property {boolean} isSetAside whether its lender has ended
 */

/**
 * Returns the error of a release in the thread that a lease was moved from; `undefined` if nothing
 * of it may be left there. V8's memory belongs to no block any more, and its lease ends when the
 * rest is collected.
 *
 * @param {Held} held
 */
function leftOf({ isPooled, isMoved }) {
  if (isPooled && !external) return undefined
  return isMoved ? 'ERR_CISTERN_NOT_POOLED' : 'ERR_CISTERN_DETACHED'
}

/** @param {import('../../..').PoolStats} stats */
function collectedBlocks({ classes }) {
  return classes.reduce((sum, { collectedCount }) => sum + collectedCount, 0)
}

/** A pool, and what is known of it. */
class Model {
  /** @type {Held[]} the oldest first */
  held = []
  /** The calls so far, as code. @type {string[]} */
  lines = []
  isClosed = false
  /** True if a thread that had the pool has ended. */
  hasEnded = false
  peak = 0
  #lastId = 0
  #counts = { allocCount: 0, allocBytes: 0, releaseCount: 0, unpooledCount: 0 }
  /** Leases of each block size. @type {Map<number, number>} */
  #leases = new Map()
  #collected = 0
  #collectedBlocks = 0
  /** The block sizes of what was dropped, and may be collected at any moment. @type {number[]} */
  #dropped = []
  /** The number of leases of V8's memory that were dropped since. */
  #droppedOfV8 = 0
  /** The number of them that were dropped where nothing shows it. */
  #unwatched = 0
  /** In which threads something may be idle. @type {Set<Place>} */
  #idle = new Set()
  #isThereUsed = false
  /** @type {Promise<void> | undefined} */
  #attached

  /**
   * @param {import('../../..').BufferPool} pool
   * @param {import('../../..').BufferPoolOptions} options
   * @param {() => import('../thread').Thread} startThread
   */
  constructor(pool, options, startThread) {
    const { detachOnRelease = true, zeroOnRelease = false, maxBytes = Infinity } = options
    this.pool = pool
    this.options = options
    this.maxBytes = maxBytes
    this.detaches = detachOnRelease
    this.scrubs = zeroOnRelease
    this.here = new Holder(pool, detachOnRelease, zeroOnRelease)
    this.startThread = startThread
    /** @type {import('../thread').Thread | undefined} */
    this.thread = undefined
  }

  /** Attaches the other thread to the pool. */
  attach() {
    // One at a time: a second call waits as well.
    this.#attached ??= this.#attach()
    return this.#attached
  }

  async #attach() {
    this.thread = this.startThread()
    const { handle } = this.pool
    const { detaches, scrubs } = this
    await this.thread.run(
      (self, { handle, detaches, scrubs, file }) => {
        const { Holder } = self.require(file)
        const pool = self.BufferPool.attach(handle)
        self.holder = new Holder(pool, detaches, scrubs)
      },
      { handle, detaches, scrubs, file: require.resolve('./holder') }
    )
  }

  /**
   * Makes a thread's holder do something.
   *
   * @param {Place} place
   * @param {string} method
   * @param {...unknown} args
   */
  async do(place, method, ...args) {
    if (place === 'here') return this.here[method](...args)
    this.#isThereUsed = true
    await this.attach()
    return this.#there.run(({ holder }, [method, args]) => holder[method](...args), [method, args])
  }

  get #there() {
    return this.thread ?? assert.fail('there is no other thread')
  }

  /**
   * Returns the thread for a call that was meant for `place`: no thread can attach to a closed
   * pool.
   *
   * @param {Place} place
   */
  placeOf(place) {
    return this.isClosed && this.thread === undefined ? 'here' : place
  }

  /** @param {string} line */
  log(line) {
    this.lines.push(line)
    // Written synchronously, because the next call may end the process.
    if (process.env.FC_TRACE !== undefined) writeSync(2, `${line}\n`)
  }

  /** Names the next lease. */
  #next() {
    const id = ++this.#lastId
    assert.ok(id < 128, 'each number is a byte, and a character')
    return { id, name: nameOf(id) }
  }

  /** @param {Held[]} held */
  #bytesOf(held) {
    return held.reduce((sum, { capacity, isPooled }) => sum + (isPooled ? capacity : 0), 0)
  }

  get #droppedBytes() {
    return this.#dropped.reduce((sum, blockSize) => sum + blockSize, 0)
  }

  /**
   * Returns true if a block is beyond the ceiling while all present leases last.
   *
   * @param {number} size
   */
  isBeyond(size) {
    return this.#bytesOf(this.held) + blockSizeOf(size) > this.maxBytes
  }

  /**
   * Returns the possible outcomes of a lease.
   *
   * @param {Place} place
   * @param {number} size
   */
  #outcomesOf(place, size) {
    if (this.isClosed) return ['closed']
    if (size === 0 || size > MAX_BLOCK_SIZE) return ['unpooled']
    const full = this.options.onExhausted === 'throw' ? 'refused' : 'unpooled'
    if (this.isBeyond(size)) return [full]
    const mayBeLate = this.#idle.has(otherOf(place)) || (!givesAtOnce && this.#idle.has(place))
    const isSure = this.#mustFit(size) && !mayBeLate
    return isSure ? ['pooled'] : ['pooled', full]
  }

  /** @param {number} size */
  #mustFit(size) {
    const bytes = this.#bytesOf(this.held) + this.#droppedBytes
    return bytes + blockSizeOf(size) <= this.maxBytes
  }

  /**
   * Leases, and counts the lease. Returns true if a block serves it, false if V8's memory does, and
   * `undefined` if the pool refuses.
   *
   * @param {Place} place
   * @param {number} size
   * @param {() => Promise<number>} lease with the bytes that it got
   */
  async obtain(place, size, lease) {
    const outcomes = this.#outcomesOf(place, size)
    const { unpooledCount } = this.pool.stats()
    let outcome = 'pooled'
    let capacity = 0
    try {
      capacity = await lease()
      if (this.pool.stats().unpooledCount > unpooledCount) outcome = 'unpooled'
    } catch (error) {
      if (error.code === 'ERR_CISTERN_CLOSED') outcome = 'closed'
      else if (error.code === 'ERR_CISTERN_EXHAUSTED') outcome = 'refused'
      else throw error
    }
    assert.ok(
      outcomes.includes(outcome),
      `it is ${outcome}, and should be ${outcomes.join(' or ')}`
    )
    if (outcome === 'refused' && this.#mustFit(size)) {
      // The other thread has idle memory, and was asked for it; or blocks that were idle here have
      // not returned yet.
      await this.#settleAll()
      capacity = await lease()
      outcome = 'pooled'
    }
    if (outcome === 'closed' || outcome === 'refused') return undefined
    const isPooled = outcome === 'pooled'
    const isByte = size === 0 && capacity === 1
    assert.equal(capacity, isPooled ? blockSizeOf(size) : size + Number(isByte))
    this.#idle.add(place)
    this.#counts.allocCount++
    if (isPooled) this.#leases.set(capacity, (this.#leases.get(capacity) ?? 0) + 1)
    else this.#counts.unpooledCount++
    return { isPooled, capacity }
  }

  /**
   * @param {Place} place
   * @param {string} how
   * @param {number} size
   */
  async lease(place, how, size) {
    const { id, name } = this.#next()
    this.log(`const ${name} = ${place}.${how.replace('%', String(size))}`)
    const got = await this.obtain(place, size, () => this.do(place, 'lease', id, how, size))
    this.#note(id, name, place, size, got)
  }

  /**
   * Makes `alloc` fail when it fills its lease.
   *
   * @param {Place} place
   * @param {number} size
   */
  async fillBadly(place, size) {
    this.log(`${place}.alloc(${size}, 'z', 'hex')`)
    const got = await this.obtain(place, size, () => this.do(place, 'fillBadly', size))
    if (got === undefined) return
    this.#counts.allocBytes += size
    this.#counts.releaseCount++
    this.#raisePeak(got.isPooled ? got.capacity : 0)
  }

  /**
   * Acquires. If that has to wait, releases the memory that it waits for, or gives it up.
   *
   * @param {Place} place
   * @param {string} how
   * @param {number} size
   * @param {boolean} aborts
   */
  async acquire(place, how, size, aborts) {
    const { id, name } = this.#next()
    const acquire = () => this.do(place, 'acquire', id, how, size)
    if (!this.isClosed && size > this.maxBytes) {
      this.log(`await ${place}.${how.replace('%', String(size))} // never`)
      await assert.rejects(acquire(), { code: 'ERR_CISTERN_EXHAUSTED' })
      return
    }
    const isServedByV8 = size === 0 || size > MAX_BLOCK_SIZE
    if (this.isClosed || isServedByV8 || !this.isBeyond(size)) {
      if (!this.isClosed && !isServedByV8 && !this.#mustFit(size)) await this.collect()
      this.log(`const ${name} = await ${place}.${how.replace('%', String(size))}`)
      const served = () => this.#servedSoon(place, id, this.#waiting(acquire()))
      this.#note(id, name, place, size, await this.obtain(place, size, served))
      return
    }
    await this.collect()
    this.log(`const ${name} = ${place}.${how.replace('%', String(size))} // waits`)
    const waiting = this.#waiting(acquire())
    while (this.isBeyond(size) && !aborts) {
      await this.#settleAll()
      assert.ok(!waiting.isOver, 'it waits')
      const first = this.held.find(({ isPooled, isMarked }) => isPooled && !isMarked)
      if (first === undefined) aborts = true
      else await this.release(first, 'buffer')
    }
    if (aborts) {
      this.log(`${place}.abort(${name})`)
      await this.do(place, 'abort', id)
      await assert.rejects(waiting.served, { code: 'ABORT_ERR' })
    } else {
      this.log(`await ${name}`)
      const got = await this.obtain(place, size, () => this.#servedSoon(place, id, waiting))
      this.#note(id, name, place, size, got)
    }
  }

  /** @param {Promise<number>} acquired */
  #waiting(acquired) {
    const waiting = { isOver: false, served: acquired }
    waiting.served = acquired.finally(() => {
      waiting.isOver = true
    })
    // The waiter is rejected.
    waiting.served.catch(() => {})
    return waiting
  }

  /**
   * Waits until each waiter is served or rejected.
   *
   * @param {Place} place
   * @param {number} id
   * @param {{ isOver: boolean, served: Promise<number> }} waiting
   */
  async #servedSoon(place, id, waiting) {
    for (let i = 0; i < TURNS && !waiting.isOver; i++) await this.#settleAll()
    if (!waiting.isOver) await this.do(place, 'abort', id)
    return waiting.served
  }

  /**
   * @param {number} id
   * @param {string} name
   * @param {Place} place
   * @param {number} size
   * @param {{ isPooled: boolean, capacity: number } | undefined} got
   */
  #note(id, name, place, size, got) {
    if (got === undefined) return
    const { capacity, isPooled } = got
    this.#counts.allocBytes += size
    this.#hold({ id, name, place, length: capacity, capacity, isPooled })
  }

  /** @param {{ id: number, name: string, place: Place, length: number, capacity: number, isPooled: boolean, isByteBuffer?: boolean }} held */
  #hold(held) {
    const { place: lender } = held
    const state = { lender, isOwned: true, isMoved: false, isMarked: false, isSetAside: false }
    this.held.push({ isByteBuffer: false, ...state, ...held })
    this.#raisePeak(0)
  }

  /** @param {number} more bytes than what is held now */
  #raisePeak(more) {
    this.peak = Math.max(this.peak, this.#bytesOf(this.#inUse) + more)
  }

  /** Returns the leases, but for those of threads that have ended. */
  get #inUse() {
    return this.held.filter(({ isSetAside }) => !isSetAside)
  }

  /**
   * @param {Place} place
   * @param {number} [sizeHint]
   */
  async byteBuffer(place, sizeHint) {
    const { id, name } = this.#next()
    this.log(`const ${name} = ${place}.byteBuffer(${sizeHint ?? ''})`)
    const size = sizeHint ?? FIRST_SIZE
    const got = await this.obtain(place, size, () => this.do(place, 'byteBuffer', id, sizeHint))
    if (got === undefined) return
    this.#counts.allocBytes += got.capacity
    this.#hold({ id, name, place, length: 0, ...got, isByteBuffer: true })
  }

  /**
   * @param {Held} held a ByteBuffer
   * @param {number} count
   * @param {'bytes' | 'string'} as
   */
  async append(held, count, as) {
    const { id, name, place, length, capacity } = held
    this.log(`${place}: ${name}.append(${count} ${as === 'string' ? 'letters' : 'bytes'})`)
    const append = () => this.do(place, 'append', id, count, as)
    if (length + count <= capacity) {
      assert.equal(await append(), capacity)
      held.length += count
      return
    }
    const got = await this.obtain(place, Math.max(length + count, 2 * capacity), append)
    // Nothing has changed.
    if (got === undefined) return
    this.#counts.allocBytes += got.capacity
    this.#counts.releaseCount++
    // For a moment the thread had both.
    this.#raisePeak(got.isPooled ? got.capacity : 0)
    Object.assign(held, got, { length: length + count })
  }

  /** @param {Held} held a ByteBuffer */
  async appendWrong({ id, name, place }) {
    this.log(`${place}: ${name}.append(what is no data)`)
    await this.do(place, 'appendWrong', id)
  }

  /** @param {Held} held a ByteBuffer */
  async reset(held) {
    this.log(`${held.place}: ${held.name}.reset()`)
    await this.do(held.place, 'reset', held.id)
    held.length = 0
  }

  /** @param {Held} held a ByteBuffer */
  async show(held) {
    this.log(`${held.place}: ${held.name}.view()`)
    await this.do(held.place, 'show', held.id, held.length)
  }

  /**
   * @param {Held} held
   * @param {string} by which view
   */
  async release(held, by) {
    const { id, name, place } = held
    if (by === 'buffer' || held.isMoved) this.log(`${place}.release(${name})`)
    else this.log(`${place}.release(${held.isByteBuffer ? 'view' : by} of ${name})`)
    const release = this.do(place, 'release', id, held.isMoved ? 'buffer' : by)
    if (!held.isOwned) {
      await assert.rejects(release, { code: 'ERR_CISTERN_NOT_POOLED' })
    } else if (held.isMarked) {
      await assert.rejects(release, { code: 'ERR_CISTERN_UNDETACHABLE' })
    } else {
      await release
      this.#counts.releaseCount++
      this.#remove(held)
    }
  }

  /**
   * @param {Place} place
   * @param {number} which
   * @param {string} by
   */
  async releaseAgain(place, which, by) {
    const id = await this.do(place, 'staleAt', which)
    if (id === undefined) return
    this.log(`${place}.release(${nameOf(id)}) // again`)
    await this.do(place, 'releaseAgain', which, by)
  }

  /** @param {Held} held */
  async drop(held) {
    const { id, name, place } = held
    this.log(`${place}: ${name} = undefined`)
    await this.do(place, 'drop', id)
    this.#lose(held)
  }

  /** @param {Held} held */
  #lose(held) {
    if (held.isPooled) this.#dropped.push(held.capacity)
    else if (held.isOwned && held.isMoved && !endsShow) this.#unwatched++
    else if (held.isOwned) this.#droppedOfV8++
    this.#remove(held)
  }

  /** @param {Held} held */
  #remove(held) {
    this.held.splice(this.held.indexOf(held), 1)
  }

  /** Collects garbage, in both threads, until all is back that was dropped. */
  async collect() {
    if (this.#dropped.length + this.#droppedOfV8 === 0 && !this.hasEnded) return
    this.log('collect()')
    const collected = this.#collected + this.#dropped.length + this.#droppedOfV8
    const isBack = () => {
      const { collectedCount, inUseBytes, quarantinedBytes } = this.pool.stats()
      const inUse = this.#bytesOf(this.#inUse)
      if (!this.#isCollected(collectedCount, collected) || inUseBytes !== inUse) return false
      return inUse + quarantinedBytes === this.#bytesOf(this.held)
    }
    const threads = this.#isThereUsed && this.thread !== undefined ? [this.thread] : []
    for (let i = 0; i < COLLECTIONS && !isBack(); i++) {
      globalThis.gc?.()
      await settle()
      await Promise.all(threads.map((thread) => thread.collect()))
      // The blocks of an ended thread return once V8 has taken it down.
      if (this.hasEnded) await sleep(2 * i)
    }
    const { collectedCount } = this.pool.stats()
    assert.ok(this.#isCollected(collectedCount, collected), `${collectedCount} of ${collected}`)
    assert.ok(isBack(), 'nothing but what is held is leased')
    this.#collected = collected
    this.#collectedBlocks = collectedBlocks(this.pool.stats())
    this.#dropped = []
    this.#droppedOfV8 = 0
  }

  /**
   * Returns true if `count` leases may count as collected.
   *
   * @param {number} count
   * @param {number} expected
   */
  #isCollected(count, expected) {
    return count >= expected && count <= expected + this.#uncertain
  }

  /**
   * The leases that may or may not count as collected. Where nothing shows whether moved memory of
   * V8's has a holder, its lease ends with the ArrayBuffer that it was moved from.
   */
  get #uncertain() {
    if (endsShow) return 0
    const isUncertain = ({ isMoved, isOwned, isPooled }) => isMoved && isOwned && !isPooled
    return this.#unwatched + this.held.filter(isUncertain).length
  }

  /** @param {Held} held */
  async mark(held) {
    this.log(`${held.place}: markAsUntransferable(${held.name}.buffer)`)
    await this.do(held.place, 'mark', held.id)
    held.isMarked = true
  }

  /**
   * Makes a copy in the other thread.
   *
   * @param {Held} held
   */
  async copy({ id, name, place }) {
    this.log(`${place}: postMessage(${name})`)
    await this.do('there', 'check', this.#expected('there'))
    if (place === 'here') {
      const isCopy = ({ holder }, { id, bytes }) => holder.isCopy(id, bytes)
      await this.#there.run(isCopy, { id, bytes: this.here.bytesOf(id) })
    } else {
      const copy = await this.#there.run(({ holder }, id) => holder.bytesOf(id), id)
      this.here.isCopy(id, copy)
    }
  }

  /**
   * Moves memory to the other thread, or within its own.
   *
   * @param {Held} held
   * @param {boolean} away
   */
  async transfer(held, away) {
    const { id, name, place } = held
    const call = away ? 'postMessage' : 'structuredClone'
    this.log(`${place}: ${call}(${name}, [${name}.buffer])`)
    if (held.isMarked) {
      await this.do(place, 'refuses', id)
      return
    }
    const left = leftOf(held)
    if (!away) {
      await this.do(place, 'move', id, left)
    } else {
      await this.attach()
      await (place === 'here' ? this.#post(id) : this.#fetch(id))
      await this.do(place, 'sent', id, left)
      held.place = otherOf(place)
    }
    this.#noteMove(held, left)
  }

  /**
   * @param {Held} held
   * @param {string | undefined} left what is left of it where it was
   */
  #noteMove(held, left) {
    if (left === undefined) this.#dropped.push(held.capacity)
    held.isOwned &&= external || !held.isPooled
    held.isPooled &&= external
    held.isMoved = true
  }

  /**
   * Moves memory into a message that nobody receives.
   *
   * @param {Held} held
   */
  async misaddress(held) {
    const { id, name, place } = held
    this.log(`${place}: closedPort.postMessage(${name}, [${name}.buffer])`)
    if (held.isMarked) {
      await this.do(place, 'refuses', id)
      return
    }
    await this.do(place, 'misaddress', id, leftOf(held))
    held.isMoved = true
    this.#lose(held)
  }

  // Neither is an async function: a suspended one keeps the values alive that it has seen.

  /** @param {number} id */
  #post(id) {
    this.#isThereUsed = true
    const bytes = this.here.bytesOf(id)
    const put = ({ holder }, { id, bytes }) => holder.put(id, bytes)
    return this.#there.run(put, { id, bytes }, [bytes.buffer])
  }

  /** @param {number} id */
  #fetch(id) {
    const give = ({ holder, transfer }, id) => {
      const bytes = holder.bytesOf(id)
      transfer.push(bytes.buffer)
      return bytes
    }
    return this.#there.run(give, id).then((bytes) => this.here.put(id, bytes))
  }

  /**
   * @param {Place} place
   * @param {number} keepBytes
   */
  async trim(place, keepBytes) {
    this.log(`${place}.trim(${keepBytes})`)
    // Dropped leases may have ended meanwhile.
    const most = keepBytes + this.#droppedBytes
    const before = this.pool.stats().freedBytes
    const bytes = await this.do(place, 'trim', keepBytes)
    const { freedBytes, idleBytes } = this.pool.stats()
    if (!this.#idle.has(otherOf(place))) {
      assert.equal(freedBytes - before, bytes, 'what it says is what it does')
      assert.ok(idleBytes <= most, `${idleBytes} bytes are idle at once`)
    }
    await this.#settleAll()
    const left = this.pool.stats().idleBytes
    assert.ok(left <= most, `${left} bytes are idle`)
  }

  /** @param {Place} place */
  async close(place) {
    this.log(`${place}.close()`)
    const idleBytes = await this.do(place, 'close')
    if (!this.#idle.has(otherOf(place))) assert.equal(idleBytes, 0, 'nothing is idle at once')
    this.isClosed = true
  }

  /**
   * Ends the other thread: what is there goes, what it has sent here stays.
   *
   * @param {keyof typeof ENDINGS} way
   */
  async end(way) {
    await this.attach()
    this.log(`there: ${way}`)
    await this.#ended(ENDINGS[way](this.#there))
  }

  /**
   * Ends the other thread while something is on its way there.
   *
   * @param {Held} held here
   */
  async endMeanwhile(held) {
    const { id, name } = held
    await this.attach()
    this.log(`here: postMessage(${name}, [${name}.buffer]), terminate there`)
    const left = leftOf(held)
    const ends = Promise.allSettled([this.#post(id), this.#there.terminate()])
    this.here.sent(id, left)
    held.place = 'there'
    this.#noteMove(held, left)
    await this.#ended(ends)
  }

  /** @param {Promise<unknown>} ends */
  async #ended(ends) {
    const thread = this.#there
    // The call that ends it gets no answer.
    await Promise.allSettled([ends, thread.ended])
    this.thread = undefined
    this.#attached = undefined
    this.hasEnded = true
    this.#idle.delete('there')
    for (const held of [...this.held]) {
      if (held.place === 'there') this.#lose(held)
      else if (held.lender === 'there') held.isSetAside = true
    }
  }

  /** Waits until both threads know of each other's effects. */
  async #settleAll() {
    await settle()
    if (!this.#isThereUsed || this.thread === undefined) return
    await this.do('there', 'settle')
    await settle()
  }

  /** @param {Place} place */
  #expected(place) {
    return this.held
      .filter((held) => held.place === place)
      .map(({ id, name, length, isOwned }) => ({ id, name, length, isOwned }))
  }

  /** Asserts that everything is as it should be. */
  async agreesWith() {
    await this.do('here', 'check', this.#expected('here'))
    if (this.#isThereUsed && this.thread !== undefined) {
      await this.do('there', 'check', this.#expected('there'))
      await this.do('here', 'check', this.#expected('here'))
    }
    this.#checkBooks(this.pool.stats())
  }

  /** @param {import('../../..').PoolStats} stats */
  #checkBooks(stats) {
    for (const [name, count] of Object.entries(this.#counts)) assert.equal(stats[name], count, name)
    const { freshBytes, inUseBytes, idleBytes, freedBytes, quarantinedBytes } = stats
    const sum = inUseBytes + idleBytes + freedBytes + quarantinedBytes
    assert.equal(freshBytes, sum, 'the totals balance')
    const { allocCount, hitCount, missCount, unpooledCount, collectedCount } = stats
    assert.equal(allocCount, hitCount + missCount + unpooledCount)
    assert.ok(inUseBytes + idleBytes + quarantinedBytes <= this.maxBytes, 'the ceiling holds')
    assert.ok(stats.peakInUseBytes >= this.peak, 'the peak is no less than what was leased')
    if (this.isClosed) assert.equal(idleBytes, 0, 'a closed pool keeps nothing')
    const collected = collectedCount - this.#collected
    const most = this.#dropped.length + this.#droppedOfV8 + this.#uncertain
    assert.ok(collected >= 0 && collected <= most, `${collected} were collected`)
    for (const { blockSize, allocCount } of stats.classes) {
      assert.equal(allocCount, this.#leases.get(blockSize) ?? 0, `leases of ${blockSize} bytes`)
    }
    if (this.hasEnded) {
      // Its blocks are about to return.
      assert.ok(inUseBytes + quarantinedBytes >= this.#bytesOf(this.held), 'all is leased')
      return
    }
    const blocks = this.held.filter(({ isPooled }) => isPooled)
    const coming = this.#dropped.length - (collectedBlocks(stats) - this.#collectedBlocks)
    assert.equal(stats.inUseCount, blocks.length + coming, 'inUseCount')
    const least = this.#bytesOf(blocks)
    assert.ok(inUseBytes >= least && inUseBytes <= least + this.#droppedBytes, 'inUseBytes')
    assert.equal(quarantinedBytes, 0)
  }

  /** Gives everything back, and asserts that nothing is left. */
  async finish() {
    for (const held of [...this.held]) {
      if (held.isOwned && !held.isMarked) await this.release(held, 'buffer')
      else await this.drop(held)
    }
    await this.agreesWith()
    await this.collect()
    if (!this.isClosed) await this.close('here')
    await this.agreesWith()
    const { inUseCount, quarantinedBytes } = this.pool.stats()
    assert.equal(inUseCount, 0)
    if (endsShow) assert.equal(quarantinedBytes, 0)
  }
}

module.exports = { MAX_BLOCK_SIZE, Model }
