'use strict'

/**
 * A pooled Buffer is a Buffer: every call gives the same as with a plain one. The tests go over all
 * methods that this Node has, and over those of its modules that take bytes.
 */

const assert = require('node:assert/strict')
const crypto = require('node:crypto')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const stream = require('node:stream')
const { buffer: bytesFrom } = require('node:stream/consumers')
const { StringDecoder } = require('node:string_decoder')
const { after, describe, test } = require('node:test')
const util = require('node:util')
const v8 = require('node:v8')
const { MessageChannel, receiveMessageOnPort } = require('node:worker_threads')
const zlib = require('node:zlib')
const fc = require('fast-check')
const { BufferPool } = require('../..')
const { MODES, balanced } = require('../support/helpers')

const { isAnyArrayBuffer } = util.types

const ENCODINGS = ['utf8', 'utf16le', 'latin1', 'ascii', 'base64', 'base64url', 'hex']

/** Stands for the Buffer itself among arguments. */
const ITSELF = Symbol('itself')

/** The content of both: their bytes, and their offset in the block. */
const contents = fc.record({
  bytes: fc.oneof(
    { weight: 4, arbitrary: fc.uint8Array({ maxLength: 80 }) },
    { weight: 2, arbitrary: fc.string({ unit: 'grapheme', maxLength: 30 }).map(bytesOf) },
    { weight: 1, arbitrary: fc.nat(5000).map((length) => new Uint8Array(length).fill(length)) }
  ),
  offset: fc.constantFrom(0, 2, 8, 38)
})

/** @param {string} text */
function bytesOf(text) {
  return new Uint8Array(Buffer.from(text))
}

/**
 * Returns a Buffer of a pool, and a plain one with an ArrayBuffer of the same size.
 *
 * @param {BufferPool} pool
 * @param {{ bytes: Uint8Array, offset: number }} contents
 */
function pairOf(pool, { bytes, offset }) {
  const whole = pool.allocUnsafe(bytes.length + offset)
  new Uint8Array(whole.buffer).fill(0)
  const pooled = offset > 0 ? whole.subarray(offset) : whole
  const plain = Buffer.from(new ArrayBuffer(whole.buffer.byteLength), offset, bytes.length)
  pooled.set(bytes)
  plain.set(bytes)
  return { pooled, plain }
}

/**
 * Returns all that can be seen of a result.
 *
 * @param {unknown} result
 * @param {Buffer} buffer that it was got from
 */
function seen(result, buffer) {
  if (result === buffer) return 'the Buffer itself'
  if (isAnyArrayBuffer(result)) {
    const { byteLength, resizable, maxByteLength, detached } = /** @type {any} */ (result)
    const bytes = Buffer.from(new Uint8Array(result))
    return { class: 'ArrayBuffer', byteLength, resizable, maxByteLength, detached, bytes }
  }
  if (ArrayBuffer.isView(result)) {
    const { byteLength, byteOffset } = result
    const bytes = Buffer.from(new Uint8Array(result.buffer, byteOffset, byteLength))
    const isOwn = result.buffer === buffer.buffer
    // The place of a copy that Node makes is arbitrary within Buffer.poolSize.
    return { class: result.constructor.name, isOwn, byteOffset: isOwn ? byteOffset : 0, bytes }
  }
  const isIterator = typeof (/** @type {any} */ (result)?.next) === 'function'
  return isIterator ? [.../** @type {any} */ (result)] : result
}

/** @param {any} error */
function seenOf({ name, code, message }) {
  return { name, code, message }
}

/**
 * Returns the result of a call, and its effect on the Buffer.
 *
 * @param {Buffer} buffer
 * @param {(buffer: Buffer) => unknown} call
 */
function outcomeOf(buffer, call) {
  let outcome
  try {
    outcome = { result: seen(call(buffer), buffer) }
  } catch (error) {
    outcome = { error: seenOf(error) }
  }
  return { ...outcome, bytes: Buffer.from(buffer) }
}

