'use strict'

/**
 * Http traffic of the soak: a server on `cistern/io`, and clients of which some break off, lie or
 * send slowly.
 */

const { createHash, randomBytes } = require('node:crypto')
const { once } = require('node:events')
const fs = require('node:fs')
const http = require('node:http')
const net = require('node:net')
const { setTimeout: sleep } = require('node:timers/promises')
const { end, pumpFile, readBody } = require('../../lib/io')
const { below } = require('./marks')

const LIMIT = 1024 * 1024

/** The pause of a slow client between two bytes, in ms. */
const DAWDLE = 20

/** @param {Uint8Array} bytes */
const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex')

class Traffic {
  #pool
  #file
  #hash
  #server
  #agent = new http.Agent({ keepAlive: true })
  #isOver = false
  #lastNumber = 0
  /**
   * The numbers of the requests that have reached the server.
   *
   * @type {Set<unknown>}
   */
  #seen = new Set()
  /** @type {Promise<void>[]} */
  #clients = []
  counts = { whole: 0, broken: 0, again: 0 }
  /**
   * The first answer that was not what it had to be.
   *
   * @type {string | undefined}
   */
  wrong

  /**
   * @param {import('../..').BufferPool} pool
   * @param {string} file to be served
   */
  constructor(pool, file) {
    this.#pool = pool
    this.#file = file
    this.#hash = sha256(fs.readFileSync(file))
    this.#server = http.createServer((req, res) => {
      if (req.headers.number) this.#seen.add(req.headers.number)
      this.#answer(req, res).catch((error) => {
        if (res.headersSent) res.destroy()
        else res.writeHead(error.statusCode ?? 400, { connection: 'close' }).end()
      })
    })
  }

  /** @param {number} clients at a time */
  async start(clients) {
    this.#server.listen(0, '127.0.0.1')
    await once(this.#server, 'listening')
    this.#clients = Array.from({ length: clients }, () => this.#run())
  }

  async stop() {
    this.#isOver = true
    await Promise.all(this.#clients)
    this.#agent.destroy()
    this.#server.closeAllConnections()
    this.#server.close()
    await once(this.#server, 'close')
  }

  /**
   * @param {http.IncomingMessage} req
   * @param {http.ServerResponse} res
   */
  async #answer(req, res) {
    if (req.method === 'GET') {
      await pumpFile(this.#pool, this.#file, res)
      res.end()
      return
    }
    const body = await readBody(this.#pool, req, { limit: LIMIT })
    end(this.#pool, res, body.buffer)
  }

  get #port() {
    return /** @type {net.AddressInfo} */ (this.#server.address()).port
  }

  async #run() {
    while (!this.#isOver) {
      const kind = below(6)
      if (kind < 2) await this.#echo()
      else if (kind === 2) await this.#download()
      else await this.#misbehave(kind)
    }
  }

  async #echo() {
    const body = randomBytes(below(LIMIT))
    const headers = below(2) > 0 ? { 'content-length': body.length } : {}
    this.#note(await this.#ask({ method: 'POST', headers }, body), sha256(body))
  }

  async #download() {
    this.#note(await this.#ask({ method: 'GET' }), this.#hash)
  }

  /**
   * @param {string} answer
   * @param {string} right
   */
  #note(answer, right) {
    if (answer === right) this.counts.whole++
    else this.wrong ??= answer
  }

  /**
   * Returns the hash of an answer, or the reason why there is none.
   *
   * @param {http.RequestOptions} options
   * @param {Buffer} [body]
   * @returns {Promise<string>}
   */
  #ask(options, body) {
    const number = String(++this.#lastNumber)
    const headers = { ...options.headers, number }
    return new Promise((resolve) => {
      const target = {
        host: '127.0.0.1',
        port: this.#port,
        agent: this.#agent,
        ...options,
        headers
      }
      const req = http.request(target, (res) => {
        const hash = createHash('sha256')
        let bytes = 0
        res.on('close', () => this.#seen.delete(number))
        res.on('data', (chunk) => {
          hash.update(chunk)
          bytes += chunk.length
        })
        res.on('end', () =>
          resolve(
            res.statusCode === 200 ? hash.digest('hex') : `${options.method}: ${res.statusCode}`
          )
        )
        res.on('error', (error) =>
          resolve(`${options.method}: ${error.message} after ${bytes} bytes`)
        )
      })
      req.on('error', (error) => {
        // The server had closed the idle connection before the agent used it again.
        if (!req.reusedSocket || this.#seen.has(number)) {
          resolve(`${options.method}: ${error}`)
        } else {
          this.counts.again++
          resolve(this.#ask(options, body))
        }
      })
      req.end(body)
    })
  }

  /** @param {number} kind */
  async #misbehave(kind) {
    this.counts.broken++
    const socket = net.connect(this.#port, '127.0.0.1')
    socket.on('error', () => {})
    socket.resume()
    if (kind === 3) {
      socket.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n')
      await sleep(below(30))
    } else {
      const announced = below(2) > 0 ? 'content-length: 900000' : 'transfer-encoding: chunked'
      socket.write(`POST / HTTP/1.1\r\nhost: x\r\n${announced}\r\n\r\n`)
      const pieces = kind === 4 ? 1 : 5
      for (let i = 0; i < pieces; i++) {
        socket.write(announced.startsWith('c') ? 'x' : '1\r\nx\r\n')
        await sleep(DAWDLE)
      }
    }
    socket.resetAndDestroy()
  }
}

module.exports = { Traffic }
