'use strict'

/** Text that is HTML already; a page inserts it without escaping. */
class Markup {
  #text

  /** @param {string} text */
  constructor(text) {
    this.#text = text
  }

  toString() {
    return this.#text
  }
}

/**
 * Makes HTML as a template tag. It escapes every value except HTML that the tag itself made. It
 * joins lists, and omits `undefined`, `null` and `false`.
 *
 * @returns {Markup}
 */
function html(strings, ...values) {
  const parts = strings.map((text, index) =>
    index < values.length ? text + rendered(values[index]) : text
  )
  return new Markup(parts.join(''))
}

function rendered(value) {
  if (value === undefined || value === null || value === false) return ''
  if (Array.isArray(value)) return value.map(rendered).join('')
  return value instanceof Markup ? String(value) : escaped(String(value))
}

const ENTITIES = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' }

function escaped(text) {
  return text.replace(/[&<>"']/g, (character) => ENTITIES[character])
}

/**
 * Writes JSON for a script element, which any `</script` in its text would end.
 *
 * @param {unknown} value
 * @returns {Markup}
 */
function json(value) {
  return new Markup(JSON.stringify(value).replaceAll('<', '\\u003c'))
}

/** Trusts a text. @param {string} text of this program, or of a package that it depends on */
function trusted(text) {
  return new Markup(text)
}

module.exports = { html, json, trusted }
