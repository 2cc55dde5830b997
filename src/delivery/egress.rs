//! Which destinations may be called. Pure rules; the resolver and the connector ask them.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use url::{Host, Url};

use crate::model::CallbackUrl;

/// Which destinations may be called. The default is strict: https to public addresses only.
///
/// A proxy is judged like a callback. Behind a SOCKS proxy the gateway resolves names itself.
/// Behind an HTTP proxy the proxy resolves them: the gateway looks as well, and refuses a name for
/// which it gets a denied address, but the last word is the proxy's, and on names that the gateway
/// cannot resolve the only one.
///
/// ```
/// use hooklog::delivery::Egress;
/// let inside = "http://127.0.0.1:8080/hook".parse()?;
/// assert!(Egress::default().check_url(&inside).is_err());
/// assert!(Egress::loopback().check_url(&inside).is_ok());
/// # Ok::<(), hooklog::model::Invalid>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Egress {
    /// Allows `http:` beside `https:`.
    pub allow_http: bool,
    /// Ranges that may be called although they are not public.
    pub allow_private_cidrs: Vec<IpNet>,
    /// Addresses the gateway itself listens on: never called, whatever is allowed. One with an
    /// unspecified address (`0.0.0.0`, `::`) stands for this port on every address that is not
    /// public.
    pub own_addresses: Vec<SocketAddr>,
}

/// A destination that must not be called. Its text names no reason: consumers choose callback
/// URLs, and telling them which part was refused would let them map the inner network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}", Self::TEXT)]
pub struct Blocked {
    reason: BlockedReason,
}

/// Why a destination must not be called; for operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BlockedReason {
    /// `http:`, which is not allowed.
    PlainHttp,
    /// A scheme other than http and https, or user info in the URL.
    Url,
    /// An empty, single-label or inner host name.
    HostName,
    /// An address outside what may be called.
    Address,
    /// The gateway's own listen address.
    OwnAddress,
}

impl Blocked {
    /// All that consumers are told.
    pub(super) const TEXT: &str = "blocked destination";

    pub(super) const fn new(reason: BlockedReason) -> Self {
        Self { reason }
    }

    /// Why, for operators.
    pub const fn reason(&self) -> BlockedReason {
        self.reason
    }
}

impl fmt::Display for BlockedReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PlainHttp => "http is not allowed; set egress.allow_http to allow it",
            Self::Url => "the URL is not plain http or https",
            Self::HostName => "the host name is empty, single-label or an inner one",
            Self::Address => "the address is not public; see egress.allow_private_cidrs",
            Self::OwnAddress => "the address is the gateway's own",
        })
    }
}

/// IPv4 ranges that are not public: RFC 6890 and its updates, and the Azure host address.
const DENIED_V4: [Ipv4Net; 19] = [
    v4([0, 0, 0, 0], 8),
    v4([10, 0, 0, 0], 8),
    v4([100, 64, 0, 0], 10),
    v4([127, 0, 0, 0], 8),
    v4([168, 63, 129, 16], 32),
    v4([169, 254, 0, 0], 16),
    v4([172, 16, 0, 0], 12),
    v4([192, 0, 0, 0], 24),
    v4([192, 0, 2, 0], 24),
    v4([192, 31, 196, 0], 24),
    v4([192, 52, 193, 0], 24),
    v4([192, 88, 99, 0], 24),
    v4([192, 168, 0, 0], 16),
    v4([192, 175, 48, 0], 24),
    v4([198, 18, 0, 0], 15),
    v4([198, 51, 100, 0], 24),
    v4([203, 0, 113, 0], 24),
    v4([224, 0, 0, 0], 4),
    v4([240, 0, 0, 0], 4),
];

/// The only IPv6 range with public unicast addresses.
const PUBLIC_V6: Ipv6Net = v6([0x2000, 0, 0], 3);

/// Ranges in it that are not.
const DENIED_V6: [Ipv6Net; 5] = [
    v6([0x2001, 0, 0], 23),
    v6([0x2001, 0xdb8, 0], 32),
    v6([0x2002, 0, 0], 16),
    v6([0x2620, 0x4f, 0x8000], 48),
    v6([0x3fff, 0, 0], 20),
];

/// Names that are resolved inside a machine or a site.
const INNER_DOMAINS: [&str; 2] = [".local", ".internal"];

const fn v4(octets: [u8; 4], prefix: u8) -> Ipv4Net {
    let [a, b, c, d] = octets;
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(head: [u16; 3], prefix: u8) -> Ipv6Net {
    let [a, b, c] = head;
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0), prefix)
}

