'use strict'

const { rackOf } = require('../buffer-pool')

const ignore = () => {}

/**
 * A chunk that is read before it is asked for. It has its block only as long as nobody waits for one: perhaps
 * that is who is to ask for it. Then it is copied out, and has to get a block again.
 */
class Ahead {
  #pool
  #spares
  /** That it is read. @type {Promise<void>} */
  #reading
  /** @type {Buffer | undefined} */
  #chunk
  /** @type {Buffer | undefined} */
  #copy
  #isGivenUp = false

  /**
   * @param {import('../buffer-pool').BufferPool} pool
   * @param {Promise<Buffer | undefined>} reading what is read into a block of the pool's
   */
  constructor(pool, reading) {
    this.#pool = pool
    this.#spares = rackOf(pool).caretaker.spares
    this.#spares.add(this.#giveUp)
    this.#reading = reading.then((chunk) => {
      this.#chunk = chunk
      if (this.#isGivenUp) this.#giveUp()
    })
    this.#reading.catch(ignore)
  }

  #giveUp = () => {
    this.#isGivenUp = true
    const chunk = this.#chunk
    if (chunk === undefined) return
    this.#chunk = undefined
    this.#spares.delete(this.#giveUp)
    this.#copy = Buffer.from(chunk)
    this.#pool.release(chunk)
  }

  /**
   * The chunk, in a block; `undefined` after the last.
   *
   * @param {AbortSignal} signal ends the wait for memory
   */
  async claim(signal) {
    try {
      await this.#reading
    } finally {
      this.#spares.delete(this.#giveUp)
    }
    if (this.#copy === undefined) return this.#chunk
    const block = await this.#pool.acquire(this.#copy.length, { signal })
    block.set(this.#copy)
    return block
  }

  /** Lets go of the chunk, once it is read. */
  async drop() {
    await this.#reading.catch(ignore)
    this.#spares.delete(this.#giveUp)
    if (this.#chunk !== undefined) this.#pool.release(this.#chunk)
  }
}

module.exports = { Ahead }
