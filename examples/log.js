'use strict'

/**
 * A writer of JSON lines. It appends records to a buffer that grows in pooled blocks, and writes
 * them to the file together. Here it logs the requests of a server.
 *
 *     node examples/log.js [file] [port]
 */

const { open } = require('node:fs/promises')
const http = require('node:http')
const { shared } = require('cistern')

/** One write has this many bytes, or the bytes that there are after this many milliseconds. */
const BATCH = 64 * 1024
const DELAY = 200

/** The most bytes that may wait for a slow disk. Further records are lost, and counted. */
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

  /** Resolves when all records so far are in the file, or their write has failed. */
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
      // The disk may be full. The next lines may fit again.
      console.error(error.message)
    } finally {
      this.#waiting -= length
      // Not earlier: until now the kernel has read from it.
      lines.release()
    }
  }
}

async function main([path = 'requests.jsonl', port = 8000]) {
  const file = await open(path, 'a')
  const log = new JsonLines(file)
  const server = http.createServer((req, res) => {
    // 'close' also comes for a client that does not wait for its answer.
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
