//! The proxy that calls go through.

use std::{
    future::{Ready, ready},
    io,
    net::SocketAddr,
    task::{Context, Poll},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderValue, Uri, uri::Scheme};
use hyper_util::{
    client::legacy::connect::proxy::{SocksV5, Tunnel},
    rt::TokioIo,
};
use tokio::net::TcpStream;
use tower_service::Service;
use url::Url;
use zeroize::Zeroizing;

use super::{Egress, clients::ClientError, connect::BoxError, target};
use crate::model::{Proxy, ProxyKind, Secrets};

/// A proxy with what it wants to know of us.
pub(super) struct Upstream {
    kind: ProxyKind,
    uri: Uri,
    login: Option<Login>,
}

/// Who we are to a proxy.
struct Login {
    username: String,
    password: Zeroizing<String>,
    /// Both as an HTTP proxy wants them.
    header: HeaderValue,
}

/// Where a proxy listens, if it may be called.
pub(super) fn address(proxy: &Proxy, egress: &Egress) -> Result<Uri, ClientError> {
    let unusable = || unusable(proxy);
    egress.check_host(&proxy.host, proxy.port)?;
    let host = proxy.host.as_str();
    let bracketed = if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]")
    } else {
        host.to_owned()
    };
    // In its normal form, as a callback's: what is checked here is what is called.
    let url = format!("http://{bracketed}:{}", proxy.port);
    let url = Url::parse(&url).map_err(|_| unusable())?;
    let is_plain = url.path() == "/"
        && url.username().is_empty()
        && url.query().is_none()
        && url.fragment().is_none()
        && url.port_or_known_default() == Some(proxy.port);
    if !is_plain {
        return Err(unusable());
    }
    egress.check_host(url.host_str().unwrap_or_default(), proxy.port)?;
    url.as_str().parse().map_err(|_| unusable())
}

impl Upstream {
    /// This proxy, its password from the vault.
    pub(super) fn of(
        proxy: &Proxy,
        egress: &Egress,
        secrets: &dyn Secrets,
    ) -> Result<Self, ClientError> {
        let uri = address(proxy, egress)?;
        let login = proxy.username.as_ref();
        let login = login.map(|username| Login::of(username, proxy, secrets));
        Ok(Self {
            kind: proxy.kind,
            uri,
            login: login.transpose()?,
        })
    }

    /// Where it listens.
    pub(super) const fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Whether it wants the address of a callback from us, not its name.
    pub(super) const fn wants_address(&self) -> bool {
        matches!(self.kind, ProxyKind::Socks5)
    }

    /// Whether it takes requests for this URL itself, and makes them in our place.
    pub(super) fn takes_requests(&self, target: &Uri) -> bool {
        self.kind == ProxyKind::Http && !target::is_tls(target)
    }

    /// `Proxy-Authorization` of requests that it takes itself.
    pub(super) fn authorization(&self) -> Option<&HeaderValue> {
        let login = self.login.as_ref()?;
        (self.kind == ProxyKind::Http).then_some(&login.header)
    }

    /// Has a connection to it lead on to this URL.
    pub(super) async fn lead_on(
        &self,
        tcp: TokioIo<TcpStream>,
        target: Uri,
    ) -> Result<TokioIo<TcpStream>, BoxError> {
        let there = There(Some(tcp));
        match self.kind {
            ProxyKind::Http => {
                let mut tunnel = Tunnel::new(self.uri.clone(), there);
                if let Some(login) = &self.login {
                    tunnel = tunnel.with_auth(login.header.clone());
                }
                Ok(tunnel.call(target).await?)
            }
            ProxyKind::Socks5 => {
                let mut socks = SocksV5::new(self.uri.clone(), there);
                if let Some(login) = &self.login {
                    let password = String::clone(&login.password);
                    socks = socks.with_auth(login.username.clone(), password);
                }
                Ok(socks.call(target).await?)
            }
        }
    }
}

