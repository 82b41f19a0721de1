'use strict'

/** The calls that a pool is tried with, for fast-check to make sequences of. */

const assert = require('node:assert/strict')
const fc = require('fast-check')
const { Call } = require('./call')
const { marksHold, posts } = require('../helpers')
const { ACQUIRES, LEASES } = require('./holder')
const { MAX_BLOCK_SIZE } = require('./model')
const { REFUSALS } = require('./refusals')

const always = () => true

/**
 * Few block sizes, so that blocks are leased again, and either side of their edges; any other; and
 * what V8 serves.
 */
const size = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom(1, 64, 65, 1000, 1024, 1025, 5000, MAX_BLOCK_SIZE) },
  { weight: 2, arbitrary: fc.integer({ min: 1, max: MAX_BLOCK_SIZE }) },
  { weight: 1, arbitrary: fc.constantFrom(0, MAX_BLOCK_SIZE + 1, 50_000) }
)
const place = fc.constantFrom('here', 'here', 'there')
const which = fc.nat(9)
const view = fc.constantFrom(
  'buffer',
  'subarray',
  'Uint8Array',
  'DataView',
  'Float64Array',
  'ArrayBuffer',
  'lease'
)

/**
 * Makes a call on something that is held, the newest at 0.
 *
 * @param {string} name
 * @param {(held: import('./model').Held) => boolean} suits
 * @param {fc.Arbitrary<any>} argument
 * @param {(model: import('./model').Model, held: import('./model').Held, argument: any) => Promise<void>} act
 */
function onHeld(name, suits, argument, act) {
  return fc.tuple(which, argument).map(([which, argument]) => {
    const text = `${name}(held.at(${-1 - which}), ${argument})`
    const can = (model) => model.held.some(suits)
    return new Call(text, can, (model) => {
      const suiting = model.held.filter(suits)
      return act(model, suiting.at(-1 - (which % suiting.length)), argument)
    })
  })
}

const isBuffer = ({ isByteBuffer, length }) => !isByteBuffer && length > 0
const isByteBuffer = (held) => held.isByteBuffer
const reachesThere = (model) => !model.isClosed || model.thread !== undefined

const lease = fc
  .tuple(place, fc.constantFrom(...Object.keys(LEASES)), size)
  .map(
    ([place, how, size]) =>
      new Call(`${place}.${how.replace('%', String(size))}`, always, (model) =>
        model.lease(model.placeOf(place), how, size)
      )
  )

const badFill = fc
  .tuple(
    place,
    size.filter((size) => size > 0)
  )
  .map(
    ([place, size]) =>
      new Call(`${place}.alloc(${size}, 'z', 'hex')`, always, (model) =>
        model.fillBadly(model.placeOf(place), size)
      )
  )

const acquire = fc
  .tuple(place, fc.constantFrom(...Object.keys(ACQUIRES)), size, fc.boolean())
  .map(
    ([place, how, size, aborts]) =>
      new Call(
        `${place}.${how.replace('%', String(size))}${aborts ? ', abort()' : ''}`,
        always,
        (model) => model.acquire(model.placeOf(place), how, size, aborts)
      )
  )

const byteBuffer = fc
  .tuple(place, fc.option(size, { nil: undefined }))
  .map(
    ([place, sizeHint]) =>
      new Call(`${place}.byteBuffer(${sizeHint ?? ''})`, always, (model) =>
        model.byteBuffer(model.placeOf(place), sizeHint)
      )
  )

const append = onHeld(
  'append',
  isByteBuffer,
  fc.tuple(fc.nat(3000), fc.constantFrom('bytes', 'string')),
  (model, held, [count, as]) => model.append(held, count, as)
)
const reset = onHeld('reset', isByteBuffer, fc.constant(''), (model, held) => model.reset(held))
const show = onHeld('view', isByteBuffer, fc.constant(''), (model, held) => model.show(held))

const release = onHeld('release', always, view, (model, held, view) => model.release(held, view))

