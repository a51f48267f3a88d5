//! Which requests a route takes.
use super::Faults;
use envoy_types::pb::envoy::config::core::v3::RuntimeFractionalPercent;
use envoy_types::pb::envoy::config::route::v3::{
    HeaderMatcher, QueryParameterMatcher, RouteMatch, header_matcher::HeaderMatchSpecifier as Header,
    query_parameter_matcher::QueryParameterMatchSpecifier as Query, route_match::PathSpecifier,
};
use envoy_types::pb::envoy::r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern};
use serde_json::{Map, Value, json};

/// `when` and `percent` of a rule.
pub(super) fn read(m: &RouteMatch, at: &str, faults: &mut Faults) -> (Value, Option<Value>) {
    let RouteMatch {
        case_sensitive,
        runtime_fraction,
        headers,
        query_parameters,
        cookies,
        grpc,
        tls_context,
        dynamic_metadata,
        filter_state,
        path_specifier,
    } = m;
    for (given, field) in [
        (!cookies.is_empty(), "cookies"),
        (tls_context.is_some(), "tls_context"),
        (!dynamic_metadata.is_empty(), "dynamic_metadata"),
        (!filter_state.is_empty(), "filter_state"),
    ] {
        if given {
            faults.add(&format!("{at}.{field}"), "is not supported; choose by path, headers or query");
        }
    }
    let mut when = Map::new();
    let any_case = case_sensitive.is_some_and(|c| !c.value);
    match path_specifier {
        None => faults.add(at, "has no path; give a prefix, path or safe_regex"),
        Some(path) => match self::path(path, any_case) {
            Ok(Some(matcher)) => drop(when.insert("path".into(), matcher)),
            Ok(None) => {}
            Err(problem) => faults.add(at, problem),
        },
    }
    let mut header = Map::new();
    for (i, h) in headers.iter().enumerate() {
        let at = format!("{at}.headers[{i}]");
        let Some(matcher) = self::header(h, &at, faults) else { continue };
        let name = h.name.to_ascii_lowercase();
        let (place, key) = match name.as_str() {
            ":method" => (&mut when, "method".to_owned()),
            ":authority" | "host" => (&mut when, "authority".to_owned()),
            ":path" if !when.contains_key("path") => (&mut when, "path".to_owned()),
            _ if name.starts_with(':') => {
                faults.add(
                    &at,
                    format_args!("{name} is not supported; give :method, :authority or a header's name"),
                );
                continue;
            }
            _ => (&mut header, name),
        };
        if place.insert(key, matcher).is_some() {
            faults.add(&at, "is a second condition on the same header; put both into one safe_regex");
        }
    }
    if grpc.is_some() && !header.contains_key("content-type") {
        header.insert("content-type".into(), json!({ "prefix": "application/grpc" }));
    }
    let mut query = Map::new();
    for (i, q) in query_parameters.iter().enumerate() {
        if let Some(matcher) = self::query(q, &format!("{at}.query_parameters[{i}]"), faults) {
            query.insert(q.name.clone(), matcher);
        }
    }
    for (name, map) in [("header", header), ("query", query)] {
        if !map.is_empty() {
            when.insert(name.into(), map.into());
        }
    }
    (when.into(), runtime_fraction.as_ref().and_then(percent))
}

/// A share as the model's `percent`; `None` = all.
pub(super) fn percent(fraction: &RuntimeFractionalPercent) -> Option<Value> {
    let value = fraction.default_value?;
    let of = [100.0, 10_000.0, 1_000_000.0].get(usize::try_from(value.denominator).ok()?)?;
    let percent = f64::from(value.numerator) * 100.0 / of;
    (percent < 100.0).then(|| json!(percent))
}

