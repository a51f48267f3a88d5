//! Conditions of a rule as Envoy's matchers, as far as they can be said.
use super::super::ServiceView;
use super::routes::Dialect;
use envoy_types::pb::envoy::config::core::v3::RuntimeFractionalPercent;
use envoy_types::pb::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use envoy_types::pb::envoy::config::route::v3::query_parameter_matcher::QueryParameterMatchSpecifier;
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use envoy_types::pb::envoy::config::route::v3::{HeaderMatcher, QueryParameterMatcher, RouteMatch};
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::envoy::r#type::matcher::v3::{RegexMatcher, StringMatcher};
use envoy_types::pb::envoy::r#type::v3::fractional_percent::DenominatorType;
use envoy_types::pb::envoy::r#type::v3::{FractionalPercent, Int64Range};
use raddle_model::{Condition, Matcher, Route, RouteRule, Subject};

/// What a rule takes; `None` = it takes nothing of this service, or cannot be said.
pub(super) fn matching(
    dialect: Dialect,
    service: &ServiceView<'_>,
    route: &Route,
    rule: &RouteRule,
) -> Option<RouteMatch> {
    let mut m = RouteMatch::default();
    if !route.to.methods.is_empty() {
        method(dialect, service, &Matcher::In(route.to.methods.clone()), &mut m)?;
    }
    for condition in &rule.when {
        add(dialect, service, condition, &mut m)?;
    }
    m.path_specifier.get_or_insert_with(everything);
    if rule.percent_ppm < 1_000_000 {
        m.runtime_fraction = Some(fraction(rule.percent_ppm));
    }
    Some(m)
}

/// All paths.
pub(super) fn everything() -> PathSpecifier {
    PathSpecifier::Prefix("/".to_owned())
}

pub(super) fn fraction(ppm: u32) -> RuntimeFractionalPercent {
    let value = FractionalPercent { numerator: ppm, denominator: DenominatorType::Million as i32 };
    RuntimeFractionalPercent { default_value: Some(value), ..RuntimeFractionalPercent::default() }
}

fn add(dialect: Dialect, service: &ServiceView<'_>, c: &Condition, m: &mut RouteMatch) -> Option<()> {
    match &c.subject {
        Subject::Header(name) => m.headers.push(header(dialect, name, &c.matcher)?),
        Subject::Method => method(dialect, service, &c.matcher, m)?,
        Subject::Path => path(path_specifier(&c.matcher)?, m)?,
        Subject::Authority if dialect == Dialect::Envoy => {
            m.headers.push(header(dialect, ":authority", &c.matcher)?);
        }
        Subject::Query(name) if dialect == Dialect::Envoy => {
            m.query_parameters.push(query(name, &c.matcher)?);
        }
        // Decided now: the service is known.
        Subject::Service => holds(&c.matcher, service.name).then_some(())?,
        Subject::Authority | Subject::Query(_) | Subject::CallerApp | Subject::LoadTest => return None,
    }
    Some(())
}

/// There is one path to match only.
fn path(specifier: PathSpecifier, m: &mut RouteMatch) -> Option<()> {
    m.path_specifier.replace(specifier).is_none().then_some(())
}

fn path_specifier(matcher: &Matcher) -> Option<PathSpecifier> {
    Some(match matcher {
        Matcher::Equals(p) => PathSpecifier::Path(p.clone()),
        Matcher::Prefix(p) => PathSpecifier::Prefix(p.clone()),
        Matcher::Exists(true) => everything(),
        Matcher::In(_) | Matcher::Regex(_) => PathSpecifier::SafeRegex(regex(expression(matcher)?)),
        _ => return None,
    })
}

/// HTTP's method is a header to Envoy; an RPC's the last part of its path.
fn method(dialect: Dialect, service: &ServiceView<'_>, matcher: &Matcher, m: &mut RouteMatch) -> Option<()> {
    let rpc = dialect == Dialect::Grpc || matches!(service.protocol, "grpc" | "triple");
    if rpc {
        return path(PathSpecifier::SafeRegex(regex(format!("/[^/]+/(?:{})", expression(matcher)?))), m);
    }
    m.headers.push(header(dialect, ":method", matcher)?);
    Some(())
}

