'use strict'

/**
 * Finds call sites: the stack of the code that called this library, as text.
 *
 * It leaves out the library's own frames. If each module is a file of its own, the folder
 * identifies these frames. In a bundle the user's code is in the same file, so V8 leaves out all
 * frames above the call of a public function.
 */

const path = require('node:path')
const { closeOff } = require('../runtime/intrinsics')

const { captureStackTrace } = Error
const { defineProperty, getOwnPropertyDescriptor } = Object
const { deleteProperty } = Reflect

/** The most frames of a call site. */
const FRAMES = 8

/** The most frames of the library above them, if the folder identifies them. */
const OWN_FRAMES = 4

/** The frames of a bundle among which the library's are looked for. */
const BUNDLED_FRAMES = 32

/** A public function, and the next one to look for on the stack. */
class Entry {
  /**
   * @type {Entry | null}
   */
  next = null

  /** @param {Function} call */
  constructor(call) {
    this.call = call
  }
}

closeOff(Entry)

/** @type {Entry | null} */
let firstEntry = null
/** @type {Entry | null} */
let lastEntry = null

/**
 * Registers functions that users call to lease memory: their caller is a call site.
 *
 * @param {...(Function | undefined)} calls
 */
function addEntries(...calls) {
  for (const call of calls) {
    if (call === undefined) continue
    const entry = new Entry(call)
    if (lastEntry === null) firstEntry = entry
    else lastEntry.next = entry
    lastEntry = entry
  }
}

/**
 * Returns the stack of the code that called this library; `undefined` if it can't be had. It
 * formats the stack at once: an unformatted stack keeps every `this` on it alive, perhaps even the
 * Buffer of the lease.
 *
 * @param {Function} below the topmost function to leave out
 */
function callSiteBelow(below) {
  const limit = getOwnPropertyDescriptor(Error, 'stackTraceLimit')
  try {
    return isBundled ? bundledSiteBelow(below) : siteBelow(below)
  } catch {
    // The user's `prepareStackTrace` throws, or can't be replaced.
    return undefined
  } finally {
    restore('stackTraceLimit', limit)
  }
}

/** @param {Function} below */
function siteBelow(below) {
  limitTo(FRAMES + OWN_FRAMES)
  const frames = framesOf(stackBelow(below))
  return textOf(frames.filter((line) => !line.includes(OWN_FOLDER)))
}

/** @param {Function} below */
function bundledSiteBelow(below) {
  const { top, own } = topOf(below)
  limitTo(FRAMES + own)
  return textOf(framesOf(stackBelow(top)).slice(own))
}

/**
 * Finds, in a bundle, the function below which a call site begins, and the number of the library's
 * frames below it: none below a public function. If no public function is on the stack, as in a
 * callback of a stream, the topmost frames that share a file are the library's.
 *
 * @param {Function} below
 */
function topOf(below) {
  const formatter = getOwnPropertyDescriptor(Error, 'prepareStackTrace')
  try {
    // Reads the call sites themselves, so that no formatter of the user's runs.
    defineProperty(Error, 'prepareStackTrace', SITES)
    limitTo(1)
    for (let entry = firstEntry; entry !== null; entry = entry.next) {
      if (sitesBelow(entry.call).length > 0) return { top: entry.call, own: 0 }
    }
    limitTo(BUNDLED_FRAMES)
    const sites = sitesBelow(below)
    let own = 0
    while (own < sites.length && sites[own].getFileName() === sites[0].getFileName()) own++
    return { top: below, own }
  } finally {
    restore('prepareStackTrace', formatter)
  }
}

const SITES = /** @type {PropertyDescriptor} */ ({
  __proto__: null,
  value: (/** @type {unknown} */ _, /** @type {unknown} */ sites) => sites,
  configurable: true,
  writable: true
})

/**
 * Returns the sites below a function; none if the function is not on the stack.
 *
 * @param {Function} call
 * @returns {NodeJS.CallSite[]}
 */
function sitesBelow(call) {
  return /** @type {NodeJS.CallSite[]} */ (stackBelow(call))
}

/**
 * Returns the stack below a function: V8's text, or what the user's `prepareStackTrace` has made of
 * it. It has no frame if the function is not on the stack.
 *
 * @param {Function} below
 */
function stackBelow(below) {
  /** @type {{ stack?: unknown }} */
  const holder = {}
  captureStackTrace(holder, below)
  return holder.stack
}

/**
 * Sets how many frames a stack has, if that can be set.
 *
 * @param {number} frames
 */
function limitTo(frames) {
  try {
    Error.stackTraceLimit = frames
  } catch {
    // `Error` is frozen, or a setter on it throws.
  }
}

/**
 * Returns the frames of a stack, each as a line.
 *
 * @param {unknown} stack
 */
function framesOf(stack) {
  const lines = Array.isArray(stack) ? stack.map(String) : String(stack ?? '').split('\n')
  // The first line of V8's text is the error itself.
  return Array.isArray(stack) || lines.length === 1 ? lines : lines.slice(1)
}

/** @param {string[]} frames */
function textOf(frames) {
  const text = frames.slice(0, FRAMES).join('\n')
  return text === '' ? '    at an unknown place' : text
}

/**
 * @param {'stackTraceLimit' | 'prepareStackTrace'} name
 * @param {PropertyDescriptor | undefined} descriptor
 */
function restore(name, descriptor) {
  try {
    if (descriptor === undefined) deleteProperty(Error, name)
    else defineProperty(Error, name, descriptor)
  } catch {
    // The change failed too, so there is nothing to restore.
  }
}

/** This module's file; empty if it has none. */
const OWN_FILE = typeof __filename === 'string' ? __filename : ''
const OWN_FOLDER = path.dirname(path.dirname(OWN_FILE)) + path.sep

/** True if other code shares this module's file, or if a stack does not show that file. */
const isBundled = !hasOwnFile()

function hasOwnFile() {
  if (path.basename(OWN_FILE) !== 'call-site.js') return false
  const limit = getOwnPropertyDescriptor(Error, 'stackTraceLimit')
  try {
    limitTo(1)
    return framesOf(stackBelow(hasOwnFile)).some((line) => line.includes(OWN_FILE))
  } catch {
    // There is no stack, so the file's name decides.
    return true
  } finally {
    restore('stackTraceLimit', limit)
  }
}

module.exports = { addEntries, callSiteBelow }
