'use strict'

/**
 * `fs` fails in the middle of a file: the error comes through, and nothing stays leased or open.
 */

// This must come first: cistern takes `fs.read` as it is when cistern is loaded.
const { spyOnRead } = require('../support/spied-read')
const assert = require('node:assert/strict')
const fs = require('node:fs')
const { PassThrough } = require('node:stream')
const { describe, test } = require('node:test')
const { BufferPool } = require('../..')
const { chunks, pumpFile } = require('../../lib/io')
const { openFiles } = require('../support/faults')
const { balanced } = require('../support/helpers')
const { folder, onlyLinux, smallFile } = require('../support/fault-processes')

describe('fs fails in the middle of a file', () => {
  const CHUNK = 16 * 1024

  /** Reads a file by a helper, from `start` on: how many bytes came, and the error. */
  const READERS = {
    pumpFile: async (pool, source, start) => {
      const sink = new PassThrough()
      const bytes = []
      sink.on('data', (chunk) => bytes.push(chunk))
      try {
        await pumpFile(pool, source, sink, { chunkSize: CHUNK, start })
        return { bytes, sink }
      } catch (error) {
        return { bytes, sink, error }
      }
    },
    chunks: async (pool, source) => {
      const bytes = []
      try {
        for await (const chunk of chunks(pool, source, { chunkSize: CHUNK })) {
          bytes.push(Buffer.from(chunk))
        }
        return { bytes }
      } catch (error) {
        return { bytes, error }
      }
    }
  }

  /** Asserts that nothing is leased or open as soon as a helper has failed. */
  async function assertOver(pool, name) {
    assert.equal(pool.stats().inUseCount, 0)
    assert.deepEqual(openFiles(name), [])
    assert.equal((await balanced(pool)).inUseBytes, 0)
  }

  for (const [name, read] of Object.entries(READERS)) {
    test(`${name} of memory that ends: a read that the kernel fails`, onlyLinux, async () => {
      // No memory is mapped behind the stack of a process.
      const stack = fs
        .readFileSync('/proc/self/maps', 'utf8')
        .split('\n')
        .find((line) => line.endsWith('[stack]'))
      const end = Number.parseInt(stack.split(/[- ]/)[1], 16)
      const size = 2 * CHUNK + 100
      for (const detachOnRelease of [true, false]) {
        const pool = new BufferPool({ detachOnRelease })
        const { bytes, error } = await read(pool, '/proc/self/mem', end - size)
        assert.equal(error.code, 'EIO')
        // Without a start the read begins at address 0, where nothing is mapped either.
        assert.equal(Buffer.concat(bytes).length, name === 'chunks' ? 0 : size)
        await assertOver(pool, `/proc/${process.pid}/mem`)
      }
    })

    test(`${name} of a directory`, { skip: process.platform === 'win32' }, async () => {
      const pool = new BufferPool()
      const { bytes, error } = await read(pool, folder)
      assert.deepEqual([bytes.length, error.code], [0, 'EISDIR'])
      await assertOver(pool, folder)
    })

    test(`${name} of a FileHandle that is closed meanwhile`, async () => {
      const pool = new BufferPool()
      const handle = await fs.promises.open(smallFile)
      const { read: readHandle } = handle
      let reads = 0
      let closed
      handle.read = async (...args) => {
        if (++reads === 4) closed = handle.close()
        return readHandle.apply(handle, args)
      }
      const { bytes, error } = await read(pool, handle)
      assert.equal(error.code, 'EBADF')
      assert.ok(
        fs
          .readFileSync(smallFile)
          .subarray(0, 3 * CHUNK)
          .equals(Buffer.concat(bytes))
      )
      await closed
      await assertOver(pool, smallFile)
    })

    for (const code of ['EIO', 'EBADF', 'ESTALE']) {
      test(`${name}, whose n-th read fails with ${code}`, async (context) => {
        const contents = fs.readFileSync(smallFile)
        for (const detachOnRelease of [true, false]) {
          const pool = new BufferPool({ detachOnRelease })
          for (let n = 1; n <= 6; n++) {
            let reads = 0
            const failure = Object.assign(new Error(`${code}: on purpose, read`), { code })
            spyOnRead(context, (readFile, args) => {
              if (++reads !== n) return readFile(...args)
              // The failed read may have written some bytes.
              Uint8Array.prototype.fill.call(args[1], 0xee, 0, 100)
              return setImmediate(args.at(-1), failure, 0)
            })
            const { bytes, error } = await read(pool, smallFile)
            assert.equal(error, failure)
            assert.equal(reads, n, 'nothing is read after it')
            await new Promise((resolve) => setImmediate(resolve))
            assert.ok(contents.subarray(0, (n - 1) * CHUNK).equals(Buffer.concat(bytes)))
            await assertOver(pool, smallFile)
          }
          spyOnRead(context, (readFile, args) => readFile(...args))
          const { bytes } = await read(pool, smallFile)
          await new Promise((resolve) => setImmediate(resolve))
          assert.ok(contents.equals(Buffer.concat(bytes)), 'the same pool works')
          await assertOver(pool, smallFile)
        }
      })
    }
  }
})
