'use strict'

/** Marks a Buffer as its owner's: each word follows from the first, and the first from a seed. */

/** Words that differ in every byte from one to the next. */
const STEP = 0x9e3779b1

/** @param {Uint8Array} bytes whole words are marked */
function wordsOf(bytes) {
  return new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length >> 2)
}

/**
 * @template {Uint8Array} Bytes
 * @param {Bytes} bytes
 * @param {number} seed
 */
function mark(bytes, seed) {
  const words = wordsOf(bytes)
  for (let i = 0; i < words.length; i++) words[i] = seed + Math.imul(i, STEP)
  return bytes
}

/**
 * Throws if a byte is another owner's.
 *
 * @param {Uint8Array} bytes
 * @param {number} seed
 */
function check(bytes, seed) {
  const words = wordsOf(bytes)
  for (let i = 0; i < words.length; i++) {
    if (words[i] !== (seed + Math.imul(i, STEP)) >>> 0) {
      throw new Error(`a foreign word at ${i * 4} of ${bytes.length} bytes marked ${seed}`)
    }
  }
}

/** @param {number} limit */
function below(limit) {
  return Math.floor(Math.random() * limit)
}

/** Returns a size from one word to 400 KiB, most often a small one. */
function anySize() {
  return 4 + Math.floor(400_000 ** Math.random())
}

module.exports = { anySize, below, check, mark }
