//! The load client of `cistern-compare`.
//!
//! N keep-alive connections, one request in flight on each, one thread. A load client shares the
//! machine with the server it measures, so every system call it can leave out is left out: a reply
//! costs one `read`, the next request one `write`, and many replies share one `epoll_wait`.
//!
//! | module | holds |
//! |---|---|
//! | [`plan`] | what the command line asked for |
//! | [`response`] | one HTTP reply, read piece by piece |
//! | [`connection`] | one socket: send, read, send again |
//! | [`tally`] | what was counted in the measured window |
//! | [`load`] | the loop over all connections, and its phases |

pub mod connection;
pub mod load;
pub mod plan;
pub mod response;
pub mod tally;
