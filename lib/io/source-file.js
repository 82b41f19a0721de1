'use strict'

/** A file that is read from start to end, one read at a time. */

const { close, open, read } = require('node:fs')
const { isUint8Array } = require('node:util').types
const { OutOfRange } = require('../pool/errors')
const {
  allocUnsafeSlow,
  lengthOf,
  partOf,
  setBytes,
  shieldedViewOf
} = require('../runtime/intrinsics')
const { setImmediate } = require('../runtime/timers')
const { checkInteger } = require('./checks')
const { referencesOf } = require('./held-open')

// As they were when cistern was loaded: who puts another in their place would see each block.
const { min } = Math
const { prototype: AnyObject } = Object

/** What Node calls a request's callback. */
const CALLBACK = 'oncomplete'

/** The most bytes that can be read at a time. */
const LARGEST_READ = 2 ** 31 - 1

/**
 * @typedef {import('node:fs/promises').FileHandle} FileHandle
 * @typedef {(error: NodeJS.ErrnoException | null, bytesRead: number) => void} OnRead
 * @typedef {(error: any, bytesRead: number, stand?: Uint8Array) => void} Pass with what has the bytes, where that is
 *   not the block
 */

/**
 * Whether a value is what `open` of `node:fs/promises` gives. Its class has no public name.
 *
 * @param {any} value
 * @returns {value is FileHandle}
 */
function isFileHandle(value) {
  return typeof value?.fd === 'number' && isMethod(value.read) && isMethod(value.datasync)
}

/**
 * Whether Node takes a value for a URL. It asks no class either: other realms, and jsdom, have their own.
 *
 * @param {any} value
 * @returns {value is URL}
 */
function isUrl(value) {
  return Boolean(
    value?.href && value.protocol && value.auth === undefined && value.path === undefined
  )
}

/** @param {unknown} value */
const isMethod = (value) => typeof value === 'function'

/**
 * @param {unknown} value
 * @returns {value is import('node:fs').PathLike | FileHandle}
 */
function isPath(value) {
  if (typeof value === 'string' || isUint8Array(value) || isUrl(value)) return true
  return isFileHandle(value)
}

/**
 * @param {unknown} start
 * @param {unknown} end inclusive
 */
function checkRange(start, end) {
  if (start !== undefined) checkInteger('options.start', start, 0)
  if (end === undefined || end === Infinity) return
  checkInteger('options.end', end, 0)
  if (start !== undefined && start > end) {
    throw new OutOfRange('options.start', `<= "options.end" (here: ${end})`, start)
  }
}

class SourceFile {
  #path
  /** @type {FileHandle | undefined} */
  #handle
  /** What keeps the handle open, where it is Node's. */
  #references
  #fd = -1
  /**
   * Where the next read begins; `null` where it begins where the last has ended, because a FIFO has
   * no positions.
   *
   * @type {number | null}
   */
  #position
  /** Whether a file without positions will do. */
  #isFlexible
  /**
   * What other code reads into, in the place of a block.
   *
   * @type {Buffer | undefined}
   */
  #stand
  /** How many bytes there are to be read, at most. */
  left

  /**
   * @param {import('node:fs').PathLike | FileHandle} source
   * @param {number} [start]
   * @param {number} [end] inclusive
   */
  constructor(source, start, end = Infinity) {
    this.left = end - (start ?? 0) + 1
    this.#isFlexible = start === undefined
    this.#position = start ?? null
    if (isFileHandle(source)) {
      this.#handle = source
      this.#references = referencesOf(source)
      // So that the handle's own position stays where it is.
      this.#position ??= 0
    } else {
      this.#path = source
    }
  }

