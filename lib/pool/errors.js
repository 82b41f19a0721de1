'use strict'

/** The errors that cistern throws, in Node's style: each has a stable `code`. */

const { inspect, types } = require('node:util')
const { describeOtherCopy } = require('./copy')
const { platform } = require('../runtime/platform')

const { isAnyArrayBuffer, isDataView, isProxy } = types

/**
 * Makes a class of errors with one code.
 *
 * @template {unknown[]} Details
 * @param {string} code
 * @param {typeof Error} Base
 * @param {(...details: Details) => string} describe makes the message
 */
function coded(code, Base, describe) {
  return class extends Base {
    /**
     * A stable code. It is a field, as in all classes here, because an assignment fails if errors
     * are frozen.
     */
    code = code

    /** @param {Details} details */
    constructor(...details) {
      super(describe(...details))
    }

    /** Prints as Node's own errors do. */
    toString() {
      return `${this.name} [${code}]: ${this.message}`
    }
  }
}

const INSPECTION = { depth: 0, breakLength: Infinity, customInspect: false }

/**
 * Shows a value in an error message: short, on one line, without running its code.
 *
 * @param {unknown} value
 */
function show(value) {
  try {
    if (ArrayBuffer.isView(value) || isAnyArrayBuffer(value)) return showBytes(value)
    if (isProxy(value)) return 'a Proxy'
    const otherCopy = describeOtherCopy(value)
    if (otherCopy !== undefined) return `one ${otherCopy}`
    const text = typeof value === 'function' ? `function ${value.name}` : inspect(value, INSPECTION)
    return (text.length > 60 ? `${text.slice(0, 57)}...` : text).replace(/\s*\n\s*/g, ' ')
  } catch {
    return 'a value that can not be shown'
  }
}

/** @param {ArrayBufferView | ArrayBufferLike} value */
function showBytes(value) {
  // `byteLength` of a detached DataView throws.
  if (isDataView(value)) return 'a DataView'
  return `${value.constructor.name} of ${value.byteLength} bytes`
}

const InvalidArgType = coded(
  'ERR_INVALID_ARG_TYPE',
  TypeError,
  (/** @type {string} */ name, /** @type {string} */ expected, /** @type {unknown} */ value) =>
    `The "${name}" ${kindOf(name)} must be ${expected}. Received ${show(value)}`
)

const InvalidArgValue = coded(
  'ERR_INVALID_ARG_VALUE',
  TypeError,
  (/** @type {string} */ name, /** @type {string} */ reason, /** @type {unknown} */ value) =>
    `The ${kindOf(name)} '${name}' ${reason}. Received ${show(value)}`
)

const OutOfRange = coded(
  'ERR_OUT_OF_RANGE',
  RangeError,
  (/** @type {string} */ name, /** @type {string} */ range, /** @type {unknown} */ value) =>
    `The value of "${name}" is out of range. It must be ${range}. Received ${show(value)}`
)

const IllegalConstructor = coded('ERR_ILLEGAL_CONSTRUCTOR', TypeError, () => 'Illegal constructor')

const NotPooled = coded(
  'ERR_CISTERN_NOT_POOLED',
  TypeError,
  (/** @type {string} */ pool, /** @type {unknown} */ value, name = 'view') =>
    `The "${name}" argument must be a view of a block that pool '${pool}' handed out, ` +
    `or its ArrayBuffer. Received ${show(value)}`
)

const AlreadyReleased = coded(
  'ERR_CISTERN_ALREADY_RELEASED',
  Error,
  (/** @type {string} */ pool, /** @type {unknown} */ value, name = 'view') =>
    `The "${name}" argument must be leased, and its block is back in pool '${pool}' already. ` +
    `Received ${show(value)}`
)

const Detached = coded(
  'ERR_CISTERN_DETACHED',
  Error,
  (/** @type {string} */ pool, /** @type {unknown} */ value, name = 'view') =>
    `The "${name}" argument must still have its block, and its ArrayBuffer was transferred: the ` +
    `block comes back to pool '${pool}' when the new holder is collected. Received ${show(value)}`
)

const Undetachable = coded(
  'ERR_CISTERN_UNDETACHABLE',
  Error,
  (/** @type {string} */ pool, /** @type {unknown} */ value) =>
    'The "view" argument must be detachable, and its ArrayBuffer was marked as untransferable: ' +
    `it stays leased from pool '${pool}' until it is collected. Received ${show(value)}`
)

