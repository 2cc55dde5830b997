//! Who showed wrong tokens of late.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::model::Timestamp;

/// Most networks whose wrong tokens are counted one by one; those of all others are counted
/// together until the window is over.
const NETWORKS_MAX: usize = 10_000;

/// Counts wrong tokens by the network that they come from: an address of IPv4, a /64 of IPv6, of
/// which one customer has all addresses. Each may err so often in a window of time.
///
/// All networks have their windows at the same time, so that ending one is no work. Nobody goes
/// uncounted: who finds the table full shares one count with the others that do, and so does a
/// request whose peer is not known.
#[derive(Debug)]
pub(crate) struct Strangers {
    errors_max: u32,
    window: Duration,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    /// When the window began; `None` before the first wrong token.
    since: Option<Timestamp>,
    errors: HashMap<IpAddr, u32>,
    others: u32,
}

impl Strangers {
    /// Each network may err `errors_max` times in a window.
    pub(crate) fn new(errors_max: u32, window: Duration) -> Self {
        Self {
            errors_max,
            window,
            counts: Mutex::default(),
        }
    }

    /// Counts a wrong token from there, unless it is one too many; then gives false.
    pub(crate) fn may_err(&self, peer: Option<IpAddr>, now: Timestamp) -> bool {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.since.is_none_or(|since| self.is_over(since, now)) {
            *counts = Counts {
                since: Some(now),
                ..Counts::default()
            };
        }
        let errors = counts.of(peer.map(network));
        if *errors >= self.errors_max {
            return false;
        }
        *errors += 1;
        true
    }

    /// Also when the wall clock was set back by more than a window.
    fn is_over(&self, since: Timestamp, now: Timestamp) -> bool {
        now.since(since).max(since.since(now)) >= self.window
    }
}

impl Counts {
    fn of(&mut self, network: Option<IpAddr>) -> &mut u32 {
        let has_room = self.errors.len() < NETWORKS_MAX;
        match network {
            Some(network) if has_room || self.errors.contains_key(&network) => {
                self.errors.entry(network).or_default()
            }
            _ => &mut self.others,
        }
    }
}

fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => {
            let prefix = u128::from(address) & !u128::from(u64::MAX);
            Ipv6Addr::from(prefix).into()
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ERRORS_MAX: u32 = 3;

    fn strangers() -> Strangers {
        Strangers::new(ERRORS_MAX, Duration::from_mins(1))
    }

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn peer(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn spend(strangers: &Strangers, peer: impl Into<Option<IpAddr>>, now: Timestamp) {
        let peer = peer.into();
        for _ in 0..ERRORS_MAX {
            assert!(strangers.may_err(peer, now));
        }
        assert!(!strangers.may_err(peer, now));
    }

    #[test]
    fn an_address_that_errs_too_often_is_refused_until_the_window_is_over() {
        let strangers = strangers();
        let first = peer("192.0.2.1");
        spend(&strangers, first, at(0));
        assert!(!strangers.may_err(Some(first), at(59_999)));
        assert!(strangers.may_err(Some(peer("192.0.2.2")), at(59_999)));
        spend(&strangers, first, at(60_000));
    }

    #[test]
    fn a_clock_that_was_set_back_refuses_nobody_for_longer_than_a_window() {
        let strangers = strangers();
        let first = peer("192.0.2.1");
        spend(&strangers, first, at(86_400_000));
        assert!(!strangers.may_err(Some(first), at(86_399_000)));
        assert!(strangers.may_err(Some(first), at(0)));
    }

    #[test]
    fn the_addresses_of_a_64_of_ipv6_are_one_and_a_mapped_address_is_its_ipv4() {
        let strangers = strangers();
        spend(&strangers, peer("2001:db8:0:1::1"), at(0));
        assert!(!strangers.may_err(Some(peer("2001:db8:0:1:ffff:ffff:ffff:ffff")), at(0)));
        assert!(strangers.may_err(Some(peer("2001:db8:0:2::1")), at(0)));
        spend(&strangers, peer("192.0.2.1"), at(0));
        assert!(!strangers.may_err(Some(peer("::ffff:192.0.2.1")), at(0)));
        assert!(strangers.may_err(Some(peer("::ffff:192.0.2.2")), at(0)));
    }

    #[test]
    fn who_finds_the_table_full_is_counted_with_the_others_and_who_stands_in_it_alone() {
        let strangers = strangers();
        let nth = |n: usize| Some(IpAddr::from(u32::try_from(n).unwrap().to_be_bytes()));
        for n in 0..NETWORKS_MAX {
            assert!(strangers.may_err(nth(n), at(0)));
        }
        let newcomers = (NETWORKS_MAX..2 * NETWORKS_MAX).map(nth);
        let let_err = newcomers.filter(|peer| strangers.may_err(*peer, at(1)));
        assert_eq!(let_err.count(), 3, "they share one count");
        assert!(!strangers.may_err(None, at(1)), "it is one of them");
        assert!(strangers.may_err(nth(0), at(1)), "it has its own");
        assert!(strangers.may_err(nth(NETWORKS_MAX), at(60_000)));
    }
}
