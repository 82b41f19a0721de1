'use strict'

/** A command of fast-check's: one call on what is real, and what it means in a model. */
class Call {
  /**
   * @param {string} text as a failure shows it
   * @param {(model: any) => boolean} can
   * @param {(model: any, real: any) => Promise<void>} act
   */
  constructor(text, can, act) {
    this.text = text
    this.can = can
    this.act = act
  }

  check(model) {
    return this.can(model)
  }

  async run(model, real) {
    await this.act(model, real)
    await model.agreesWith(real)
  }

  toString() {
    return this.text
  }
}

module.exports = { Call }