/**
 * Returns the same for a call that may return a promise.
 *
 * @param {Buffer} buffer
 * @param {(buffer: Buffer) => unknown} call
 */
async function outcomeLater(buffer, call) {
  let outcome
  try {
    outcome = { result: seen(await call(buffer), buffer) }
  } catch (error) {
    outcome = { error: seenOf(error) }
  }
  return { ...outcome, bytes: Buffer.from(buffer) }
}

/** Runs in both ways of release, and asserts that nothing stays leased. */
function inBothModes(name, run) {
  for (const { mode, options } of MODES.slice(0, 2)) {
    test(`${name}, ${mode}`, async () => {
      const pool = new BufferPool(options)
      await run(pool)
      assert.equal((await balanced(pool)).inUseCount, 0)
    })
  }
}

/** Changes the object itself, which a pool that does not detach hands out again. */
const CHANGES_THE_OBJECT = new Set(['__defineGetter__', '__defineSetter__', '__proto__'])

/** @type {Map<string | symbol, PropertyDescriptor>} all that a Buffer has, by whatever prototype */
const MEMBERS = new Map()
for (let object = Buffer.prototype; object !== null; object = Object.getPrototypeOf(object)) {
  for (const key of Reflect.ownKeys(object)) {
    if (MEMBERS.has(key) || CHANGES_THE_OBJECT.has(String(key))) continue
    MEMBERS.set(
      key,
      /** @type {PropertyDescriptor} */ (Object.getOwnPropertyDescriptor(object, key))
    )
  }
}

const index = fc.oneof(
  { weight: 6, arbitrary: fc.integer({ min: -3, max: 90 }) },
  { weight: 1, arbitrary: fc.constantFrom(undefined, null, NaN, Infinity, 1.5, '2', 2 ** 40) }
)
const byte = fc.oneof(fc.integer({ min: -1, max: 256 }), fc.double())
const big = fc.oneof(fc.bigInt({ min: -1n, max: 1n << 64n }), fc.integer())
const encoding = fc.constantFrom(...ENCODINGS, undefined, 'no-such')
const text = fc.oneof(
  fc.string({ maxLength: 20 }),
  fc.string({ unit: 'grapheme', maxLength: 20 }),
  fc.string({ unit: fc.constantFrom(...'0123456789abcdefAF=-_'), maxLength: 20 })
)
const bytes = fc.uint8Array({ maxLength: 20 }).map((array) => Buffer.from(array))
const data = fc.oneof(text, bytes, byte, fc.constant(ITSELF))
/** Arguments without the Buffer itself. */
const filling = fc.oneof(text, bytes, byte)
const callback = fc.constantFrom(
  ...[(value) => value > 100, (value, i) => value + i, (_, i, all) => all.length - i, String]
)
const comparison = fc.constantFrom(
  undefined,
  (a, b) => b - a,
  () => 0
)
const folding = fc.constantFrom(
  (sum, value) => sum + value,
  (sum, value, i) => `${sum}${value}${i}`
)
const anything = fc.oneof(
  ...[index, byte, big, encoding, text, bytes, callback, fc.constant(ITSELF)],
  fc.constantFrom(true, {}, [], [1, 2])
)

/**
 * With arbitrary arguments Node itself aborts in these, never returns, or writes where it should
 * not. Examples are an unknown encoding, UTF-16 at an odd address, and a Buffer filled with itself,
 * which `memcpy` does not allow.
 */
const FRAGILE = /^(fill|indexOf|lastIndexOf|includes|ucs2Slice|toString|toLocaleString)$/
const sound = fc.constantFrom(...ENCODINGS.filter((name) => name !== 'utf16le'), undefined)

/**
 * Arguments by a method's name: the first that fits.
 *
 * @type {[name: RegExp, ...args: fc.Arbitrary<any>[]][]}
 */
