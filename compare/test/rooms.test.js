'use strict'

const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { test } = require('node:test')

const ROOT = path.join(__dirname, '..')

/** Each room, and the rooms that its files may require. compare/README.md draws the same. */
const MAY_REQUIRE = {
  'cli.js': ['commands', 'experiments', 'report', 'runner'],
  'publish.js': ['analysis', 'browser.js', 'experiments', 'report'],
  commands: ['experiments', 'report', 'runner'],
  recorder: ['experiments', 'runner'],
  experiments: ['analysis', 'arms', 'runner'],
  runner: ['analysis', 'arms', 'result'],
  report: ['analysis', 'arms', 'result'],
  result: ['analysis'],
  analysis: ['arms'],
  arms: [],
  'browser.js': [],
  'format.js': [],
  'random.js': [],
  'usage-error.js': [],
  examples: []
}

/** Any room may require these: they know none. */
const SHARED = ['format.js', 'random.js', 'usage-error.js']

const files = fs
  .readdirSync(ROOT, { recursive: true })
  .map((file) => file.replaceAll(path.sep, '/'))
  .filter((file) => file.endsWith('.js') && !file.startsWith('client/') && !isPackage(file))

/** The files that each file requires by a path of its own. */
const required = new Map(files.map((file) => [file, requiredBy(file)]))

test('the files of a room require only rooms below it', () => {
  const wrong = []
  for (const [file, others] of required) {
    const room = roomOf(file)
    if (room === 'test') continue
    assert.ok(Object.hasOwn(MAY_REQUIRE, room), `${file}: the test knows no room ${room}`)
    const allowed = [room, ...MAY_REQUIRE[room], ...SHARED]
    wrong.push(...others.filter((other) => !allowed.includes(roomOf(other))).map(edgeOf(file)))
  }
  assert.deepEqual(wrong, [])
})

test('only tests require a file of the tests', () => {
  const wrong = [...required].flatMap(([file, others]) =>
    roomOf(file) === 'test'
      ? []
      : others.filter((other) => roomOf(other) === 'test').map(edgeOf(file))
  )
  assert.deepEqual(wrong, [])
})

test('no file requires itself through others', () => {
  assert.deepEqual(files.map(circleFrom).filter(Boolean), [])
})

/** Returns a chain of files that leads from one back to itself, if there is one. */
function circleFrom(start) {
  const cameFrom = new Map()
  const waiting = [start]
  while (waiting.length > 0) {
    const file = waiting.pop()
    for (const other of required.get(file) ?? []) {
      if (other === start) return chainOf(file, cameFrom)
      if (cameFrom.has(other)) continue
      cameFrom.set(other, file)
      waiting.push(other)
    }
  }
  return undefined
}

function chainOf(last, cameFrom) {
  const chain = [last]
  while (cameFrom.has(chain[0])) chain.unshift(cameFrom.get(chain[0]))
  return chain.join(' → ')
}

function requiredBy(file) {
  const text = fs.readFileSync(path.join(ROOT, file), 'utf8')
  return [...text.matchAll(/\brequire\('(\.[^']*)'\)/g)]
    .map(([, name]) => resolved(file, name))
    .filter((other) => other !== undefined)
}

/**
 * Returns the file that a `require` names; undefined for JSON, and for modules that a text of the
 * page's script requires.
 */
function resolved(file, name) {
  const base = path.posix.join(path.posix.dirname(file), name)
  const place = [`${base}.js`, `${base}/index.js`, base].find((one) =>
    fs.existsSync(path.join(ROOT, one))
  )
  return place?.endsWith('.js') ? place : undefined
}

function isPackage(file) {
  return file.split('/').includes('node_modules')
}

function roomOf(file) {
  return file.split('/')[0]
}

function edgeOf(file) {
  return (other) => `${file} → ${other}`
}
