'use strict'

/**
 * Presents each outcome that `analysis/verdict.js` names. `tone` gives the colour. `sign` and
 * `words` say the same without colour. `cell` fits a row of a table.
 */
const OUTCOMES = {
  pays: { tone: 'good', sign: '✓', words: 'Pooling pays', cell: 'pays' },
  settings: {
    tone: 'mixed',
    sign: '≈',
    words: 'Settings may do as well',
    cell: 'V8’s settings may do as well'
  },
  beaten: {
    tone: 'bad',
    sign: '✕',
    words: 'Settings beat pooling',
    cell: 'V8’s settings do better'
  },
  same: { tone: 'neutral', sign: '=', words: 'No clear difference', cell: 'no difference' },
  costs: { tone: 'bad', sign: '✕', words: 'Pooling costs more', cell: '**costs**' },
  busy: { tone: 'noisy', sign: '~', words: 'Too busy to tell', cell: 'too busy to tell' },
  noisy: { tone: 'noisy', sign: '~', words: 'Too noisy to tell', cell: 'too noisy to tell' },
  once: { tone: 'noisy', sign: '?', words: 'One round only', cell: 'one round only' },
  none: { tone: 'noisy', sign: '?', words: 'No verdict', cell: 'no verdict' }
}

/**
 * @param {{ outcome: string }} experiment
 * @returns {{ tone: string, sign: string, words: string, cell: string }}
 */
function outcomeOf({ outcome }) {
  return OUTCOMES[outcome]
}

module.exports = { outcomeOf }