const ARGUMENTS = [
  [/^writeBig/, big, index],
  [/^writeU?[iI]nt(LE|BE)$/, byte, index, fc.integer({ min: 0, max: 7 })],
  [/^write[A-Z]/, byte, index],
  [/^readU?[iI]nt(LE|BE)$/, index, fc.integer({ min: 0, max: 7 })],
  [/^read/, index],
  [/^write$/, text, index, index, encoding],
  [/Write(Static)?$/, text, index, index],
  [/^ucs2Slice$/, fc.nat(40).map((half) => 2 * half), index],
  [/Slice$|^(slice|subarray|copyWithin)$/, index, index, index],
  [/^(every|some|filter|map|forEach|find.*)$/, callback],
  [/^reduce/, folding, index],
  [/^(sort|toSorted)$/, comparison],
  [/^fill$/, filling, index, index, encoding],
  [/^(indexOf|lastIndexOf|includes)$/, data, index, sound],
  [/^compare$/, fc.oneof(bytes, fc.constant(ITSELF)), index, index, index, index],
  [/^equals$/, fc.oneof(bytes, fc.constant(ITSELF))],
  [/^copy$/, fc.oneof(bytes, fc.constant(ITSELF)), index, index, index],
  [/^set$/, fc.oneof(bytes, fc.array(byte)), index],
  [/^with$/, index, byte],
  [/^to(String|LocaleString)$/, sound, index, index],
  [/^setFrom/, text],
  [/^(has|property)/, fc.oneof(index, fc.constantFrom('length', 'fill', 'x'))]
]

/**
 * Arguments for a method; some too few, and some of any kind.
 *
 * @param {string | symbol} key
 * @param {PropertyDescriptor} member
 * @returns {fc.Arbitrary<any[]>}
 */
function argumentsFor(key, { value }) {
  const arity = typeof value === 'function' ? value.length : 0
  const any = fc.array(anything, { maxLength: arity + 1 })
  const [, ...known] = ARGUMENTS.find(([name]) => name.test(String(key))) ?? []
  if (known.length === 0) return any
  const fitting = fc
    .tuple(fc.tuple(...known), fc.nat(known.length - 1))
    .map(([args, missing]) => args.slice(0, known.length - missing))
  if (FRAGILE.test(String(key))) return fitting
  return fc.oneof({ weight: 4, arbitrary: fitting }, { weight: 1, arbitrary: any })
}

/** Arguments for one of the two: with itself in them, and what can be written to of its own. */
function ownArguments(args, buffer) {
  return args.map((arg) => {
    if (arg === ITSELF) return buffer
    return Buffer.isBuffer(arg) ? Buffer.from(arg) : arg
  })
}

/**
 * Returns the effect of one of its members on a Buffer and on the arguments.
 *
 * @param {Buffer} buffer
 * @param {string | symbol} key
 * @param {PropertyDescriptor} member
 * @param {unknown[]} given
 */
function outcomeOfMember(buffer, key, { get, value }, given) {
  const args = ownArguments(given, buffer)
  const outcome = outcomeOf(buffer, () => {
    if (get !== undefined) return get.call(buffer)
    // A class, or a constant.
    if (typeof value !== 'function' || key === 'constructor') return value
    return value.apply(buffer, args)
  })
  return { ...outcome, args: args.map((arg) => seen(arg, buffer)) }
}

