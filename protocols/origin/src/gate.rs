//! The look at Host and Origin that every request passes before it reaches a handler.
//!
//! Two attacks end here. In DNS rebinding a web page lets its own name point to 127.0.0.1: the
//! browser then talks to the gateway and believes it talks to the page's server, but it still sends
//! the page's name as Host. In a cross-site request the page sends to the gateway's own name, and
//! the browser says so in Origin. Programs that are not browsers send no Origin and are not touched.

use std::net::IpAddr;

use http::request::Parts;
use http::{HeaderMap, StatusCode, Version, header};

use crate::authority::{AllowedHost, Authority, Host};
use crate::origin::{AllowedOrigin, Origin};

/// What may be named and from where.
#[derive(Debug)]
pub struct Gate {
    hosts: Vec<AllowedHost>,
    origins: Vec<AllowedOrigin>,
    for_devices: bool,
}

/// Why a request is turned away.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// HTTP/1.1 requires exactly one Host (RFC 9112 section 3.2).
    NoHost,
    /// Two Hosts, or one that is no host.
    BadHost,
    /// A host that is not this gateway's.
    ForeignHost(String),
    /// A page that is not this gateway's.
    ForeignOrigin(String),
}

impl Gate {
    /// A gate for what a person manages the gateway with: a request names loopback, the address it
    /// arrives at or one of `hosts`, and comes from no page but the gateway's own and those of
    /// `origins`.
    #[must_use]
    pub const fn new(hosts: Vec<AllowedHost>, origins: Vec<AllowedOrigin>) -> Self {
        Self {
            hosts,
            origins,
            for_devices: false,
        }
    }

    /// A gate for a protocol that strangers speak to under whatever name leads to it. A request
    /// that arrives at loopback passes as with [`new`](Self::new), and from pages of this machine
    /// too, whatever their port: whoever serves those can connect without a browser. Of any other
    /// request only that is checked for which there is a list.
    #[must_use]
    pub const fn for_devices(hosts: Vec<AllowedHost>, origins: Vec<AllowedOrigin>) -> Self {
        Self {
            hosts,
            origins,
            for_devices: true,
        }
    }

    /// Lets the request pass that arrived at the address `local`, or says why not.
    pub fn check(&self, request: &Parts, local: IpAddr) -> Result<(), Refusal> {
        let target = Self::target(request)?;
        let strict = !self.for_devices || local.to_canonical().is_loopback();
        if (strict || !self.hosts.is_empty())
            && let Some(target) = &target
            && !self.answers_to(target, local)
        {
            return Err(Refusal::ForeignHost(target.to_string()));
        }
        if strict || !self.origins.is_empty() {
            // A page is the gateway's own only under a name that is known to be the gateway's: under
            // its own name any page could be made to lead here (DNS rebinding).
            let own = target.filter(|target| self.answers_to(target, local));
            self.check_origin(&request.headers, own.as_ref(), strict)?;
        }
        Ok(())
    }

    /// The authority the request names; `None` for HTTP/1.0 without Host. No browser sends that, but
    /// health checks of load balancers do.
    fn target(request: &Parts) -> Result<Option<Authority>, Refusal> {
        let mut hosts = request.headers.get_all(header::HOST).iter();
        let header = hosts.next();
        if hosts.next().is_some() {
            return Err(Refusal::BadHost);
        }
        if header.is_none() && request.version != Version::HTTP_10 {
            return Err(Refusal::NoHost);
        }
        // An absolute request target goes before the header (RFC 9112 section 3.2.2).
        if let Some(authority) = request.uri.authority() {
            return Authority::parse(authority.as_str())
                .map(Some)
                .ok_or(Refusal::BadHost);
        }
        match header {
            Some(value) => value
                .to_str()
                .ok()
                .and_then(Authority::parse)
                .map(Some)
                .ok_or(Refusal::BadHost),
            None => Ok(None),
        }
    }

    fn answers_to(&self, target: &Authority, local: IpAddr) -> bool {
        // Kubernetes probes name the pod by its address, which is the one they arrive at.
        target.host.is_loopback()
            || target.host == Host::Address(local.to_canonical())
            || self.hosts.iter().any(|host| host.matches(target))
    }

