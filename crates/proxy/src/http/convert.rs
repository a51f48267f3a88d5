//! Heads between this crate's form and h2's.
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version};
use raddle_wire::http::fields::{is_hop_by_hop, tokens};
use raddle_wire::http::h1::read::{check_authority, forbidden_in_trailers};
use raddle_wire::http::{Fields, Request, Response};

/// Reads a request's head that came over HTTP/2 into `to`. What HTTP/1.1 could not carry, or would carry
/// as something else, is refused with the reason.
pub(crate) fn request_from(parts: &http::request::Parts, to: &mut Request) -> Result<(), &'static str> {
    let host = parts.headers.get("host").map(HeaderValue::as_bytes);
    let authority = parts.uri.authority().map(|a| a.as_str().as_bytes());
    if let (Some(h), Some(a)) = (host, authority)
        && !h.eq_ignore_ascii_case(a)
    {
        return Err("host differs from :authority");
    }
    if parts.headers.get_all("host").iter().nth(1).is_some() {
        return Err("more than one host");
    }
    let name = authority.or(host).unwrap_or(b"");
    check_authority(name).map_err(|m| m.what)?;
    let target = parts.uri.path_and_query().map_or("", http::uri::PathAndQuery::as_str).as_bytes();
    let connect = parts.method == Method::CONNECT;
    let fits = connect || target.starts_with(b"/") || target == b"*" && parts.method == Method::OPTIONS;
    if !fits {
        return Err(":path is no path");
    }
    if target.iter().any(|b| *b <= b' ' || *b == 0x7F || *b == b'#') {
        return Err(":path holds a byte no path has");
    }
    to.reset(parts.method.as_str().as_bytes(), name, if connect { b"" } else { target });
    to.https = parts.uri.scheme_str() == Some("https");
    fields_from(&parts.headers, &mut to.fields);
    to.fields.remove("host");
    join_cookies(&parts.headers, &mut to.fields);
    Ok(())
}

/// HTTP/2 may cut a cookie into several fields; HTTP/1.1 wants one (RFC 9113, section 8.2.3).
fn join_cookies(from: &HeaderMap, to: &mut Fields) {
    let mut all = from.get_all("cookie").iter();
    if let (Some(first), Some(second)) = (all.next(), all.next()) {
        let mut joined = first.as_bytes().to_vec();
        for v in std::iter::once(second).chain(all) {
            joined.extend_from_slice(b"; ");
            joined.extend_from_slice(v.as_bytes());
        }
        to.set("cookie", &joined);
    }
}

/// Reads a response's head that came over HTTP/2.
pub(crate) fn response_from(parts: &http::response::Parts, to: &mut Response) {
    to.status = parts.status.as_u16();
    to.phrase.clear();
    to.fields.clear();
    fields_from(&parts.headers, &mut to.fields);
}

/// Reads fields, without those about one connection. `te: trailers` stays: gRPC wants it.
pub(crate) fn fields_from(map: &HeaderMap, to: &mut Fields) {
    for (name, value) in map {
        let name = name.as_str().as_bytes();
        let te = name == b"te" && tokens(value.as_bytes()).any(|t| t.eq_ignore_ascii_case(b"trailers"));
        if te {
            to.push(b"te", b"trailers");
        } else if !is_hop_by_hop(name) {
            to.push(name, value.as_bytes());
        }
    }
}

/// Makes a request for h2. `None` if HTTP/2 cannot say it.
pub(crate) fn request_to(r: &Request) -> Option<http::Request<()>> {
    let target = if r.is_connect() { b"" } else { r.target() };
    let mut uri = http::uri::Parts::default();
    if !r.authority().is_empty() {
        uri.authority = Some(http::uri::Authority::try_from(r.authority()).ok()?);
        uri.scheme = Some(if r.https { http::uri::Scheme::HTTPS } else { http::uri::Scheme::HTTP });
    }
    if !target.is_empty() {
        uri.path_and_query = Some(http::uri::PathAndQuery::try_from(target).ok()?);
    }
    let mut out = http::Request::new(());
    *out.method_mut() = Method::from_bytes(r.method()).ok()?;
    *out.uri_mut() = Uri::from_parts(uri).ok()?;
    *out.version_mut() = Version::HTTP_2;
    fields_to(&r.fields, out.headers_mut())?;
    Some(out)
}

/// Makes a response for h2. `None` if HTTP/2 cannot say it.
pub(crate) fn response_to(r: &Response) -> Option<http::Response<()>> {
    let mut out = http::Response::new(());
    *out.status_mut() = StatusCode::from_u16(r.status).ok()?;
    *out.version_mut() = Version::HTTP_2;
    fields_to(&r.fields, out.headers_mut())?;
    Some(out)
}

fn fields_to(fields: &Fields, to: &mut HeaderMap) -> Option<()> {
    to.reserve(fields.len());
    for (name, value) in fields.iter() {
        if is_hop_by_hop(name) && name != b"te" {
            continue;
        }
        to.append(HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value).ok()?);
    }
    Some(())
}

/// Makes trailers for h2; fields that may not be there are left out.
pub(crate) fn trailers_to(fields: &Fields) -> HeaderMap {
    let mut map = HeaderMap::with_capacity(fields.len());
    for (name, value) in fields.iter().filter(|(n, _)| !is_hop_by_hop(n) && !forbidden_in_trailers(n)) {
        if let (Ok(n), Ok(v)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            map.append(n, v);
        }
    }
    map
}