impl Egress {
    /// What a demonstration on one machine needs: http, and loopback addresses.
    pub fn loopback() -> Self {
        Self {
            allow_http: true,
            allow_private_cidrs: vec![
                IpNet::V4(v4([127, 0, 0, 0], 8)),
                IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128)),
            ],
            own_addresses: Vec::new(),
        }
    }

    /// What of this an operator should know when the gateway starts: each loosening of the default.
    pub fn warnings(&self) -> Vec<String> {
        let http = self.allow_http.then(|| {
            "egress.allow_http is on: messages and credentials may be sent in clear text".to_owned()
        });
        let ranges = self.allow_private_cidrs.iter().map(|range| {
            format!("egress.allow_private_cidrs holds {range}: callbacks may reach inside it")
        });
        http.into_iter().chain(ranges).collect()
    }

    /// Whether this URL may be called as far as it tells by itself. What its name resolves to is
    /// checked when it is called.
    pub fn check_url(&self, url: &CallbackUrl) -> Result<(), Blocked> {
        self.check_parsed(&url.to_url())
    }

    /// As [`check_url`](Self::check_url), for a URL that is parsed already.
    pub(super) fn check_parsed(&self, url: &Url) -> Result<(), Blocked> {
        match url.scheme() {
            "https" => {}
            "http" if self.allow_http => {}
            "http" => return Err(Blocked::new(BlockedReason::PlainHttp)),
            _ => return Err(Blocked::new(BlockedReason::Url)),
        }
        if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
            return Err(Blocked::new(BlockedReason::Url));
        }
        let port = url.port_or_known_default().unwrap_or(0);
        match url.host() {
            Some(Host::Ipv4(ip)) => self.check_peer((ip, port).into()),
            Some(Host::Ipv6(ip)) => self.check_peer((ip, port).into()),
            Some(Host::Domain(domain)) => self.check_name(domain),
            None => Err(Blocked::new(BlockedReason::Url)),
        }
    }

    /// Whether a host given as text, a proxy's, may be called.
    pub(super) fn check_host(&self, host: &str, port: u16) -> Result<(), Blocked> {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        match bare.parse::<IpAddr>() {
            Ok(ip) => self.check_peer(SocketAddr::new(ip, port)),
            Err(_) => self.check_name(&host.to_ascii_lowercase()),
        }
    }

    /// Whether a connection to this peer may be used.
    pub fn check_peer(&self, peer: SocketAddr) -> Result<(), Blocked> {
        let ip = peer.ip().to_canonical();
        let own = self.own_addresses.iter().any(|own| {
            let address = own.ip().to_canonical();
            let same = if address.is_unspecified() {
                !is_public(ip)
            } else {
                address == ip
            };
            same && own.port() == peer.port()
        });
        if own {
            return Err(Blocked::new(BlockedReason::OwnAddress));
        }
        self.check_address(ip)
    }

    /// Whether this address may be called on some port.
    pub fn check_address(&self, address: IpAddr) -> Result<(), Blocked> {
        let address = address.to_canonical();
        if is_public(address) || self.allows_private(address) {
            Ok(())
        } else {
            Err(Blocked::new(BlockedReason::Address))
        }
    }

    fn check_name(&self, domain: &str) -> Result<(), Blocked> {
        let name = domain.strip_suffix('.').unwrap_or(domain);
        let local = name == "localhost" || name.ends_with(".localhost");
        let accepted = if local {
            self.allows_private(Ipv4Addr::LOCALHOST.into())
        } else {
            name.contains('.')
                && !name.split('.').any(str::is_empty)
                && !INNER_DOMAINS.iter().any(|inner| name.ends_with(inner))
        };
        if accepted {
            Ok(())
        } else {
            Err(Blocked::new(BlockedReason::HostName))
        }
    }

    fn allows_private(&self, address: IpAddr) -> bool {
        self.allow_private_cidrs
            .iter()
            .any(|range| range.contains(&address))
    }
}

