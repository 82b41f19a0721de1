'use strict'

const assert = require('node:assert/strict')
const { execFileSync, spawn } = require('node:child_process')
const { createHash, randomBytes } = require('node:crypto')
const { once } = require('node:events')
const fs = require('node:fs')
const http = require('node:http')
const net = require('node:net')
const os = require('node:os')
const path = require('node:path')
const { createInterface } = require('node:readline')
const { after, before, describe, test } = require('node:test')
const { eventually, external, until } = require('../support/helpers')

const ROOT = path.join(__dirname, '..', '..')
const MIB = 1024 * 1024

const agent = new http.Agent({ keepAlive: true })
after(() => agent.destroy())

/**
 * Starts an example as its first lines say, on any port.
 *
 * @param {string} name
 * @param {string[]} args before the port
 * @returns {Promise<{ url: string, child: import('node:child_process').ChildProcess }>}
 */
async function start(name, ...args) {
  const child = spawn(process.execPath, [path.join('examples', name), ...args, '0'], {
    cwd: ROOT,
    stdio: ['ignore', 'pipe', 'inherit']
  })
  const [url] = await once(createInterface({ input: child.stdout }), 'line')
  return { url, child }
}

/**
 * Returns the most memory that a process had resident so far, in bytes: 0 on systems other than
 * Linux.
 *
 * @param {import('node:child_process').ChildProcess} child
 */
function peakOf({ pid }) {
  if (process.platform !== 'linux') return 0
  const [, kib] = /^VmHWM:\s+(\d+) kB/m.exec(fs.readFileSync(`/proc/${pid}/status`, 'utf8'))
  return Number(kib) * 1024
}

/** @param {import('node:child_process').ChildProcess} child */
async function stop(child) {
  if (child.exitCode !== null || child.signalCode !== null) return
  const ended = once(child, 'exit')
  child.kill()
  await ended
}

/**
 * @param {string} url
 * @param {http.RequestOptions} [options]
 * @param {Buffer} [body]
 * @returns {Promise<{ status: number, headers: http.IncomingHttpHeaders, body: Buffer }>}
 */
function ask(url, options = {}, body = undefined) {
  return new Promise((resolve, reject) => {
    const req = http.request(url, { agent, ...options }, async (res) => {
      const parts = await res.toArray().catch(reject)
      resolve({ status: res.statusCode, headers: res.headers, body: Buffer.concat(parts ?? []) })
    })
    req.on('error', reject)
    req.end(body)
  })
}

const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex')

const statsOf = async (url) => JSON.parse((await ask(url)).body.toString())

/** Sends its argument, and closes the connection without waiting for an answer. */
async function sendAndLeave(url, text) {
  const socket = net.connect(new URL(url).port, '127.0.0.1')
  await once(socket, 'connect')
  socket.write(text)
  await new Promise((resolve) => setTimeout(resolve, 20))
  socket.resetAndDestroy()
  await once(socket, 'close')
}

const HALF_AN_UPLOAD = 'POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\nhalf'

describe('the upload server', () => {
  let url
  let child
  before(async () => {
    ;({ url, child } = await start('upload.js'))
  })
  after(() => stop(child))

  test('prints length and hash of each body', async () => {
    const sizes = [0, 1, 1000, 65_536, 100_001, 3 * MIB]
    const check = async (size, chunked) => {
      const body = randomBytes(size)
      const headers = chunked ? { 'transfer-encoding': 'chunked' } : { 'content-length': size }
      const answer = await ask(url, { method: 'POST', headers }, body)
      assert.equal(answer.status, 200)
      assert.deepEqual(JSON.parse(answer.body), { bytes: size, sha256: sha256(body) })
    }
    await Promise.all(sizes.flatMap((size) => [check(size, false), check(size, true)]))
  })

  test('refuses what is too long, before it has come', async () => {
    const headers = { 'content-length': 32 * MIB + 1 }
    const req = http.request(url, { method: 'POST', headers })
    req.flushHeaders()
    const [res] = await once(req, 'response')
    assert.equal(res.statusCode, 413)
    req.on('error', () => {})
    req.destroy()
  })

  test('holds nothing of a client that goes away', async () => {
    for (let i = 0; i < 10; i++) await sendAndLeave(url, HALF_AN_UPLOAD)
    await eventually(async () => (await statsOf(url)).inUseCount === 0, 'all is released')
    const { name, freshCount } = await statsOf(url)
    assert.equal(name, 'uploads')
    assert.ok(freshCount > 0)
  })
})

