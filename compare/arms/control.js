'use strict'

/** The role of the arm that is the baseline again. */
const CONTROL = 'control'

/**
 * The baseline once more, as an arm of its own. The two differ by nothing but chance: how far they come
 * out apart is what the machine adds to every other ratio.
 *
 * @param {readonly import('.').ArmKind[]} kinds
 * @param {string} baseline
 * @returns {import('.').ArmKind & { role: 'control', as: string }}
 */
function controlFor(kinds, baseline) {
  const kind = kinds.find(({ name }) => name === baseline)
  return {
    ...kind,
    name: `${baseline} again`,
    about: 'the baseline once more: what chance alone makes of it',
    role: CONTROL,
    as: baseline
  }
}

module.exports = { CONTROL, controlFor }
