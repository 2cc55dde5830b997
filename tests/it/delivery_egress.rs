//! Every way to write an address that must not be called is refused.

use hooklog::{delivery::Egress, model::CallbackUrl};

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
