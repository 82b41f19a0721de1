'use strict'

/**
 * `pumpFile` that ends early: by its destination, its source, its signal, or the ceiling.
 *
 * After every end nothing is leased, no file is open, and nobody listens.
 */

// This must come first: cistern takes `fs.read` as it is when cistern is loaded.
const { spyOnRead } = require('../support/spied-read')
const assert = require('node:assert/strict')
const { getEventListeners } = require('node:events')
const fs = require('node:fs')
const http = require('node:http')
const http2 = require('node:http2')
const net = require('node:net')
const path = require('node:path')
const { PassThrough } = require('node:stream')
const { describe, test } = require('node:test')
const { setTimeout: sleep } = require('node:timers/promises')
const zlib = require('node:zlib')
const { BufferPool } = require('../..')
const { chunks } = require('../../lib/io/chunks')
const { GRACE_PERIOD } = require('../../lib/io/operation')
const { pumpFile } = require('../../lib/io/pump-file')
const { openFiles, until } = require('../support/helpers')
const {
  connected,
  connection,
  drain,
  listening,
  responding,
  stalled,
  streaming
} = require('../support/destinations')
const {
  CHUNK,
  assertBytes,
  atRest,
  contents,
  disturb,
  failing,
  file,
  fileOf,
  folder,
  isLinux,
  listenersOf,
  onDisturbedPools,
  telling,
  recorder
} = require('../support/files')

/** A signal that throws. */
const unheard = {
  aborted: false,
  addEventListener() {
    throw new Error('on purpose')
  },
  removeEventListener() {}
}

/**
 * Asserts that a pump that has ended holds nothing. Where a system call took longer than its grace
 * period, its block and its file follow later.
 *
 * @param {BufferPool} pool
 * @param {number} start when the pump was aborted, or before
 * @param {() => string[]} [files] what it had opened that is still open
 */
async function leftNothing(pool, start, files = () => openFiles(folder)) {
  // A timer may fire a moment before its time.
  if (performance.now() - start < GRACE_PERIOD - 5) {
    assert.equal(pool.stats().inUseCount, 0)
    assert.deepEqual(files(), [])
  } else {
    await until(() => pool.stats().inUseCount === 0, 'nothing is leased')
    await until(() => files().length === 0, 'no file is open')
  }
}