const Closed = coded(
  'ERR_CISTERN_CLOSED',
  Error,
  (/** @type {string} */ pool) => `Pool '${pool}' is closed: it gives no new leases`
)

/** The reason for which a pool is exhausted and a wait makes no sense. */
const NEVER = 'it can never hold such a block'

const Exhausted = coded(
  'ERR_CISTERN_EXHAUSTED',
  RangeError,
  (
    /** @type {string} */ pool,
    /** @type {number} */ size,
    /** @type {number} */ maxBytes,
    /** @type {string} */ why
  ) =>
    `Pool '${pool}' has no memory for "size": its maxBytes is ${maxBytes}, and ${why}. ` +
    `Received ${size}`
)

const OutOfMemory = coded(
  'ERR_MEMORY_ALLOCATION_FAILED',
  Error,
  (/** @type {number} */ bytes) => `V8 refused a block of ${bytes} bytes`
)

const InvalidHandle = coded(
  'ERR_CISTERN_INVALID_HANDLE',
  TypeError,
  (/** @type {string} */ reason, /** @type {unknown} */ value) =>
    'The "handle" argument must be the handle of a pool of this process that is in use: ' +
    `${reason}. Received ${show(value)}`
)

const Abort = class AbortError extends Error {
  name = 'AbortError'
  /** Node's code. */
  code = 'ABORT_ERR'

  /** @param {unknown} cause the signal's reason */
  constructor(cause) {
    super('The operation was aborted', { cause })
  }
}

const PrematureClose = coded('ERR_STREAM_PREMATURE_CLOSE', Error, () => 'Premature close')

const WriteAfterEnd = coded('ERR_STREAM_WRITE_AFTER_END', Error, () => 'write after end')

const BodyTooLarge = class extends coded(
  'ERR_CISTERN_BODY_TOO_LARGE',
  Error,
  (
    /** @type {number} */ limit,
    /** @type {number} */ length,
    source = 'Received at least',
    name = 'req'
  ) => `The body of "${name}" must have at most options.limit = ${limit} bytes. ${source} ${length}`
) {
  /** HTTP's status for this error, "Content Too Large". */
  statusCode = 413
}

const BodyUsed = coded(
  'ERR_CISTERN_BODY_USED',
  Error,
  (/** @type {unknown} */ req) =>
    'The body of "req" must be unread, and some of it went to another reader already. ' +
    `Received ${show(req)}`
)

const LengthMismatch = coded(
  'ERR_HTTP_CONTENT_LENGTH_MISMATCH',
  Error,
  (
    /** @type {number} */ announced,
    /** @type {string} */ source,
    /** @type {number | string} */ received
  ) => `The body of "req" must have the ${announced} bytes of ${source}. Received ${received}`
)

const AddonMissing = class extends coded(
  'ERR_CISTERN_ADDON_MISSING',
  Error,
  (/** @type {{ reason: string, advice: string, cause?: Error }} */ { reason, advice, cause }) =>
    `cistern's addon for ${platform} could not be loaded: ${reason}. ${advice}.` +
    (cause === undefined ? '' : ` (${cause.message.split('\n')[0]})`)
) {
  /**
   * @param {{ reason: string, advice: string, cause?: Error }} failure
   * @param {readonly Error[]} errors one from each place that was tried
   */
  constructor(failure, errors) {
    super(failure)
    // Not enumerable, as in Node's own errors.
    const own = { __proto__: null, configurable: true, writable: true }
    Object.defineProperty(this, 'cause', { ...own, value: failure.cause })
    Object.defineProperty(this, 'errors', { ...own, value: errors })
  }
}

const NoExternalInWorker = coded(
  'ERR_CISTERN_NO_EXTERNAL',
  Error,
  () =>
    'cistern can be used in the main thread only here: this runtime allows no ArrayBuffer over ' +
    'memory of an addon, and tells too late that a worker has ended'
)

/**
 * Returns Node's word for an argument, or for a property of one.
 *
 * @param {string} name
 */
function kindOf(name) {
  return name.includes('.') ? 'property' : 'argument'
}

module.exports = {
  Abort,
  AddonMissing,
  AlreadyReleased,
  BodyTooLarge,
  BodyUsed,
  Closed,
  Detached,
  Exhausted,
  IllegalConstructor,
  InvalidArgType,
  InvalidArgValue,
  InvalidHandle,
  LengthMismatch,
  NEVER,
  NoExternalInWorker,
  NotPooled,
  OutOfMemory,
  OutOfRange,
  PrematureClose,
  Undetachable,
  WriteAfterEnd
}
