'use strict'

/**
 * Iterators of `chunks` that their user has dropped without a `return()`. Once the garbage
 * collector has found one, nothing is leased, no file is open and nobody listens. It makes no
 * difference who still has the signal, the stream or the handle.
 */

// This must come first: cistern takes `fs.read` as it is when cistern is loaded.
const { spyOnRead } = require('../support/spied-read')
const assert = require('node:assert/strict')
const crypto = require('node:crypto')
const { getEventListeners } = require('node:events')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const { PassThrough, Readable } = require('node:stream')
const { after, before, describe, test } = require('node:test')
const { BufferPool } = require('../..')
const { chunks } = require('../../lib/io')
const { balanced, eventually, openFiles, settle, until } = require('../support/helpers')

const CHUNK = 64 * 1024

let folder = ''
let file = ''
let contents = Buffer.alloc(0)

before(() => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), 'cistern-abandoned-'))
  contents = crypto.randomBytes(10 * CHUNK + 123)
  file = path.join(folder, 'file')
  fs.writeFileSync(file, contents)
})

after(() => fs.rmSync(folder, { recursive: true }))

/** Signals that outlive every iterator. */
const { signal } = new AbortController()

/**
 * Takes some chunks, and drops the iterator.
 *
 * @param {BufferPool} pool
 * @param {any} source
 * @param {{ count?: number, chunkSize?: number, signal?: AbortSignal }} [options]
 * @returns {Promise<any>} the last chunk
 */
async function take(pool, source, { count = 1, ...options } = {}) {
  const iterator = chunks(pool, source, { chunkSize: CHUNK, ...options })
  let value
  for (let i = 0; i < count; i++) ({ value } = await iterator.next())
  return value
}

/** Does the same, and drops the chunk as well. */
async function takeNone(pool, source, options) {
  await take(pool, source, options)
}

async function leftNothing(pool) {
  await eventually(() => pool.stats().inUseCount === 0, 'nothing is leased')
  await eventually(() => openFiles(folder).length === 0, 'no file is open')
  await eventually(() => getEventListeners(signal, 'abort').length === 0, 'nobody listens')
  await balanced(pool)
}

