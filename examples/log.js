'use strict'

/**
 * A writer of JSON lines: records are appended to a buffer that grows in pooled blocks, and go to
 * the file together. Here it logs the requests of a server.
 *
 *     node examples/log.js [file] [port]
 */

const { open } = require('node:fs/promises')
const http = require('node:http')
const { shared } = require('cistern')

/** The bytes that are written at once, and the milliseconds after which fewer are written. */
const BATCH = 64 * 1024
const DELAY = 200

/** The most bytes that may wait for a slow disk; further records are lost, and counted. */
const WAITING = 64 * BATCH

class JsonLines {
  #file
  #lines = shared.byteBuffer()
  #written = Promise.resolve()
  #waiting = 0
  #lost = 0
  #timer

  constructor(file) {
    this.#file = file
  }

  write(record) {
    if (this.#waiting > WAITING) {
      this.#lost++
      return
    }
    this.#lines.append(JSON.stringify(record)).append('\n')
    if (this.#lines.length >= BATCH) this.flush()
    else this.#timer ??= setTimeout(() => this.flush(), DELAY)
  }

  /** Resolves when all records so far are in the file, or have failed. */
  flush() {
    clearTimeout(this.#timer)
    this.#timer = undefined
    const lines = this.#lines
    this.#lines = shared.byteBuffer()
    this.#waiting += lines.length
    this.#written = this.#written.then(() => this.#append(lines))
    return this.#written
  }

  async #append(lines) {
    const { length } = lines
    try {
      await this.#file.appendFile(lines.view())
      if (this.#lost > 0) console.error(`${this.#lost} records were lost`)
      this.#lost = 0
    } catch (error) {
      // The disk may be full: the next lines may fit again.
      console.error(error.message)
    } finally {
      this.#waiting -= length
      // Released only now, because the kernel was reading from it.
      lines.release()
    }
  }
}

async function main([path = 'requests.jsonl', port = 8000]) {
  const file = await open(path, 'a')
  const log = new JsonLines(file)
  const server = http.createServer((req, res) => {
    // This also logs a client that does not wait for its answer.
    res.on('close', () => log.write({ at: new Date(), method: req.method, url: req.url }))
    res.end('logged\n')
  })
  server.listen(port, '127.0.0.1', () => {
    console.log(`http://127.0.0.1:${server.address().port}/`)
  })
  for (const signal of ['SIGINT', 'SIGTERM']) {
    process.once(signal, () => server.close(() => log.flush().then(() => file.close())))
  }
}

main(process.argv.slice(2))