describe('the upload server under attack', () => {
  const SIZE = 20 * MIB
  const body = randomBytes(SIZE)

  for (const chunked of [false, true]) {
    const how = chunked ? 'of unknown length' : 'of known length'
    test(`takes its ceiling, and what waits, for 30 large uploads ${how}`, async () => {
      const { url, child } = await start('upload.js')
      try {
        const headers = chunked ? { 'transfer-encoding': 'chunked' } : { 'content-length': SIZE }
        const statuses = await Promise.all(
          Array.from({ length: 30 }, async () => {
            const answer = await ask(url, { method: 'POST', headers, agent: false }, body).catch(
              // The server may have closed the connection while the client was still writing to it.
              ({ code }) => assert.match(code, /EPIPE|ECONNRESET/)
            )
            if (answer === undefined || answer.status === 503) return 503
            assert.deepEqual(JSON.parse(answer.body), { bytes: SIZE, sha256: sha256(body) })
            return answer.status
          })
        )
        assert.ok(statuses.includes(200))
        if (!chunked) assert.ok(statuses.every((status) => status === 200))
        const { unpooledCount, maxBytes } = await statsOf(url)
        assert.equal(unpooledCount, 0)
        // Besides the ceiling, Node itself takes memory, and so do its sockets' reads and the
        // bodies that wait for larger blocks.
        const waiting = chunked ? 0 : (30 * SIZE) / 3
        // V8 retains its own memory for a while.
        const late = external ? 0 : 64 * MIB
        const peak = peakOf(child)
        assert.ok(
          peak < maxBytes + 160 * MIB + waiting + late,
          `${Math.round(peak / MIB)} MiB were resident`
        )
        await eventually(async () => (await statsOf(url)).inUseCount === 0, 'all is released')
      } finally {
        await stop(child)
      }
    })
  }
})

describe('the file server', () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'cistern-examples-'))
  const root = path.join(folder, 'root')
  const large = randomBytes(8 * MIB + 7)
  let url
  let child
  before(async () => {
    fs.mkdirSync(path.join(root, 'a folder'), { recursive: true })
    fs.writeFileSync(path.join(root, 'a folder', 'large'), large)
    fs.writeFileSync(path.join(root, 'empty'), '')
    fs.writeFileSync(path.join(folder, 'secret'), 'not to be served')
    ;({ url, child } = await start('files.js', root))
  })
  after(async () => {
    await stop(child)
    fs.rmSync(folder, { recursive: true })
  })

  test('sends whole files to many clients at a time', async () => {
    const get = async () => {
      const { status, headers, body } = await ask(`${url}a%20folder/large`)
      assert.equal(status, 200)
      assert.equal(headers['content-length'], String(large.length))
      assert.equal(sha256(body), sha256(large))
    }
    await Promise.all(Array.from({ length: 8 }, get))
    assert.equal((await ask(`${url}empty?query`)).body.length, 0)
  })

  test('sends what a range names', async () => {
    const part = async (range) => ask(`${url}a%20folder/large`, { headers: { range } })
    const middle = await part('bytes=1000-600000')
    assert.equal(middle.status, 206)
    assert.equal(middle.headers['content-range'], `bytes 1000-600000/${large.length}`)
    assert.ok(middle.body.equals(large.subarray(1000, 600_001)))
    assert.ok((await part(`bytes=${large.length - 5}-`)).body.equals(large.subarray(-5)))
    assert.equal((await part(`bytes=${large.length}-`)).status, 416)
  })

  test('answers HEAD, and what is not there, and what is not to be served', async () => {
    const head = await ask(`${url}a%20folder/large`, { method: 'HEAD' })
    assert.equal(head.headers['content-length'], String(large.length))
    assert.equal(head.body.length, 0)
    for (const name of ['nowhere', 'a%20folder', '..%2fsecret', '..%5csecret', '%2e%2e/secret']) {
      assert.equal((await ask(`${url}${name}`)).status, 404, name)
    }
    for (const target of ['/../secret', '//../../secret', 'x://y/../../../secret', '/%']) {
      const { status } = await ask(url, { path: target })
      assert.ok(status === 404 || status === 400, `${target}: ${status}`)
    }
  })
})

