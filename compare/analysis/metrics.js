'use strict'

/**
 * The metrics of each run, by their names in the JSON. Totals and peaks cover the measured window.
 * The server's window and the client's differ by the time that a message takes.
 */
const METRICS = [
  /** Replies with status 200 per second, counted by the load client. */
  'requestsPerSecond',
  /** Only in a plain loop, which serves no requests. */
  'nsPerOperation',
  /** Bytes of Buffers taken, filled and released per second. Not bytes on the wire. */
  'bytesPerSecond',
  'latencyP50Ms',
  'latencyP99Ms',
  /** Resident memory of the server process. */
  'rssMeanBytes',
  'rssPeakBytes',
  /**
   * The same when the window closes, but each page counts for a share by the processes that map it.
   */
  'pssBytes',
  /** Memory outside the heap that V8 knows of. */
  'externalPeakBytes',
  /** V8's heap in use. */
  'heapPeakBytes',
  /** Collections of any kind, and how long they paused the server. */
  'gcCount',
  'gcTimeMs',
  'gcMaxPauseMs',
  /** Processor time of the server, all of its threads, per request. */
  'cpuMicrosPerRequest',
  'cpuUserMicrosPerRequest',
  'cpuSystemMicrosPerRequest',
  /** The delay with which the server's event loop runs its timers. */
  'eventLoopDelayP50Ms',
  'eventLoopDelayP99Ms',
  /** Voluntary and involuntary ones. */
  'contextSwitches',
  /** First accesses to pages, which the kernel then supplies. */
  'minorPageFaults',
  /** Bytes of Buffers handed out. */
  'allocBytes',
  /** Bytes in use when the window closes: leases of a pool, ArrayBuffers of V8. */
  'inUseBytes',
  /** Requests that failed: another status, a short reply, a lost connection. */
  'errors',
  /** Processor time over wall time: 1 is one core. */
  'clientCpuShare',
  'serverCpuShare',
  /** The share of the run in which the server sampled its own memory. */
  'samplingShare'
]

module.exports = { METRICS }
