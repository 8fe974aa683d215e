//! Addresses as PD and applications write them.

use std::fmt;

use http::uri::Authority;

/// Where to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// For the runtime, and for HTTP/2's `:authority`.
    pub(crate) authority: Authority,
}

/// Why an address cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AddressError {
    /// TLS is asked for.
    Tls,
    /// It is not an address.
    Malformed(&'static str),
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tls => f.write_str("asks for TLS, which this version of the client cannot do"),
            Self::Malformed(what) => write!(f, "is not an address of the form host:port: {what}"),
        }
    }
}

impl Address {
    /// Parses `host:port` or `http://host:port`, with or without a slash at the end.
    pub(crate) fn parse(text: &str) -> Result<Self, AddressError> {
        let rest = match text.split_once("://") {
            None => text,
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some((scheme, _)) if scheme.eq_ignore_ascii_case("https") => {
                return Err(AddressError::Tls);
            }
            Some(_) => return Err(AddressError::Malformed("unknown scheme")),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains('@') {
            return Err(AddressError::Malformed("it names a user"));
        }
        let authority: Authority = rest
            .parse()
            .map_err(|_| AddressError::Malformed("it has a part that does not belong"))?;
        if authority.host().is_empty() {
            return Err(AddressError::Malformed("no host"));
        }
        match authority.port_u16() {
            None => Err(AddressError::Malformed("no port")),
            Some(0) => Err(AddressError::Malformed("port 0")),
            Some(_) => Ok(Self { authority }),
        }
    }

    pub(crate) fn host_port(&self) -> &str {
        self.authority.as_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_goes_and_the_rest_stays() {
        for (text, host_port) in [
            ("127.0.0.1:2379", "127.0.0.1:2379"),
            ("http://pd-0.pd:2379", "pd-0.pd:2379"),
            ("HTTP://pd:2379/", "pd:2379"),
            ("[::1]:20160", "[::1]:20160"),
        ] {
            assert_eq!(Address::parse(text).unwrap().host_port(), host_port);
        }
    }

    #[test]
    fn d23_tls_is_refused_by_name_and_never_downgraded() {
        assert_eq!(Address::parse("https://pd:2379"), Err(AddressError::Tls));
        assert!(AddressError::Tls.to_string().contains("TLS"));
    }

    #[test]
    fn nonsense_is_an_error_not_a_panic() {
        for text in [
            "",
            ":",
            "pd",
            "pd:",
            ":2379",
            "pd:0",
            "pd:99999",
            "pd:x",
            "unix:///tmp/pd",
            "a b:1",
            "pd:2379/path",
            "user@pd:2379",
            "http://",
            "::1:2379",
            "[::1]",
            "pd:2379?x=1",
            "\0:1",
        ] {
            assert!(
                matches!(Address::parse(text), Err(AddressError::Malformed(_))),
                "{text:?}: {:?}",
                Address::parse(text)
            );
        }
    }
}
