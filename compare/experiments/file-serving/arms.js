'use strict'

const fs = require('node:fs')
const { promisify } = require('node:util')

const open = promisify(fs.open)
const read = promisify(fs.read)
const close = promisify(fs.close)

/** Four times what a ReadStream reads by default, and what `pumpFile` does. */
const LARGE_CHUNK = 256 * 1024

/**
 * @typedef {{ path: string, size: number }} File
 * @typedef {object} OpenArm of this experiment
 * @property {(response: import('node:http').ServerResponse, file: File) => void | Promise<void>}
 *   send sends the file and ends the response; rejects if it can't read the file
 * @property {() => { allocBytes: number, inUseBytes: number }} [stats]
 * @property {() => void} close
 */

/** Node's own ways need no close. */
function nothing() {}

/** @returns {OpenArm} */
function readFileArm() {
  return {
    async send(response, { path }) {
      response.end(await readFile(path))
    },
    close: nothing
  }
}

/** Uses callbacks, so that the cost of `fs.promises` does not count. */
const readFile = promisify(fs.readFile)

/** @returns {OpenArm} */
function streamArm(options) {
  return {
    send(response, { path }) {
      return new Promise((resolve, reject) => {
        const stream = fs.createReadStream(path, options)
        stream.on('error', reject)
        stream.on('close', resolve)
        // A pipe doesn't close the file when the client disconnects.
        response.once('close', () => stream.destroy())
        stream.pipe(response)
      })
    },
    close: nothing
  }
}

/** @returns {OpenArm} */
function poolReadFileArm() {
  const { BufferPool } = require('cistern')
  const { end } = require('cistern/io')
  const pool = new BufferPool()
  return {
    async send(response, { path, size }) {
      const block = pool.allocUnsafe(size)
      try {
        await readWhole(path, block)
      } catch (error) {
        pool.release(block)
        throw error
      }
      end(pool, response, block)
    },
    stats: () => pool.stats(),
    close: () => pool.close()
  }
}

/** Fills the block with the file. */
async function readWhole(path, block) {
  const file = await open(path)
  try {
    for (let filled = 0; filled < block.length; ) {
      const { bytesRead } = await read(file, block, filled, block.length - filled, filled)
      if (bytesRead === 0) throw new Error(`the file ended after ${filled} bytes`)
      filled += bytesRead
    }
  } finally {
    await close(file)
  }
}

/** @returns {OpenArm} */
function pumpArm() {
  const { BufferPool } = require('cistern')
  const { pumpFile } = require('cistern/io')
  const pool = new BufferPool()
  return {
    async send(response, { path }) {
      await pumpFile(pool, path, response)
      response.end()
    },
    stats: () => pool.stats(),
    close: () => pool.close()
  }
}

/** @returns {OpenArm} */
function staticArm() {
  let bytes
  return {
    send(response, { path }) {
      bytes ??= fs.readFileSync(path)
      response.end(bytes)
    },
    stats: () => ({ allocBytes: bytes?.length ?? 0, inUseBytes: bytes?.length ?? 0 }),
    close: nothing
  }
}

/** @type {readonly import('../../arms').ArmKind[]} */
const arms = [
  {
    name: 'v8-readFile',
    about: 'fs.readFile, then res.end: the whole file in one Buffer of V8',
    open: readFileArm
  },
  {
    name: 'v8-stream',
    about: 'fs.createReadStream().pipe(res), 64 KiB at a time: the baseline',
    open: () => streamArm()
  },
  {
    name: 'v8-stream-256k',
    about: 'the same, 256 KiB at a time',
    open: () => streamArm({ highWaterMark: LARGE_CHUNK })
  },
  {
    name: 'v8-tuned',
    about: 'v8-stream under the V8 flags and the allocator that win the heats',
    open: () => streamArm()
  },
  {
    name: 'pool-readFile',
    about: 'the whole file in one block of cistern, released when it is sent',
    open: poolReadFileArm
  },
  {
    name: 'pool-pump',
    about: "cistern's pumpFile: two blocks of 256 KiB, read ahead by one",
    open: pumpArm
  },
  {
    name: 'static',
    about: 'the file in one Buffer that is never replaced: the limit',
    open: staticArm
  }
]

/** @type {Readonly<import('../../arms').Roles>} */
const roles = {
  baseline: 'v8-stream',
  candidate: 'pool-pump',
  tuned: 'v8-tuned',
  limit: 'static'
}

module.exports = { arms, roles }
