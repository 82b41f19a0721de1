'use strict'

/**
 * A user's mistake, made on purpose: a Buffer is released while a read into it waits for the one
 * thread that could do it. A memory checker must see that read's write.
 */

process.env.UV_THREADPOOL_SIZE = '1'

const { execFileSync } = require('node:child_process')
const { mkdtempSync, openSync, read, rmSync, writeSync } = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const { BufferPool } = require('..')

const folder = mkdtempSync(path.join(os.tmpdir(), 'cistern-canary-'))
const fifo = path.join(folder, 'fifo')
execFileSync('mkfifo', [fifo])
const ends = openSync(fifo, 'r+')
rmSync(folder, { recursive: true })

const pool = new BufferPool()
// Holds the chunk in which the other one lies.
const neighbour = pool.allocUnsafe(100)
const buffer = pool.allocUnsafe(100)
// Occupies the thread until something is written.
read(ends, Buffer.alloc(1), 0, 1, null, () => {})
read(openSync(__filename, 'r'), buffer, 0, buffer.length, 0, () => pool.release(neighbour))
pool.release(buffer)
pool.trim()
writeSync(ends, '!')
