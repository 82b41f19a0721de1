'use strict'

/**
 * `chunks` of streams: no byte is missing, and blocks grow only where the pool has room for them.
 */

const assert = require('node:assert/strict')
const crypto = require('node:crypto')
const { once } = require('node:events')
const fs = require('node:fs')
const http = require('node:http')
const http2 = require('node:http2')
const https = require('node:https')
const { PassThrough, Readable, pipeline } = require('node:stream')
const { describe, test } = require('node:test')
const { setTimeout: sleep } = require('node:timers/promises')
const fc = require('fast-check')
const { BufferPool } = require('../..')
const { chunks } = require('../../lib/io/chunks')
const { givesAtOnce, until } = require('../support/helpers')
const { connection, drain, listening, secure } = require('../support/destinations')
const {
  CHUNK,
  assertBytes,
  atRest,
  contents,
  file,
  fileOf,
  hashOf,
  onDisturbedPools
} = require('../support/files')

describe('chunks', () => {
  test('Pieces that came before an error are given before it, as for await gives them', async () => {
    const pool = new BufferPool()
    const broken = async function* broken() {
      yield 'a'
      yield 'bc'
      throw new Error('mine')
    }
    const unfit = async function* unfit() {
      yield 'abc'
      yield 5
    }
    const late = () => {
      const readable = new Readable({ read() {} })
      setImmediate(() => {
        readable.push('abc')
        setImmediate(() => readable.destroy(new Error('mine')))
      })
      return readable
    }
    const cut = () => {
      const readable = new Readable({ read() {} })
      setImmediate(() => {
        readable.push('abc')
        setImmediate(() => readable.destroy())
      })
      return readable
    }
    const mine = { message: 'mine' }
    for (const [source, error] of [
      [broken(), mine],
      [Readable.from(broken()), mine],
      [ReadableStream.from?.(broken()) ?? broken(), mine],
      [unfit(), { code: 'ERR_INVALID_ARG_TYPE' }],
      [Readable.from(unfit()), { code: 'ERR_INVALID_ARG_TYPE' }],
      [late(), mine],
      [cut(), { code: 'ERR_STREAM_PREMATURE_CLOSE' }]
    ]) {
      let given = ''
      const all = async () => {
        for await (const chunk of chunks(pool, source)) given += chunk
      }
      await assert.rejects(all, error)
      assert.equal(given, 'abc')
      assert.equal(pool.stats().inUseCount, 0)
    }
  })

  test('An iterator that has ended, or failed, is not asked to return, as for await does not', async () => {
    const pool = new BufferPool()
    const made = (last) => {
      const calls = []
      const results = [{ value: 'abc' }, last]
      const next = async () => {
        calls.push('next')
        const result = results.shift()
        if (result instanceof Error) throw result
        return result
      }
      const iterator = { next, return: async () => calls.push('return') }
      return { calls, [Symbol.asyncIterator]: () => iterator }
    }
    const ended = made({ done: true })
    for await (const chunk of chunks(pool, ended)) assert.equal(String(chunk), 'abc')
    assert.deepEqual(ended.calls, ['next', 'next'])
    const failed = made(new Error('mine'))
    await assert.rejects(
      async () => {
        for await (const chunk of chunks(pool, failed)) assert.equal(String(chunk), 'abc')
      },
      { message: 'mine' }
    )
    assert.deepEqual(failed.calls, ['next', 'next'])
    const left = made({ value: 5 })
    await assert.rejects(async () => {
      for await (const chunk of chunks(pool, left)) assert.equal(String(chunk), 'abc')
    })
    assert.deepEqual(left.calls, ['next', 'next', 'return'])
  })

  test('A duplex that ends is left as Node leaves it: it finishes, and fails with nothing', async () => {
    const pool = new BufferPool()
    for (const iterable of [(stream) => stream, (stream) => chunks(pool, stream)]) {
      const duplex = new PassThrough()
      const events = []
      for (const event of ['error', 'finish', 'close']) duplex.on(event, () => events.push(event))
      duplex.end()
      duplex.resume()
      for await (const chunk of iterable(duplex)) assert.fail(chunk)
      await until(() => duplex.closed, 'the duplex is closed')
      assert.deepEqual(events, ['finish', 'close'])
    }
  })

  test(
    'A body that is uploaded, over http, https and http2',
    onDisturbedPools(async (pool, context) => {
      const receive = async (req, res) => {
        const hash = crypto.createHash('sha256')
        for await (const chunk of chunks(pool, req, { chunkSize: CHUNK })) {
          await new Promise(setImmediate)
          hash.update(chunk)
        }
        res.end(hash.digest('hex'))
      }
      const send = async (client, options) => {
        const req = client.request({ host: '127.0.0.1', method: 'PUT', agent: false, ...options })
        pipeline(fs.createReadStream(file), req, () => {})
        const [res] = await once(req, 'response')
        return String(await drain(res))
      }
      const plain = await listening(http.createServer(receive), context)
      assert.equal(await send(http, { port: plain }), hashOf(contents))
      const encrypted = await listening(https.createServer(secure, receive), context)
      assert.equal(await send(https, { port: encrypted, ...secure }), hashOf(contents))
      const second = await listening(http2.createServer(receive), context)
      const session = http2.connect(`http://127.0.0.1:${second}`)
      const req = session.request({ ':method': 'PUT' })
      req.end(contents)
      assert.equal(String(await drain(req)), hashOf(contents))
      session.close()
    })
  )

  test('Small pieces of one turn share a chunk, too large ones are cut; none is lost, none is empty', async () => {
    const pool = new BufferPool()
    const sizes = fc.array(fc.nat(700), { maxLength: 60 })
    await fc.assert(
      fc.asyncProperty(sizes, fc.integer({ min: 1, max: 1000 }), async (sizes, chunkSize) => {
        const bytes = crypto.randomBytes(sizes.reduce((sum, size) => sum + size, 0))
        const pieces = []
        let at = 0
        for (const size of sizes) {
          pieces.push(bytes.subarray(at, at + size))
          at += size
        }
        const got = []
        for await (const chunk of chunks(pool, Readable.from(pieces), { chunkSize })) {
          got.push(Buffer.from(chunk))
        }
        assertBytes(Buffer.concat(got), bytes)
        assert.ok(got.every(({ length }) => length > 0 && length <= chunkSize))
        assert.ok(got.slice(0, -1).every(({ length }) => length >= chunkSize / 2))
      }),
      { numRuns: 100 }
    )
    await atRest(pool)
  })

  test('Blocks that follow the stream grow only where the pool has room for it at once', async () => {
    const bytes = Buffer.alloc(20 * CHUNK, 1)
    const lengthOfAll = async (pool) => {
      let length = 0
      for await (const chunk of chunks(pool, Readable.from([bytes, bytes]))) length += chunk.length
      return length
    }
    const roomy = new BufferPool()
    assert.equal(await lengthOfAll(roomy), 2 * bytes.length)
    assert.ok(roomy.stats().allocCount < 20)
    for (const options of [
      { maxBytes: CHUNK },
      { maxBytes: 2 * CHUNK },
      { maxBytes: 4 * CHUNK },
      { maxBlockSize: CHUNK }
    ]) {
      const pool = new BufferPool(options)
      assert.equal(await lengthOfAll(pool), 2 * bytes.length)
      const { inUseCount, unpooledCount, waitCount } = pool.stats()
      assert.deepEqual([inUseCount, unpooledCount], [0, 0])
      // Otherwise the loop waits for each block that a finalizer returns.
      if (givesAtOnce) assert.equal(waitCount, 0)
    }
    // The reader holds the rest.
    const pool = new BufferPool({ maxBytes: 4 * CHUNK })
    const held = pool.lease(2 * CHUNK)
    assert.equal(await lengthOfAll(pool), 2 * bytes.length)
    held.release()
    await atRest(pool)
  })

  test('Pieces of every kind', async () => {
    const pool = new BufferPool()
    const all = (source, options) => drain(chunks(pool, source, options)).then(String)
    const bytes = new Uint8Array(Buffer.from('xabcdx'))
    assert.equal(await all(Readable.from(['ä', 'ö', ''])), 'äö')
    assert.equal(await all(Readable.from([new Uint8Array(bytes.buffer, 1, 4)])), 'abcd')
    assert.equal(await all(Readable.from([new DataView(bytes.buffer, 1, 4)])), 'abcd')
    assert.equal(await all(Readable.from([bytes.buffer])), 'xabcdx')
    const latin = Readable.from([Buffer.from('é', 'latin1')], { objectMode: false })
    latin.setEncoding('latin1')
    assert.deepEqual(await drain(chunks(pool, latin)), Buffer.from('é', 'latin1'))
    assert.equal(await all(new Blob(['blob']).stream()), 'blob')
    assert.equal(await all(new Response('response').body), 'response')
    assert.equal(await all(fs.createReadStream(fileOf('file'), 'utf8')), 'file')
    await atRest(pool)
  })

  test('A piece whose memory grows is what it was when it was given', async () => {
    const pool = new BufferPool()
    for (const Memory of [ArrayBuffer, SharedArrayBuffer]) {
      for (const viewOf of [(it) => it, (it) => new Uint8Array(it), (it) => new DataView(it)]) {
        const grow = (memory) => memory[memory instanceof ArrayBuffer ? 'resize' : 'grow'](10_000)
        const source = async function* source() {
          const memory = new Memory(2500, { maxByteLength: 10_000 })
          new Uint8Array(memory).fill('a'.charCodeAt(0))
          const piece = viewOf(memory)
          setImmediate(() => grow(memory))
          yield piece
          yield 'end'
        }
        const got = []
        for await (const chunk of chunks(pool, source(), { chunkSize: 1000 })) {
          got.push(String(chunk))
          await new Promise(setImmediate)
        }
        assert.equal(got.join(''), `${'a'.repeat(2500)}end`)
      }
    }
    await atRest(pool)
  })

  test('A piece that loses its memory before all of it is copied is an error: no byte is missing', async () => {
    const pool = new BufferPool()
    const losses = {
      shrinks: (memory) => memory.resize(1000),
      'is transferred': (memory) => structuredClone(memory, { transfer: [memory] })
    }
    for (const lose of Object.values(losses)) {
      const memory = new ArrayBuffer(2500, { maxByteLength: 10_000 })
      const iterator = chunks(pool, Readable.from([new Uint8Array(memory)]), { chunkSize: 1000 })
      assert.equal((await iterator.next()).value.length, 1000)
      lose(memory)
      await assert.rejects(iterator.next(), { code: 'ERR_INVALID_ARG_VALUE' })
      assert.deepEqual(await iterator.next(), { done: true, value: undefined })
      await atRest(pool)
    }
  })

  test('A chunk does not wait for what the other end has not sent', async (context) => {
    const pool = new BufferPool()
    const { socket, client } = await connection(context)
    client.write('first')
    const got = []
    for await (const chunk of chunks(pool, socket)) {
      got.push(String(chunk))
      if (got.length === 1) client.write('second')
      else client.end()
    }
    assert.deepEqual(got, ['first', 'second'])
    await atRest(pool)
  })

  test('While a stream gives nothing, nothing is leased', async () => {
    const pool = new BufferPool()
    const through = new PassThrough()
    const pending = chunks(pool, through).next()
    await sleep(10)
    assert.equal(pool.stats().inUseCount, 0)
    through.end('late')
    const { value } = await pending
    assert.equal(String(value), 'late')
    pool.release(value)
    await atRest(pool)
  })
})