for (const detachOnRelease of [true, false]) {
  describe(`An iterator that is dropped, detachOnRelease: ${detachOnRelease},`, () => {
    const newPool = (options = {}) => new BufferPool({ detachOnRelease, ...options })

    for (const [name, options] of Object.entries({
      'after one chunk, the next being read': {},
      'after three chunks': { count: 3 },
      'after its last chunk': { count: 11 },
      'with a signal that lives on': { signal }
    })) {
      test(`gives its blocks back and closes its file, ${name}`, async () => {
        const pool = newPool()
        for (let i = 0; i < 5; i++) await takeNone(pool, file, options)
        await leftNothing(pool)
      })
    }

    test('releases a chunk that was read ahead and copied out for a waiter', async () => {
      const pool = newPool({ maxBytes: 2 * CHUNK })
      const chunk = await take(pool, file)
      pool.release(await pool.acquire(CHUNK))
      pool.release(chunk)
      await leftNothing(pool)
    })

    test('leaves a chunk to its user, until that is dropped', async () => {
      const pool = newPool()
      let chunk = await take(pool, file, { signal })
      await eventually(() => openFiles(folder).length === 0, 'the file is closed')
      await eventually(() => getEventListeners(signal, 'abort').length === 0, 'nobody listens')
      await eventually(() => pool.stats().inUseCount === 1, 'what was read ahead is back')
      const others = Array.from({ length: 4 }, () => pool.allocUnsafe(CHUNK).fill(0xee))
      assert.ok(contents.subarray(0, CHUNK).equals(chunk))
      assert.ok(pool.owns(chunk))
      for (const other of others) pool.release(other)
      chunk = undefined
      await leftNothing(pool)
    })

    test("leaves a FileHandle to its user: it is open, where it was, and the user's to close", async () => {
      const pool = newPool()
      const handle = await fs.promises.open(file)
      for (let i = 0; i < 3; i++) await takeNone(pool, handle, { signal })
      await eventually(() => pool.stats().inUseCount === 0, 'nothing is leased')
      const { buffer } = await handle.read(Buffer.alloc(10), 0, 10, null)
      assert.ok(contents.subarray(0, 10).equals(buffer))
      await handle.close()
      await leftNothing(pool)
    })

    test('keeps nothing that it reads from: handle, stream, web stream, generator', async () => {
      const pool = newPool()
      const made = []
      const note = (source) => {
        made.push(new WeakRef(source))
        return source
      }
      await takeNone(pool, note(handleOf(contents)), { signal })
      await takeNone(pool, note(Readable.from([contents])), { signal })
      await takeNone(pool, note(new Blob([contents]).stream()), { signal })
      await takeNone(pool, note(pieces()), { signal })
      for (const ref of made) {
        await eventually(() => ref.deref() === undefined, 'the source is collected')
      }
      await leftNothing(pool)
    })

    test('leaves a stream, which goes on', async () => {
      const pool = newPool()
      for (const stream of [new PassThrough(), Readable.from(pieces(), { objectMode: false })]) {
        const before = listenersOf(stream)
        if (stream instanceof PassThrough) stream.write('one')
        assert.equal(String(await take(pool, stream, { signal, chunkSize: 3 })), 'one')
        const isLeft = () => assert.deepEqual(listenersOf(stream), before) === undefined
        // The iterator had requested the next piece, which is lost.
        if (stream instanceof PassThrough) stream.write('two')
        await eventually(() => holds(isLeft), 'nobody listens to the stream')
        assert.equal(stream.destroyed, false)
        if (stream instanceof PassThrough) stream.end('three')
        let rest = ''
        for await (const piece of stream) rest += piece
        assert.match(rest, /three/)
      }
      await leftNothing(pool)
    })

    test('leaves a web stream, which can be read on', async () => {
      const pool = newPool()
      let controller
      const web = new ReadableStream({
        start(given) {
          controller = given
        }
      })
      controller.enqueue(Buffer.from('one'))
      await takeNone(pool, web, { signal, chunkSize: 3 })
      await eventually(() => !web.locked, 'it is not locked')
      controller.enqueue(Buffer.from('two'))
      assert.equal(String((await web.getReader().read()).value), 'two')
      await leftNothing(pool)
    })

    test('leaves a generator where it is', async () => {
      const pool = newPool()
      const generator = pieces()
      await takeNone(pool, generator, { signal, chunkSize: 3 })
      await leftNothing(pool)
      assert.equal((await generator.next()).value, 'two')
    })

    test('with a call under way still gives the chunk, and can then be collected', async () => {
      const pool = newPool()
      const through = new PassThrough()
      const pending = chunks(pool, through, { signal }).next()
      for (let i = 0; i < 5; i++) {
        await settle()
        globalThis.gc()
      }
      through.write('late')
      const { value } = await pending
      assert.equal(String(value), 'late')
      pool.release(value)
      await leftNothing(pool)
      assert.equal(through.destroyed, false)
    })

    test('with a call under way can still be aborted', async () => {
      const pool = newPool()
      const controller = new AbortController()
      const silent = { [Symbol.asyncIterator]: () => ({ next: () => new Promise(() => {}) }) }
      const pending = chunks(pool, silent, { signal: controller.signal }).next()
      for (let i = 0; i < 5; i++) {
        await settle()
        globalThis.gc()
      }
      controller.abort()
      await assert.rejects(pending, { name: 'AbortError' })
      await leftNothing(pool)
    })

    test('while it waits for memory gets that, and gives it back', async () => {
      const pool = newPool({ maxBytes: CHUNK })
      const block = pool.allocUnsafe(CHUNK)
      const waiting = takeNone(pool, file, { signal })
      await until(() => pool.stats().waitCount === 1, 'it waits')
      globalThis.gc()
      pool.release(block)
      await waiting
      await leftNothing(pool)
    })

    test('holds its block as long as a read into it is under way', async (context) => {
      const pool = newPool()
      const held = []
      let reads = 0
      spyOnRead(context, (read, args) => {
        if (++reads === 2) held.push(() => read(...args))
        else read(...args)
      })
      await takeNone(pool, file, { signal })
      await until(() => held.length === 1, 'it reads ahead')
      await eventually(() => getEventListeners(signal, 'abort').length === 0, 'it is found')
      await eventually(() => pool.stats().inUseCount === 1, 'the chunk is back')
      held[0]()
      await leftNothing(pool)
    })
  })
}

test('An iterator that somebody has goes on, whatever is collected', async () => {
  const pool = new BufferPool()
  const iterator = chunks(pool, file, { chunkSize: CHUNK, signal })
  const got = []
  for (;;) {
    globalThis.gc()
    await settle()
    const { done, value } = await iterator.next()
    if (done) break
    got.push(Buffer.from(value))
  }
  assert.ok(contents.equals(Buffer.concat(got)))
  await leftNothing(pool)
})

async function* pieces() {
  yield 'one'
  yield 'two'
  yield 'three'
}

/**
 * Returns an object that passes for a FileHandle. Node ends the process if its own FileHandle is
 * collected.
 */
function handleOf(bytes) {
  return {
    fd: 0,
    async read(buffer, offset, length, position) {
      return { bytesRead: bytes.copy(buffer, offset, position, position + length) }
    },
    datasync() {}
  }
}

function listenersOf(emitter) {
  return Object.fromEntries(emitter.eventNames().map((name) => [name, emitter.listenerCount(name)]))
}

/** Returns true if an assertion holds. */
function holds(assertion) {
  try {
    assertion()
    return true
  } catch {
    return false
  }
}
