/** Compiled by `npm run lint`, never run: what the types of `cistern/io` must accept and refuse. */

import { createReadStream, createWriteStream } from 'node:fs'
import { open } from 'node:fs/promises'
import { createServer, type ServerResponse } from 'node:http'
import { createServer as createHttp2Server } from 'node:http2'
import { connect } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { type Lease, type PooledBuffer, shared } from '../../index'
import { chunks, end, onread, pumpFile, readBody } from '../../lib/io'

createServer(async (req, res) => {
  const body: Lease = await readBody(shared, req, {
    limit: Infinity,
    length: 5,
    signal: AbortSignal.timeout(5)
  })
  const same: ServerResponse = end(shared, res, body.buffer.subarray(1))
  const total: number = await pumpFile(shared, 'file', res, { start: 1, end: 2, chunkSize: 3 })
  for await (const chunk of chunks(shared, req, { chunkSize: 100, limit: 1000 })) chunk.fill(0)
  console.log(same, total)
})

createHttp2Server(async (req, res) => {
  end(shared, res.stream, (await readBody(shared, req)).buffer)
  end(shared, res, new Uint8Array(1))
})

async function files() {
  const handle = await open('file')
  await pumpFile(shared, handle, createWriteStream('other'))
  await pumpFile(shared, new URL('file:///file'), createWriteStream('other'))
  async function* generated() {
    yield 'text'
    yield new Uint16Array(1)
  }
  const streams = [createReadStream('file'), new ReadableStream<Uint8Array>(), generated()]
  for (const source of [handle, 'file', Buffer.from('file'), ...streams]) {
    const iterator = chunks(shared, source)
    const next: IteratorResult<PooledBuffer, void> = await iterator.next()
    console.log(next)
    await iterator.return()
  }
}

const option = onread(shared, { size: 1000 }, function (length, buffer) {
  this.pause()
  return buffer.length > length
})
connect({ port: 1, onread: option })
// Node takes it here, too; its types do not say so.
const tlsOptions = { port: 1, onread: option }
connectTls(tlsOptions)
onread(shared, {}, () => {})

// @ts-expect-error a pool comes first
readBody(new Blob([]))
// @ts-expect-error its limit is a number
readBody(shared, createReadStream('file'), { limit: '1 MiB' })
// @ts-expect-error bytes, not text
end(shared, createWriteStream('file'), 'text')
// @ts-expect-error a number is no path
pumpFile(shared, 1, createWriteStream('file'))
// @ts-expect-error its options are named
onread(shared, 1000, () => {})

export { files }