/// The path's matcher; `None` = every path.
fn path(path: &PathSpecifier, any_case: bool) -> Result<Option<Value>, &'static str> {
    Ok(match path {
        PathSpecifier::Prefix(prefix) if prefix.is_empty() || prefix == "/" => None,
        PathSpecifier::Prefix(prefix) if any_case => {
            Some(regex(true, &format!("{}.*", regex::escape(prefix))))
        }
        PathSpecifier::Prefix(prefix) => Some(json!({ "prefix": prefix })),
        PathSpecifier::Path(path) if any_case => Some(regex(true, &regex::escape(path))),
        PathSpecifier::Path(path) => Some(json!({ "equals": path })),
        PathSpecifier::PathSeparatedPrefix(prefix) => {
            Some(regex(any_case, &format!("{}(/.*)?", regex::escape(prefix))))
        }
        PathSpecifier::SafeRegex(r) => Some(regex(false, &r.regex)),
        PathSpecifier::ConnectMatcher(_) | PathSpecifier::PathMatchPolicy(_) => {
            return Err("its path is not supported; give a prefix, path or safe_regex");
        }
    })
}

fn regex(any_case: bool, text: &str) -> Value {
    json!({ "regex": format!("{}{text}", if any_case { "(?i)" } else { "" }) })
}

#[allow(deprecated, reason = "servers send deprecated fields for years")]
fn header(h: &HeaderMatcher, at: &str, faults: &mut Faults) -> Option<Value> {
    if h.treat_missing_header_as_empty {
        faults.add(&format!("{at}.treat_missing_header_as_empty"), "is not supported; leave it out");
    }
    let matcher = match &h.header_match_specifier {
        None => json!({ "exists": true }),
        Some(Header::PresentMatch(present)) => json!({ "exists": *present }),
        Some(Header::ExactMatch(text)) => json!({ "equals": text }),
        Some(Header::PrefixMatch(text)) => json!({ "prefix": text }),
        Some(Header::SuffixMatch(text)) => regex(false, &format!(".*{}", regex::escape(text))),
        Some(Header::ContainsMatch(text)) => regex(false, &format!(".*{}.*", regex::escape(text))),
        Some(Header::SafeRegexMatch(r)) => regex(false, &r.regex),
        Some(Header::RangeMatch(range)) if range.start < range.end => {
            json!({ "range": [range.start, range.end - 1] })
        }
        Some(Header::RangeMatch(range)) => {
            faults.add(at, format_args!("the range {}..{} is empty", range.start, range.end));
            return None;
        }
        Some(Header::StringMatch(m)) => string(m, at, faults)?,
    };
    if !h.invert_match {
        return Some(matcher);
    }
    match (matcher.get("equals"), matcher.get("exists").and_then(Value::as_bool)) {
        (Some(text), _) => Some(json!({ "notEquals": text })),
        (_, Some(exists)) => Some(json!({ "exists": !exists })),
        _ => {
            faults.add(
                &format!("{at}.invert_match"),
                "is supported with exact and present alone; use one of them",
            );
            None
        }
    }
}

fn query(q: &QueryParameterMatcher, at: &str, faults: &mut Faults) -> Option<Value> {
    match &q.query_parameter_match_specifier {
        None => Some(json!({ "exists": true })),
        Some(Query::PresentMatch(present)) => Some(json!({ "exists": *present })),
        Some(Query::StringMatch(m)) => string(m, at, faults),
    }
}

fn string(m: &StringMatcher, at: &str, faults: &mut Faults) -> Option<Value> {
    let folded = |text: String| Some(regex(m.ignore_case, &text));
    match m.match_pattern.as_ref()? {
        MatchPattern::Exact(text) if m.ignore_case => folded(regex::escape(text)),
        MatchPattern::Exact(text) => Some(json!({ "equals": text })),
        MatchPattern::Prefix(text) if m.ignore_case => folded(format!("{}.*", regex::escape(text))),
        MatchPattern::Prefix(text) => Some(json!({ "prefix": text })),
        MatchPattern::Suffix(text) => folded(format!(".*{}", regex::escape(text))),
        MatchPattern::Contains(text) => folded(format!(".*{}.*", regex::escape(text))),
        MatchPattern::SafeRegex(r) => Some(regex(false, &r.regex)),
        MatchPattern::Custom(_) => {
            faults.add(
                at,
                "a custom matcher is not supported; give exact, prefix, suffix, contains or safe_regex",
            );
            None
        }
    }
}