describe('A pooled Buffer is a Buffer in all that one has of its prototypes', () => {
  inBothModes('alone', (pool) => {
    assert.ok(MEMBERS.size > 130, `${MEMBERS.size} members`)
    for (const [key, member] of MEMBERS) {
      fc.assert(
        fc.property(contents, argumentsFor(key, member), (contents, args) => {
          const { pooled, plain } = pairOf(pool, contents)
          try {
            const [outcome, expected] = [pooled, plain].map((buffer) =>
              outcomeOfMember(buffer, key, member, args)
            )
            assert.deepStrictEqual(outcome, expected, String(key))
          } finally {
            pool.release(pooled)
          }
        }),
        { numRuns: 20 }
      )
    }
  })

  inBothModes('one after another', (pool) => {
    const step = fc
      .constantFrom(...MEMBERS)
      .chain(([key, member]) => fc.tuple(fc.constant(key), argumentsFor(key, member)))
    fc.assert(
      fc.property(contents, fc.array(step, { maxLength: 30 }), (contents, steps) => {
        const { pooled, plain } = pairOf(pool, contents)
        try {
          for (const [key, args] of steps) {
            const member = /** @type {PropertyDescriptor} */ (MEMBERS.get(key))
            const [outcome, expected] = [pooled, plain].map((buffer) =>
              outcomeOfMember(buffer, key, member, args)
            )
            assert.deepStrictEqual(outcome, expected, String(key))
          }
        } finally {
          pool.release(pooled)
        }
      }),
      { numRuns: 100 }
    )
  })
})

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'cistern-'))
after(() => fs.rmSync(folder, { recursive: true }))

let files = 0

/** Hands a file of its own to each use. */
function inFile(use) {
  const file = path.join(folder, String(files++))
  const fd = fs.openSync(file, 'w+')
  try {
    return use(fd, file)
  } finally {
    fs.closeSync(fd)
  }
}

/** Does the same for a function that calls back. */
async function inFileLater(use) {
  const file = path.join(folder, String(files++))
  const handle = await fs.promises.open(file, 'w+')
  try {
    return await use(handle.fd, file, handle)
  } finally {
    await handle.close()
  }
}

const { privateKey, publicKey } = crypto.generateKeyPairSync('ed25519')
const KEY = Buffer.alloc(32, 'key')
const NONCE = Buffer.alloc(16, 'nonce')
const [read, write, readv, writev] = [fs.read, fs.write, fs.readv, fs.writev].map(util.promisify)

