'use strict'

/**
 * `pumpFile` with real files, servers and clients:
 *
 * - The bytes that arrive are the file's, by their hash, however much others use and overwrite the
 *   pool's memory.
 * - A block is released once nobody reads or writes it any more, and not before.
 */

// This must come first: cistern takes `fs.read` as it is when cistern is loaded.
const { spyOnRead } = require('../support/spied-read')
const assert = require('node:assert/strict')
const crypto = require('node:crypto')
const { getEventListeners, once } = require('node:events')
const fs = require('node:fs')
const http = require('node:http')
const net = require('node:net')
const { describe, test } = require('node:test')
const { setTimeout: sleep } = require('node:timers/promises')
const { pathToFileURL } = require('node:url')
const fc = require('fast-check')
const { BufferPool } = require('../..')
const { pumpFile } = require('../../lib/io/pump-file')
const { until } = require('../support/helpers')
const {
  DESTINATIONS,
  connected,
  connection,
  dechunked,
  drain,
  getHttp,
  listening,
  responding,
  stalled
} = require('../support/destinations')
const {
  CHUNK,
  abortedAfter,
  assertBytes,
  atRest,
  contents,
  failing,
  fifo,
  file,
  fileOf,
  listenersOf,
  onDisturbedPools,
  onlyLinux,
  recorder
} = require('../support/files')

