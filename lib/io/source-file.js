'use strict'

/** A file that is read from start to end, one read at a time. */

const { close, open, read } = require('node:fs')
const {
  allocUnsafeSlow,
  lengthOf,
  partOf,
  setBytes,
  shieldedViewOf
} = require('../runtime/intrinsics')
const { setImmediate } = require('../runtime/timers')
const { checkInteger } = require('./checks')
const { isFileHandle, referencesOf } = require('./file-handle')

// As they were when cistern was loaded. Code that replaces them would see each block.
const { min } = Math
const { prototype: AnyObject } = Object

/** The property in which Node keeps a request's callback. */
const CALLBACK = 'oncomplete'

/** The most bytes that one read can have. */
const LARGEST_READ = 2 ** 31 - 1

/**
 * @typedef {import('node:fs/promises').FileHandle} FileHandle
 * @typedef {(error: NodeJS.ErrnoException | null, bytesRead: number) => void} OnRead
 * @typedef {(error: any, bytesRead: number, substitute?: Uint8Array) => void} Pass called with the
 *   memory that has the bytes, where that is not the block
 */

class SourceFile {
  #path
  /** @type {FileHandle | undefined} */
  #handle
  /** The references that keep the handle open, where it is Node's. */
  #references
  #fd = -1
  /**
   * The position of the next read; `null` where it follows the last, because a FIFO has no
   * positions.
   *
   * @type {number | null}
   */
  #position
  /** Whether the file may be one without positions. */
  #isFlexible
  /**
   * V8's memory that other code reads into in place of a block.
   *
   * @type {Buffer | undefined}
   */
  #substitute
  /** The most bytes that are still to be read. */
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
      // The handle's own position stays where it is.
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
        // Other code may have seen this callback, like that of a read.
        if (isDone) return
        isDone = true
        if (!error) this.#fd = fd
        callback(error)
      })
    } catch (error) {
      // It is no path: it has a zero in it, or is a URL that names no file.
      setImmediate(callback, /** @type {Error} */ (error))
    }
  }

  /**
   * Reads at most as many bytes as a block has; 0 bytes are the end of the file. Calls back once,
   * and later. Until then the block MUST NOT be released.
   *
   * @param {Uint8Array} block
   * @param {OnRead} callback
   */
  read(block, callback) {
    const length = min(lengthOf(block), this.left)
    let isDone = false
    /** @type {Pass} */
    const pass = (error, bytesRead, substitute) => {
      // Other code may have seen the callback. A second call would write to the block's next owner.
      if (isDone) return
      isDone = true
      const failure = error ?? (substitute && flawOf(substitute, block, bytesRead, length))
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
        // Other code sees Node's callback there, and could call it during the read.
        const substitute = this.#substituteFor(length)
        read(fd, substitute, 0, length, this.#position, (error, bytesRead) => {
          pass(error, bytesRead, substitute)
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
    const passOrAgain = (error, bytesRead, substitute) => {
      const hasNoPositions = error?.code === 'ESPIPE' && this.#isFlexible
      if (hasNoPositions && this.#position !== null) {
        this.#position = null
        this.#readHandle(handle, block, length, pass)
      } else {
        pass(error, bytesRead, substitute)
      }
    }
    const references = this.#references
    if (references === undefined) this.#readByMethod(handle, length, passOrAgain)
    else this.#readReferenced(handle, references, block, length, passOrAgain)
  }

  /**
   * Reads by the handle's number, and keeps the handle open meanwhile. Another file may get the
   * number of a closed one at once.
   *
   * @param {FileHandle} handle
   * @param {import('./file-handle').References} references
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
    // The method of a closed handle reports that.
    if (!(fd >= 0)) {
      this.#readByMethod(handle, length, pass)
      return
    }
    this.#readFile(fd, block, length, (error, bytesRead, substitute) => {
      if (isDone) return
      isDone = true
      try {
        references.unref()
      } catch {
        // Other code has changed the handle. The bytes have been read all the same.
      }
      pass(error, bytesRead, substitute)
    })
  }

  /**
   * Reads by a method that may be other code's, which gets no block. It may call back and go on, or
   * release what it was given.
   *
   * @param {FileHandle} handle
   * @param {number} length
   * @param {Pass} pass
   */
  async #readByMethod(handle, length, pass) {
    try {
      const substitute = this.#substituteFor(length)
      const { bytesRead } = await handle.read(substitute, 0, length, this.#position)
      pass(null, bytesRead, substitute)
    } catch (error) {
      pass(error || new Error('The file could not be read'), 0)
    }
  }

  /** @param {number} length */
  #substituteFor(length) {
    // Other code may have taken its memory away.
    if (this.#substitute === undefined || lengthOf(this.#substitute) < length) {
      this.#substitute = allocUnsafeSlow(length)
    }
    return this.#substitute
  }

  /**
   * Closes the file that `open` has opened. No read may be under way.
   *
   * @param {() => void} callback
   */
  close(callback) {
    this.#substitute = undefined
    if (this.#fd === -1) {
      callback()
      return
    }
    const fd = this.#fd
    this.#fd = -1
    // An error here makes no byte wrong that was read.
    close(fd, () => callback())
  }
}

/**
 * Copies to a block what other code has read. Returns an error where it can not, else `undefined`.
 *
 * @param {Uint8Array} substitute
 * @param {Uint8Array} block
 * @param {unknown} bytesRead
 * @param {number} length
 */
function flawOf(substitute, block, bytesRead, length) {
  try {
    checkInteger('bytesRead', bytesRead, 0, length)
    setBytes(block, partOf(substitute, 0, bytesRead), 0)
    return undefined
  } catch (error) {
    return error
  }
}

module.exports = { LARGEST_READ, SourceFile }