describe('the file server under attack', () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'cistern-examples-'))
  const root = path.join(folder, 'root')
  const large = randomBytes(8 * MIB)
  let url
  let child
  before(async () => {
    fs.mkdirSync(root)
    fs.writeFileSync(path.join(root, 'small'), 'small')
    fs.writeFileSync(path.join(folder, 'secret'), 'not to be served')
    ;({ url, child } = await start('files.js', root))
  })
  after(async () => {
    await stop(child)
    fs.rmSync(folder, { recursive: true })
  })

  /**
   * Asks for a file, and changes that when its beginning has come, while the rest waits for the
   * client. The second request lies behind it. Resolves to all that came once the connection is
   * closed.
   */
  async function getWhileChanging(name, change) {
    const file = path.join(root, name)
    fs.writeFileSync(file, large)
    const socket = net.connect(new URL(url).port, '127.0.0.1')
    const get = (target, connection) =>
      `GET /${target} HTTP/1.1\r\nhost: x\r\nconnection: ${connection}\r\n\r\n`
    socket.on('error', () => {})
    socket.write(get(name, 'keep-alive') + get('small', 'close'))
    const received = [await once(socket, 'data').then(([chunk]) => chunk)]
    socket.pause()
    change(file)
    socket.on('data', (chunk) => received.push(chunk))
    socket.resume()
    await once(socket, 'close')
    return Buffer.concat(received)
  }

  const bodyIn = (bytes) => bytes.subarray(bytes.indexOf('\r\n\r\n') + 4)

  test('ends the connection of a file that was cut short on its way', async () => {
    const bytes = await getWhileChanging('cut', (file) => fs.truncateSync(file, MIB))
    const body = bodyIn(bytes)
    assert.match(bytes.toString('latin1', 0, 500), /content-length: 8388608\r\n/i)
    assert.ok(body.length < large.length, 'the file was cut short before it was sent')
    // No other response replaces the rest.
    assert.ok(body.equals(large.subarray(0, body.length)))
  })

  test('sends no more of a file that grows than it has announced', async () => {
    const bytes = await getWhileChanging('grown', (file) => fs.appendFileSync(file, large))
    const body = bodyIn(bytes)
    assert.ok(body.subarray(0, large.length).equals(large))
    assert.match(body.toString('latin1', large.length), /^HTTP\/1\.1 200 OK.*small$/s)
  })

  test('serves no links out of its folder', { skip: process.platform === 'win32' }, async () => {
    fs.symlinkSync(path.join(folder, 'secret'), path.join(root, 'to-secret'))
    fs.symlinkSync(folder, path.join(root, 'to-folder'))
    fs.symlinkSync('small', path.join(root, 'to-small'))
    assert.equal((await ask(`${url}to-secret`)).status, 404)
    assert.equal((await ask(`${url}to-folder/secret`)).status, 404)
    assert.equal((await ask(`${url}to-small`)).body.toString(), 'small')
  })

  test('does not wait for FIFOs', { skip: process.platform === 'win32' }, async () => {
    execFileSync('mkfifo', [path.join(root, 'fifo')])
    // This is more than the thread pool has threads.
    const answers = await Promise.all(Array.from({ length: 8 }, () => ask(`${url}fifo`)))
    for (const { status } of answers) assert.equal(status, 404)
    assert.equal((await ask(`${url}small`)).body.toString(), 'small')
  })

  test('refuses what is no request for a file', async () => {
    assert.equal((await ask(`${url}small`, { method: 'DELETE' })).status, 405)
    assert.equal((await ask(`${url}small/x`)).status, 404)
    assert.equal((await ask(url, { path: '/%00' })).status, 400)
    const range = 'bytes=99999999999999999999-'
    assert.equal((await ask(`${url}small`, { headers: { range } })).status, 416)
    const upToEnd = { range: 'bytes=1-99999999999999999999' }
    assert.equal((await ask(`${url}small`, { headers: upToEnd })).body.toString(), 'mall')
  })

  test('lives with clients that dawdle, and with those that break off', async () => {
    fs.writeFileSync(path.join(root, 'large'), large)
    const sockets = Array.from({ length: 60 }, () => {
      const socket = net.connect(new URL(url).port, '127.0.0.1')
      socket.on('error', () => {})
      socket.write('GET /large HTTP/1.1\r\nhost: x\r\n\r\n')
      return socket
    })
    await Promise.all(sockets.map((socket) => once(socket, 'readable')))
    for (const socket of sockets.splice(0, 30)) socket.resetAndDestroy()
    const { body } = await ask(`${url}large`)
    assert.ok(body.equals(large))
    const peak = peakOf(child)
    assert.ok(peak < 256 * MIB, `${Math.round(peak / MIB)} MiB were resident`)
    for (const socket of sockets) socket.destroy()
    if (process.platform !== 'linux') return
    const openFiles = () => {
      const fds = fs.readdirSync(`/proc/${child.pid}/fd`)
      return fds.filter((fd) => {
        try {
          return fs.readlinkSync(`/proc/${child.pid}/fd/${fd}`).startsWith(root)
        } catch {
          return false
        }
      })
    }
    await until(() => openFiles().length === 0, 'all files are closed')
  })
})

