//! Streams that take or give nothing for a while, and streams that end.

use super::*;

/// The length of the request for a number of one digit.
const REQUEST: usize = 8;

/// Callers whose requests had begun to be sent, and only those, get an error that says so.
#[test]
fn only_begun_requests_count_as_sent() {
    for reset in [false, true] {
        for taken in 0..=3 * REQUEST {
            with_connection(|connection, wire| {
                let mut crowd = Crowd::new(connection, wire);
                wire.peer().takes = taken;
                for _ in 0..3 {
                    crowd.come();
                }
                crowd.run();
                assert_eq!(wire.peer().arrived.len(), taken);
                {
                    let mut peer = wire.peer();
                    (peer.closed, peer.reset) = (true, reset);
                    peer.wake();
                }
                crowd.run();
                assert!(crowd.callers.is_empty(), "{:?}", crowd.callers.keys());
                for (place, result) in crowd.results.values().enumerate() {
                    let error = result.as_ref().expect_err("nothing was answered");
                    let begun = taken > place * REQUEST;
                    assert_eq!(error.sent, begun, "{taken} bytes taken: {error:?}");
                }
            });
        }
    }
}

/// The reply to a sent request reaches its caller though there is no room for the other requests.
#[test]
fn replies_arrive_while_writes_block() {
    with_connection(|connection, wire| {
        let mut crowd = Crowd::new(connection, wire);
        wire.peer().takes = 2 * REQUEST + 3;
        for _ in 0..5 {
            crowd.come();
        }
        crowd.run();
        {
            let mut peer = wire.peer();
            peer.serve();
            peer.gives = MUCH;
            peer.wake();
        }
        crowd.run();
        let answered: Vec<_> = crowd.results.values().flatten().copied().collect();
        assert_eq!(answered, [0, 1]);
        crowd.settle();
        assert_eq!(crowd.results.len(), 5);
    });
}

/// Requests are sent as soon as there is room though no reply arrives.
#[test]
fn requests_leave_while_reads_block() {
    with_connection(|connection, wire| {
        let mut crowd = Crowd::new(connection, wire);
        for _ in 0..5 {
            crowd.come();
        }
        crowd.run();
        for taken in 1..=5 * REQUEST {
            {
                let mut peer = wire.peer();
                peer.takes = 1;
                peer.wake();
            }
            crowd.run();
            assert_eq!(wire.peer().arrived.len(), taken);
        }
        assert!(crowd.results.is_empty());
        crowd.settle();
        assert_eq!(crowd.results.len(), 5);
    });
}

/// A byte at a time each way, with callers that leave in the middle of their requests: a request
/// that has begun to be sent is finished, and each remaining caller gets its own reply.
#[test]
fn abandoned_request_is_completed() {
    for cut in 0..=REQUEST {
        for gone in 0..3 {
            with_connection(|connection, wire| {
                let mut crowd = Crowd::new(connection, wire);
                wire.peer().takes = gone as usize * REQUEST + cut;
                for _ in 0..3 {
                    crowd.come();
                }
                crowd.run();
                crowd.go(gone);
                for _ in 0..100 {
                    {
                        let mut peer = wire.peer();
                        peer.takes += 1;
                        peer.gives += 1;
                        peer.serve();
                        peer.wake();
                    }
                    crowd.run();
                }
                let stayed: Vec<_> = (0..3).filter(|number| *number != gone).collect();
                let answered: Vec<_> = crowd.results.values().flatten().copied().collect();
                assert_eq!(answered, stayed, "{gone} went behind {cut} bytes");
                let asked = if cut == 0 { stayed } else { vec![0, 1, 2] };
                assert_eq!(wire.peer().asked, asked, "{gone} went behind {cut} bytes");
                assert!(wire.peer().arrived.is_empty(), "half a request");
            });
        }
    }
}