describe('pumpFile', () => {
  for (const [name, send] of Object.entries(DESTINATIONS)) {
    test(
      `A file arrives at ${name}`,
      onDisturbedPools(async (pool, context) => {
        let writable
        const { bytes, total } = await send(async (destination) => {
          writable = destination
          const before = listenersOf(writable)
          const total = await pumpFile(pool, file, writable, { chunkSize: CHUNK })
          assert.equal(writable.writableEnded, false)
          assert.deepEqual(
            { ...before, drain: 0, ...listenersOf(writable) },
            { drain: 0, ...before }
          )
          writable.end()
          return total
        }, context)
        assert.equal(total, contents.length)
        assertBytes(bytes, contents)
      })
    )
  }

  test('A file of any size arrives, by path, URL, Buffer and FileHandle', async () => {
    const pool = new BufferPool()
    const chunkSize = 1000
    for (const size of [0, 1, 999, 1000, 1001, 1999, 2000, 2001, 5000]) {
      const bytes = crypto.randomBytes(size)
      const name = fileOf(bytes)
      const handle = await fs.promises.open(name)
      for (const source of [name, Buffer.from(name), pathToFileURL(name), handle]) {
        const sink = recorder()
        assert.equal(await pumpFile(pool, source, sink, { chunkSize }), size)
        assertBytes(Buffer.concat(sink.kept), bytes)
      }
      await handle.close()
    }
    await atRest(pool)
  })

  test('A range is that of createReadStream: start and end included, cut at the end of the file', async () => {
    const pool = new BufferPool()
    const bytes = crypto.randomBytes(5000)
    const name = fileOf(bytes)
    const handle = await fs.promises.open(name)
    const position = fc.option(fc.nat(6000), { nil: undefined })
    const range = fc
      .record({ start: position, end: position, chunkSize: fc.integer({ min: 1, max: 3000 }) })
      .filter(({ start = 0, end = Infinity }) => start <= end)
    await fc.assert(
      fc.asyncProperty(range, fc.boolean(), async (options, byHandle) => {
        const { start = 0, end = Infinity } = options
        const sink = recorder()
        const total = await pumpFile(pool, byHandle ? handle : name, sink, options)
        const expected = bytes.subarray(start, end + 1)
        assert.equal(total, expected.length)
        assertBytes(Buffer.concat(sink.kept), expected)
        assert.ok(sink.kept.every(({ length }) => length <= options.chunkSize))
      }),
      { numRuns: 100 }
    )
    await handle.close()
    await atRest(pool)
  })

  test('A FileHandle stays open, and its position where it was', async () => {
    const pool = new BufferPool()
    const handle = await fs.promises.open(file)
    const head = Buffer.alloc(10)
    await handle.read(head, 0, 10, null)
    const sink = recorder()
    await pumpFile(pool, handle, sink)
    await assert.rejects(pumpFile(pool, handle, failing('after one'), { chunkSize: CHUNK }))
    assertBytes(Buffer.concat(sink.kept), contents)
    await handle.read(head, 0, 10, null)
    assertBytes(head, contents.subarray(10, 20))
    await handle.close()
    await atRest(pool)
  })

  test('Two blocks are leased, one while there is one chunk, and none that is larger than what is asked for', async (context) => {
    const peakOf = async (options, source = file) => {
      const pool = new BufferPool()
      const { socket, client } = await connection(context)
      const got = drain(client, { slowly: true })
      await pumpFile(pool, source, socket, options)
      socket.end()
      await got
      await atRest(pool)
      return pool.stats().peakInUseBytes
    }
    assert.equal(await peakOf({ chunkSize: CHUNK }), 2 * CHUNK)
    assert.equal(await peakOf({ chunkSize: CHUNK }, fileOf(contents.subarray(0, 100))), CHUNK)
    assert.equal(await peakOf({ chunkSize: CHUNK, start: 5, end: 1028 }), 1024)
  })

  test('While a client does not read, two blocks are leased, and nothing more is read', async (context) => {
    const pool = new BufferPool()
    const { socket, client } = await connection(context)
    const name = fileOf(Buffer.concat([contents, contents, contents, contents]))
    let reads = 0
    spyOnRead(context, (read, args) => {
      reads++
      return read(...args)
    })
    const pumping = pumpFile(pool, name, socket, { chunkSize: CHUNK })
    await stalled(pool, socket)
    const before = reads
    await sleep(50)
    assert.equal(reads, before)
    assert.equal(pool.stats().inUseBytes, 2 * CHUNK)
    const got = drain(client)
    assert.equal(await pumping, 4 * contents.length)
    socket.end()
    assertBytes(await got, fs.readFileSync(name))
    await atRest(pool)
  })

  for (const [name, { serve, sent }] of Object.entries({
    'a socket': { serve: connected, sent: (bytes) => bytes },
    'an http response': { serve: responding, sent: dechunked }
  })) {
    test(
      `The bytes that ${name} has when a pump is aborted stay as they are until they are sent`,
      onDisturbedPools(async (pool, context) => {
        const { writable, client } = await serve(context)
        const socket = writable.socket ?? writable
        const controller = new AbortController()
        const { signal } = controller
        const source = fileOf(Buffer.concat([contents, contents, contents, contents]))
        const before = [writable, socket].map(listenersOf)
        const pumping = pumpFile(pool, source, writable, { chunkSize: CHUNK, signal })
        await stalled(pool, socket)
        controller.abort('enough')
        await assert.rejects(pumping, { name: 'AbortError', code: 'ABORT_ERR', cause: 'enough' })
        assert.equal(getEventListeners(signal, 'abort').length, 0)
        assert.deepEqual(listenersOf(writable), before[0])
        // Its end would say that the memory is free.
        const { close, ...others } = listenersOf(socket)
        assert.deepEqual({ ...others, close: close - (writable === socket ? 0 : 1) }, before[1])
        // A chunk that was read ahead is released. A chunk that is being read is not.
        await until(() => pool.stats().inUseCount === 1, 'the read has ended')
        await sleep(20)
        assert.equal(pool.stats().inUseCount, 1)
        writable.end()
        const bytes = sent(await drain(client))
        assert.ok((listenersOf(socket).close ?? 0) <= before[1].close)
        assert.ok(bytes.length >= CHUNK)
        assert.equal(bytes.length % CHUNK, 0)
        assertBytes(bytes, fs.readFileSync(source).subarray(0, bytes.length))
      })
    )
  }

  test('A file that shrinks meanwhile: what was there', async () => {
    const pool = new BufferPool()
    const source = fileOf(contents.subarray(0, 10 * CHUNK))
    const sink = recorder({ first: () => fs.truncateSync(source, 3 * CHUNK) })
    assert.equal(await pumpFile(pool, source, sink, { chunkSize: CHUNK }), 3 * CHUNK)
    assertBytes(Buffer.concat(sink.kept), contents.subarray(0, 3 * CHUNK))
    await atRest(pool)
  })

  test('A file that grows meanwhile: what is there when its end is reached, or up to the end asked for', async () => {
    const pool = new BufferPool()
    const size = 10 * CHUNK
    for (const [end, expected] of [
      [undefined, 12 * CHUNK],
      [size - 1, size]
    ]) {
      const source = fileOf(contents.subarray(0, size))
      const sink = recorder({
        first: () => fs.appendFileSync(source, contents.subarray(size, size + 2 * CHUNK))
      })
      assert.equal(await pumpFile(pool, source, sink, { chunkSize: CHUNK, end }), expected)
      assertBytes(Buffer.concat(sink.kept), contents.subarray(0, expected))
    }
    await atRest(pool)
  })

  test('Files without a size or an end', onlyLinux, async () => {
    const pool = new BufferPool()
    const status = recorder()
    const total = await pumpFile(pool, '/proc/self/status', status, { chunkSize: 100 })
    assert.ok(total > 100)
    assert.match(String(Buffer.concat(status.kept)), /^Name:/)
    const zeros = recorder()
    const options = { chunkSize: CHUNK, end: 3 * CHUNK + 6 }
    assert.equal(await pumpFile(pool, '/dev/zero', zeros, options), 3 * CHUNK + 7)
    assertBytes(Buffer.concat(zeros.kept), Buffer.alloc(3 * CHUNK + 7))
    await atRest(pool)
  })

  for (const by of ['path', 'FileHandle']) {
    test(`A FIFO, by its ${by}: what comes, when it comes, to its end`, onlyLinux, async () => {
      const pool = new BufferPool()
      const name = fifo()
      const writer = fs.openSync(name, 'r+')
      const source = by === 'path' ? name : await fs.promises.open(name)
      const sink = recorder()
      const pumping = pumpFile(pool, source, sink)
      fs.writeSync(writer, 'first')
      await until(() => sink.kept.length === 1, 'the first has come')
      fs.writeSync(writer, 'second')
      await until(() => sink.kept.length === 2, 'the second has come')
      fs.closeSync(writer)
      assert.equal(await pumping, 11)
      assert.equal(String(Buffer.concat(sink.kept)), 'firstsecond')
      if (by === 'FileHandle') await source.close()
      await atRest(pool)
    })
  }

  test('A silent FIFO does not delay an abort', onlyLinux, async () => {
    const pool = new BufferPool()
    const name = fifo()
    const writer = fs.openSync(name, 'r+')
    const controller = new AbortController()
    const pumping = pumpFile(pool, name, recorder(), { signal: controller.signal })
    await until(() => pool.stats().inUseCount === 1, 'it reads')
    controller.abort()
    await assert.rejects(pumping, { name: 'AbortError' })
    assert.equal(pool.stats().inUseCount, 1)
    fs.writeSync(writer, 'late')
    await until(() => pool.stats().inUseCount === 0, 'the block is released after the read')
    fs.closeSync(writer)
    await atRest(pool)
  })

  test('A FIFO without a writer does not delay an abort', onlyLinux, async () => {
    const pool = new BufferPool()
    const name = fifo()
    const signal = abortedAfter(20)
    await assert.rejects(pumpFile(pool, name, recorder(), { signal }), { name: 'AbortError' })
    // Ends the pending open.
    fs.closeSync(fs.openSync(name, 'r+'))
    await atRest(pool)
  })

  test('A response without a body takes a file and sends none', async (context) => {
    const pool = new BufferPool()
    const server = http.createServer(async (_req, res) => {
      res.setHeader('content-length', contents.length)
      assert.equal(await pumpFile(pool, file, res, { chunkSize: CHUNK }), contents.length)
      res.end()
    })
    const port = await listening(server, context)
    const bytes = await getHttp(http, port, { method: 'HEAD' })
    assert.equal(bytes.length, 0)
    await atRest(pool)
  })

  test('A write that throws is an error like any other', async (context) => {
    const pool = new BufferPool()
    const failed = new Promise((resolve) => {
      const server = http.createServer((_req, res) => {
        res.strictContentLength = true
        res.setHeader('content-length', 5)
        resolve(pumpFile(pool, file, res, { chunkSize: CHUNK }).finally(() => res.destroy()))
      })
      // This is not one of Node's clients, which would leave as soon as it sees too many bytes.
      listening(server, context).then((port) => {
        const client = net.connect(port, '127.0.0.1').on('error', () => {})
        client.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n')
        context.after(() => client.destroy())
      })
    })
    await assert.rejects(failed, { code: 'ERR_HTTP_CONTENT_LENGTH_MISMATCH' })
    await atRest(pool)
  })

  test('Nobody waits for a destination that is corked', async (context) => {
    const pool = new BufferPool()
    const source = fileOf(contents.subarray(0, 1000))
    for (const { writable, client } of [await connected(context), await responding(context)]) {
      writable.cork()
      assert.equal(await pumpFile(pool, source, writable), 1000)
      await atRest(pool)
      writable.uncork()
      writable.end()
      assert.ok((await drain(client)).includes(contents.subarray(0, 1000)))
    }
  })

  test(
    'A storm of clients, some of which leave: those who stay get the file',
    onDisturbedPools(async (pool, context) => {
      const outcomes = { fulfilled: 0, rejected: 0 }
      const asked = new Set()
      const server = http.createServer(async (req, res) => {
        asked.add(req.url)
        const signal = req.url === '/abort' ? abortedAfter(15) : undefined
        try {
          await pumpFile(pool, file, res, { chunkSize: CHUNK, signal })
          outcomes.fulfilled++
          res.end()
        } catch {
          outcomes.rejected++
          res.destroy()
        }
      })
      const port = await listening(server, context)
      const stay = async () => assertBytes(await getHttp(http, port), contents)
      const leave = (delay) => async () => {
        const client = net.connect(port, '127.0.0.1').on('error', () => {})
        const url = `/leave/${delay}`
        client.write(`GET ${url} HTTP/1.1\r\nhost: x\r\n\r\n`)
        if (delay % 2) client.resume()
        await until(() => asked.has(url), 'the request has come')
        await sleep(delay)
        if (delay % 4 < 2) client.resetAndDestroy()
        else client.destroy()
      }
      const stall = () => getHttp(http, port, { path: '/abort' }).catch(() => {})
      const clients = Array.from({ length: 36 }, (_, i) => [stay, leave(i), stall][i % 3])
      await Promise.all(clients.map((client) => client()))
      await until(() => outcomes.fulfilled + outcomes.rejected === 36, 'all pumps have ended')
      assert.ok(outcomes.fulfilled >= 12)
    })
  )

  test('A wrong argument names itself', async () => {
    const pool = new BufferPool()
    const sink = recorder()
    const type = 'ERR_INVALID_ARG_TYPE'
    const range = 'ERR_OUT_OF_RANGE'
    const stream = fs.createReadStream(file)
    await once(stream, 'open')
    for (const [args, code, name] of [
      [[{}, file, sink], type, '"pool"'],
      [[pool, 3, sink], type, '"file"'],
      [[pool, undefined, sink], type, '"file"'],
      [[pool, stream, sink], type, '"file"'],
      [[pool, file, {}], type, '"writable"'],
      [[pool, file, undefined], type, '"writable"'],
      [[pool, file, sink, null], type, '"options"'],
      [[pool, file, sink, { start: '1' }], type, '"options.start"'],
      [[pool, file, sink, { start: -1 }], range, '"options.start"'],
      [[pool, file, sink, { end: NaN }], range, '"options.end"'],
      [[pool, file, sink, { end: 1.5 }], range, '"options.end"'],
      [[pool, file, sink, { start: 5, end: 4 }], range, '"options.start"'],
      [[pool, file, sink, { chunkSize: 0 }], range, '"options.chunkSize"'],
      [[pool, file, sink, { chunkSize: 2 ** 31 }], range, '"options.chunkSize"'],
      [[pool, file, sink, { chunkSize: '1' }], type, '"options.chunkSize"'],
      [[pool, file, sink, { signal: {} }], type, '"options.signal"']
    ]) {
      await assert.rejects(pumpFile(...args), (error) => {
        assert.equal(error.code, code)
        assert.ok(error.message.includes(name), error.message)
        return true
      })
    }
    stream.destroy()
    await once(stream, 'close')
    assert.equal(sink.kept.length, 0)
    assert.equal(pool.stats().allocCount, 0)
  })
})
