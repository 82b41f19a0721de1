'use strict'

/**
 * The runtime's functions as they were when cistern was loaded, and what they can do. A block's
 * safety MUST NOT depend on a function that is looked up later: other code can replace it on a
 * prototype, or override it on a Buffer.
 */

const { Buffer } = require('node:buffer')
const { versions } = require('node:process')
const { isProxy, isUint8Array } = require('node:util').types
const { runInNewContext } = require('node:vm')
const native = require('./native')
const { argumentsAskForZeroFill } = require('./zero-fill')

const { apply, construct } = Reflect
const { defineProperty, freeze, getPrototypeOf, hasOwn, setPrototypeOf } = Object
const { bind, call } = Function.prototype

/**
 * Turns a method into a function that takes `this` first.
 *
 * @param {Function} method
 * @returns {(self: unknown, ...args: any[]) => any}
 */
const uncurry = (method) => apply(bind, call, [method])

/**
 * Turns a getter of a prototype into a function.
 *
 * @param {object} prototype
 * @param {string} name
 */
function getterOf(prototype, name) {
  const { get } = /** @type {PropertyDescriptor} */ (
    Object.getOwnPropertyDescriptor(prototype, name)
  )
  return uncurry(/** @type {() => unknown} */ (get))
}

/** @param {any} prototype */
function transferOf({ transfer }) {
  return typeof transfer === 'function' ? uncurry(transfer) : undefined
}

const Bytes = Uint8Array
const Floats = Float64Array
const WeakReference = WeakRef

/** @type {<Target extends object>(reference: WeakRef<Target>) => Target | undefined} */
const deref = uncurry(WeakRef.prototype.deref)
const OwnPromise = Promise

const arrayFrom = Array.from

/**
 * Makes an array that no other code has seen: it uses neither setters on a prototype nor patched
 * methods.
 *
 * @template T
 * @param {number} length
 * @param {(index: number) => T} make
 * @returns {T[]}
 */
function listOf(length, make) {
  const shape = { __proto__: null, length }
  const each = (/** @type {unknown} */ _, /** @type {number} */ index) => make(index)
  return /** @type {T[]} */ (apply(arrayFrom, Array, [shape, each]))
}

/** The methods of a Map as functions. */
const table = {
  /** @type {(map: Map<any, any>) => number} */
  size: getterOf(Map.prototype, 'size'),
  keys: uncurry(Map.prototype.keys),
  get: uncurry(Map.prototype.get),
  set: uncurry(Map.prototype.set),
  delete: uncurry(Map.prototype.delete),
  forEach: uncurry(Map.prototype.forEach)
}
/** @type {<T>(iterator: Iterator<T>) => IteratorResult<T>} */
const nextKey = uncurry(new Map().keys().next)
/** The methods of a WeakMap as functions. */
const weakTable = {
  get: uncurry(WeakMap.prototype.get),
  set: uncurry(WeakMap.prototype.set),
  delete: uncurry(WeakMap.prototype.delete)
}
const addTo = uncurry(Set.prototype.add)
const deleteFrom = uncurry(Set.prototype.delete)
const forEachIn = uncurry(Set.prototype.forEach)
const TypedArrayPrototype = Object.getPrototypeOf(Uint8Array.prototype)

/**
 * The class of every Buffer, so that a view made with it has the same V8 map as any other.
 * `Buffer.from(arrayBuffer, 0, length)` makes the same, in twice the time.
 *
 * @type {new (arrayBuffer: ArrayBuffer, byteOffset: number, length: number) => Buffer<ArrayBuffer>}
 */
const FastBuffer = /** @type {any} */ (Buffer)[Symbol.species]

/**
 * Makes a Buffer over the first bytes of an ArrayBuffer, for this library's own use. The class of
 * Buffers calls its parent, which other code can replace, and so see the ArrayBuffer. This does not
 * call it, and takes 20 ns more.
 *
 * @param {ArrayBuffer} arrayBuffer
 * @param {number} size
 * @returns {Buffer<ArrayBuffer>}
 */
function bufferOver(arrayBuffer, size) {
  return construct(Bytes, [arrayBuffer, 0, size], FastBuffer)
}

/**
 * Resolves a promise with an object. A promise looks for a `then` on that. Other code can put one
 * on a prototype, and would have the object before its owner.
 *
 * @template {object} T
 * @param {(value: T) => void} resolve
 * @param {T} value
 */
