'use strict'

/**
 * Hangs slots on ArrayBuffers, where no other code can reach them. A Buffer itself carries nothing,
 * so that it has the V8 map of every other Buffer.
 */

/** Its constructor returns the object that it is given. */
class Onto {
  /** @param {object} target */
  constructor(target) {
    // biome-ignore lint/correctness/noConstructorReturn: a subclass's private field lands on it
    return target
  }
}

/**
 * Puts a private field on a foreign object. No code outside can see, copy or change it, and it is
 * read as fast as any property.
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
      // The value is no object. A check in advance would slow down every release.
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

/** Replaces the slot of an ArrayBuffer that carries one. */
const rehang = Tag.replace

/** Returns the slot that hangs on a value; `undefined` if none does. */
const slotOf = Tag.read

module.exports = { hang, rehang, slotOf }
