'use strict'

const { SERVER_IDLE } = require('../../analysis/warnings')
const { gainOf } = require('./measure')
const { rolesOf } = require('./roles')

/** What an experiment has come to: `tone` colours it, `sign` and `words` tell it without colour. */
const OUTCOMES = {
  pays: { tone: 'good', sign: '✓', words: 'Pooling pays' },
  settings: { tone: 'mixed', sign: '≈', words: 'Settings may do as well' },
  beaten: { tone: 'bad', sign: '✕', words: 'Settings beat pooling' },
  same: { tone: 'bad', sign: '=', words: 'No clear difference' },
  costs: { tone: 'bad', sign: '✕', words: 'Pooling costs more' },
  busy: { tone: 'noisy', sign: '~', words: 'Too busy to tell' },
  noisy: { tone: 'noisy', sign: '~', words: 'Too noisy to tell' },
  once: { tone: 'noisy', sign: '?', words: 'One round only' },
  none: { tone: 'noisy', sign: '?', words: 'No verdict' }
}

/**
 * As the verdict has it; of a result without it, what its ratios say.
 *
 * @param {object} experiment
 * @returns {{ tone: string, sign: string, words: string }}
 */
function outcomeOf(experiment) {
  return OUTCOMES[experiment.outcome] ?? OUTCOMES[nameOf(experiment)]
}

function nameOf(experiment) {
  const { candidate } = rolesOf(experiment)
  const arm = experiment.arms.find(({ name }) => name === candidate)
  const base = arm && gainOf(experiment, arm, 'baseline')
  if (!base) return 'none'
  if (isNoisy(experiment)) return 'noisy'
  if (base.high < 1) return 'costs'
  if (base.low <= 1) return 'same'
  const tuned = gainOf(experiment, arm, 'tuned')
  if (tuned?.high < 1) return 'beaten'
  return tuned?.low <= 1 ? 'settings' : 'pays'
}

/** The control says that the machine was too noisy, or an arm that matters had no core for itself. */
function isNoisy(experiment) {
  if (experiment.control?.holds === false) return true
  const { baseline, candidate } = rolesOf(experiment)
  return experiment.arms.some(
    ({ name, median }) =>
      [baseline, candidate].includes(name) && median.serverCpuShare < SERVER_IDLE
  )
}

module.exports = { outcomeOf }
