'use strict'

const { html } = require('./markup')

/**
 * Makes wide content scroll by itself, with a finger or with the arrow keys.
 *
 * @param {string} label
 * @param {import('./markup').Markup} content
 */
function scrolling(label, content) {
  return html`<div class="scroll" role="region" aria-label="${label}" tabindex="0">${content}</div>`
}

module.exports = { scrolling }
