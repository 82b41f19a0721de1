'use strict'

/**
 * Call sites: the stack of the code that called this library, as text.
 *
 * The library's own frames are left out. Where each module has its file, their folder tells them. In a bundle the user's
 * code has the same file; there all frames above a call of a public function are left out, which V8 does.
 */

const path = require('node:path')
const { closeOff } = require('../runtime/intrinsics')

const { captureStackTrace } = Error
const { defineProperty, getOwnPropertyDescriptor } = Object
const { deleteProperty } = Reflect

/** Frames of a call site that are kept. */
const FRAMES = 8

/** Frames of ours on top of them, at most, where the folder tells them. */
const OWN_FRAMES = 4

/** Frames that are looked at for those of ours, in a bundle. */
const BUNDLED_FRAMES = 32

/** A public function, and the next one that is looked for on the stack. */
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
 * Names functions that users call to lease memory: their caller is a call site.
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
 * The stack of the code that called this library, as text, at once: unformatted, it would keep every `this` on it
 * alive, and so perhaps the very Buffer whose end it is to explain. `undefined` where there is none to be had.
 *
 * @param {Function} below the topmost function that is of no interest
 */
function callSiteBelow(below) {
  const limit = getOwnPropertyDescriptor(Error, 'stackTraceLimit')
  try {
    return isBundled ? bundledSiteBelow(below) : siteBelow(below)
  } catch {
    // Someone's `prepareStackTrace` throws, or can't be replaced: no stack, no record.
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
 * In a bundle, the function below which a call site begins, and how many frames of ours are below it: none where it is a
 * public one. Where none is on the stack, as in a callback of a stream, ours are those on top that have one file.
 *
 * @param {Function} below
 */
function topOf(below) {
  const formatter = getOwnPropertyDescriptor(Error, 'prepareStackTrace')
  try {
    // The sites themselves: nobody's formatter is asked only to find out.
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
 * @param {Function} call
 * @returns {NodeJS.CallSite[]}
 */
function sitesBelow(call) {
  return /** @type {NodeJS.CallSite[]} */ (stackBelow(call))
}

/**
 * The stack below a function: V8's text, or whatever someone's `prepareStackTrace` has made of it. Without any frame
 * where the function is not on it.
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
 * Sets how many frames a stack has. Where that can't be set, a call site has as many as there are.
 *
 * @param {number} frames
 */
function limitTo(frames) {
  try {
    Error.stackTraceLimit = frames
  } catch {
    // Errors are frozen here, or theirs throws.
  }
}

/**
 * A stack's frames, a line each.
 *
 * @param {unknown} stack
 */
function framesOf(stack) {
  const lines = Array.isArray(stack) ? stack.map(String) : String(stack ?? '').split('\n')
  // V8's has the error itself in front.
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
    // As it could not be changed.
  }
}

/** This module's file, as far as it has one. */
const OWN_FILE = typeof __filename === 'string' ? __filename : ''
const OWN_FOLDER = path.dirname(path.dirname(OWN_FILE)) + path.sep

/** Whether other code than the library's has the file of this module, or a stack does not show that file. */
const isBundled = !hasOwnFile()

function hasOwnFile() {
  if (path.basename(OWN_FILE) !== 'call-site.js') return false
  const limit = getOwnPropertyDescriptor(Error, 'stackTraceLimit')
  try {
    limitTo(1)
    return framesOf(stackBelow(hasOwnFile)).some((line) => line.includes(OWN_FILE))
  } catch {
    // Its name has to do.
    return true
  } finally {
    restore('stackTraceLimit', limit)
  }
}

module.exports = { addEntries, callSiteBelow }
