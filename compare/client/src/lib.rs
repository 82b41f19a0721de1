//! The load client of `cistern-compare`.
//!
//! N keep-alive connections, one request in flight on each, one thread. A load client shares the
//! machine with the server it measures, so every system call it can leave out is left out: a reply
//! costs one `read`, the next request one `write`, and many replies share one `epoll_wait`.
//!
//! | module | holds |
//! |---|---|
//! | [`plan`] | what the command line asked for |
//! | [`script`] | what to ask for, request by request |
//! | [`response`] | one HTTP reply, read piece by piece |
//! | [`connection`] | one socket: send, read, send again |
//! | [`tally`] | what was counted in the measured window |
//! | [`cpu`] | what this process has had of the processors |
//! | [`upstream`] | the server that the proxies of the comparison ask |
//! | [`forward`] | a proxy without a garbage collector |
//! | [`parent`] | what ties these programs to the runner |
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