/** @type {Record<string, (buffer: Buffer) => unknown>} what takes bytes, by name */
const OPERATIONS = {
  'Buffer.from': (buffer) => Buffer.from(buffer),
  'Buffer.from its ArrayBuffer': (buffer) => Buffer.from(buffer.buffer, buffer.byteOffset, 0),
  'Buffer.concat': (buffer) => Buffer.concat([buffer, KEY, buffer]),
  'Buffer.compare': (buffer) => [Buffer.compare(buffer, KEY), Buffer.compare(KEY, buffer)],
  'Buffer.byteLength': (buffer) => Buffer.byteLength(buffer),
  'Buffer.copyBytesFrom': (buffer) => Buffer.copyBytesFrom(buffer, 1, 5),
  'Buffer.isBuffer': (buffer) => [Buffer.isBuffer(buffer), ArrayBuffer.isView(buffer)],
  'buffer.isUtf8, isAscii': (buffer) => {
    const { isAscii, isUtf8 } = require('node:buffer')
    return [isUtf8(buffer), isAscii(buffer)]
  },
  'buffer.transcode': (buffer) => require('node:buffer').transcode(buffer, 'latin1', 'utf8'),
  'an iteration': (buffer) => [...buffer, ...Object.keys(buffer)],
  'an element out of range': (buffer) => {
    buffer[buffer.length] = 1
    buffer[-1] = 1
    return [buffer[buffer.length], buffer[-1], 0 in buffer, Reflect.ownKeys(buffer).length]
  },
  'a DataView': ({ buffer, byteOffset, length }) =>
    new DataView(buffer, byteOffset, length).getFloat32(1),
  'another view': ({ buffer, byteOffset }) => new Uint16Array(buffer, byteOffset, 1).fill(0x1234),
  Atomics: (buffer) => [Atomics.add(buffer, 0, 250), Atomics.load(buffer, 0)],
  'WebAssembly.validate': (buffer) => WebAssembly.validate(buffer),
  'util.inspect': (buffer) => [
    util.inspect(buffer),
    util.format('%s %j %o', buffer, buffer, buffer)
  ],
  'util.isDeepStrictEqual': (buffer) => [
    util.isDeepStrictEqual(buffer, Buffer.from(buffer)),
    util.isDeepStrictEqual(Buffer.from(buffer), buffer),
    util.isDeepStrictEqual(buffer, new Uint8Array(buffer))
  ],
  'assert.deepEqual': (buffer) => assert.deepEqual(buffer, Buffer.from(buffer)),
  'assert.deepEqual of other bytes': (buffer) =>
    assert.deepEqual(buffer, Buffer.concat([buffer, KEY])),
  'JSON.stringify': (buffer) => JSON.stringify({ buffer }),
  'String, Number': (buffer) => [`${buffer}`, Number(buffer)],
  structuredClone: (buffer) => structuredClone(buffer),
  'structuredClone of its ArrayBuffer': ({ buffer }) => structuredClone(buffer),
  'v8.serialize': (buffer) => v8.deserialize(v8.serialize({ buffer })).buffer,
  postMessage: (buffer) => {
    const { port1, port2 } = new MessageChannel()
    port1.postMessage(buffer)
    const { message } = receiveMessageOnPort(port2)
    port1.close()
    return message
  },
  'crypto.timingSafeEqual': (buffer) => crypto.timingSafeEqual(buffer, Buffer.from(buffer)),
  'crypto.timingSafeEqual of other bytes': (buffer) => crypto.timingSafeEqual(buffer, KEY),
  'crypto.createHmac': (buffer) => crypto.createHmac('sha256', KEY).update(buffer).digest(),
  'crypto.createHmac with it as key': (buffer) =>
    crypto.createHmac('sha1', buffer).update(KEY).digest('base64'),
  'crypto.createCipheriv': (buffer) => cipher(KEY, NONCE, buffer),
  'crypto.createCipheriv with parts of it': (buffer) =>
    cipher(buffer.subarray(0, 32), buffer.subarray(-16), NONCE),
  'crypto.createDecipheriv': (buffer) => {
    const decipher = crypto.createDecipheriv('aes-256-ctr', KEY, NONCE)
    return Buffer.concat([decipher.update(buffer), decipher.final()])
  },
  'crypto.sign, verify': (buffer) => {
    const signature = crypto.sign(null, buffer, privateKey)
    const isValid = crypto.verify(null, buffer, publicKey, signature)
    return [signature, isValid, crypto.verify(null, KEY, publicKey, buffer)]
  },
  'crypto.createSecretKey': (buffer) => crypto.createSecretKey(buffer).export(),
  'crypto.hkdfSync': (buffer) => crypto.hkdfSync('sha256', buffer, NONCE, KEY, 20),
  'crypto.pbkdf2Sync': (buffer) => crypto.pbkdf2Sync(buffer, buffer, 2, 20, 'sha256'),
  'crypto.scryptSync': (buffer) => crypto.scryptSync(buffer, NONCE, 20, { N: 2 }),
  'crypto.randomFillSync': (buffer) => {
    assert.equal(crypto.randomFillSync(buffer), buffer)
    return buffer.fill(1).length
  },
  'crypto.subtle.digest': (buffer) => crypto.webcrypto.subtle.digest('SHA-256', buffer),
  'fs.writeFileSync, readFileSync': (buffer) =>
    inFile((_, file) => {
      fs.writeFileSync(file, buffer)
      fs.appendFileSync(file, buffer)
      return fs.readFileSync(file)
    }),
  'fs.writeSync': (buffer) =>
    inFile((fd, file) => [
      fs.writeSync(fd, buffer),
      fs.writeSync(fd, buffer, 1, 2, 3),
      fs.readFileSync(file)
    ]),
  'fs.writeSync beyond it': (buffer) => inFile((fd) => fs.writeSync(fd, buffer, 0, 6000)),
  'fs.readSync': (buffer) =>
    inFile((fd, file) => {
      fs.writeFileSync(file, KEY)
      return [fs.readSync(fd, buffer, 1, 3, 2), fs.readSync(fd, buffer, { offset: 4 })]
    }),
  'fs.readSync beyond it': (buffer) => inFile((fd) => fs.readSync(fd, buffer, 6000, 1, 0)),
  'fs.writevSync, readvSync': (buffer) =>
    inFile((fd) => [
      fs.writevSync(fd, [KEY, buffer, NONCE]),
      fs.readvSync(fd, [buffer, buffer.subarray(2)], 3)
    ]),
  'fs.write, read': (buffer) =>
    inFileLater(async (fd) => [
      (await write(fd, buffer, 0, buffer.length, 0)).bytesWritten,
      (await write(fd, KEY, 0, 32, 1)).bytesWritten,
      (await read(fd, buffer, 0, buffer.length, 2)).bytesRead
    ]),
  'fs.writev, readv': (buffer) =>
    inFileLater(async (fd) => [
      (await writev(fd, [KEY, buffer])).bytesWritten,
      (await readv(fd, [buffer], 1)).bytesRead
    ]),
  'fs.promises': (buffer) =>
    inFileLater(async (_, file, handle) => {
      const { bytesWritten } = await handle.write(buffer)
      await fs.promises.appendFile(file, KEY)
      const { bytesRead } = await handle.read(buffer, 0, buffer.length, 1)
      return [bytesWritten, bytesRead, await fs.promises.readFile(file)]
    }),
  'fs.createWriteStream': (buffer) =>
    inFileLater(async (_, file) => {
      await stream.promises.pipeline([buffer, KEY], fs.createWriteStream(file))
      return fs.readFileSync(file)
    }),
  'a path': (buffer) => fs.readFileSync(buffer),
  'a Readable': (buffer) => bytesFrom(stream.Readable.from([buffer, KEY])),
  'a Readable in pieces': async (buffer) => {
    const readable = new stream.Readable({ read() {} })
    readable.push(buffer)
    readable.unshift(buffer.subarray(1))
    readable.push(null)
    const [first, rest] = [readable.read(3), readable.read()]
    return [first, rest].map((piece) => piece && Buffer.from(piece))
  },
  'a Readable with an encoding': async (buffer) => {
    const readable = stream.Readable.from([buffer, KEY], { objectMode: false, encoding: 'utf8' })
    return (await readable.toArray()).join('')
  },
  'a Transform': async (buffer) => {
    const through = new stream.PassThrough({ highWaterMark: 10 })
    through.end(buffer)
    return Buffer.from(await bytesFrom(through))
  },
  'a Writable': async (buffer) => {
    const pieces = []
    const writable = new stream.Writable({
      writev(chunks, callback) {
        for (const { chunk } of chunks) pieces.push(Buffer.from(chunk))
        callback()
      }
    })
    writable.cork()
    writable.write(buffer)
    writable.end(buffer.subarray(1))
    await stream.promises.finished(writable)
    return pieces
  },
  'a stream through gzip and back': async (buffer) => {
    const readable = stream.Readable.from([buffer, KEY])
    return bytesFrom(readable.pipe(zlib.createGzip()).pipe(zlib.createGunzip()))
  },
  'a web stream': async (buffer) => {
    const { readable, writable } = new CompressionStream('deflate-raw')
    const writer = writable.getWriter()
    const done = writer.write(buffer).then(() => writer.close())
    const bytes = await bytesFrom(readable)
    await done
    return bytes
  },
  'a byte stream': async (buffer) => {
    const readable = new ReadableStream({
      type: 'bytes',
      pull(controller) {
        controller.enqueue(new Uint8Array(buffer))
        controller.close()
      }
    })
    return bytesFrom(readable)
  },
  Blob: async (buffer) => {
    const blob = new Blob([buffer, 'and', buffer])
    return [blob.size, await blob.text(), Buffer.from(await blob.slice(1, 9).arrayBuffer())]
  },
  Response: async (buffer) => Buffer.from(await new Response(buffer).arrayBuffer()),
  TextEncoder: (buffer) => new TextEncoder().encodeInto('naïve €', buffer)
}