function resolveWith(resolve, value) {
  if (mayHaveThen(value)) defineProperty(value, 'then', OWN_THEN)
  resolve(value)
}

/**
 * Tells whether an object or its prototypes have a `then`, or are a Proxy that may have one. Runs
 * none of its code.
 *
 * @param {object} value
 */
function mayHaveThen(value) {
  for (let object = value; object !== null; object = getPrototypeOf(object)) {
    if (isProxy(object) || hasOwn(object, 'then')) return true
  }
  return false
}

const OWN_THEN = /** @type {PropertyDescriptor} */ (
  Object.freeze({ __proto__: null, value: undefined, configurable: true, writable: true })
)

/** True if blocks are the addon's own memory; otherwise V8 owns their memory. */
const isExternal = native.isExternal()

/** @type {(arrayBuffer: ArrayBuffer) => number} 0 for a detached one */
const byteLengthOf = getterOf(ArrayBuffer.prototype, 'byteLength')

/**
 * Moves memory on Node 20, in place of `transfer()`.
 *
 * @param {ArrayBuffer} arrayBuffer
 * @param {number} [length] 0, or left out
 */
function transferByAddon(arrayBuffer, length) {
  const moved = native.moveMemory(arrayBuffer)
  if (moved === null) throw new TypeError('The ArrayBuffer can not be moved')
  if (length === 0) native.discard(moved)
  return moved
}

/** The first version of V8 with `transfer()`, which Node 21 has. */
const FIRST_V8 = [11, 4]

function hasTransfer() {
  const [major, minor] = `${versions.v8}`.split('.').map(Number)
  return !(major < FIRST_V8[0] || (major === FIRST_V8[0] && minor < FIRST_V8[1]))
}

/**
 * Finds `ArrayBuffer.prototype.transfer`, if V8 has it. Otherwise, and perhaps even then, the
 * method is a polyfill or a wrapper. If that copies, every view of a released block stays alive.
 */
function findTransfer() {
  if (!hasTransfer()) return undefined
  const found = transferOf(ArrayBuffer.prototype)
  if (found !== undefined && native.movesMemory(found)) return found
  return transferOfNewRealm()
}

/**
 * Takes `transfer()` of a new realm, which nobody has replaced. Its result has that realm's
 * prototype at first.
 */
function transferOfNewRealm() {
  const move = transferOf(runInNewContext('ArrayBuffer.prototype'))
  if (move === undefined) return undefined
  const { prototype } = ArrayBuffer
  /** @type {typeof move} */
  const transfer = (...args) => setPrototypeOf(move(...args), prototype)
  return transfer
}

/** V8's own `transfer()` as a function, if there is one. */
const transferByV8 = findTransfer()

/**
 * Moves the memory, and its finalizer, to a new ArrayBuffer, and leaves every view of the old one
 * without length. On a runtime that can't, a release detaches the block, which then goes to the
 * depot.
 *
 * @type {((arrayBuffer: ArrayBuffer, length?: number) => ArrayBuffer) | undefined}
 */
const transfer = transferByV8 ?? (native.canMoveMemory() ? transferByAddon : undefined)

const { isView } = ArrayBuffer
const bufferOfTypedArray = getterOf(TypedArrayPrototype, 'buffer')
const bufferOfDataView = getterOf(DataView.prototype, 'buffer')

/**
 * Returns the ArrayBuffer of a view, and any other value as it is.
 *
 * @param {unknown} view
 */
function arrayBufferOf(view) {
  if (!isView(view)) return view
  try {
    return bufferOfTypedArray(view)
  } catch {
    return bufferOfDataView(view)
  }
}

/**
 * Takes the objects of a class off `Object.prototype`. A setter that other code has put there would
 * see them when a constructor first gives them a property.
 *
 * @param {Function} Class of this library's own use
 */
function closeOff(Class) {
  setPrototypeOf(Class.prototype, null)
}

/**
 * Makes a view of the same bytes without a prototype, for Node's own functions: they would read its
 * length where other code can watch.
 *
 * @param {Uint8Array} view
 * @returns {Uint8Array}
 */
