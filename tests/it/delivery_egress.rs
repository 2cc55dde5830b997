//! Every way to write an address that must not be called is refused.

use std::net::IpAddr;

use hooklog::{delivery::Egress, model::CallbackUrl};
use ipnet::IpNet;

/// Each names loopback, a private, link-local, metadata or reserved address, or an inner host.
const DENIED: &[&str] = &[
    // As it is usually written.
    "127.0.0.1",
    "127.255.255.254",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.0.1",
    "169.254.169.254",
    "168.63.129.16",
    "100.100.100.200",
    "192.0.0.192",
    "198.18.0.1",
    "203.0.113.9",
    "224.0.0.1",
    "255.255.255.255",
    // Fewer parts.
    "127.1",
    "127.0.1",
    "10.1",
    "0",
    "169.254.43518",
    // One number: decimal, octal, hexadecimal.
    "2130706433",
    "2852039166",
    "3232235521",
    "017700000001",
    "0x7f000001",
    "0X7F000001",
    "0xa9fea9fe",
    // Parts in octal and hexadecimal, mixed.
    "0177.0.0.1",
    "0177.0x0.0.1",
    "0x7f.0.0.1",
    "0x7f.1",
    "0251.0376.0251.0376",
    "0xa9.0xfe.0xa9.0xfe",
    "00000177.0.0.1",
    "012.0.0.1",
    // A dot at the end.
    "127.0.0.1.",
    "2130706433.",
    "0x7f.1.",
    // Percent-encoded.
    "%31%32%37.0.0.1",
    "127%2e0%2e0%2e1",
    "%6cocalhost",
    // Digits and dots of other scripts.
    "１２７.０.０.１",
    "①②⑦.⓪.⓪.①",
    "127。0。0。1",
    "127．0．0．1",
    "127｡0｡0｡1",
    "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ",
    "ｌｏｃａｌｈｏｓｔ",
    // IPv6.
    "[::]",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[0000:0000:0000:0000:0000:0000:0000:0001]",
    "[::127.0.0.1]",
    "[fc00::1]",
    "[fd00:ec2::254]",
    "[fe80::1]",
    "[ff02::1]",
    "[2001:db8::1]",
    "[3fff::1]",
    // IPv4 inside of IPv6: mapped, translated, tunnelled.
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::FFFF:a9fe:a9fe]",
    "[0:0:0:0:0:ffff:10.0.0.1]",
    "[::ffff:0:127.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b::a9fe:a9fe]",
    "[2002:7f00:1::]",
    "[2002:a9fe:a9fe::1]",
    "[2001:0:7f00:1::]",
    // Names.
    "localhost",
    "LOCALHOST",
    "localhost.",
    "a.localhost",
    "printer.local",
    "printer.LOCAL.",
    "metadata.google.internal",
    "metadata.google.internal.",
    "intranet",
    "a..b",
];

#[test]
fn no_spelling_of_a_denied_address_passes() {
    assert!(DENIED.len() >= 60);
    let strict = Egress {
        allow_http: true,
        ..Egress::default()
    };
    for host in DENIED {
        for url in [format!("https://{host}/h"), format!("http://{host}:8080/h")] {
            // Refused as a URL, or by the guard: one of the two, never neither.
            if let Ok(parsed) = url.parse::<CallbackUrl>() {
                let checked = strict.check_url(&parsed);
                assert_eq!(
                    checked.map_err(|e| e.to_string()),
                    Err("blocked destination".to_owned()),
                    "{url}"
                );
            }
        }
    }
}

#[test]
fn public_destinations_pass() {
    for host in [
        "example.com",
        "example.com.",
        "93.184.215.14",
        "[2606:4700::1111]",
        "bücher.example",
        "local.example.com",
        "xn--bcher-kva.example",
    ] {
        let url = format!("https://{host}/h").parse().unwrap();
        assert!(Egress::default().check_url(&url).is_ok(), "{host}");
    }
}

/// What must not be called, as the registries of special addresses say, and the host address of a
/// cloud. Written down here once more, apart from the rules that are tried.
const RANGES: &[&str] = &[
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "168.63.129.16/32",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.31.196.0/24",
    "192.52.193.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "192.175.48.0/24",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    // All of IPv6 but 2000::/3.
    "::/3",
    "4000::/2",
    "8000::/1",
    "2001::/23",
    "2001:db8::/32",
    "2002::/16",
    "2620:4f:8000::/48",
    "3fff::/20",
];

/// The address so many above, or below where it is negative.
fn beside(address: IpAddr, by: i8) -> Option<IpAddr> {
    let by = i128::from(by);
    match address {
        IpAddr::V4(v4) => {
            let bits = i128::from(u32::from(v4)) + by;
            Some(IpAddr::V4(u32::try_from(bits).ok()?.into()))
        }
        IpAddr::V6(v6) => Some(IpAddr::V6(u128::from(v6).checked_add_signed(by)?.into())),
    }
}

#[test]
fn every_range_is_denied_from_its_first_to_its_last_address_and_nothing_beside_it() {
    let ranges: Vec<IpNet> = RANGES.iter().map(|range| range.parse().unwrap()).collect();
    let is_allowed = |address: IpAddr| {
        let host = match address {
            IpAddr::V4(v4) => v4.to_string(),
            IpAddr::V6(v6) => format!("[{v6}]"),
        };
        let url: CallbackUrl = format!("https://{host}/").parse().unwrap();
        let by_url = Egress::default().check_url(&url).is_ok();
        let by_peer = Egress::default().check_peer((address, 443).into()).is_ok();
        assert_eq!(by_url, by_peer, "{address}");
        by_url
    };
    for range in &ranges {
        assert!(!is_allowed(range.network()), "{range}");
        assert!(!is_allowed(range.broadcast()), "{range}");
        let edges = [beside(range.network(), -1), beside(range.broadcast(), 1)];
        for outside in edges.into_iter().flatten() {
            let is_denied = ranges.iter().any(|range| range.contains(&outside));
            assert_eq!(is_allowed(outside), !is_denied, "{outside}");
        }
    }
}
