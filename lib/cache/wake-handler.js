'use strict'

/**
 * Does what the core asks of this thread. The core asks by a wake, which runs `onWake` in a later
 * event-loop turn.
 *
 * - The waker MUST NOT keep the thread cache alive: it has a weak reference.
 * - `freed.publish` and `sampler.tellLeaks` MUST come last: they run other code.
 *
 * Collaborators: the core (`runtime/native`), `ThreadUsage`, `Segments`, `Sampler`, `Flusher`,
 * `FreedBytes`, `Waiting`, `Trimmer`.
 */

const native = require('../runtime/native')
const { WeakReference, closeOff, deref } = require('../runtime/intrinsics')
const { Fate } = require('./states')

class WakeHandler {
  /**
   * @param {import('./thread-usage').ThreadUsage} usage
   * @param {object} collaborators
   * @param {import('./segments').Segments} collaborators.segments
   * @param {import('./sampler').Sampler} collaborators.sampler
   * @param {import('./flusher').Flusher} collaborators.flusher
   * @param {import('./freed-bytes').FreedBytes} collaborators.freed
   * @param {import('./waiting').Waiting} collaborators.waiting
   * @param {import('./trimmer').Trimmer} collaborators.trimmer
   */
  constructor(usage, { segments, sampler, flusher, freed, waiting, trimmer }) {
    this.usage = usage
    this.segments = segments
    this.sampler = sampler
    this.flusher = flusher
    this.freed = freed
    this.waiting = waiting
    this.trimmer = trimmer
    this.isListening = false
  }

  /** Registers a waker, by which the core wakes this thread when it has a request. */
  listen() {
    if (this.isListening) return
    native.listen(this.usage.attachment, onWakeOf(new WeakReference(this)))
    // Set only now: if Node-API refuses, the next call tries again.
    this.isListening = true
  }

  onWake() {
    const { usage, flusher, freed, trimmer } = this
    const { attachment } = usage
    usage.deductEnded()
    if (usage.isClosed) flusher.freeAll()
    if (native.takeFreeAll(attachment)) flusher.flush(Infinity, Fate.FREE, 'pressure')
    const trimmed = native.takeTrimmed(attachment)
    if (trimmed > 0) flusher.flush(trimmed, Fate.FREE, 'call')
    trimmer.onTick(native.takeTick(attachment))
    const asked = native.takeAsked(attachment)
    if (asked > 0) trimmer.giveUp(asked)
    usage.noteWaiters()
    this.waiting.collect()
    freed.idle += native.takeFreedAsIdle(attachment)
    freed.pressure += native.takeFreedUnderPressure(attachment)
    this.segments.forgetGone()
    freed.publish()
    this.sampler.takeReports(attachment)
    this.sampler.tellLeaks(attachment)
  }
}

closeOff(WakeHandler)

/**
 * Returns a waker's callback.
 *
 * @param {WeakRef<WakeHandler>} handler
 */
function onWakeOf(handler) {
  return () => deref(handler)?.onWake()
}

module.exports = { WakeHandler }
