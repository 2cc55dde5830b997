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
    /// A connection whose peer cannot be told.
    UnknownPeer,
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
            Self::UnknownPeer => "the connected peer cannot be told",
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
            let same = if address.is_unspecified() { !is_public(ip) } else { address == ip };
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
