'use strict'

/** Shows objects with private fields in `console.log` and `util.inspect`. */

/** The name of the method that they call. */
const custom = Symbol.for('nodejs.util.inspect.custom')

/**
 * @typedef {import('node:util').InspectOptions & { stylize(text: string, style: string): string }}
 *   Options
 * @typedef {typeof import('node:util').inspect} Inspect
 */

/**
 * Shows an object as the name of its class and some figures.
 *
 * @param {string} name
 * @param {() => object} figures
 * @param {number} depth the number of levels left
 * @param {Options} options
 * @param {Inspect} inspect
 */
function draw(name, figures, depth, options, inspect) {
  if (depth < 0) return options.stylize(`[${name}]`, 'special')
  const deeper = typeof options.depth === 'number' ? options.depth - 1 : options.depth
  return `${name} ${inspect(figures(), { ...options, depth: deeper })}`
}

module.exports = { custom, draw }