function shieldedViewOf(view) {
  const length = lengthOf(view)
  const shielded = partOf(view, 0, length)
  // @ts-expect-error: without a prototype, so that the descriptor inherits nothing
  defineProperty(shielded, 'byteLength', { __proto__: null, value: length })
  return setPrototypeOf(shielded, null)
}

const fill = uncurry(TypedArrayPrototype.fill)

/** @type {(target: Uint8Array, source: Uint8Array, offset: number) => void} */
const setBytes = uncurry(TypedArrayPrototype.set)

/** @type {(view: Uint8Array | Float64Array) => number} 0 for one without memory */
const lengthOf = getterOf(TypedArrayPrototype, 'length')

const byteLengthOfTypedArray = getterOf(TypedArrayPrototype, 'byteLength')
const byteOffsetOfTypedArray = getterOf(TypedArrayPrototype, 'byteOffset')
const byteLengthOfDataView = getterOf(DataView.prototype, 'byteLength')
const byteOffsetOfDataView = getterOf(DataView.prototype, 'byteOffset')

/**
 * Makes a view of the bytes that a view or an ArrayBuffer has now. Its length stays the same when
 * the memory grows, and is 0 when the memory shrinks below it or is gone.
 *
 * @param {ArrayBufferView | ArrayBufferLike} source
 * @returns {Uint8Array}
 */
function fixedViewOf(source) {
  if (!isView(source)) return new Bytes(source, 0, lengthOf(new Bytes(source)))
  const memory = /** @type {ArrayBuffer} */ (arrayBufferOf(source))
  let length
  try {
    length = byteLengthOfTypedArray(source)
  } catch {
    length = byteLengthOfDataView(source)
    return new Bytes(memory, byteOffsetOfDataView(source), length)
  }
  // The source has no memory, or lies beyond its end: no view can be made there.
  if (length === 0) return new Bytes(0)
  return new Bytes(memory, byteOffsetOfTypedArray(source), length)
}

/**
 * Makes a view of a part of a view. Its own `subarray` would use the view's class, which other code
 * can replace.
 *
 * @param {Uint8Array} view
 * @param {number} start
 * @param {number} length
 */
function partOf(view, start, length) {
  const memory = /** @type {ArrayBuffer} */ (arrayBufferOf(view))
  return new Bytes(memory, byteOffsetOfTypedArray(view) + start, length)
}

/**
 * Overwrites an attached ArrayBuffer with zeros.
 *
 * @param {ArrayBuffer} arrayBuffer
 */
function zero(arrayBuffer) {
  fill(new Bytes(arrayBuffer), 0)
}

/**
 * Overwrites all of a Buffer's memory with zeros, also beyond its length: a copy of the Buffer, by
 * `structuredClone` or in a message, takes the whole ArrayBuffer along.
 *
 * @template {Uint8Array} View
 * @param {View} view from the beginning of its memory
 * @returns {View}
 */
function zeroWhole(view) {
  const arrayBuffer = /** @type {ArrayBuffer} */ (arrayBufferOf(view))
  if (byteLengthOf(arrayBuffer) === lengthOf(view)) return fill(view, 0)
  zero(arrayBuffer)
  return view
}

/**
 * Overwrites the memory beyond a Buffer's length with zeros.
 *
 * @param {Uint8Array} view from the beginning of its memory
 */
function zeroBeyond(view) {
  const arrayBuffer = /** @type {ArrayBuffer} */ (arrayBufferOf(view))
  const length = lengthOf(view)
  if (byteLengthOf(arrayBuffer) > length) fill(new Bytes(arrayBuffer, length), 0)
}

/** True if Node zero-fills all memory that it hands out. */
const zeroFill = native.asksForZeroFill() || argumentsAskForZeroFill()

const { allocUnsafeSlow } = Buffer

module.exports = {
  Bytes,
  FastBuffer,
  Floats,
  OwnPromise,
  WeakReference,
  addTo,
  allocUnsafeSlow,
  arrayBufferOf,
  bufferOver,
  byteLengthOf,
  closeOff,
  deleteFrom,
  deref,
  fixedViewOf,
  forEachIn,
  isExternal,
  isUint8Array,
  freeze,
  lengthOf,
  listOf,
  nextKey,
  partOf,
  resolveWith,
  setBytes,
  shieldedViewOf,
  table,
  transfer,
  transferByV8,
  uncurry,
  weakTable,
  zero,
  zeroBeyond,
  zeroFill,
  zeroWhole
}
