'use strict'

/** What `console.log` and `util.inspect` show of objects whose fields are private. */

/** The name of the method that they ask, which any runtime may know. */
const custom = Symbol.for('nodejs.util.inspect.custom')

/**
 * @typedef {import('node:util').InspectOptions & { stylize(text: string, style: string): string }} Options
 * @typedef {typeof import('node:util').inspect} Inspect
 */

/**
 * An object as its class's name and some figures.
 *
 * @param {string} name
 * @param {() => object} figures
 * @param {number} depth how deep to go yet
 * @param {Options} options
 * @param {Inspect} inspect
 */
function draw(name, figures, depth, options, inspect) {
  if (depth < 0) return options.stylize(`[${name}]`, 'special')
  const deeper = typeof options.depth === 'number' ? options.depth - 1 : options.depth
  return `${name} ${inspect(figures(), { ...options, depth: deeper })}`
}

module.exports = { custom, draw }
