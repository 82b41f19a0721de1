'use strict'

/** Text that is HTML already, and goes into a page as it is. */
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
 * A template tag: whatever is put in is escaped, except for what the tag itself has made. Lists are
 * joined; `undefined`, `null` and `false` leave nothing.
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
 * JSON for the inside of a script element, which ends at the first `</script`, wherever it stands.
 *
 * @param {unknown} value
 * @returns {Markup}
 */
function json(value) {
  return new Markup(JSON.stringify(value).replaceAll('<', '\\u003c'))
}

/** @param {string} text written by this program, or by a package that it depends on */
function trusted(text) {
  return new Markup(text)
}

module.exports = { html, json, trusted }
