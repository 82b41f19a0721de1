'use strict'

/**
 * `node bench/files.js`: measures an http server that sends a file of 8 MiB to 20 connections, by
 * `pumpFile` and by `createReadStream().pipe()`, each in a process of its own.
 *
 * It runs in rounds, so that both have the same noise. The client is `wrk` if that is installed,
 * else a small one in Node. `--rounds N`, `--seconds N`, `--size BYTES` and `--connections N`
 * change the defaults.
 */

const { fork, spawn, spawnSync } = require('node:child_process')
const { randomBytes } = require('node:crypto')
const { once } = require('node:events')
const fs = require('node:fs')
const http = require('node:http')
const net = require('node:net')
const os = require('node:os')
const path = require('node:path')
const { commandLine } = require('../scripts/command-line')
const { median } = require('./median')

const MIB = 1024 * 1024

/** The read size of a client that only counts bytes. */
const CLIENT_BYTES = 256 * 1024

/**
 * The ways to send a file.
 *
 * @type {Record<string, (file: string) => (res: http.ServerResponse) => void>}
 */
const ARMS = {
  'createReadStream().pipe()': (file) => (res) => fs.createReadStream(file).pipe(res),
  'pumpFile()': (file) => {
    const { shared } = require('..')
    const { pumpFile } = require('../lib/io')
    return (res) => {
      pumpFile(shared, file, res).then(
        () => res.end(),
        () => res.destroy()
      )
    }
  }
}

/**
 * Runs the server's process, which reports its port, and at the end its use of CPU and memory.
 *
 * @param {string} arm
 * @param {string} file
 */
function serve(arm, file) {
  const { size } = fs.statSync(file)
  const send = ARMS[arm](file)
  const server = http.createServer((_req, res) => {
    res.setHeader('content-length', size)
    send(res)
  })
  server.listen(0, '127.0.0.1', () => tell(/** @type {net.AddressInfo} */ (server.address()).port))
  process.on('message', () => {
    const { maxRSS, userCPUTime, systemCPUTime } = process.resourceUsage()
    tell({ rss: maxRSS * 1024, cpu: (userCPUTime + systemCPUTime) / 1e6 })
  })
  process.on('disconnect', () => process.exit())
}

/**
 * Runs the client's process if there is no `wrk`. It reports the bytes that it received.
 *
 * @param {number} port
 * @param {number} connections
 * @param {number} seconds
 * @param {number} size of the file
 */
function request(port, connections, seconds, size) {
  let bytes = 0
  const buffer = Buffer.allocUnsafe(CLIENT_BYTES)
  for (let i = 0; i < connections; i++) {
    let left = 0
    const socket = net.connect({
      port,
      host: '127.0.0.1',
      onread: {
        buffer,
        callback(length) {
          bytes += length
          // The first bytes hold the reply's head, which comes before the file.
          if (left === 0) left = size + buffer.indexOf('\r\n\r\n') + 4
          left -= length
          if (left === 0) socket.write(`GET / HTTP/1.1\r\nhost: 127.0.0.1:${port}\r\n\r\n`)
          return true
        }
      }
    })
    socket.write(`GET / HTTP/1.1\r\nhost: 127.0.0.1:${port}\r\n\r\n`)
  }
  setTimeout(() => {
    tell(bytes)
    process.exit()
  }, seconds * 1000)
}

/** @param {unknown} message */
function tell(message) {
  process.send?.(message)
}

const hasWrk = spawnSync('wrk', ['--version']).error === undefined

/** Makes wrk print the bytes that it read, and the time that took in µs. */
const WRK_SCRIPT =
  'done = function(s) io.write(string.format("\\n%d %d\\n", s.bytes, s.duration)) end'

/**
 * Requests the file from a server for some seconds. Returns the bytes per second.
 *
 * @param {number} port
 * @param {{ connections: number, seconds: number, size: number }} settings
 * @param {string} folder
 */
