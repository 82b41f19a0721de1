'use strict'

const { Presets, SingleBar } = require('cli-progress')
const { duration } = require('../format')

/** The interval at which the bar is redrawn, so that the time left falls between two steps. */
const REDRAW_MS = 500

/**
 * Shows the progress of the comparison: a bar on a terminal, a line per step elsewhere.
 */
class Progress {
  #stream
  #bar
  #timer
  #label = ''
  #totalSeconds = 0
  #doneSeconds = 0
  #step
  #stepStartedAt = 0

  /** @param {NodeJS.WriteStream} stream */
  constructor(stream) {
    this.#stream = stream
  }

  /**
   * @param {string} text a line of its own
   */
  say(text) {
    this.withoutBar(() => this.#stream.write(`${text}\n`))
  }

  /** @param {number} totalSeconds as planned */
  start(totalSeconds) {
    this.#totalSeconds = totalSeconds
    if (this.#stream.isTTY) this.#showBar()
  }

  /** @param {{ label: string, seconds: number }} step that starts now */
  step(step) {
    this.#step = step
    this.#stepStartedAt = Date.now()
    this.#label = step.label
    this.#draw()
  }

  /** @param {string} figure the result of the step */
  stepped(figure) {
    this.#doneSeconds += this.#step.seconds
    this.#step = undefined
    if (!this.#stream.isTTY) {
      const told = `[${duration(this.#left())} left] ${this.#label}: ${figure}`
      this.#stream.write(`${told}\n`)
    }
    this.#draw()
  }

  /** @param {number} seconds of the plan that will not be needed */
  skip(seconds) {
    this.#doneSeconds += seconds
  }

  /** @param {number} seconds more than was planned */
  extend(seconds) {
    this.#totalSeconds += seconds
    this.#bar?.setTotal(this.#totalSeconds)
  }

  /**
   * Hides the bar while `write` prints on the same terminal.
   *
   * @param {() => void} write
   */
  withoutBar(write) {
    const shown = this.#bar !== undefined
    this.#hideBar()
    write()
    if (shown) this.#showBar()
  }

  stop() {
    this.#hideBar()
  }

  #showBar() {
    this.#bar = new SingleBar(
      {
        stream: this.#stream,
        format: '{bar} {left} left | {label}',
        barsize: 24,
        hideCursor: true,
        clearOnComplete: true,
        linewrap: false
      },
      Presets.shades_classic
    )
    this.#bar.start(this.#totalSeconds, this.#doneSeconds, this.#payload())
    this.#timer = setInterval(() => this.#draw(), REDRAW_MS).unref()
  }

  #hideBar() {
    clearInterval(this.#timer)
    this.#bar?.stop()
    this.#bar = undefined
  }

  #draw() {
    this.#bar?.update(Math.min(this.#doneSeconds, this.#totalSeconds), this.#payload())
  }

  #payload() {
    return { left: duration(this.#left()), label: this.#label }
  }

  /**
   * Returns the seconds left of the plan. They stop at the end of a step that takes longer than
   * planned.
   */
  #left() {
    const inStep = (Date.now() - this.#stepStartedAt) / 1e3
    const ofStep = Math.min(inStep, this.#step?.seconds ?? 0)
    return this.#totalSeconds - this.#doneSeconds - ofStep
  }
}

module.exports = { Progress }
