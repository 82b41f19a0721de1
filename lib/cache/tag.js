'use strict'

/**
 * How a slot hangs on an ArrayBuffer: out of reach of any other code. A Buffer itself carries
 * nothing, so that it has the V8 map of every other Buffer.
 */

/** Constructs to the object it is given. */
class Onto {
  /** @param {object} target */
  constructor(target) {
    // biome-ignore lint/correctness/noConstructorReturn: a subclass's private field lands on it
    return target
  }
}

/**
 * Puts a private field on a foreign object: no code outside can see, copy or change it, and to
 * read it costs what reading any property does.
 */
class Tag extends Onto {
  /** @type {import('./slot').Slot} */
  #slot

  /**
   * @param {ArrayBuffer} arrayBuffer
   * @param {import('./slot').Slot} slot
   */
  constructor(arrayBuffer, slot) {
    super(arrayBuffer)
    this.#slot = slot
  }

  /**
   * @param {any} arrayBuffer that carries a slot
   * @param {import('./slot').Slot} slot
   */
  static replace(arrayBuffer, slot) {
    arrayBuffer.#slot = slot
  }

  /** @param {any} value */
  static read(value) {
    try {
      return #slot in value ? /** @type {Tag} */ (value).#slot : undefined
    } catch {
      // No object at all. To ask for that first would cost every release.
      return undefined
    }
  }
}

/**
 * Hangs a slot on an ArrayBuffer that carries none.
 *
 * @param {ArrayBuffer} arrayBuffer
 * @param {import('./slot').Slot} slot
 */
function hang(arrayBuffer, slot) {
  new Tag(arrayBuffer, slot)
}

/** Hangs another slot on an ArrayBuffer that carries one. */
const rehang = Tag.replace

/** The slot that hangs on a value; `undefined` where none does. */
const slotOf = Tag.read

module.exports = { hang, rehang, slotOf }