    fn check_origin(
        &self,
        headers: &HeaderMap,
        target: Option<&Authority>,
        at_loopback: bool,
    ) -> Result<(), Refusal> {
        for value in headers.get_all(header::ORIGIN) {
            let origin = value.to_str().ok().and_then(Origin::parse);
            let allowed = origin.is_some_and(|origin| {
                target.is_some_and(|target| origin.is_of(target))
                    || (self.for_devices && at_loopback && origin.is_of_this_machine())
                    || self.origins.iter().any(|allowed| allowed.matches(&origin))
            });
            if !allowed {
                let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
                return Err(Refusal::ForeignOrigin(text));
            }
        }
        Ok(())
    }
}

impl Refusal {
    /// The status that says so: 400, 421 (RFC 9110 section 15.5.20) or 403.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::NoHost | Self::BadHost => StatusCode::BAD_REQUEST,
            Self::ForeignHost(_) => StatusCode::MISDIRECTED_REQUEST,
            Self::ForeignOrigin(_) => StatusCode::FORBIDDEN,
        }
    }

    /// A sentence or two for the person who reads the answer. `section` is where the configuration
    /// has the two lists, such as `http`.
    #[must_use]
    pub fn explain(&self, section: &str) -> String {
        match self {
            Self::NoHost => {
                "A request says in its Host header whom it is for; this one does not.".to_owned()
            }
            Self::BadHost => "The Host header is not one host with an optional port.".to_owned(),
            Self::ForeignHost(host) => format!(
                "This gateway does not answer to the host {}. If it should, add it to \
                 {section}.allowed_hosts.",
                shortened(host)
            ),
            // What a page from a file or in a sandbox says (RFC 6454 section 7.1).
            Self::ForeignOrigin(origin) if origin == "null" => "A page without an origin, as one \
                 that was opened from a file or that is in a sandbox, may not send requests to this \
                 gateway. Serve it over HTTP."
                .to_owned(),
            Self::ForeignOrigin(origin) => format!(
                "Pages of {} may not send requests to this gateway. If they should, add the \
                 origin to {section}.allowed_origins.",
                shortened(origin)
            ),
        }
    }
}