function cipher(key, nonce, data) {
  const cipher = crypto.createCipheriv('aes-256-gcm', key, nonce)
  cipher.setAAD(data)
  return [cipher.update(data), cipher.final(), cipher.getAuthTag()]
}

for (const name of ENCODINGS) {
  OPERATIONS[`StringDecoder, ${name}`] = (buffer) => {
    const decoder = new StringDecoder(/** @type {BufferEncoding} */ (name))
    return [decoder.write(buffer), decoder.write(buffer.subarray(1)), decoder.end()]
  }
}

for (const label of ['utf-8', 'utf-16le', 'utf-16be', 'latin1', 'shift_jis']) {
  for (const fatal of [false, true]) {
    OPERATIONS[`TextDecoder, ${label}${fatal ? ', fatal' : ''}`] = (buffer) => {
      const decoder = new TextDecoder(label, { fatal })
      return [decoder.decode(buffer, { stream: true }), decoder.decode(buffer)]
    }
  }
}

for (const algorithm of ['md5', 'sha1', 'sha256', 'sha512', 'sha3-256', 'blake2b512', 'shake128']) {
  OPERATIONS[`crypto.createHash, ${algorithm}`] = (buffer) =>
    crypto.createHash(algorithm).update(buffer).update(buffer.subarray(1)).digest('hex')
}

