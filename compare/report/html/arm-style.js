'use strict'

const { html } = require('./markup')

/** Dashes by slot, in pixels, so that lines differ without colour too. */
const DASHES = [
  [],
  [7, 4],
  [2, 3],
  [10, 3, 2, 3],
  [5, 2],
  [12, 4],
  [4, 6],
  [8, 3, 2, 3, 2, 3],
  [16, 3],
  [3, 2, 1, 2]
]

/** The step between the dashes of arms of one slot. It is coprime to the number of dashes. */
const NEXT_DASH = 3

/** The slots of the common arms, the same in every report. */
const SLOTS = {
  'pool-safe': 0,
  'pool-reuse': 1,
  'pool-gc': 2,
  'v8-allocUnsafe': 3,
  'v8-tuned': 4,
  'v8-alloc': 5,
  static: 6
}

/** @typedef {{ slot: number, dash: number[], className: string }} ArmStyle */

/**
 * Assigns each arm one colour and one dash for the whole report. Where an experiment has more arms
 * than slots, arms of the same colour have different dashes.
 *
 * @param {object[]} experiments
 * @returns {Map<string, ArmStyle>}
 */
function armStyles(experiments) {
  const styles = new Map()
  const groups = experiments.map(({ arms }) => arms.map(({ name }) => name))
  const fixed = groups.flat().filter((name) => name in SLOTS)
  for (const name of [...fixed, ...groups.flat()]) {
    if (!styles.has(name)) styles.set(name, styleOf(name, groups, styles))
  }
  return styles
}

function styleOf(name, groups, styles) {
  const beside = groups.filter((group) => group.includes(name)).flat()
  const slot = SLOTS[name] ?? leastUsed(beside, groups.flat(), styles)
  const dash = DASHES[(slot + NEXT_DASH * uses(slot, beside, styles)) % DASHES.length]
  return { slot, dash, className: `slot-${slot}` }
}

/**
 * Returns the slot that the fewest arms of its experiments have; of those, the one that the report
 * uses least.
 */
function leastUsed(beside, all, styles) {
  const slots = DASHES.map((_, slot) => ({
    slot,
    near: uses(slot, beside, styles),
    far: uses(slot, all, styles)
  }))
  return slots.sort((one, other) => one.near - other.near || one.far - other.far)[0].slot
}

function uses(slot, names, styles) {
  return new Set(names.filter((name) => styles.get(name)?.slot === slot)).size
}

/** @param {ArmStyle} style */
function swatch({ className, dash }) {
  return html`<svg class="swatch ${className}" viewBox="0 0 28 8" width="28" height="8" aria-hidden="true"><line x1="0" y1="4" x2="28" y2="4" stroke-dasharray="${dash.join(' ')}"/></svg>`
}

module.exports = { armStyles, swatch }
