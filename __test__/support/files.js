'use strict'

/** Files for the tests of `cistern/io`, and what must hold when a helper has ended. */

const assert = require('node:assert/strict')
const { execFileSync } = require('node:child_process')
const crypto = require('node:crypto')
const { EventEmitter } = require('node:events')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const { Writable } = require('node:stream')
const { after } = require('node:test')
const { BufferPool } = require('../..')
const { balanced, openFiles, until } = require('./helpers')

const KIB = 1024

/** Small, so that a file has many. */
const CHUNK = 64 * KIB

const isLinux = process.platform === 'linux'
const onlyLinux = { skip: !isLinux && 'as Linux has it' }

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'cistern-io-'))
after(() => fs.rmSync(folder, { recursive: true }))

/** A file of random bytes that is no multiple of any chunk's size, and its contents. */
const contents = crypto.randomBytes(40 * CHUNK + 12_345)
const file = fileOf(contents)

/** Makes a file with these contents. */
function fileOf(bytes) {
  const name = path.join(folder, crypto.randomUUID())
  fs.writeFileSync(name, bytes)
  return name
}

/** Makes a FIFO. */
function fifo() {
  const name = path.join(folder, crypto.randomUUID())
  execFileSync('mkfifo', [name])
  return name
}

const hashOf = (bytes) => crypto.createHash('sha256').update(bytes).digest('hex')

/** Asserts that bytes are these, without printing megabytes. */
function assertBytes(actual, expected) {
  assert.equal(actual.length, expected.length)
  assert.equal(hashOf(actual), hashOf(expected))
}

/** Waits until nothing is leased and no file is open any more. */
async function atRest(pool) {
  await until(() => pool.stats().inUseCount === 0, 'nothing is leased')
  await until(() => openFiles(folder).length === 0, 'no file is open')
  await balanced(pool)
}

/**
 * Overwrites the idle memory of the pool in every turn of the event loop, until the test is over.
 */
function disturb(pool, context, size = CHUNK) {
  let immediate = setImmediate(function overwrite() {
    const blocks = Array.from({ length: 4 }, () => pool.allocUnsafe(size).fill(0xee))
    for (const block of blocks) pool.release(block)
    immediate = setImmediate(overwrite)
  })
  context.after(() => clearImmediate(immediate))
}

/** Runs a test on a pool that moves memory at release and on one that does not, both disturbed. */
function onDisturbedPools(run, settings = {}) {
  return async (context) => {
    for (const detachOnRelease of [true, false]) {
      await context.test(`detachOnRelease: ${detachOnRelease}`, async (context) => {
        const pool = new BufferPool({ detachOnRelease, ...settings })
        disturb(pool, context)
        await run(pool, context, detachOnRelease)
        await atRest(pool)
      })
    }
  }
}

/** Returns the number of listeners that an emitter has, for each event. */
function listenersOf(emitter) {
  return Object.fromEntries(emitter.eventNames().map((name) => [name, emitter.listenerCount(name)]))
}

/** Returns a signal that fires after `delay` ms. Unlike Node's own it keeps the process alive. */
function abortedAfter(delay) {
  const controller = new AbortController()
  setTimeout(() => controller.abort(), delay)
  return controller.signal
}

/** Returns a Writable that records its chunks, and calls `first` before it takes the second one. */
function recorder({ first = () => {} } = {}) {
  const sink = new Writable({
    write(chunk, _encoding, callback) {
      sink.kept.push(chunk)
      if (sink.kept.length === 1) first()
      setImmediate(callback)
    }
  })
  sink.kept = []
  return sink
}

/** Returns a Writable that fails. */
function failing(when) {
  let writes = 0
  return new Writable({
    write(_chunk, _encoding, callback) {
      const error = new Error('it fails')
      if (when === 'at once') callback(error)
      else if (when === 'after one' && writes++ === 0) callback()
      else setTimeout(callback, 5, error)
    }
  })
}

/** Returns an object with the methods of a Writable that reports an error by its callback alone. */
function telling() {
  const writable = new EventEmitter()
  writable.write = (_chunk, _encoding, callback) => {
    setImmediate(callback, new Error('only told'))
    return false
  }
  writable.end = () => {}
  return writable
}

module.exports = {
  CHUNK,
  abortedAfter,
  assertBytes,
  atRest,
  contents,
  disturb,
  failing,
  fifo,
  file,
  fileOf,
  folder,
  hashOf,
  isLinux,
  listenersOf,
  onDisturbedPools,
  onlyLinux,
  telling,
  recorder
}