/// What a stranger wrote is not repeated at any length.
fn shortened(text: &str) -> String {
    const MOST: usize = 200;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn check(gate: &Gate, uri: &str, headers: &[(&str, &str)]) -> Result<(), Refusal> {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        gate.check(&parts, "10.1.2.3".parse().unwrap())
    }

    fn gate() -> Gate {
        Gate::new(
            vec!["gate.example".parse().unwrap()],
            vec!["https://app.example".parse().unwrap()],
        )
    }

    #[test]
    fn loopback_the_local_address_and_the_allowed_hosts_pass() {
        for host in [
            "localhost",
            "LOCALHOST:9",
            "127.0.0.1",
            "127.9.9.9:1",
            "[::1]:18083",
            "10.1.2.3",
            "10.1.2.3:18083",
            "[::ffff:10.1.2.3]:18083",
            "gate.example",
            "Gate.Example.:80",
        ] {
            assert_eq!(check(&gate(), "/", &[("host", host)]), Ok(()), "{host}");
        }
    }

    #[test]
    fn any_other_host_is_refused() {
        for host in [
            "evil.example",
            "localhost.evil.example",
            "10.1.2.4",
            "gate.example.evil",
            "[fe80::1]",
            "127.0.0.1.evil.example",
            "sub.localhost",
            "0.0.0.0",
        ] {
            assert!(
                matches!(
                    check(&gate(), "/", &[("host", host)]),
                    Err(Refusal::ForeignHost(_))
                ),
                "{host}"
            );
        }
        for host in ["", "user@localhost", "localhost:x", "a b"] {
            assert_eq!(
                check(&gate(), "/", &[("host", host)]),
                Err(Refusal::BadHost),
                "{host}"
            );
        }
    }

    #[test]
    fn an_absolute_target_goes_before_the_host_header() {
        let headers = [("host", "localhost")];
        assert!(matches!(
            check(&gate(), "http://evil.example/livez", &headers),
            Err(Refusal::ForeignHost(_))
        ));
        assert_eq!(
            check(
                &gate(),
                "http://localhost/livez",
                &[("host", "evil.example")]
            ),
            Ok(())
        );
    }

    #[test]
    fn there_is_exactly_one_host() {
        assert_eq!(check(&gate(), "/", &[]), Err(Refusal::NoHost));
        assert_eq!(
            check(&gate(), "http://localhost/", &[]),
            Err(Refusal::NoHost)
        );
        let twice = [("host", "localhost"), ("host", "localhost")];
        assert_eq!(check(&gate(), "/", &twice), Err(Refusal::BadHost));
    }

    #[test]
    fn http_1_0_may_leave_the_host_out_but_not_lie_about_it() {
        let request = |host: Option<&str>| {
            let mut request = Request::builder().uri("/").version(Version::HTTP_10);
            if let Some(host) = host {
                request = request.header("host", host);
            }
            let (parts, ()) = request.body(()).unwrap().into_parts();
            gate().check(&parts, "10.1.2.3".parse().unwrap())
        };
        assert_eq!(request(None), Ok(()));
        assert!(matches!(
            request(Some("evil.example")),
            Err(Refusal::ForeignHost(_))
        ));
    }

    #[test]
    fn an_origin_is_the_gateways_own_or_an_allowed_one() {
        let with = |origin| {
            check(
                &gate(),
                "/",
                &[("host", "localhost:18083"), ("origin", origin)],
            )
        };
        assert_eq!(with("http://localhost:18083"), Ok(()));
        assert_eq!(with("https://app.example"), Ok(()));
        for origin in [
            "null",
            "",
            "http://evil.example",
            "http://app.example",
            "http://localhost",
            "http://localhost:3000",
            "https://app.example:8443",
        ] {
            assert!(
                matches!(with(origin), Err(Refusal::ForeignOrigin(_))),
                "{origin}"
            );
        }
    }

    #[test]
    fn what_a_stranger_wrote_is_repeated_in_part() {
        let long = Refusal::ForeignOrigin("ö".repeat(5_000));
        let text = long.explain("http");
        assert!(text.contains("öö...") && text.len() < 1_000, "{text}");
        let null = Refusal::ForeignOrigin("null".to_owned()).explain("http");
        assert!(null.contains("opened from a file"), "{null}");
    }

    #[test]
    fn devices_are_asked_on_loopback_and_elsewhere_only_what_there_is_a_list_for() {
        let check = |gate: &Gate, local: &str, host: &str, origin: Option<&str>| {
            let mut request = Request::builder().uri("/mqtt").header("host", host);
            if let Some(origin) = origin {
                request = request.header("origin", origin);
            }
            let (parts, ()) = request.body(()).unwrap().into_parts();
            gate.check(&parts, local.parse().unwrap())
        };
        let open = Gate::for_devices(Vec::new(), Vec::new());
        let evil = Some("http://evil.example");
        assert_eq!(check(&open, "127.0.0.1", "localhost", None), Ok(()));
        for origin in [
            "http://localhost:3000",
            "https://127.0.0.1",
            "http://[::1]:1",
        ] {
            assert_eq!(check(&open, "::1", "localhost:8083", Some(origin)), Ok(()));
        }
        for origin in [
            "null",
            "http://evil.example",
            "http://localhost.evil.example",
        ] {
            let refusal = check(&open, "127.0.0.1", "localhost", Some(origin));
            assert!(
                matches!(refusal, Err(Refusal::ForeignOrigin(_))),
                "{origin}"
            );
        }
        let rebound = check(&open, "127.0.0.1", "evil.example", evil);
        assert!(matches!(rebound, Err(Refusal::ForeignHost(_))));
        assert_eq!(check(&open, "10.1.2.3", "broker.example", evil), Ok(()));

        let listed = Gate::for_devices(
            vec!["broker.example".parse().unwrap()],
            vec!["https://app.example".parse().unwrap()],
        );
        let app = Some("https://app.example");
        assert_eq!(check(&listed, "10.1.2.3", "broker.example", app), Ok(()));
        assert_eq!(check(&listed, "10.1.2.3", "broker.example", None), Ok(()));
        let refusal = check(&listed, "10.1.2.3", "other.example", app);
        assert!(matches!(refusal, Err(Refusal::ForeignHost(_))));
        let only_origins =
            Gate::for_devices(Vec::new(), vec!["https://app.example".parse().unwrap()]);
        assert_eq!(check(&only_origins, "10.1.2.3", "any.example", app), Ok(()));
        let own = Some("http://10.1.2.3:8083");
        assert_eq!(
            check(&only_origins, "10.1.2.3", "10.1.2.3:8083", own),
            Ok(())
        );
        // DNS rebinding: the page's own name leads to the gateway.
        let rebound = check(&only_origins, "10.1.2.3", "evil.example", evil);
        assert!(matches!(rebound, Err(Refusal::ForeignOrigin(_))));
        for origin in ["http://localhost", "http://evil.example"] {
            let refusal = check(&listed, "10.1.2.3", "broker.example", Some(origin));
            assert!(
                matches!(refusal, Err(Refusal::ForeignOrigin(_))),
                "{origin}"
            );
        }
    }
}
