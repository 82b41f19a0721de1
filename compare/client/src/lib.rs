//! The load client of `cistern-compare`.
//!
//! N keep-alive connections, one request in flight on each, one thread. A load client shares the
//! machine with the server that it measures, so it makes as few system calls as possible. A reply
//! costs one `read`, the next request one `write`, and many replies share one `epoll_wait`.
//!
//! | module | holds |
//! |---|---|
//! | [`plan`] | the plan that the command line asks for |
//! | [`script`] | the requests to send, one by one |
//! | [`response`] | one HTTP reply, read piece by piece |
//! | [`connection`] | one socket: send, read, send again |
//! | [`tally`] | the counts of the measured window |
//! | [`cpu`] | the processor time that this process has used |
//! | [`upstream`] | the server that the proxies of the comparison ask |
//! | [`forward`] | a proxy without a garbage collector |
//! | [`parent`] | the tie of these programs to the runner |
//! | [`load`] | the loop over all connections, and its phases |

pub mod connection;
pub mod cpu;
pub mod forward;
pub mod load;
pub mod parent;
pub mod plan;
pub mod response;
pub mod script;
pub mod tally;
pub mod upstream;
