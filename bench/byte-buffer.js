'use strict'

/**
 * `npm run bench`: appends 30,000 bytes, reads the length, and releases. It compares that with
 * `Buffer.concat`, and with Go's bytebufferpool if Debian's packages golang-go and
 * golang-github-valyala-bytebufferpool-dev are installed. It runs in rounds, so that all have the
 * same noise.
 */

const { spawn, spawnSync } = require('node:child_process')
const { once } = require('node:events')
const { mkdtempSync, rmSync } = require('node:fs')
const { tmpdir } = require('node:os')
const path = require('node:path')
const { createInterface } = require('node:readline')
const { BufferPool } = require('..')
const { median } = require('./median')

const ROUNDS = 15
const OPERATIONS = 40_000

const DATA = Buffer.from('log'.repeat(10_000))
const PARTS = [DATA.subarray(0, 10_000), DATA.subarray(10_000, 20_000), DATA.subarray(20_000)]
const TARGET = Buffer.alloc(DATA.length)

/** The contestant that Go's buffer is compared with. */
const OURS = 'cistern, default'

let total = 0

/** @param {import('../index').BufferPoolOptions} options */
function growing(options) {
  const pool = new BufferPool(options)
  return () => {
    const bytes = pool.byteBuffer()
    bytes.append(DATA)
    total += bytes.length
    bytes.release()
  }
}

/** @type {Record<string, () => void>} */
const operations = {
  'bare copy': () => TARGET.set(DATA, 0),
  [OURS]: growing({}),
  'cistern, detachOnRelease: false': growing({ detachOnRelease: false }),
  'Buffer.concat, one part': () => {
    total += Buffer.concat([DATA]).length
  },
  'Buffer.concat, three parts': () => {
    total += Buffer.concat(PARTS).length
  }
}

/** @param {() => void} operation */
function measure(operation) {
  const start = process.hrtime.bigint()
  for (let i = 0; i < OPERATIONS; i++) operation()
  return Number(process.hrtime.bigint() - start) / OPERATIONS
}

/**
 * Returns functions that measure Go's buffer, or none if it can't be built.
 *
 * @param {string} folder for the program
 */
function startGo(folder) {
  const program = path.join(folder, 'bytebufferpool')
  const source = path.join(__dirname, 'bytebufferpool', 'main.go')
  const env = { ...process.env, GOPATH: '/usr/share/gocode', GO111MODULE: 'off', GOFLAGS: '' }
  const { status } = spawnSync('go', ['build', '-o', program, source], { env })
  if (status !== 0) return []
  return ['put', 'not put'].map((way) => {
    const child = spawn(program, [way], { stdio: ['pipe', 'pipe', 'inherit'] })
    const lines = createInterface({ input: child.stdout })
    return {
      name: `Go's bytebufferpool, ${way}`,
      async measure() {
        child.stdin.write('\n')
        const [line] = await once(lines, 'line')
        return Number(line)
      },
      end: () => child.stdin.end()
    }
  })
}

async function main() {
  const folder = mkdtempSync(path.join(tmpdir(), 'cistern-bench-'))
  const gos = startGo(folder)
  /** @type {Map<string, number[]>} */
  const times = new Map()
  const note = (/** @type {string} */ name, /** @type {number} */ time) =>
    times.set(name, [...(times.get(name) ?? []), time])
  for (let round = 0; round <= ROUNDS; round++) {
    for (const [name, operation] of Object.entries(operations)) {
      const time = measure(operation)
      // The first round warms up.
      if (round > 0) note(name, time)
    }
    for (const go of gos) {
      const time = await go.measure()
      if (round > 0) note(go.name, time)
    }
  }
  for (const go of gos) go.end()
  rmSync(folder, { recursive: true })
  if (total % DATA.length !== 0) throw new Error('a length was wrong')

  console.log(`\n30,000 bytes appended, length read, released: Node ${process.version}, ns`)
  const ours = /** @type {number[]} */ (times.get(OURS))
  for (const [name, values] of times) {
    const ratios = values.map((value, round) => ours[round] / value)
    console.log(`${name}: ${median(values).toFixed(0)} (${OURS}: ${median(ratios).toFixed(2)} ×)`)
  }
  if (gos.length === 0) console.log("Go's bytebufferpool is not installed")
}

main()
