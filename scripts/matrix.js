'use strict'

/**
 * `npm run test:matrix [-- --runtimes FOLDER] [--dry-run]`: runs `__test__/support/smoke.js` on
 * each runtime, each trial in a process of its own. It writes a table to docs/runtimes.md, and with
 * `--dry-run` to stdout only.
 *
 * The runtimes come from their npm packages. They stay in FOLDER (or `CISTERN_RUNTIMES`) if it is
 * given: `FOLDER/n24/node_modules/.bin/node`. The exit code is 1 if a trial fails on Node, or if
 * the README's server fails on another runtime.
 */

require('./check-node')
const { spawnSync } = require('node:child_process')
const {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync
} = require('node:fs')
const { tmpdir } = require('node:os')
const path = require('node:path')
const { commandLine } = require('./command-line')
const { root, npm, installDependencies } = require('./project')
const { buildAddon } = require('./addon')

/**
 * @typedef {object} Runtime
 * @property {string} name
 * @property {string} spec the package that npm installs
 * @property {string} bin
 * @property {string[]} args before the program
 *
 * @typedef {{ outcome: string, code?: string, message?: string }} Result
 */

const nodes = [20, 22, 24, 26].map((major) => ({
  name: `n${major}`,
  spec: `node@${major}`,
  bin: 'node',
  args: ['--expose-gc']
}))

/** @type {Runtime[]} */
const RUNTIMES = [
  ...nodes,
  { name: 'bun', spec: 'bun', bin: 'bun', args: [] },
  { name: 'deno', spec: 'deno', bin: 'deno', args: ['run', '-A', '--v8-flags=--expose-gc'] }
]

/** The trial that every runtime must pass. */
const LEAST = "the README's server"

/** The longest time of a trial, in ms. */
const PATIENCE = 30_000

const SMOKE = path.join(root, '__test__', 'support', 'smoke.js')
const PAGE = path.join(root, 'docs', 'runtimes.md')
const TABLE = /(<!-- matrix: .*? -->\n).*?(<!-- end of matrix -->)/s

const { values } = commandLine({
  options: {
    runtimes: { type: 'string', default: process.env.CISTERN_RUNTIMES },
    'dry-run': { type: 'boolean', default: false }
  }
})

installDependencies()
buildAddon()
const folder = path.resolve(values.runtimes ?? mkdtempSync(path.join(tmpdir(), 'cistern-matrix-')))
if (values.runtimes === undefined) process.on('exit', () => rmSync(folder, { recursive: true }))
main()

function main() {
  const { trials } = /** @type {{ trials: string[] }} */ (require(SMOKE))
  const columns = RUNTIMES.map((runtime) => {
    const bin = binOf(runtime)
    const version = versionOf(bin)
    console.error(`${runtime.bin} ${version} …`)
    const results = new Map(trials.map((trial) => [trial, resultOf(bin, runtime, trial)]))
    return {
      runtime,
      title: `${runtime.bin[0].toUpperCase()}${runtime.bin.slice(1)} ${version}`,
      results
    }
  })
  const table = draw(trials, columns)
  if (values['dry-run']) console.log(table)
  else writeFileSync(PAGE, readFileSync(PAGE, 'utf8').replace(TABLE, `$1${table}$2`))
  const required = columns.flatMap(({ runtime, results }) =>
    runtime.bin === 'node' ? [...results.values()] : [/** @type {Result} */ (results.get(LEAST))]
  )
  if (required.some(isShort)) process.exitCode = 1
}

/**
 * Returns the runtime's program, and installs it if it is missing.
 *
 * @param {Runtime} runtime
 */
function binOf({ name, spec, bin }) {
  const prefix = path.join(folder, name)
  const file = path.join(prefix, 'node_modules', '.bin', bin)
  if (!existsSync(file)) {
    mkdirSync(prefix, { recursive: true })
    npm(['install', '--prefix', prefix, '--no-save', '--no-audit', '--no-fund', '--silent', spec])
  }
  return file
}

/** @param {string} bin */
function versionOf(bin) {
  const { stdout } = spawnSync(bin, ['--version'], { encoding: 'utf8' })
  return /\d+\.\d+\.\d+/.exec(stdout)?.[0]
}

/**
 * @param {string} bin
 * @param {Runtime} runtime
 * @param {string} trial
 * @returns {Result}
 */
function resultOf(bin, { args }, trial) {
  const { status, signal, stdout, stderr } = spawnSync(bin, [...args, SMOKE, trial], {
    cwd: root,
    encoding: 'utf8',
    timeout: PATIENCE
  })
  const line = stdout.trim().split('\n').at(-1)
  if (status === 0 && line?.startsWith('{')) return JSON.parse(line)
  const message = signal === null ? stderr.trim().split('\n')[0] : `ended by ${signal}`
  return { outcome: 'fails', message }
}

/** @param {Result} result */
function isShort({ outcome }) {
  return outcome === 'refused' || outcome === 'fails'
}

/**
 * Returns a row for each trial, and a sentence for each that is not ok.
 *
 * @param {string[]} trials
 * @param {{ title: string, results: Map<string, Result> }[]} columns
 */
function draw(trials, columns) {
  const cell = ({ outcome = '', code = '' } = {}) =>
    outcome === 'refused' ? `refused: \`${code}\`` : outcome
  const rows = [
    ['', ...columns.map(({ title }) => title)],
    ['---', ...columns.map(() => '---')],
    ...trials.map((trial) => [trial, ...columns.map(({ results }) => cell(results.get(trial)))])
  ]
  const notes = columns.flatMap(({ title, results }) =>
    [...results]
      .filter(([, result]) => isShort(result))
      .map(([trial, { message = '' }]) => `- ${title}, ${trial}: ${message.split('\n')[0]}\n`)
  )
  const table = rows.map((row) => `| ${row.join(' | ')} |\n`).join('')
  return `\n${table}\n${notes.length > 0 ? `${notes.join('')}\n` : ''}`
}