describe('the reverse proxy', () => {
  let upload
  let files
  before(async () => {
    upload = await start('upload.js')
    files = await start('files.js', ROOT)
    upload.proxy = await start('proxy.js', upload.url)
    files.proxy = await start('proxy.js', files.url)
  })
  after(() =>
    Promise.all([upload.proxy, files.proxy, upload, files].map(({ child }) => stop(child)))
  )

  test('passes bodies on in both directions', async () => {
    const check = async (size) => {
      const body = randomBytes(size)
      const { status, headers, body: answer } = await ask(upload.proxy.url, { method: 'PUT' }, body)
      assert.equal(status, 200)
      assert.equal(headers['content-type'], 'application/json')
      assert.equal(JSON.parse(answer).sha256, sha256(body))
    }
    await Promise.all([0, 10_240, 100_000, 100_000, 3 * MIB].map(check))
    const file = fs.readFileSync(path.join(ROOT, 'package-lock.json'))
    for (let i = 0; i < 20; i++) {
      const { body } = await ask(`${files.proxy.url}package-lock.json`)
      assert.ok(body.equals(file))
    }
  })

  test('passes on what has no body', async () => {
    const { size } = fs.statSync(path.join(ROOT, 'package.json'))
    const head = await ask(`${files.proxy.url}package.json`, { method: 'HEAD' })
    assert.equal(head.headers['content-length'], String(size))
    assert.equal((await ask(`${files.proxy.url}nowhere`)).status, 404)
  })

  test('lives on when either side goes away', async () => {
    for (let i = 0; i < 5; i++) await sendAndLeave(upload.proxy.url, HALF_AN_UPLOAD)
    const whole = HALF_AN_UPLOAD.replace('1000000', '4')
    for (let i = 0; i < 5; i++) await sendAndLeave(upload.proxy.url, whole)
    await eventually(async () => (await statsOf(upload.url)).inUseCount === 0, 'upstream is free')
    const { child } = upload
    await stop(child)
    assert.equal((await ask(upload.proxy.url)).status, 502)
  })
})

