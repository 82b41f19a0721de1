'use strict'

/**
 * A writer of JSON lines: records are appended to a buffer that grows in pooled blocks, and go to the file
 * together. Here it logs the requests of a server.
 *
 *     node examples/log.js [file] [port]
 */

const { open } = require('node:fs/promises')
const http = require('node:http')
const { shared } = require('cistern')

/** So much is written at once, in bytes, or what there is after so many milliseconds. */
const BATCH = 64 * 1024
const DELAY = 200

class JsonLines {
  #file
  #lines = shared.byteBuffer()
  #written
  #timer

  constructor(path) {
    this.#written = open(path, 'a').then((file) => {
      this.#file = file
    })
  }

  write(record) {
    this.#lines.append(JSON.stringify(record)).append('\n')
    if (this.#lines.length >= BATCH) this.flush()
    else this.#timer ??= setTimeout(() => this.flush(), DELAY)
  }

  /** Resolves when all that there was to write is in the file. */
  flush() {
    clearTimeout(this.#timer)
    this.#timer = undefined
    const lines = this.#lines
    this.#lines = shared.byteBuffer()
    this.#written = this.#written
      .then(() => this.#file.appendFile(lines.view()))
      // Not earlier: the kernel has been reading from it.
      .finally(() => lines.release())
    return this.#written
  }
}

const log = new JsonLines(process.argv[2] ?? 'requests.jsonl')
const server = http.createServer((req, res) => {
  res.on('finish', () => log.write({ at: new Date(), method: req.method, url: req.url }))
  res.end('logged\n')
})
server.listen(process.argv[3] ?? 8000, '127.0.0.1', () => {
  console.log(`http://127.0.0.1:${server.address().port}/`)
})
for (const signal of ['SIGINT', 'SIGTERM']) {
  process.once(signal, () => server.close(() => log.flush()))
}
