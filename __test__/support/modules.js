'use strict'

/**
 * A registry of modules of its own, as Jest has one for each test file. It can be emptied, it can
 * end, and its modules may run in another realm. Node's own modules, and addons, are the process's.
 */

const { readFileSync } = require('node:fs')
const { createRequire, isBuiltin } = require('node:module')
const path = require('node:path')
const vm = require('node:vm')

const root = path.join(__dirname, '..', '..')

const WRAPPED = ['module', 'exports', 'require', '__filename', '__dirname']

class Modules {
  /** @type {Map<string, { exports: any }>} */
  #loaded = new Map()
  #context
  #substitutes
  #hasEnded = false

  /**
   * @param {vm.Context} [context] the realm of its modules
   * @param {Record<string, object>} [substitutes] for modules of Node's
   */
  constructor(context, substitutes = {}) {
    this.#context = context
    this.#substitutes = substitutes
  }

  /**
   * @param {string} file
   * @returns {any}
   */
  load(file) {
    const known = this.#loaded.get(file)
    if (known !== undefined) return known.exports
    const module = { exports: {} }
    this.#loaded.set(file, module)
    const wrapper = vm.compileFunction(readFileSync(file, 'utf8'), WRAPPED, {
      filename: file,
      ...(this.#context && { parsingContext: this.#context })
    })
    const requireReal = createRequire(file)
    const requireHere = (/** @type {string} */ name) => {
      if (this.#hasEnded) throw new Error(`${name} is required after the end`)
      if (Object.hasOwn(this.#substitutes, name)) return this.#substitutes[name]
      if (isBuiltin(name) || name.endsWith('.node')) return requireReal(name)
      return this.load(requireReal.resolve(name))
    }
    wrapper(module, module.exports, requireHere, file, path.dirname(file))
    return module.exports
  }

  /** @returns {import('./everyday').Cistern} */
  loadCistern() {
    return {
      cistern: this.load(path.join(root, 'index.js')),
      io: this.load(path.join(root, 'lib', 'io', 'index.js')),
      metrics: this.load(path.join(root, 'lib', 'metrics', 'index.js'))
    }
  }

  /** Forgets what is loaded: from now on all is loaded anew. */
  reset() {
    this.#loaded.clear()
  }

  /** Loads nothing any more. */
  end() {
    this.#hasEnded = true
  }
}

module.exports = { Modules }