// Since Node 21.7.
if (typeof crypto.hash === 'function') {
  OPERATIONS['crypto.hash'] = (buffer) => crypto.hash('sha256', buffer)
}

/** From bytes to bytes, at once: each has a sibling that calls back. */
const CODEC = /^(?!create).*Sync$/

/** Pairs of functions: the second undoes the first. */
const BACK = [
  [/^deflateSync/, 'inflateSync'],
  [/^deflateRaw/, 'inflateRawSync'],
  [/^gzip/, 'gunzipSync'],
  [/^brotliComp/, 'brotliDecompressSync'],
  [/^zstdComp/, 'zstdDecompressSync']
]

/** Less than their defaults cost, which are for files. */
const ZLIB_OPTIONS = {
  chunkSize: 1024,
  params: { [zlib.constants.BROTLI_PARAM_QUALITY]: 1 }
}

/** @type {Record<string, any>} */
const compressing = zlib
for (const name of Object.keys(compressing).filter((name) => CODEC.test(name))) {
  const options = name.startsWith('brotli') ? ZLIB_OPTIONS : { chunkSize: 1024 }
  const callsBack = util.promisify(compressing[name.slice(0, -'Sync'.length)])
  const back = BACK.find(([compresses]) => compresses.test(name))?.[1]
  OPERATIONS[`zlib.${name}`] = (buffer) => compressing[name](buffer, options)
  OPERATIONS[`zlib.${name}, calling back`] = (buffer) => callsBack(buffer, options)
  if (back !== undefined) {
    OPERATIONS[`zlib.${name} and back`] = (buffer) => {
      const squeezed = compressing[name](Buffer.from('text'.repeat(20)), options)
      squeezed.copy(buffer)
      return compressing[back](buffer.subarray(0, squeezed.length))
    }
  }
}
if (typeof compressing.crc32 === 'function') {
  OPERATIONS['zlib.crc32'] = (buffer) => compressing.crc32(buffer)
}

describe('A pooled Buffer is a Buffer to', () => {
  for (const [name, operation] of Object.entries(OPERATIONS)) {
    inBothModes(name, (pool) =>
      fc.assert(
        fc.asyncProperty(contents, async (contents) => {
          const { pooled, plain } = pairOf(pool, contents)
          try {
            const outcome = await outcomeLater(pooled, operation)
            assert.deepStrictEqual(outcome, await outcomeLater(plain, operation))
          } finally {
            pool.release(pooled)
          }
        }),
        { numRuns: 10 }
      )
    )
  }
})
