'use strict'

/** Increment of the Weyl sequence in splitmix32: 2^32 divided by the golden ratio, made odd. */
const GOLDEN = 0x9e3779b9

/**
 * Returns a small seeded generator (splitmix32). The same seed gives the same numbers on every
 * machine and in every process, so all arms do the same work, and a run can be repeated.
 *
 * @param {number} seed any integer
 * @returns {() => number} numbers from 0 to below 1
 */
function random(seed) {
  let state = seed | 0
  return () => {
    state = (state + GOLDEN) | 0
    let mixed = state ^ (state >>> 16)
    mixed = Math.imul(mixed, 0x21f0aaad)
    mixed ^= mixed >>> 15
    mixed = Math.imul(mixed, 0x735a2d97)
    mixed ^= mixed >>> 15
    return (mixed >>> 0) / 2 ** 32
  }
}

/**
 * Returns a shuffled copy (Fisher–Yates).
 *
 * @template T
 * @param {readonly T[]} items
 * @param {() => number} next a generator made by {@link random}
 * @returns {T[]}
 */
function shuffled(items, next) {
  const copy = [...items]
  for (let last = copy.length - 1; last > 0; last--) {
    const chosen = Math.floor(next() * (last + 1))
    const held = copy[last]
    copy[last] = copy[chosen]
    copy[chosen] = held
  }
  return copy
}

module.exports = { random, shuffled }