impl Login {
    fn of(username: &str, proxy: &Proxy, secrets: &dyn Secrets) -> Result<Self, ClientError> {
        let password = match &proxy.password {
            Some(secret) => secret.reveal(secrets).ok_or(ClientError::ProxyPassword)?,
            None => String::new().into(),
        };
        let pair = Zeroizing::new(format!("{username}:{}", *password));
        let basic = Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())));
        let mut header = HeaderValue::from_str(&basic).map_err(|_| unusable(proxy))?;
        header.set_sensitive(true);
        Ok(Self {
            username: username.to_owned(),
            password,
            header,
        })
    }
}

fn unusable(proxy: &Proxy) -> ClientError {
    ClientError::Proxy {
        host: proxy.host.clone(),
    }
}

/// A URL that stands for this address and port.
pub(super) fn at(address: SocketAddr) -> Result<Uri, http::Error> {
    let uri = Uri::builder().scheme(Scheme::HTTP).path_and_query("/");
    uri.authority(address.to_string()).build()
}

/// A connection that stands, for those who ask for one to be made.
struct There(Option<TokioIo<TcpStream>>);

impl Service<Uri> for There {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = Ready<io::Result<TokioIo<TcpStream>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let gone = || io::Error::from(io::ErrorKind::NotConnected);
        ready(self.0.take().ok_or_else(gone))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::NoSecrets;

    fn proxy(kind: ProxyKind, host: &str, username: Option<&str>) -> Proxy {
        Proxy {
            kind,
            host: host.to_owned(),
            port: 3128,
            username: username.map(str::to_owned),
            password: None,
        }
    }

    #[test]
    fn a_proxy_is_called_at_its_host_in_normal_form() {
        for (host, uri) in [
            ("Proxy.Example.com", "http://proxy.example.com:3128/"),
            ("2606:4700::1111", "http://[2606:4700::1111]:3128/"),
            ("[2606:4700:0::1111]", "http://[2606:4700::1111]:3128/"),
            ("0x5d.184.215.14", "http://93.184.215.14:3128/"),
        ] {
            let found = address(&proxy(ProxyKind::Http, host, None), &Egress::default());
            assert_eq!(found.unwrap(), uri);
        }
    }

    #[test]
    fn no_spelling_of_a_proxy_hides_where_it_is() {
        for host in [
            "10.0.0.1",
            "0x0a.1",
            "::1",
            "[::ffff:10.0.0.1]",
            "localhost",
            "user@proxy.example.com",
            "proxy.example.com/a",
            "proxy.example.com?a",
            "proxy.example.com#a",
            "proxy .example.com",
            "",
        ] {
            let found = address(&proxy(ProxyKind::Socks5, host, None), &Egress::default());
            assert!(found.is_err(), "{host}");
        }
    }

    #[test]
    fn an_http_proxy_takes_plain_requests_and_their_credentials() {
        let upstream = |kind, username| {
            let proxy = proxy(kind, "proxy.example.com", username);
            Upstream::of(&proxy, &Egress::default(), &NoSecrets).unwrap()
        };
        let (plain, tls) = (
            Uri::from_static("http://a.example/"),
            Uri::from_static("https://a.example/"),
        );
        let http = upstream(ProxyKind::Http, Some("u"));
        assert!(http.takes_requests(&plain) && !http.takes_requests(&tls));
        let header = http.authorization().unwrap();
        assert_eq!(header, "Basic dTo=");
        assert!(header.is_sensitive());
        assert_eq!(upstream(ProxyKind::Http, None).authorization(), None);
        let socks = upstream(ProxyKind::Socks5, Some("u"));
        assert!(!socks.takes_requests(&plain) && !socks.takes_requests(&tls));
        assert_eq!(socks.authorization(), None);
    }

    #[test]
    fn a_callback_is_named_to_a_socks_proxy_by_address_and_port() {
        for (address, uri) in [
            ("192.0.2.1:80", "http://192.0.2.1:80/"),
            ("[2001:db8::1]:8443", "http://[2001:db8::1]:8443/"),
        ] {
            assert_eq!(at(address.parse().unwrap()).unwrap(), uri);
        }
    }
}