/// Whether an address, in its canonical form, is one that everybody may call.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(ip) => !DENIED_V4.iter().any(|range| range.contains(&ip)),
        IpAddr::V6(ip) => {
            PUBLIC_V6.contains(&ip) && !DENIED_V6.iter().any(|range| range.contains(&ip))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(address: impl Into<IpAddr>) -> bool {
        Egress::default().check_address(address.into()).is_ok()
    }

    fn check(egress: &Egress, url: &str) -> Result<(), Blocked> {
        egress.check_url(&url.parse().unwrap())
    }

    #[test]
    fn the_first_and_last_address_of_each_denied_range_is_denied() {
        for range in DENIED_V4 {
            assert!(
                !allowed(range.network()) && !allowed(range.broadcast()),
                "{range}"
            );
        }
        for range in DENIED_V6 {
            assert!(
                !allowed(range.network()) && !allowed(range.broadcast()),
                "{range}"
            );
        }
    }

    #[test]
    fn the_addresses_next_to_denied_ranges_are_judged_by_the_other_ranges() {
        let denied = |bits: u32| {
            DENIED_V4
                .iter()
                .any(|range| range.contains(&Ipv4Addr::from(bits)))
        };
        for range in DENIED_V4 {
            let below = u32::from(range.network()).checked_sub(1);
            let above = u32::from(range.broadcast()).checked_add(1);
            for bits in [below, above].into_iter().flatten() {
                assert_eq!(
                    allowed(Ipv4Addr::from(bits)),
                    !denied(bits),
                    "{}",
                    Ipv4Addr::from(bits)
                );
            }
        }
        for public in [
            "9.255.255.255",
            "11.0.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "223.255.255.255",
        ] {
            assert!(allowed(public.parse::<IpAddr>().unwrap()), "{public}");
        }
    }

    #[test]
    fn of_ipv6_only_global_unicast_is_allowed() {
        for (address, public) in [
            ("2000::", true),
            ("3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", true),
            ("2606:4700::1111", true),
            ("2001:200::", true),
            ("2001:1ff:ffff::", false),
            ("2003::", true),
            ("1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", false),
            ("4000::", false),
            ("::", false),
            ("::1", false),
            ("::7f00:1", false),
            ("64:ff9b::a00:1", false),
            ("64:ff9b:1::1", false),
            ("100::1", false),
            ("fc00::", false),
            ("fdff:ffff::1", false),
            ("fe80::1", false),
            ("fec0::1", false),
            ("ff02::1", false),
            ("2002:7f00:1::", false),
            ("2001::1", false),
            ("3fff:fff:ffff::1", false),
            ("3fff:1000::", true),
            ("::ffff:127.0.0.1", false),
            ("::ffff:10.0.0.1", false),
            ("::ffff:93.184.215.14", true),
        ] {
            assert_eq!(
                allowed(address.parse::<IpAddr>().unwrap()),
                public,
                "{address}"
            );
        }
    }

    #[test]
    fn an_allowed_range_is_called_and_its_neighbours_are_not() {
        let egress = Egress {
            allow_private_cidrs: vec!["10.1.0.0/16".parse().unwrap()],
            ..Egress::default()
        };
        assert!(check(&egress, "https://10.1.2.3/").is_ok());
        assert!(check(&egress, "https://[::ffff:10.1.2.3]/").is_ok());
        assert!(check(&egress, "https://10.2.0.0/").is_err());
        assert!(check(&egress, "https://localhost/").is_err());
    }

    #[test]
    fn our_own_addresses_are_never_called() {
        let egress = Egress {
            own_addresses: ["127.0.0.1:8080", "0.0.0.0:9090", "93.184.215.14:443"]
                .map(|own| own.parse().unwrap())
                .into(),
            ..Egress::loopback()
        };
        for (url, ok) in [
            ("http://127.0.0.1:8080/", false),
            ("http://[::ffff:127.0.0.1]:8080/", false),
            ("http://127.0.0.1:8081/", true),
            ("http://127.0.0.2:9090/", false),
            ("http://[::1]:9090/", false),
            ("https://93.184.215.14/", false),
            ("http://93.184.215.14/", true),
            ("http://93.184.215.14:9090/", true),
        ] {
            assert_eq!(check(&egress, url).is_ok(), ok, "{url}");
        }
    }

    #[test]
    fn each_loosening_is_warned_of() {
        assert_eq!(Egress::default().warnings(), Vec::<String>::new());
        let warnings = Egress::loopback().warnings();
        for (warning, part) in warnings
            .iter()
            .zip(["allow_http", "127.0.0.0/8", "::1/128"])
        {
            assert!(warning.contains(part), "{warning}");
        }
        assert_eq!(warnings.len(), 3);
    }

    #[test]
    fn http_needs_to_be_allowed() {
        let error = check(&Egress::default(), "http://example.com/").unwrap_err();
        assert_eq!(error.reason(), BlockedReason::PlainHttp);
        assert!(check(&Egress::default(), "https://example.com/").is_ok());
        assert!(check(&Egress::loopback(), "http://localhost:80/").is_ok());
    }

    #[test]
    fn the_text_names_no_reason() {
        let error = check(&Egress::default(), "https://10.0.0.1/").unwrap_err();
        assert_eq!(error.to_string(), "blocked destination");
        assert_eq!(error.reason(), BlockedReason::Address);
    }

    #[test]
    fn a_proxy_is_judged_like_a_callback() {
        let strict = Egress::default();
        assert!(strict.check_host("proxy.example.com", 3128).is_ok());
        for host in [
            "127.0.0.1",
            "::1",
            "[::1]",
            "proxy",
            "LOCALHOST",
            "a.internal",
        ] {
            assert!(strict.check_host(host, 3128).is_err(), "{host}");
        }
        assert!(Egress::loopback().check_host("127.0.0.1", 3128).is_ok());
    }
}