describe('pumpFile', () => {
  describe('A destination that dies', () => {
    /** How each dies, and what the pump is rejected with. */
    const deaths = {
      'a response is destroyed': {
        serve: responding,
        kill: ({ writable }) => writable.destroy(),
        error: { code: 'ERR_STREAM_PREMATURE_CLOSE' }
      },
      'a response is destroyed with an error': {
        serve: responding,
        kill: ({ writable }) => writable.destroy(new Error('mine')),
        error: { message: 'mine' }
      },
      'a client resets its connection': {
        serve: responding,
        kill: ({ client }) => client.resetAndDestroy(),
        error: { code: 'ERR_STREAM_PREMATURE_CLOSE' }
      },
      'a client closes its connection': {
        serve: responding,
        kill: ({ client }) => client.destroy(),
        error: { code: 'ERR_STREAM_PREMATURE_CLOSE' }
      },
      'a socket is reset': {
        serve: connected,
        kill: ({ client }) => client.resetAndDestroy(),
        error: /ECONNRESET|EPIPE/
      },
      'a socket is destroyed': {
        serve: connected,
        kill: ({ writable }) => writable.destroy(),
        error: { code: 'ERR_STREAM_PREMATURE_CLOSE' }
      },
      'an http2 stream is reset by its client': {
        serve: streaming,
        kill: ({ client }) => client.close(http2.constants.NGHTTP2_CANCEL),
        error: { code: 'ERR_STREAM_PREMATURE_CLOSE' }
      },
      'an http2 stream over TLS is reset by its client': {
        serve: (context) => streaming(context, true),
        kill: ({ client }) => client.close(http2.constants.NGHTTP2_CANCEL),
        error: { code: 'ERR_STREAM_PREMATURE_CLOSE' }
      },
      'an http2 session is destroyed': {
        serve: streaming,
        kill: ({ writable }) => writable.session.destroy(new Error('mine')),
        error: { message: 'mine' }
      },
      'a gzip is destroyed': {
        serve: async () => ({ writable: zlib.createGzip() }),
        kill: ({ writable }) => writable.destroy(new Error('mine')),
        error: { message: 'mine' }
      },
      'a PassThrough that nobody reads is destroyed': {
        serve: async () => ({ writable: new PassThrough() }),
        kill: ({ writable }) => writable.destroy(),
        error: { code: 'ERR_STREAM_PREMATURE_CLOSE' }
      },
      'an error is told by the callback of a write, later': {
        serve: async () => ({ writable: failing('later') }),
        kill: () => {},
        error: { message: 'it fails' }
      },
      'an error is told by the callback of a write, at once': {
        serve: async () => ({ writable: failing('at once') }),
        kill: () => {},
        error: { message: 'it fails' }
      },
      'an error is told by a callback alone': {
        serve: async () => ({ writable: telling() }),
        kill: () => {},
        error: { message: 'only told' }
      }
    }
    for (const [name, { serve, kill, error }] of Object.entries(deaths)) {
      test(
        `${name}: the pump is rejected, nothing is kept`,
        onDisturbedPools(async (pool, context) => {
          const ends = await serve(context)
          const { writable } = ends
          const before = listenersOf(writable)
          const source = fileOf(Buffer.concat([contents, contents, contents, contents]))
          const pumping = pumpFile(pool, source, writable, { chunkSize: CHUNK })
          const failed = assert.rejects(pumping, error)
          await Promise.race([failed, sleep(50)])
          kill(ends)
          await failed
          const now = listenersOf(writable)
          // Node's http2 may listen to 'finish' by now.
          for (const event of ['error', 'close', 'drain']) {
            assert.ok((now[event] ?? 0) <= (before[event] ?? 0), `${now[event]} to '${event}'`)
          }
          await until(() => pool.stats().inUseCount === 0, 'nothing is leased')
          assert.equal(fs.existsSync(source), true)
        })
      )
    }

    test('A full disk', { skip: !fs.existsSync('/dev/full') }, async () => {
      const pool = new BufferPool()
      const writable = fs.createWriteStream('/dev/full')
      await assert.rejects(pumpFile(pool, file, writable), { code: 'ENOSPC' })
      await atRest(pool)
    })

    test('One that is destroyed, closed or ended already', async () => {
      const pool = new BufferPool()
      const dead = new PassThrough()
      dead.destroy()
      await assert.rejects(pumpFile(pool, file, dead), { code: 'ERR_STREAM_PREMATURE_CLOSE' })
      const failed = new PassThrough().on('error', () => {})
      failed.destroy(new Error('mine'))
      await until(() => failed.closed, 'it is closed')
      await assert.rejects(pumpFile(pool, file, failed), { message: 'mine' })
      const ended = new PassThrough()
      ended.end('the end')
      await assert.rejects(pumpFile(pool, file, ended), { code: 'ERR_STREAM_WRITE_AFTER_END' })
      // The stream is not destroyed, and its contents arrive.
      assert.equal(String(await drain(ended)), 'the end')
      assert.equal(pool.stats().allocCount, 0)
      assert.deepEqual(openFiles(folder), [])
    })

    test('One that its user ends meanwhile gets no more, and what it has arrives', async () => {
      const pool = new BufferPool()
      const sink = recorder({ first: () => sink.end() })
      const pumping = pumpFile(pool, file, sink, { chunkSize: CHUNK })
      await assert.rejects(pumping, /write after end|Premature close/)
      await until(() => sink.writableFinished, 'it has finished')
      assert.equal(sink.errored, null)
      assertBytes(Buffer.concat(sink.kept), contents.subarray(0, CHUNK))
      await atRest(pool)
    })

    test('A response queued behind another, when their connection is closed', async (context) => {
      const pool = new BufferPool()
      const server = http.createServer()
      const responses = []
      server.on('request', (_req, res) => responses.push(res))
      const client = net.connect(await listening(server, context), '127.0.0.1')
      client.write('GET /1 HTTP/1.1\r\nhost: x\r\n\r\nGET /2 HTTP/1.1\r\nhost: x\r\n\r\n')
      await until(() => responses.length === 2, 'both requests have come')
      const pumping = pumpFile(pool, file, responses[1], { chunkSize: CHUNK })
      await sleep(20)
      client.destroy()
      await assert.rejects(pumping, /Premature close|aborted/)
      await atRest(pool)
    })

    test('A response queued behind another gets its file when it is its turn', async (context) => {
      const pool = new BufferPool()
      disturb(pool, context)
      const server = http.createServer()
      const responses = []
      server.on('request', (_req, res) => responses.push(res))
      const client = net.connect(await listening(server, context), '127.0.0.1')
      client.write(
        'GET /1 HTTP/1.1\r\nhost: x\r\n\r\nGET /2 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n'
      )
      await until(() => responses.length === 2, 'both requests have come')
      const [first, second] = responses
      second.setHeader('content-length', contents.length)
      const pumping = pumpFile(pool, file, second, { chunkSize: CHUNK })
      await sleep(20)
      first.setHeader('content-length', 0).end()
      const got = drain(client)
      assert.equal(await pumping, contents.length)
      second.end()
      assertBytes((await got).subarray(-contents.length), contents)
      await atRest(pool)
    })
  })

  describe('A source that fails', () => {
    const failures = {
      'no such file': { source: () => path.join(folder, 'none'), error: { code: 'ENOENT' } },
      'a directory': { source: () => folder, error: { code: 'EISDIR' } },
      'a path that is none': {
        source: () => 'a\0b',
        error: { code: 'ERR_INVALID_ARG_VALUE' }
      },
      'a URL of another kind': {
        source: () => new URL('http://localhost/'),
        error: { code: 'ERR_INVALID_URL_SCHEME' }
      },
      'a handle that is closed': {
        source: async () => {
          const handle = await fs.promises.open(file)
          await handle.close()
          return handle
        },
        error: { code: 'EBADF' }
      },
      'a handle that is not for reading': {
        source: async (context) => {
          const handle = await fs.promises.open(fileOf('abc'), 'a')
          context.after(() => handle.close())
          return handle
        },
        error: { code: 'EBADF' }
      }
    }
    for (const [name, { source, error }] of Object.entries(failures)) {
      test(name, async (context) => {
        const pool = new BufferPool()
        const sink = recorder()
        const before = listenersOf(sink)
        const from = await source(context)
        const start = performance.now()
        await assert.rejects(pumpFile(pool, from, sink), error)
        assert.deepEqual(listenersOf(sink), before)
        assert.equal(sink.destroyed, false)
        const held = typeof from === 'object' && 'fd' in from && from.fd !== -1
        await leftNothing(pool, start, () => (held ? [] : openFiles(folder)))
      })
    }

    test(
      'an error in the middle, while a block is under way to a client',
      onDisturbedPools(async (pool, context) => {
        const { socket, client } = await connection(context)
        let reads = 0
        spyOnRead(context, (read, args) => {
          if (++reads < 6) return read(...args)
          const callback = args.at(-1)
          const failure = Object.assign(new Error('EIO: i/o error, read'), { code: 'EIO' })
          return setImmediate(callback, failure, 0)
        })
        const pumping = pumpFile(pool, file, socket, { chunkSize: CHUNK })
        await assert.rejects(pumping, { code: 'EIO' })
        assert.deepEqual(openFiles(folder), [])
        socket.end()
        assertBytes(await drain(client), contents.subarray(0, 5 * CHUNK))
      })
    )

    test('a handle that is closed meanwhile: its close waits for the read', async () => {
      const pool = new BufferPool()
      const handle = await fs.promises.open(file)
      const sink = recorder()
      const pumping = pumpFile(pool, handle, sink, { chunkSize: 1000 })
      await until(() => sink.kept.length > 5, 'some of it has come')
      const failed = assert.rejects(pumping, { code: 'EBADF' })
      await handle.close()
      await failed
      const bytes = Buffer.concat(sink.kept)
      assertBytes(bytes, contents.subarray(0, bytes.length))
      await atRest(pool)
    })
  })

  test('A read that is under way when the destination dies ends before its block is released', async (context) => {
    const pool = new BufferPool()
    const { writable } = await connected(context)
    const held = []
    spyOnRead(context, (read, args) => {
      held.push(() => read(...args))
    })
    const pumping = pumpFile(pool, file, writable, { chunkSize: CHUNK })
    const failed = assert.rejects(pumping, { code: 'ERR_STREAM_PREMATURE_CLOSE' })
    await until(() => held.length === 1, 'it reads')
    writable.destroy()
    // The wait is bounded: a read of a FIFO may never end.
    await failed
    assert.equal(pool.stats().inUseCount, 1)
    if (isLinux) assert.equal(openFiles(folder).length, 1)
    held[0]()
    await atRest(pool)
  })

  test('A pump is aborted before it begins: nothing is opened, nobody listens', async () => {
    const pool = new BufferPool()
    const sink = recorder()
    const before = listenersOf(sink)
    const signal = AbortSignal.abort('never')
    const none = path.join(folder, 'none')
    await assert.rejects(pumpFile(pool, none, sink, { signal }), {
      name: 'AbortError',
      cause: 'never'
    })
    assert.equal(pool.stats().allocCount, 0)
    assert.deepEqual(listenersOf(sink), before)
    assert.equal(getEventListeners(signal, 'abort').length, 0)
  })

  test('A signal that refuses listeners: the pump rejects, and nobody listens', async () => {
    const pool = new BufferPool()
    const sink = new PassThrough()
    const before = sink.eventNames()
    const options = { signal: unheard }
    await assert.rejects(pumpFile(pool, file, sink, options), { message: 'on purpose' })
    assert.deepEqual(sink.eventNames(), before)
    const source = new PassThrough()
    const quiet = source.eventNames()
    await assert.rejects(chunks(pool, source, options).next(), { message: 'on purpose' })
    assert.deepEqual(source.eventNames(), quiet)
    assert.equal(pool.stats().inUseCount, 0)
  })

  test('A pump is aborted between any two steps', async () => {
    const pool = new BufferPool()
    const source = fileOf(contents.subarray(0, 8 * CHUNK))
    let aborted = 0
    for (let turns = 0; turns < 60; turns++) {
      const controller = new AbortController()
      const { signal } = controller
      const sink = recorder()
      const pumping = pumpFile(pool, source, sink, { chunkSize: CHUNK, signal }).catch((error) => {
        assert.equal(error.name, 'AbortError')
        aborted++
      })
      for (let i = 0; i < turns; i++) await new Promise(setImmediate)
      const start = performance.now()
      controller.abort()
      await pumping
      await leftNothing(pool, start)
      assert.equal(getEventListeners(signal, 'abort').length, 0)
      const bytes = Buffer.concat(sink.kept)
      assertBytes(bytes, contents.subarray(0, bytes.length))
    }
    assert.ok(aborted > 5)
    await atRest(pool)
  })

  describe('At the ceiling', () => {
    for (const onExhausted of ['unpooled', 'throw']) {
      for (const blocks of [1, 2, 3]) {
        test(`ten pumps take turns at ${blocks} blocks (onExhausted: '${onExhausted}')`, async (context) => {
          const pool = new BufferPool({ maxBytes: blocks * CHUNK, onExhausted })
          const pumpTo = async () => {
            const { socket, client } = await connection(context)
            const got = drain(client)
            await pumpFile(pool, file, socket, { chunkSize: CHUNK })
            socket.end()
            assertBytes(await got, contents)
          }
          await Promise.all(Array.from({ length: 10 }, pumpTo))
          const { peakInUseBytes, waitCount } = pool.stats()
          assert.ok(waitCount > 0)
          assert.ok(peakInUseBytes <= blocks * CHUNK)
          await atRest(pool)
        })
      }
    }

    test('a pump that waits can be aborted, or its destination die', async () => {
      const pool = new BufferPool({ maxBytes: CHUNK })
      const block = pool.allocUnsafe(CHUNK)
      const options = { chunkSize: CHUNK }
      const ending = new AbortController()
      const aborted = pumpFile(pool, file, recorder(), { ...options, signal: ending.signal })
      await until(() => pool.stats().waitCount === 1, 'it waits')
      ending.abort()
      await assert.rejects(aborted, { name: 'AbortError' })
      const sink = recorder()
      const pumping = pumpFile(pool, file, sink, options)
      await until(() => pool.stats().waitCount === 2, 'it waits')
      sink.destroy(new Error('mine'))
      await assert.rejects(pumping, { message: 'mine' })
      await until(() => openFiles(folder).length === 0, 'no file is open')
      pool.release(block)
      // The queue of waiters is empty.
      const last = recorder()
      await pumpFile(pool, file, last, options)
      assertBytes(Buffer.concat(last.kept), contents)
      await atRest(pool)
    })

    test('a pool that is closed meanwhile', async () => {
      const pool = new BufferPool({ maxBytes: CHUNK })
      const block = pool.allocUnsafe(CHUNK)
      const waiting = pumpFile(pool, file, recorder(), { chunkSize: CHUNK })
      await until(() => pool.stats().waitCount === 1, 'it waits')
      pool.close()
      await assert.rejects(waiting, { code: 'ERR_CISTERN_CLOSED' })
      pool.release(block)
      await atRest(pool)
    })

    test('a pool that is closed in the middle of a pump lets it end', async () => {
      const pool = new BufferPool()
      const sink = recorder({ first: () => pool.close() })
      assert.equal(await pumpFile(pool, file, sink, { chunkSize: CHUNK }), contents.length)
      assertBytes(Buffer.concat(sink.kept), contents)
      await atRest(pool)
    })

    test('a block that the pool can never hold, and one that V8 has to serve', async () => {
      const small = new BufferPool({ maxBytes: CHUNK })
      const options = { chunkSize: 2 * CHUNK }
      const error = { code: 'ERR_CISTERN_EXHAUSTED' }
      await assert.rejects(pumpFile(small, file, recorder(), options), error)
      await atRest(small)
      const pool = new BufferPool({ maxBlockSize: 1024 })
      const sink = recorder()
      await pumpFile(pool, file, sink, options)
      assertBytes(Buffer.concat(sink.kept), contents)
      await atRest(pool)
    })
  })

  for (const [name, { serve, leave }] of Object.entries({
    'A client': { serve: responding, leave: ({ client }) => client.destroy() },
    'A socket': { serve: connected, leave: ({ writable }) => writable.destroy() }
  })) {
    test(`${name} that leaves with all, before the end of the file is found, has been served`, async (context) => {
      const pool = new BufferPool()
      const ends = await serve(context)
      const source = fileOf(contents.subarray(0, 100))
      const socket = ends.writable.socket ?? ends.writable
      const isSent = () => socket.bytesWritten > 0 && socket.writableLength === 0
      let reads = 0
      spyOnRead(context, (read, args) => {
        if (++reads === 1) return read(...args)
        // The file is read in advance: on a busy machine a read takes longer than the grace period.
        const onRead = args.pop()
        read(...args, (...result) => {
          until(isSent, 'it has all').then(() => {
            leave(ends)
            ends.writable.once('close', () => setImmediate(onRead, ...result))
          })
        })
      })
      ends.client.resume()
      assert.equal(await pumpFile(pool, source, ends.writable), 100)
      await atRest(pool)
    })

    test(`${name} that leaves before it has all has not`, async (context) => {
      const pool = new BufferPool()
      const ends = await serve(context)
      let reads = 0
      spyOnRead(context, (read, args) => {
        if (++reads === 1) return read(...args)
        leave(ends)
        ends.writable.once('close', () => setImmediate(read, ...args))
      })
      ends.client.resume()
      const pumping = pumpFile(pool, file, ends.writable, { end: CHUNK + 4, chunkSize: CHUNK })
      await assert.rejects(pumping, { code: 'ERR_STREAM_PREMATURE_CLOSE' })
      await atRest(pool)
    })

    test(`${name} that leaves when all is read, but not written, has not`, async (context) => {
      const pool = new BufferPool()
      const ends = await serve(context)
      const { length } = contents
      const chunkSize = 4 * length
      const source = fileOf(Buffer.concat(Array.from({ length: 8 }, () => contents)))
      const pumping = pumpFile(pool, source, ends.writable, { end: 8 * length - 1, chunkSize })
      await stalled(pool, ends.writable.socket ?? ends.writable)
      leave(ends)
      await assert.rejects(pumping, { code: 'ERR_STREAM_PREMATURE_CLOSE' })
      await atRest(pool)
    })
  }

  test('After an abort, what is under way ends one by one', async (context) => {
    const pool = new BufferPool()
    const { writable, client } = await connected(context)
    const source = fileOf(Buffer.concat(Array.from({ length: 8 }, () => contents)))
    let reads = 0
    let hold = () => {}
    spyOnRead(context, (read, args) => {
      if (++reads === 1) return read(...args)
      hold = () => read(...args)
    })
    const controller = new AbortController()
    const { signal } = controller
    const options = { chunkSize: 4 * contents.length, signal }
    const pumping = pumpFile(pool, source, writable, options)
    await until(() => reads === 2 && writable.writableLength > 0, 'it writes and reads')
    controller.abort()
    await assert.rejects(pumping, { name: 'AbortError' })
    assert.equal(pool.stats().inUseCount, 2)
    client.resume()
    await until(() => pool.stats().inUseCount === 1, 'what is written is released')
    hold()
    await atRest(pool)
  })
})