  /** @param {(error: Error | null) => void} callback */
  open(callback) {
    if (this.#path === undefined) {
      callback(null)
      return
    }
    let isDone = false
    try {
      open(this.#path, 'r', (error, fd) => {
        // Other code may have seen this, as what follows a read.
        if (isDone) return
        isDone = true
        if (!error) this.#fd = fd
        callback(error)
      })
    } catch (error) {
      // No path at all: with a zero in it, or of a URL that names no file.
      setImmediate(callback, /** @type {Error} */ (error))
    }
  }

  /**
   * Reads into a block as much as it holds, or less; 0 bytes are the end. Until the callback runs, once and later,
   * the block is the file's.
   *
   * @param {Uint8Array} block
   * @param {OnRead} callback
   */
  read(block, callback) {
    const length = min(lengthOf(block), this.left)
    let isDone = false
    /** @type {Pass} */
    const pass = (error, bytesRead, stand) => {
      // Other code may have seen the callback: later calls would write to the block's next owner.
      if (isDone) return
      isDone = true
      const failure = error ?? (stand && flawOf(stand, block, bytesRead, length))
      if (failure) {
        callback(failure, 0)
        return
      }
      this.left -= bytesRead
      if (this.#position !== null) this.#position += bytesRead
      callback(null, bytesRead)
    }
    if (this.#handle !== undefined) this.#readHandle(this.#handle, block, length, pass)
    else this.#readFile(this.#fd, block, length, pass)
  }

  /**
   * @param {number} fd
   * @param {Uint8Array} block
   * @param {number} length
   * @param {Pass} pass
   */
  #readFile(fd, block, length, pass) {
    try {
      if (CALLBACK in AnyObject) {
        // Other code sees Node's callback there, and could call it while the read goes on.
        const stand = this.#standFor(length)
        read(fd, stand, 0, length, this.#position, (error, bytesRead) => {
          pass(error, bytesRead, stand)
        })
      } else {
        const view = shieldedViewOf(block)
        read(fd, view, 0, length, this.#position, (error, bytesRead) => pass(error, bytesRead))
      }
    } catch (error) {
      setImmediate(pass, error, 0)
    }
  }

  /**
   * @param {FileHandle} handle
   * @param {Uint8Array} block
   * @param {number} length
   * @param {Pass} pass
   */
  #readHandle(handle, block, length, pass) {
    /** @type {Pass} */
    const passOrAgain = (error, bytesRead, stand) => {
      const hasNoPositions = error?.code === 'ESPIPE' && this.#isFlexible
      if (hasNoPositions && this.#position !== null) {
        this.#position = null
        this.#readHandle(handle, block, length, pass)
      } else {
        pass(error, bytesRead, stand)
      }
    }
    const references = this.#references
    if (references === undefined) this.#readByMethod(handle, length, passOrAgain)
    else this.#readReferenced(handle, references, block, length, passOrAgain)
  }

  /**
   * By the handle's number, with the handle kept open: the number of a file that is closed may be another's the next
   * moment.
   *
   * @param {FileHandle} handle
   * @param {import('./held-open').References} references
   * @param {Uint8Array} block
   * @param {number} length
   * @param {Pass} pass
   */
  #readReferenced(handle, references, block, length, pass) {
    let fd = -1
    let isDone = false
    try {
      fd = handle.fd
      if (fd >= 0) references.ref()
    } catch (error) {
      setImmediate(pass, error, 0)
      return
    }
    // A closed one tells that by its method.
    if (!(fd >= 0)) {
      this.#readByMethod(handle, length, pass)
      return
    }
    this.#readFile(fd, block, length, (error, bytesRead, stand) => {
      if (isDone) return
      isDone = true
      try {
        references.unref()
      } catch {
        // Other code has changed it; what was read is read.
      }
      pass(error, bytesRead, stand)
    })
  }

  /**
   * By a method that is anyone's: it gets no block. It may say that it has read, and go on, or release what it was
   * given.
   *
   * @param {FileHandle} handle
   * @param {number} length
   * @param {Pass} pass
   */
  async #readByMethod(handle, length, pass) {
    try {
      const stand = this.#standFor(length)
      const { bytesRead } = await handle.read(stand, 0, length, this.#position)
      pass(null, bytesRead, stand)
    } catch (error) {
      pass(error || new Error('The file could not be read'), 0)
    }
  }

  /** @param {number} length */
  #standFor(length) {
    // Other code may have taken its memory away.
    if (this.#stand === undefined || lengthOf(this.#stand) < length) {
      this.#stand = allocUnsafeSlow(length)
    }
    return this.#stand
  }

  /**
   * Closes what `open` has opened. No read may be under way.
   *
   * @param {() => void} callback
   */
  close(callback) {
    this.#stand = undefined
    if (this.#fd === -1) {
      callback()
      return
    }
    const fd = this.#fd
    this.#fd = -1
    // Nothing that was read is wrong, whatever this says.
    close(fd, () => callback())
  }
}

/**
 * Copies to a block what other code has read. Why that can't be; `undefined` where it was done.
 *
 * @param {Uint8Array} stand
 * @param {Uint8Array} block
 * @param {unknown} bytesRead
 * @param {number} length
 */
function flawOf(stand, block, bytesRead, length) {
  try {
    checkInteger('bytesRead', bytesRead, 0, length)
    setBytes(block, partOf(stand, 0, bytesRead), 0)
    return undefined
  } catch (error) {
    return error
  }
}

module.exports = { LARGEST_READ, SourceFile, checkRange, isPath }