describe('the reverse proxy under attack', () => {
  /** Starts an upstream that a test controls, and a proxy of it, for as long as the test lasts. */
  async function withUpstream(listener, use) {
    const upstream = http.createServer(listener).listen(0, '127.0.0.1')
    await once(upstream, 'listening')
    const { port } = /** @type {net.AddressInfo} */ (upstream.address())
    const { url, child } = await start('proxy.js', `http://127.0.0.1:${port}`)
    try {
      await use(url, child)
    } finally {
      await stop(child)
      upstream.closeAllConnections()
      upstream.close()
    }
  }

  test('answers for an upstream that breaks off, or breaks the rules', async () => {
    const upstream = (req, res) => {
      if (req.url === '/cut') {
        res.writeHead(200, { 'content-length': 100 })
        res.write('part')
        setImmediate(() => res.destroy())
      } else if (req.url === '/gone') {
        res.destroy()
      } else {
        res.socket.end('HTTP/1.1 000 x\r\ncontent-length: 1\r\n\r\nx')
      }
    }
    await withUpstream(upstream, async (url) => {
      for (let i = 0; i < 5; i++) {
        for (const target of ['cut', 'gone', 'wrong']) {
          assert.equal((await ask(`${url}${target}`)).status, 502, target)
        }
      }
    })
  })

  test('passes no headers on that are about one connection', async () => {
    const headers = []
    const upstream = (req, res) => {
      headers.push(req.headers)
      res.writeHead(200, { connection: 'x-mine', 'x-mine': '1', 'x-other': '2' }).end('ok')
    }
    await withUpstream(upstream, async (url) => {
      const answer = await ask(url, {
        headers: {
          connection: 'keep-alive, X-Hop',
          'x-hop': '1',
          'proxy-connection': 'x',
          'x-end': '2'
        }
      })
      assert.equal(headers[0]['x-hop'], undefined)
      assert.equal(headers[0]['proxy-connection'], undefined)
      assert.equal(headers[0]['x-end'], '2')
      assert.equal(answer.headers['x-mine'], undefined)
      assert.equal(answer.headers['x-other'], '2')
    })
  })

  test('ends its request when its client goes', async () => {
    let begun = 0
    let ended = 0
    const upstream = (_req, res) => {
      begun++
      res.on('close', () => ended++)
    }
    await withUpstream(upstream, async (url) => {
      const socket = net.connect(new URL(url).port, '127.0.0.1')
      socket.on('error', () => {})
      socket.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n')
      await until(() => begun === 1, 'it is passed on')
      socket.resetAndDestroy()
      await until(() => ended === 1, 'it is ended')
    })
  })

  test('takes its ceilings, and what waits, for many large bodies', async () => {
    const body = randomBytes(20 * MIB)
    const upstream = (req, res) => req.pipe(res)
    await withUpstream(upstream, async (url, child) => {
      const send = async () => {
        const headers = { 'content-length': body.length }
        const answer = await ask(url, { method: 'POST', headers, agent: false }, body).catch(
          ({ code }) => assert.match(code, /EPIPE|ECONNRESET/)
        )
        if (answer === undefined || answer.status === 503) return
        assert.equal(answer.status, 200)
        assert.equal(sha256(answer.body), sha256(body))
        return answer.status
      }
      const statuses = await Promise.all(Array.from({ length: 20 }, send))
      assert.ok(statuses.includes(200))
      const peak = peakOf(child)
      const waiting = (20 * body.length) / 3
      assert.ok(peak < (256 + 160) * MIB + waiting, `${Math.round(peak / MIB)} MiB were resident`)
    })
  })
})

describe('the log writer under attack', { skip: process.platform !== 'linux' }, () => {
  test('goes on where the disk is full, and says so', async () => {
    const child = spawn(process.execPath, [path.join('examples', 'log.js'), '/dev/full', '0'], {
      cwd: ROOT,
      stdio: ['ignore', 'pipe', 'pipe']
    })
    try {
      const [url] = await once(createInterface({ input: child.stdout }), 'line')
      let said = ''
      child.stderr.on('data', (chunk) => {
        said += chunk
      })
      for (let i = 0; i < 3; i++) {
        said = ''
        assert.equal((await ask(url)).body.toString(), 'logged\n')
        await until(() => said.includes('ENOSPC'), 'it says that the disk is full')
      }
      assert.equal(child.exitCode, null)
    } finally {
      await stop(child)
    }
  })

  test('logs clients that do not wait for their answer', async () => {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'cistern-examples-'))
    const file = path.join(folder, 'requests.jsonl')
    const { url, child } = await start('log.js', file)
    try {
      await sendAndLeave(url, 'POST /left HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nx')
      await until(() => fs.readFileSync(file, 'utf8').includes('"/left"'), 'it is logged')
    } finally {
      await stop(child)
      fs.rmSync(folder, { recursive: true })
    }
  })
})

// On Windows a process can be killed, but not asked to end.
describe('the log writer', { skip: process.platform === 'win32' }, () => {
  test('has every request in its file, each on a line, also what came last', async () => {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'cistern-examples-'))
    try {
      const file = path.join(folder, 'requests.jsonl')
      const { url, child } = await start('log.js', file)
      const urls = Array.from({ length: 2000 }, (_, i) => `/${i}/${'x'.repeat(i % 300)}`)
      const left = [...urls]
      const askAll = async () => {
        for (let target = left.pop(); target; target = left.pop()) {
          await ask(url, { path: target })
        }
      }
      await Promise.all(Array.from({ length: 10 }, askAll))
      agent.destroy()
      await stop(child)
      const lines = fs.readFileSync(file, 'utf8').trimEnd().split('\n')
      const records = lines.map((line) => JSON.parse(line))
      assert.deepEqual(records.map((record) => record.url).sort(), urls.sort())
      assert.ok(
        records.every(({ method, at }) => method === 'GET' && !Number.isNaN(Date.parse(at)))
      )
    } finally {
      fs.rmSync(folder, { recursive: true })
    }
  })
})
