//! The requests to send, one by one.

use crate::plan::Plan;

/// One request, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Its bytes on the wire.
    pub bytes: Vec<u8>,
    /// The length that the reply's body must have; `None` takes any.
    pub body: Option<usize>,
}

/// All requests, in their order. The next free connection takes the next one.
#[derive(Clone, Debug)]
pub struct Script {
    requests: Vec<Request>,
    next: usize,
}

impl Script {
    /// Makes the requests of a plan: of its sizes, or of its path if it has none.
    #[must_use]
    pub fn new(plan: &Plan) -> Self {
        let request = |path: &str, body| {
            let head = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", plan.address);
            Request { bytes: head.into_bytes(), body }
        };
        let sized = |size: &usize| request(&format!("/{size}"), Some(*size));
        let mut requests: Vec<_> = plan.sizes.iter().map(sized).collect();
        if requests.is_empty() {
            requests.push(request(&plan.path, None));
        }
        Self { requests, next: 0 }
    }

    /// Returns the place of the next request; after the last it starts again.
    pub fn draw(&mut self) -> usize {
        let drawn = self.next;
        self.next = (drawn + 1) % self.requests.len();
        drawn
    }

    /// Returns the request at a place that was drawn.
    ///
    /// # Panics
    ///
    /// If the place was not drawn from this script.
    #[must_use]
    pub fn at(&self, place: usize) -> &Request {
        &self.requests[place]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan::new("127.0.0.1:80".parse().unwrap())
    }

    #[test]
    fn a_path() {
        let mut script = Script::new(&Plan { path: "/x".to_owned(), ..plan() });
        for _ in 0..2 {
            let place = script.draw();
            assert!(script.at(place).bytes.starts_with(b"GET /x HTTP/1.1\r\n"));
            assert_eq!(script.at(place).body, None);
        }
    }

    #[test]
    fn sizes_in_turn() {
        let mut script = Script::new(&Plan { sizes: vec![10, 20], ..plan() });
        let bodies = [(); 3].map(|()| {
            let place = script.draw();
            script.at(place).body
        });
        assert_eq!(bodies, [Some(10), Some(20), Some(10)]);
        assert!(script.at(1).bytes.starts_with(b"GET /20 HTTP/1.1\r\n"));
    }
}