async function load(port, { connections, seconds, size }, folder) {
  if (hasWrk) {
    const script = path.join(folder, 'bytes.lua')
    fs.writeFileSync(script, WRK_SCRIPT)
    const client = spawn(
      'wrk',
      ['-t1', `-c${connections}`, `-d${seconds}s`, '-s', script, `http://127.0.0.1:${port}/`],
      { stdio: ['ignore', 'pipe', 'inherit'] }
    )
    let output = ''
    client.stdout.on('data', (text) => {
      output += text
    })
    await once(client, 'close')
    if (/Socket errors|Non-2xx/.test(output)) throw new Error(output)
    const [bytes, duration] = (output.trim().split('\n').at(-1) ?? '').split(' ').map(Number)
    return (bytes / duration) * 1e6
  }
  const client = fork(__filename, ['request', ...[port, connections, seconds, size].map(String)])
  const [bytes] = await once(client, 'message')
  return bytes / seconds
}

/**
 * Runs one arm once.
 *
 * @param {string} arm
 * @param {string} file
 * @param {{ connections: number, seconds: number, size: number }} settings
 */
async function measure(arm, file, settings) {
  const server = fork(__filename, ['serve', arm, file])
  const [port] = await once(server, 'message')
  const bytesPerSecond = await load(port, settings, path.dirname(file))
  server.send('end')
  const [{ rss, cpu }] = await once(server, 'message')
  server.disconnect()
  await once(server, 'exit')
  return { bytesPerSecond, rss, cpuPerByte: cpu / bytesPerSecond / settings.seconds }
}

/** @param {number[]} values */
function spread(values) {
  const [low, high] = [Math.min(...values), Math.max(...values)]
  return `${median(values).toFixed(2)} × (${low.toFixed(2)} to ${high.toFixed(2)})`
}

/**
 * @param {string} name of an option
 * @param {string} value
 */
function wholeNumber(name, value) {
  if (/^[1-9]\d*$/.test(value)) return Number(value)
  console.error(`--${name} must be a whole number above 0, and is '${value}'`)
  process.exit(2)
}

async function main() {
  const { values } = commandLine({
    options: {
      rounds: { type: 'string', default: '7' },
      seconds: { type: 'string', default: '3' },
      size: { type: 'string', default: String(8 * MIB) },
      connections: { type: 'string', default: '20' }
    }
  })
  const rounds = wholeNumber('rounds', values.rounds)
  const settings = {
    seconds: wholeNumber('seconds', values.seconds),
    size: wholeNumber('size', values.size),
    connections: wholeNumber('connections', values.connections)
  }
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'cistern-bench-'))
  process.on('exit', () => fs.rmSync(folder, { recursive: true }))
  const file = path.join(folder, 'file')
  fs.writeFileSync(file, randomBytes(settings.size))
  console.log(
    `\nA file of ${settings.size} bytes over http to ${settings.connections} connections: ` +
      `Node ${process.version}, ${rounds} rounds, client: ${hasWrk ? 'wrk' : "Node's"}`
  )

  /** @type {Record<string, Awaited<ReturnType<typeof measure>>[]>} */
  const runs = Object.fromEntries(Object.keys(ARMS).map((arm) => [arm, []]))
  for (let round = 0; round < rounds; round++) {
    for (const arm in ARMS) runs[arm].push(await measure(arm, file, settings))
  }
  for (const [arm, results] of Object.entries(runs)) {
    const speed = median(results.map(({ bytesPerSecond }) => bytesPerSecond)) / 1e6
    const cpu = median(results.map(({ cpuPerByte }) => cpuPerByte)) * 1e12
    const rss = median(results.map((result) => result.rss)) / 1e6
    console.log(
      `${arm.padEnd(27)} ${speed.toFixed(0).padStart(6)} MB/s ` +
        `${cpu.toFixed(0).padStart(5)} ms of CPU per GB ${rss.toFixed(0).padStart(5)} MB peak RSS`
    )
  }
  const [baseline, contestant] = Object.values(runs)
  const ratios = (/** @type {'bytesPerSecond' | 'cpuPerByte' | 'rss'} */ figure) =>
    spread(contestant.map((run, i) => run[figure] / baseline[i][figure]))
  console.log(`bytes/s: ${ratios('bytesPerSecond')}`)
  console.log(`CPU per byte: ${ratios('cpuPerByte')}`)
  console.log(`peak RSS: ${ratios('rss')}`)
}

const [, , role, ...args] = process.argv
if (role === 'serve') {
  const [arm, file] = args
  serve(arm, file)
} else if (role === 'request') {
  const [port, connections, seconds, size] = args.map(Number)
  request(port, connections, seconds, size)
} else {
  main()
}
