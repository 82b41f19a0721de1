'use strict'

/**
 * `chunks` of files, by path and `FileHandle`, and what ends a loop over them.
 *
 * After every end nothing is leased, no file is open, and nobody listens.
 */

// This must come first: cistern takes `fs.read` as it is when cistern is loaded.
const { spyOnRead } = require('../support/spied-read')
const assert = require('node:assert/strict')
const crypto = require('node:crypto')
const { getEventListeners, once } = require('node:events')
const fs = require('node:fs')
const path = require('node:path')
const { PassThrough, Readable } = require('node:stream')
const { describe, test } = require('node:test')
const { setTimeout: sleep } = require('node:timers/promises')
const { pathToFileURL } = require('node:url')
const { BufferPool } = require('../..')
const { chunks } = require('../../lib/io/chunks')
const { openFiles, until } = require('../support/helpers')
const { connection, drain } = require('../support/destinations')
const {
  CHUNK,
  assertBytes,
  atRest,
  contents,
  fifo,
  file,
  fileOf,
  folder,
  isLinux,
  onDisturbedPools,
  onlyLinux
} = require('../support/files')

describe('chunks', () => {
  test(
    'A file comes in chunks, by path, URL, Buffer and FileHandle; each is released when the loop moves on',
    onDisturbedPools(async (pool, _context, detaches) => {
      const handle = await fs.promises.open(file)
      for (const source of [file, Buffer.from(file), pathToFileURL(file), handle]) {
        const pieces = []
        let last
        for await (const chunk of chunks(pool, source, { chunkSize: CHUNK })) {
          // This chunk and the one that is read ahead are leased.
          assert.ok(pool.stats().inUseCount <= 2)
          if (last !== undefined && detaches) assert.equal(last.length, 0)
          assert.ok(pool.owns(chunk))
          pieces.push(Buffer.from(chunk))
          last = chunk
          await new Promise(setImmediate)
        }
        assert.equal(pool.stats().inUseCount, 0)
        assert.ok(pieces.slice(0, -1).every(({ length }) => length === CHUNK))
        assertBytes(Buffer.concat(pieces), contents)
      }
      // The FileHandle is open, and its position has not changed.
      const head = Buffer.alloc(10)
      await handle.read(head, 0, 10, null)
      assertBytes(head, contents.subarray(0, 10))
      await handle.close()
    })
  )

  test('A file of any size', async () => {
    const pool = new BufferPool()
    for (const size of [0, 1, 999, 1000, 1001, 2000, 2001]) {
      const bytes = crypto.randomBytes(size)
      const source = fileOf(bytes)
      const got = await drain(chunks(pool, source, { chunkSize: 1000 }))
      assertBytes(got, bytes)
      assertBytes(await drain(chunks(pool, source)), bytes)
    }
    await atRest(pool)
  })

  test('The next chunk of a file is read while the last is used, where there is room for it', async () => {
    for (const [maxBytes, expected] of [
      [CHUNK, 1],
      [2 * CHUNK, 2],
      [8 * CHUNK, 2]
    ]) {
      const pool = new BufferPool({ maxBytes })
      let pieces = 0
      for await (const chunk of chunks(pool, file, { chunkSize: CHUNK })) {
        pieces++
        if (chunk.length === CHUNK) assert.equal(pool.stats().inUseCount, expected)
      }
      assert.equal(pieces, 41)
      assert.equal(pool.stats().peakInUseBytes, expected * CHUNK)
      await atRest(pool)
    }
  })

  for (const [name, leave] of Object.entries({
    break: async (iterable) => {
      for await (const chunk of iterable) {
        if (chunk.length > 0) break
      }
    },
    throw: (iterable) =>
      assert.rejects(
        async () => {
          for await (const chunk of iterable) throw new Error(`mine: ${chunk.length}`)
        },
        { message: /^mine/ }
      ),
    'return()': async (iterable) => {
      await iterable.next()
      assert.deepEqual(await iterable.return('value'), { done: true, value: 'value' })
    },
    'throw()': async (iterable) => {
      await iterable.next()
      await assert.rejects(iterable.throw(new Error('mine')), { message: 'mine' })
    },
    'await using': async (iterable) => {
      await iterable.next()
      await iterable[Symbol.asyncDispose]()
    }
  })) {
    test(
      `${name}: everything is released and closed at once`,
      onDisturbedPools(async (pool) => {
        const readable = fs.createReadStream(file)
        const handle = await fs.promises.open(file)
        let hasEnded = false
        async function* generate() {
          try {
            for (;;) yield contents
          } finally {
            hasEnded = true
          }
        }
        let isCancelled = false
        const web = new ReadableStream({
          pull: (controller) => controller.enqueue(new Uint8Array(10)),
          cancel: () => {
            isCancelled = true
          }
        })
        for (const source of [file, handle, readable, web, generate()]) {
          const iterable = chunks(pool, source, { chunkSize: CHUNK })
          await leave(iterable)
          assert.equal(pool.stats().inUseCount, 0)
          assert.deepEqual(await iterable.next(), { done: true, value: undefined })
        }
        assert.ok(readable.destroyed)
        await handle.read(Buffer.alloc(1))
        await handle.close()
        assert.ok(hasEnded)
        assert.ok(isCancelled)
        assert.equal(web.locked, false)
      })
    )
  }

  test('A chunk that the user has released may be another one already', async () => {
    for (const detachOnRelease of [true, false]) {
      const pool = new BufferPool({ detachOnRelease })
      const others = []
      let total = 0
      for await (const chunk of chunks(pool, file, { chunkSize: CHUNK })) {
        total += chunk.length
        pool.release(chunk)
        others.push(pool.allocUnsafe(CHUNK))
      }
      assert.equal(total, contents.length)
      for (const other of others) {
        assert.ok(pool.owns(other))
        pool.release(other)
      }
      await atRest(pool)
    }
  })

  test("A chunk that the user has transferred, or marked as untransferable, is the user's", async () => {
    const pool = new BufferPool()
    const kept = []
    for await (const chunk of chunks(pool, file, { chunkSize: CHUNK })) {
      const view = new Uint8Array(chunk.buffer, 0, chunk.length)
      kept.push(structuredClone(view, { transfer: [view.buffer] }))
    }
    assertBytes(Buffer.concat(kept), contents)
    const { markAsUntransferable } = require('node:worker_threads')
    for await (const chunk of chunks(pool, file)) markAsUntransferable(chunk.buffer)
    assert.deepEqual(openFiles(folder), [])
  })

  test('Each can be iterated once', async () => {
    const pool = new BufferPool()
    const iterable = chunks(pool, file)
    assertBytes(await drain(iterable), contents)
    assert.equal((await drain(iterable)).length, 0)
    assert.deepEqual(await iterable.next(), { done: true, value: undefined })
    const left = chunks(pool, file)
    assert.deepEqual(await left.return(7), { done: true, value: 7 })
    assert.equal((await drain(left)).length, 0)
    await atRest(pool)
  })

  test(
    'Calls of next at once are served one after another, and their chunks released at the next call',
    onDisturbedPools(async (pool, _context, detaches) => {
      for (const source of [file, Readable.from([contents])]) {
        const iterator = chunks(pool, source, { chunkSize: CHUNK })
        const results = await Promise.all(Array.from({ length: 5 }, () => iterator.next()))
        await new Promise(setImmediate)
        const given = results.map(({ value }) => value)
        assertBytes(Buffer.concat(given), contents.subarray(0, 5 * CHUNK))
        assert.ok(given.every((chunk) => pool.owns(chunk)))
        await iterator.next()
        assert.ok(pool.stats().inUseCount <= 2)
        if (detaches) assert.ok(given.every(({ length }) => length === 0))
        const rest = Array.from({ length: 60 }, () => iterator.next())
        for (const { done } of await Promise.all(rest.slice(36))) assert.equal(done, true)
        await iterator.return()
      }
    })
  )

  test('A failure rejects once, with nothing leased or open, and then the iterator is done', async (context) => {
    const pool = new BufferPool()
    const broken = async function* broken() {
      yield 'abc'
      throw new Error('mine')
    }
    const locked = new ReadableStream()
    locked.getReader()
    for (const [source, error] of [
      [path.join(folder, 'none'), { code: 'ENOENT' }],
      [folder, { code: 'EISDIR' }],
      [new URL('http://localhost/'), { code: 'ERR_INVALID_URL_SCHEME' }],
      [broken(), { message: 'mine' }],
      [Readable.from(broken()), { message: 'mine' }],
      [Readable.from([1]), { code: 'ERR_INVALID_ARG_TYPE' }],
      [Readable.from([{}]), { code: 'ERR_INVALID_ARG_TYPE' }],
      [locked, { code: 'ERR_INVALID_STATE' }],
      [new PassThrough().destroy(), { code: 'ERR_STREAM_PREMATURE_CLOSE' }]
    ]) {
      const iterator = chunks(pool, source)
      const all = async () => {
        for (;;) if ((await iterator.next()).done) return
      }
      await assert.rejects(all, error)
      assert.equal(pool.stats().inUseCount, 0)
      assert.deepEqual(openFiles(folder), [])
      assert.deepEqual(await iterator.next(), { done: true, value: undefined })
    }
    let reads = 0
    spyOnRead(context, (read, args) => {
      if (++reads < 4) return read(...args)
      return setImmediate(args.at(-1), Object.assign(new Error('EIO'), { code: 'EIO' }), 0)
    })
    const pieces = []
    await assert.rejects(
      async () => {
        for await (const chunk of chunks(pool, file, { chunkSize: CHUNK })) {
          pieces.push(Buffer.from(chunk))
        }
      },
      { code: 'EIO' }
    )
    assertBytes(Buffer.concat(pieces), contents.subarray(0, 3 * CHUNK))
    await atRest(pool)
  })

  test('A FileHandle of Node is read into blocks, and its close waits for that', async (context) => {
    const pool = new BufferPool()
    const handle = await fs.promises.open(file)
    const held = []
    spyOnRead(context, (read, args) => {
      assert.ok(pool.owns(args[1]))
      held.push(() => read(...args))
    })
    const pending = chunks(pool, handle, { chunkSize: CHUNK }).next()
    await until(() => held.length === 1, 'it reads')
    let isClosed = false
    const closing = handle.close().then(() => {
      isClosed = true
    })
    await sleep(10)
    assert.equal(isClosed, false)
    assert.equal(openFiles(folder).length, isLinux ? 1 : 0)
    spyOnRead(context, (read, args) => read(...args))
    held[0]()
    assertBytes((await pending).value, contents.subarray(0, CHUNK))
    await closing
    const next = chunks(pool, handle).next()
    await assert.rejects(next, { code: 'EBADF' })
    pool.release((await pending).value)
    await atRest(pool)
  })

  test('A handle of somebody else gets no block, and what it says is checked', async () => {
    const pool = new BufferPool()
    const buffers = []
    const handleOf = (read) => ({ fd: 0, read, datasync() {} })
    const keep = handleOf(async (buffer, offset, length, position) => {
      buffers.push(buffer)
      return { bytesRead: contents.copy(buffer, offset, position, position + length) }
    })
    const got = []
    for await (const chunk of chunks(pool, keep, { chunkSize: CHUNK })) {
      for (const buffer of buffers) {
        assert.equal(pool.owns(buffer), false)
        assert.throws(() => pool.release(buffer), { code: 'ERR_CISTERN_NOT_POOLED' })
      }
      got.push(Buffer.from(chunk))
    }
    assertBytes(Buffer.concat(got), contents)
    const take = async (buffer) => ({
      bytesRead: structuredClone(buffer, { transfer: [buffer.buffer] }).length
    })
    for (const read of [
      async () => ({ bytesRead: CHUNK + 1 }),
      async () => ({ bytesRead: -1 }),
      async () => ({ bytesRead: 1.5 }),
      async () => ({ bytesRead: '1' }),
      async () => undefined,
      () => Promise.reject(),
      take
    ]) {
      await assert.rejects(drain(chunks(pool, handleOf(read), { chunkSize: CHUNK })), Error)
      await atRest(pool)
    }
  })

  describe('An abort', () => {
    const error = { name: 'AbortError', code: 'ABORT_ERR', cause: 'enough' }

    test("while the user has a chunk: it is the user's until the loop moves on", async () => {
      const pool = new BufferPool()
      for (const open of [() => file, () => fs.createReadStream(file)]) {
        const controller = new AbortController()
        const { signal } = controller
        const iterator = chunks(pool, open(), { chunkSize: CHUNK, signal })
        const { value } = await iterator.next()
        controller.abort('enough')
        await until(() => openFiles(folder).length === 0, 'the file is closed')
        assertBytes(value, contents.subarray(0, CHUNK))
        assert.equal(getEventListeners(signal, 'abort').length, 0)
        await assert.rejects(iterator.next(), error)
        await until(() => pool.stats().inUseCount === 0, 'nothing is leased')
        assert.equal((await iterator.next()).done, true)
      }
    })

    test('while a stream gives nothing: it is destroyed', async (context) => {
      const pool = new BufferPool()
      const { socket, client } = await connection(context)
      const closed = once(client.resume(), 'close')
      for (const source of [new PassThrough(), socket, new ReadableStream()]) {
        const controller = new AbortController()
        const iterator = chunks(pool, source, { signal: controller.signal })
        const pending = assert.rejects(iterator.next(), error)
        await new Promise(setImmediate)
        controller.abort('enough')
        await pending
        if ('destroyed' in source) assert.ok(source.destroyed)
        else assert.equal(source.locked, false)
      }
      await closed
      await atRest(pool)
    })

    test('while a generator gives nothing', async () => {
      const pool = new BufferPool()
      async function* silent() {
        yield 'one'
        await new Promise(() => {})
      }
      const controller = new AbortController()
      const iterator = chunks(pool, silent(), { signal: controller.signal })
      assert.equal(String((await iterator.next()).value), 'one')
      const pending = assert.rejects(iterator.next(), error)
      controller.abort('enough')
      await pending
      await atRest(pool)
    })

    test('while it waits for memory', async () => {
      const pool = new BufferPool({ maxBytes: CHUNK })
      const block = pool.allocUnsafe(CHUNK)
      for (const source of [file, Readable.from(['abc'])]) {
        const controller = new AbortController()
        const { signal } = controller
        const { waitCount } = pool.stats()
        const pending = chunks(pool, source, { chunkSize: CHUNK, signal }).next()
        const failed = assert.rejects(pending, error)
        await until(() => pool.stats().waitCount > waitCount, 'it waits')
        controller.abort('enough')
        await failed
      }
      assert.equal(pool.stats().inUseCount, 1)
      pool.release(block)
      await atRest(pool)
    })

    test('before it begins: nothing is opened, a stream is destroyed', async () => {
      const pool = new BufferPool()
      const signal = AbortSignal.abort('enough')
      const none = chunks(pool, path.join(folder, 'none'), { signal })
      await assert.rejects(none.next(), error)
      const through = new PassThrough()
      await assert.rejects(chunks(pool, through, { signal }).next(), error)
      assert.ok(through.destroyed)
      assert.equal(getEventListeners(signal, 'abort').length, 0)
      assert.equal(pool.stats().allocCount, 0)
    })

    test('between any two steps', async () => {
      const pool = new BufferPool()
      const source = fileOf(contents.subarray(0, 6 * CHUNK))
      for (let turns = 0; turns < 40; turns++) {
        const controller = new AbortController()
        const { signal } = controller
        const pieces = []
        const reading = (async () => {
          for await (const chunk of chunks(pool, source, { chunkSize: CHUNK, signal })) {
            await new Promise(setImmediate)
            pieces.push(Buffer.from(chunk))
          }
        })().catch(({ name }) => assert.equal(name, 'AbortError'))
        for (let i = 0; i < turns; i++) await new Promise(setImmediate)
        controller.abort()
        await reading
        await until(() => openFiles(folder).length === 0, 'the file is closed')
        await until(() => pool.stats().inUseCount === 0, 'nothing is leased')
        assert.equal(getEventListeners(signal, 'abort').length, 0)
        const bytes = Buffer.concat(pieces)
        assertBytes(bytes, contents.subarray(0, bytes.length))
      }
      await atRest(pool)
    })
  })

  test(
    'A FIFO: what comes, when it comes; its silence holds up no break and no abort',
    onlyLinux,
    async () => {
      const pool = new BufferPool()
      const name = fifo()
      const writer = fs.openSync(name, 'r+')
      fs.writeSync(writer, 'first')
      for await (const chunk of chunks(pool, name)) {
        assert.equal(String(chunk), 'first')
        break
      }
      const ending = new AbortController()
      const next = chunks(pool, name, { signal: ending.signal }).next()
      await until(() => pool.stats().inUseCount === 1, 'it reads')
      ending.abort()
      await assert.rejects(next, { name: 'AbortError' })
      assert.equal(pool.stats().inUseCount, 1)
      fs.writeSync(writer, 'late')
      await until(() => pool.stats().inUseCount === 0, 'the block is released after the read')
      fs.closeSync(writer)
      await atRest(pool)
    }
  )

  test('A return while a read is under way waits for it, and then nothing is leased', async (context) => {
    const pool = new BufferPool()
    const held = []
    spyOnRead(context, (read, args) => {
      held.push(() => read(...args))
    })
    const iterator = chunks(pool, file, { chunkSize: CHUNK })
    const pending = iterator.next()
    await until(() => held.length === 1, 'it reads')
    const returned = iterator.return()
    await sleep(10)
    assert.equal(pool.stats().inUseCount, 1)
    held[0]()
    await returned
    assert.deepEqual(await pending, { done: true, value: undefined })
    assert.equal(pool.stats().inUseCount, 0)
    assert.deepEqual(openFiles(folder), [])
    await atRest(pool)
  })

  test('Many at a ceiling take turns', async () => {
    const pool = new BufferPool({ maxBytes: 3 * CHUNK })
    const read = async () =>
      assertBytes(await drain(chunks(pool, file, { chunkSize: CHUNK })), contents)
    await Promise.all(Array.from({ length: 10 }, read))
    assert.ok(pool.stats().peakInUseBytes <= 3 * CHUNK)
    await atRest(pool)
  })

  test('A wrong argument names itself, at once', () => {
    const pool = new BufferPool()
    const type = 'ERR_INVALID_ARG_TYPE'
    const range = 'ERR_OUT_OF_RANGE'
    for (const [args, code, name] of [
      [[{}, file], type, '"pool"'],
      [[pool, 3], type, '"source"'],
      [[pool, undefined], type, '"source"'],
      [[pool, {}], type, '"source"'],
      [[pool, ['a']], type, '"source"'],
      [[pool, file, null], type, '"options"'],
      [[pool, file, { chunkSize: 0 }], range, '"options.chunkSize"'],
      [[pool, file, { chunkSize: 1.5 }], range, '"options.chunkSize"'],
      [[pool, file, { signal: 1 }], type, '"options.signal"']
    ]) {
      assert.throws(
        () => chunks(...args),
        (error) => error.code === code && error.message.includes(name)
      )
    }
  })
})