const releaseAgain = fc
  .tuple(place, which, view)
  .map(
    ([place, which, view]) =>
      new Call(`${place}.release(stale.at(${-1 - which}))`, always, (model) =>
        model.releaseAgain(model.placeOf(place), which, view)
      )
  )

const drop = onHeld('drop', always, fc.constant(''), (model, held) => model.drop(held))

const collect = fc.constant(new Call('collect()', always, (model) => model.collect()))

const trim = fc
  .tuple(place, fc.oneof(fc.constant(0), fc.nat(50_000)))
  .map(
    ([place, keepBytes]) =>
      new Call(`${place}.trim(${keepBytes})`, always, (model) =>
        model.trim(model.placeOf(place), keepBytes)
      )
  )

const close = place.map(
  (place) => new Call(`${place}.close()`, always, (model) => model.close(model.placeOf(place)))
)

/**
 * @param {string} name
 * @param {fc.Arbitrary<any>} argument
 * @param {(model: import('./model').Model, held: import('./model').Held, argument: any) => Promise<void>} act
 * @param {(held: import('./model').Held) => boolean} [suits]
 */
function onReachable(name, argument, act, suits = always) {
  const suitsToo = (held) => isBuffer(held) && suits(held)
  return onHeld(name, suitsToo, argument, act).map(
    (call) => new Call(call.text, (model) => reachesThere(model) && call.can(model), call.act)
  )
}

const copy = onReachable('postMessage', fc.constant(''), (model, held) => model.copy(held))

const transfer = onReachable('transfer', fc.boolean(), (model, held, isWithin) =>
  model.transfer(held, !isWithin)
)

const misaddress = onHeld('postMessage', isBuffer, fc.constant(''), (model, held) =>
  model.misaddress(held)
)

const mark = onHeld('mark', isBuffer, fc.constant(''), (model, held) => model.mark(held)).map(
  (call) => new Call(call.text, (model) => model.detaches && call.can(model), call.act)
)

const end = fc
  .constantFrom('terminate', 'exit', 'throw')
  .map((way) => new Call(`there.${way}()`, reachesThere, (model) => model.end(way)))

const endMeanwhile = onReachable(
  'postMessage and terminate',
  fc.constant(''),
  (model, held) => model.endMeanwhile(held),
  ({ place, isMarked }) => place === 'here' && !isMarked
)

const wrong = fc.constantFrom(...REFUSALS).map(
  ([text, code, call]) =>
    new Call(text, always, async (model) => {
      model.log(`here.${text} // ${code}`)
      await assert.rejects(async () => call(model.pool), { code })
    })
)

const wrongData = onHeld('append wrong', isByteBuffer, fc.constant(''), (model, held) =>
  model.appendWrong(held)
)

/** The calls, each as often as fast-check should choose it. */
const CALLS = [
  [12, lease],
  [1, badFill],
  [6, acquire],
  [3, byteBuffer],
  [7, append],
  [1, reset],
  [2, show],
  [9, release],
  [4, releaseAgain],
  [6, drop],
  [2, collect],
  [3, trim],
  [1, close],
  [2, copy],
  ...(posts
    ? [
        [8, transfer],
        [2, misaddress]
      ]
    : []),
  ...(marksHold ? [[2, mark]] : []),
  [4, wrong],
  [1, wrongData]
]

const ENDS = [[6, end], ...(posts ? [[3, endMeanwhile]] : [])]

/**
 * Sequences of calls.
 *
 * @param {object} settings
 * @param {number} settings.count at most
 * @param {boolean} settings.ends whether the other thread ends, too
 * @param {string} [settings.replayPath]
 */
function calls({ count, ends, replayPath }) {
  const weighted = ends ? [...CALLS, ...ENDS] : CALLS
  const arbitraries = weighted.flatMap(([weight, call]) => Array(weight).fill(call))
  return fc.commands(arbitraries, { maxCommands: count, size: 'max', replayPath })
}

module.exports = { calls }
