use super::*;
use proptest::prelude::*;

const TICK: Duration = Duration::from_millis(20);

fn reading(found: &[(u64, Kind, State)], millis: u64, way: Way) -> source::Sockets {
    let mut found: Vec<_> = found.iter().map(|(inode, kind, state)| Socket { inode: *inode, state: *state, kind: *kind }).collect();
    source::tidy(&mut found);
    source::Sockets { found, way, damaged: 0, took: Duration::from_millis(millis) }
}

fn asked(requests: &[Request]) -> Vec<(u64, u32, Way)> {
    let one = |request: &Request| match request {
        Request::Sockets { netns, pid, way } => (*netns, *pid, *way),
        other => panic!("{other:?}"),
    };
    requests.iter().map(one).collect()
}

#[test]
fn what_is_held_is_joined_by_inode() {
    let mut sockets = Sockets::with(Some(1), Way::Files);
    assert_eq!(asked(&sockets.requests([(1, 10), (1, 11), (2, 20)], TICK)), [(1, 10, Way::Here), (2, 20, Way::Files)]);
    assert_eq!(sockets.count([1], [5, 6]), Reading::Late, "nothing of it was read yet");
    assert_eq!(sockets.count([1], []), Reading::Known(Counts::default()), "whoever holds none has none");
    let own = [
        (5, Kind::Tcp, State::Established),
        (6, Kind::Tcp6, State::Listening),
        (7, Kind::Unix, State::Established),
        (8, Kind::Tcp, State::Other),
        (9, Kind::Udp, State::Established),
    ];
    sockets.take(1, 10, Some(Ok(reading(&own, 1, Way::Here))));
    sockets.take(
        2,
        20,
        Some(Ok(reading(&[(30, Kind::Tcp, State::Listening), (31, Kind::Udp6, State::Established)], 5, Way::Files))),
    );
    sockets.settle();
    assert!(sockets.read_at(1).is_some() && sockets.namespaces() == (2, 2));
    // 40 is a netlink socket, 30 one of another namespace.
    let want = Counts { tcp: 1, unix: 1, udp: 1, tcp6_listen: 1, tcp_listen: 1, sockets: 7, ..Counts::default() };
    assert_eq!(sockets.count([1], [5, 6, 7, 8, 9, 30, 40]), Reading::Known(want));
    assert_eq!(sockets.count([1, 2], [31]), Reading::Known(Counts { udp6: 1, sockets: 1, ..Counts::default() }));
    assert_eq!(sockets.count([1, 3], [5]), Reading::Late);

    // The next reading replaces the one before, and only of its namespace.
    assert_eq!(asked(&sockets.requests([(1, 11), (2, 20)], TICK)).len(), 2);
    sockets.take(1, 11, Some(Ok(reading(&[(5, Kind::Tcp, State::Other)], 1, Way::Here))));
    sockets.settle();
    let want = Counts { tcp_listen: 1, sockets: 3, ..Counts::default() };
    assert_eq!(sockets.count([1], [5, 7, 30]), Reading::Known(want));

    // A namespace without processes is forgotten, its sockets too, and an answer that comes still.
    sockets.requests([(1, 11)], TICK);
    sockets.take(2, 20, Some(Ok(reading(&[(30, Kind::Tcp, State::Listening)], 5, Way::Files))));
    sockets.settle();
    assert_eq!(sockets.count([1], [30]), Reading::Known(Counts { sockets: 1, ..Counts::default() }));
    assert_eq!((sockets.count([2], [30]), sockets.namespaces()), (Reading::Late, (1, 1)));
}

#[test]
fn refusals_and_lateness_are_said() {
    let mut sockets = Sockets::with(None, Way::Enter);
    let requests = sockets.requests([(2, 20), (2, 21), (3, 30)], TICK);
    assert_eq!(asked(&requests), [(2, 20, Way::Enter), (3, 30, Way::Enter)]);
    assert!(sockets.requests([(2, 20), (3, 30)], TICK).is_empty(), "they are being read");
    sockets.take(2, 20, Some(Err(ReadError::Vanished)));
    sockets.take(3, 30, Some(Err(ReadError::Refused)));
    sockets.settle();
    assert_eq!(
        (sockets.count([2], [1]), sockets.count([3], [1]), sockets.count([2, 3], [1])),
        (Reading::Late, Reading::Refused, Reading::Late)
    );
    // Another member is asked; and what may not be entered once is not tried again, but read from its files.
    assert_eq!(asked(&sockets.requests([(2, 20), (2, 21), (3, 30)], TICK)), [(2, 21, Way::Enter), (3, 30, Way::Enter)]);
    sockets.take(2, 21, Some(Ok(reading(&[], 1, Way::Enter))));
    sockets.take(3, 30, Some(Ok(reading(&[], 1, Way::Files))));
    assert_eq!(asked(&sockets.requests([(2, 21), (3, 30)], TICK)), [(2, 21, Way::Enter), (3, 30, Way::Files)]);
    // One that holds a thread up until it is given up has its turn seldom.
    sockets.take(3, 30, None);
    sockets.take(2, 21, Some(Ok(reading(&[], 1, Way::Enter))));
    let turns = (0..200).filter(|_| {
        let requests = asked(&sockets.requests([(3, 30)], TICK));
        if !requests.is_empty() {
            sockets.take(3, 30, None);
        }
        !requests.is_empty()
    });
    assert!((3..=5).contains(&turns.count()), "a second of 200 × 20 ms each");
}

#[test]
fn without_a_budget_nobody_else_is_read() {
    let mut sockets = Sockets::with(Some(1), Way::Files);
    for _ in 0..100 {
        for request in sockets.requests([(1, 10), (2, 20)], Duration::ZERO) {
            assert!(matches!(request, Request::Sockets { netns: 1, .. }), "{request:?}");
            sockets.take(1, 10, Some(Ok(reading(&[], 1, Way::Here))));
        }
    }
    assert_eq!(sockets.count([2], [7]), Reading::Late);
}

proptest! {
    /// Each gets its turn, and together they keep to the budget.
    #[test]
    fn turns_are_fair_and_within_the_budget(costs in proptest::collection::vec(1_u64..60, 1..30), budget in 5_u64..40) {
        let mut sockets = Sockets::with(None, Way::Files);
        let in_use = || (0..costs.len()).map(|at| (100 + at as u64, 1 + u32::try_from(at).unwrap()));
        let mut turns = vec![0_u64; costs.len()];
        let (ticks, mut spent) = (400_u64, 0);
        let whole: u64 = costs.iter().sum();
        for _ in 0..ticks {
            for (netns, pid, _) in asked(&sockets.requests(in_use(), Duration::from_millis(budget))) {
                let at = usize::try_from(netns - 100).unwrap();
                turns[at] += 1;
                spent += costs[at];
                sockets.take(netns, pid, Some(Ok(reading(&[], costs[at], Way::Files))));
            }
            sockets.settle();
        }
        // What the first ones cost is not known before.
        prop_assert!(spent <= ticks * budget + whole, "{spent} ms of {}", ticks * budget);
        let (least, most) = (*turns.iter().min().unwrap(), *turns.iter().max().unwrap());
        prop_assert!(most - least <= 1, "{turns:?}");
        // Half of the budget at least serves: what is left over waits for the next, dearer one.
        prop_assert!(least == ticks || (least + 1) * whole * 2 + whole >= ticks * budget, "{turns:?}");
    }
}
