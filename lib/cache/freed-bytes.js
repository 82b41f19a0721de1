'use strict'

/**
 * The bytes that were freed and are to be published on the channel `cistern:trim`, by reason.
 *
 * `publish` MUST be the last step of whatever calls it: subscribers may do anything.
 *
 * Collaborators: the channels.
 */

const channels = require('../pool/channels')
const { closeOff } = require('../runtime/intrinsics')

/** @typedef {'idle' | 'pressure' | 'call'} Reason */

class FreedBytes {
  /** @param {string} name the pool's */
  constructor(name) {
    this.name = name
    this.idle = 0
    this.pressure = 0
    this.call = 0
  }

  get isEmpty() {
    return this.idle + this.pressure + this.call === 0
  }

  publish() {
    const { idle, pressure, call } = this
    this.idle = 0
    this.pressure = 0
    this.call = 0
    this.publishOne(pressure, 'pressure')
    this.publishOne(call, 'call')
    this.publishOne(idle, 'idle')
  }

  /**
   * @param {number} bytes
   * @param {Reason} reason
   */
  publishOne(bytes, reason) {
    if (bytes > 0 && channels.trim.hasSubscribers) {
      channels.trim.publish({ pool: this.name, bytes, reason })
    }
  }
}

closeOff(FreedBytes)

module.exports = { FreedBytes }