/// An expression for the whole value, if the matcher can be said as one.
fn expression(matcher: &Matcher) -> Option<String> {
    Some(match matcher {
        Matcher::Equals(v) => escape(v),
        Matcher::In(all) => all.iter().map(|v| escape(v)).collect::<Vec<_>>().join("|"),
        Matcher::Prefix(v) => format!("{}.*", escape(v)),
        Matcher::Regex(r) => r.as_str().to_owned(),
        Matcher::Exists(true) => ".*".to_owned(),
        _ => return None,
    })
}

fn header(dialect: Dialect, name: &str, matcher: &Matcher) -> Option<HeaderMatcher> {
    let text = |pattern| {
        HeaderMatchSpecifier::StringMatch(StringMatcher {
            match_pattern: Some(pattern),
            ..Default::default()
        })
    };
    let (specifier, invert) = match matcher {
        Matcher::Equals(v) => (text(MatchPattern::Exact(v.clone())), false),
        Matcher::NotEquals(v) => (text(MatchPattern::Exact(v.clone())), true),
        Matcher::Prefix(v) => (text(MatchPattern::Prefix(v.clone())), false),
        Matcher::Regex(_) | Matcher::In(_) => {
            (text(MatchPattern::SafeRegex(regex(expression(matcher)?))), false)
        }
        Matcher::NotIn(all) => {
            let expression = expression(&Matcher::In(all.clone()))?;
            (text(MatchPattern::SafeRegex(regex(expression))), true)
        }
        Matcher::Range { min, max } => {
            (HeaderMatchSpecifier::RangeMatch(Int64Range { start: *min, end: max.saturating_add(1) }), false)
        }
        Matcher::Exists(there) => (HeaderMatchSpecifier::PresentMatch(*there), false),
    };
    Some(HeaderMatcher {
        name: name.to_owned(),
        invert_match: invert,
        // To a rule, what is absent is unequal. gRPC's clients do not know the field and match by its absence.
        treat_missing_header_as_empty: invert && dialect == Dialect::Envoy,
        header_match_specifier: Some(specifier),
    })
}

fn query(name: &str, matcher: &Matcher) -> Option<QueryParameterMatcher> {
    let text = |pattern| {
        QueryParameterMatchSpecifier::StringMatch(StringMatcher {
            match_pattern: Some(pattern),
            ..Default::default()
        })
    };
    let specifier = match matcher {
        Matcher::Equals(v) => text(MatchPattern::Exact(v.clone())),
        Matcher::Prefix(v) => text(MatchPattern::Prefix(v.clone())),
        Matcher::Regex(_) | Matcher::In(_) => text(MatchPattern::SafeRegex(regex(expression(matcher)?))),
        Matcher::Exists(there) => QueryParameterMatchSpecifier::PresentMatch(*there),
        Matcher::NotEquals(_) | Matcher::NotIn(_) | Matcher::Range { .. } => return None,
    };
    Some(QueryParameterMatcher { name: name.to_owned(), query_parameter_match_specifier: Some(specifier) })
}

/// Whether a known value is what the matcher wants.
fn holds(matcher: &Matcher, value: &str) -> bool {
    match matcher {
        Matcher::Equals(v) => v == value,
        Matcher::NotEquals(v) => v != value,
        Matcher::In(all) => all.iter().any(|v| v == value),
        Matcher::NotIn(all) => !all.iter().any(|v| v == value),
        Matcher::Prefix(v) => value.starts_with(v.as_str()),
        Matcher::Regex(r) => r.find_iter(value).any(|found| found.as_str() == value),
        Matcher::Range { min, max } => value.parse::<i64>().is_ok_and(|n| (*min..=*max).contains(&n)),
        Matcher::Exists(there) => *there,
    }
}

/// Envoy and gRPC match a value as a whole.
pub(super) fn regex(expression: String) -> RegexMatcher {
    RegexMatcher { regex: expression, ..RegexMatcher::default() }
}

/// A text as an expression that matches it and nothing else.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if !c.is_alphanumeric() && c.is_ascii() && c != '_' {
            out.push('\\');
        }
        out.push(c);
    }
    out
}
