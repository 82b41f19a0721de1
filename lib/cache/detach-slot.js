'use strict'

const native = require('../runtime/native')
const { transferByV8 } = require('../runtime/intrinsics')

/**
 * Detaches a slot's ArrayBuffer, whose block thus leaves this thread. The core takes it back at
 * once if the runtime shows that the backing store is gone. Otherwise its finalizer returns it.
 * Until then native code may still hold it.
 *
 * @param {import('../runtime/native').Attachment} attachment
 * @param {import('./slot').Slot} slot that no magazine has
 * @param {import('./magazine').Magazine} magazine the slot's
 * @param {number} fate of the block, a `Fate`
 * @returns {boolean} false if it can't be detached, and nothing has changed
 */
function detachSlot(attachment, slot, magazine, fate) {
  let arrayBuffer = /** @type {ArrayBuffer} */ (slot.arrayBuffer)
  if (transferByV8 !== undefined) {
    try {
      // Node would abort on an ArrayBuffer that the user has marked as untransferable; `transfer()`
      // throws.
      arrayBuffer = transferByV8(arrayBuffer)
    } catch {
      return false
    }
  }
  return native.detach(attachment, arrayBuffer, slot.row, magazine.index, fate)
}

module.exports = { detachSlot }
