'use strict'

/**
 * Code that watches whatever passes by the prototypes, once cistern is loaded: each function, each
 * object, each promise and what it resolves with. To be used in a process of its own.
 */

const { EventEmitter } = require('node:events')
const fs = require('node:fs')
const timers = require('node:timers')
const { Readable } = require('node:stream')

const { apply, ownKeys } = Reflect
const { defineProperty, getOwnPropertyDescriptor, getPrototypeOf } = Object
const { then } = Promise.prototype
const SetOfAll = class extends Set {}
const { add: addTo, has: isIn, forEach: forEachIn } = Set.prototype

const TypedArray = getPrototypeOf(Uint8Array)

/** Functions that take functions, or pass objects on. Of classes, their prototypes. */
const WATCHED = [
  Set,
  Map,
  WeakMap,
  WeakSet,
  WeakRef,
  FinalizationRegistry,
  Array,
  Promise,
  Function,
  TypedArray,
  Uint8Array,
  DataView,
  ArrayBuffer,
  Buffer,
  EventTarget,
  AbortController,
  AbortSignal,
  EventEmitter,
  Readable,
  Error
].map(({ prototype }) => prototype)

const ITERATORS = [[], new Set(), new Map()].map((list) => getPrototypeOf(list[Symbol.iterator]()))

/** Functions and statics that other code can replace. */
const MODULES = [
  [fs, ['read', 'open', 'close']],
  [timers, ['setImmediate', 'setTimeout', 'clearTimeout']],
  [globalThis, ['setImmediate', 'setTimeout', 'clearTimeout', 'queueMicrotask']],
  [process, ['nextTick']],
  [Buffer, ['from', 'alloc', 'allocUnsafe', 'allocUnsafeSlow']],
  [Promise, ['resolve', 'all', 'race']],
  [Object, ['assign', 'defineProperty', 'freeze', 'setPrototypeOf']],
  [Reflect, ['apply', 'construct']],
  [Math, ['min', 'max']]
]

/** Not watched: without these nothing works, or everything belongs to their user. */
const LEFT_ALONE = new Set(['constructor', 'toString', Symbol.toStringTag, Symbol.hasInstance])

/**
 * Calls `onSeen` with each object and each function that passes a prototype.
 *
 * @param {object[]} more prototypes
 * @param {string[]} names of properties that every object is to have a setter for
 * @param {(value: object) => void} onSeen is called with each object and each function, once
 */
function watch(more, names, onSeen) {
  const seen = new SetOfAll()
  const undo = []
  let isBusy = false
  const see = (value) => {
    if (isBusy || value === null || (typeof value !== 'object' && typeof value !== 'function'))
      return
    isBusy = true
    try {
      if (apply(isIn, seen, [value])) return
      apply(addTo, seen, [value])
      onSeen(value)
      if (value instanceof Promise) apply(then, value, [see, see])
    } catch {
      // A foreign object that can't be inspected.
    } finally {
      isBusy = false
    }
  }
  const watching = (method) =>
    function watcher(...args) {
      see(this)
      for (let i = 0; i < args.length; i++) see(args[i])
      const result = new.target ? Reflect.construct(method, args) : apply(method, this, args)
      see(result)
      return result
    }
  const put = (target, name, descriptor) => {
    const before = getOwnPropertyDescriptor(target, name)
    if (before !== undefined && !before.configurable) return
    defineProperty(target, name, { ...descriptor, configurable: true })
    undo[undo.length] = () =>
      before === undefined ? delete target[name] : defineProperty(target, name, before)
  }
  const plan = []
  const planProperty = (target, name) => {
    const { value, get, set, ...rest } = getOwnPropertyDescriptor(target, name) ?? {}
    if (typeof value === 'function')
      plan[plan.length] = [target, name, { ...rest, writable: true, value: watching(value) }]
    else if (get) plan[plan.length] = [target, name, { ...rest, set, get: watching(get) }]
  }
  for (const prototype of [...WATCHED, ...ITERATORS, ...more]) {
    for (const name of ownKeys(prototype)) if (!LEFT_ALONE.has(name)) planProperty(prototype, name)
  }
  for (const [module, names] of MODULES) for (const name of names) planProperty(module, name)
  // An `await` reads this property, and calls `then` if its value has changed.
  const constructorOf = function get() {
    see(this)
    return Object
  }
  plan.push([Promise.prototype, 'constructor', { get: constructorOf, set() {} }])
  for (const name of [...names, 'then', '0', '1', '2']) {
    plan.push([Object.prototype, name, setterOf(name, see)])
  }
  for (const name of ['0', '1', '2']) plan.push([Array.prototype, name, setterOf(name, see)])
  for (let i = 0; i < plan.length; i++) put(...plan[i])
  return {
    seen,
    /** Calls `use` with each object that was seen. */
    forEach: (use) => apply(forEachIn, seen, [use]),
    stop() {
      isBusy = true
      for (let i = undo.length - 1; i >= 0; i--) undo[i]()
    }
  }
}

/**
 * Returns a property of a prototype that sees each assigned value, and each object that it is read
 * from.
 */
function setterOf(name, see) {
  return {
    get() {
      see(this)
    },
    set(value) {
      see(this)
      see(value)
      defineProperty(this, name, { value, writable: true, enumerable: true, configurable: true })
    }
  }
}

module.exports = { watch }
