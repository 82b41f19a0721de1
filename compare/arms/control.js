'use strict'

/** The role of the arm that runs the baseline a second time. */
const CONTROL = 'control'

/**
 * Returns an arm that runs the baseline a second time. Only chance makes the two differ, so their
 * ratio shows the noise that the machine adds to every other ratio.
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
    about: 'the baseline a second time: it shows what chance alone can do',
    role: CONTROL,
    as: baseline
  }
}

module.exports = { CONTROL, controlFor }
