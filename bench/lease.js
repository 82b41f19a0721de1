'use strict'

/**
 * `npm run bench`: gets one Buffer, touches it and gives it back, with cistern, with the functions
 * that it builds on, and with its competitors.
 *
 * Every contestant runs in a process of its own, so that no other has influenced V8's code. It runs
 * in rounds, so that all have the same noise.
 */

const { spawnSync } = require('node:child_process')
const path = require('node:path')
const { contestants, hasTransfer } = require('./contestants')
const { median } = require('./median')

const KIB = 1024

/** Rounds; the median counts. */
const ROUNDS = 3

/** The column that ratios are to. */
const BASELINE = 'Buffer.allocUnsafe'

/** Sizes that vary, a power of two of them: 64 B to 64 KiB, spread log-uniformly. */
const VARIED = Array.from({ length: 64 }, (_, i) => Math.round(64 * 2 ** (((i * 37) % 64) / 6.4)))

const COLUMNS = [
  { title: '256 B', sizes: [256] },
  { title: '4 KiB', sizes: [4 * KIB] },
  { title: '64 KiB', sizes: [64 * KIB] },
  { title: '1 MiB', sizes: [1024 * KIB] },
  { title: '64 B to 64 KiB', sizes: VARIED }
]

/**
 * @param {string} name
 * @param {number[]} sizes
 */
function measure(name, sizes) {
  const script = path.join(__dirname, 'contestant.js')
  const args = ['--expose-gc', script, name, JSON.stringify(sizes)]
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' })
  if (status !== 0) throw new Error(`${name} failed:\n${stderr}`)
  return Number(stdout)
}

function main() {
  const runners = contestants.filter((contestant) => hasTransfer || !contestant.needsTransfer)
  /** @type {Map<string, Map<string, number[]>>} ns by contestant and column, a value a round */
  const times = new Map(runners.map(({ name }) => [name, new Map()]))
  for (let round = 1; round <= ROUNDS; round++) {
    for (const { title, sizes } of COLUMNS) {
      console.error(`round ${round} of ${ROUNDS}, ${title}`)
      for (const { name, fixed } of runners) {
        if (fixed && sizes.length > 1) continue
        const columns = /** @type {Map<string, number[]>} */ (times.get(name))
        columns.set(title, [...(columns.get(title) ?? []), measure(name, sizes)])
      }
    }
  }
  /** @param {string} name @param {string} title */
  const ns = (name, title) => median(times.get(name)?.get(title) ?? [])

  console.log(`\nGet one Buffer, write its first byte, give it back: Node ${process.version},`)
  console.log(`ns, and in brackets the ratio to ${BASELINE}; median of ${ROUNDS} rounds\n`)
  const width = Math.max(...runners.map(({ name }) => name.length))
  console.log(['', ...COLUMNS.map(({ title }) => title)].map(pad(width)).join(''))
  for (const { name } of runners) {
    const cells = COLUMNS.map(({ title }) => {
      const time = ns(name, title)
      return time === undefined ? '–' : `${round(time)} (${round(time / ns(BASELINE, title))})`
    })
    console.log([name, ...cells].map(pad(width)).join(''))
  }

  console.log('\nAgainst the floors')
  /** @type {[string, string, string, string, string][]} */
  const floors = [
    ['cistern, detachOnRelease: false', '64 KiB', 'bare array pop + push', '64 KiB', '≤ 8'],
    ['cistern, detachOnRelease: false', '64 KiB', 'Buffer.allocUnsafe', '256 B', '≤ 0.6'],
    ['cistern, default', '64 KiB', 'bare transfer() + Buffer.from', '64 KiB', '≤ 1.35']
  ]
  for (const [name, title, floor, floorTitle, bound] of floors) {
    const ratio = ns(name, title) / ns(floor, floorTitle)
    if (Number.isNaN(ratio)) continue
    console.log(`${name}, ${title}: ${ratio.toFixed(2)} × ${floor}, ${floorTitle} (${bound})`)
  }
}

/** @param {number} value three digits, and no more than count */
function round(value) {
  return value < 9.95 ? value.toFixed(value < 0.0995 ? 3 : value < 0.995 ? 2 : 1) : value.toFixed(0)
}

/** @param {number} width of the first cell */
function pad(width) {
  return (/** @type {string} */ cell, /** @type {number} */ i) =>
    i === 0 ? cell.padEnd(width) : cell.padStart(18)
}

main()
