//! A request that was let in: its parameters by the route's declaration, its body, and who asks.
use super::problem::Problem;
use super::route::{Param, ParamKind};
use super::shape::MistakeAnswer;
use crate::api::auth::Who;
use crate::api::state::State;
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A request.
pub(crate) struct Call {
    pub(crate) state: Arc<State>,
    pub(crate) who: Who,
    pub(crate) path: BTreeMap<String, String>,
    pub(crate) query: Values,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Call {
    /// A parameter of the path.
    pub(crate) fn param(&self, name: &str) -> &str {
        self.path.get(name).map_or("", |v| v.as_str())
    }

    /// `KIND/NAME` of the path's parameters.
    pub(crate) fn rule_id(&self) -> String {
        format!("{}/{}", self.param("kind"), self.param("name"))
    }

    /// The JSON body; an absent one is the default.
    ///
    /// # Errors
    /// 400 with the place of what is wrong.
    pub(crate) fn json<T: DeserializeOwned + Default>(&self) -> Result<T, Problem> {
        if self.body.is_empty() {
            return Ok(T::default());
        }
        serde_json::from_slice(&self.body).map_err(|e| {
            let mistake = MistakeAnswer {
                file: "body".into(),
                line: e.line() as u32,
                column: e.column() as u32,
                path: String::new(),
                problem: e.to_string(),
                remedy: "see /openapi.json for what the body may hold".into(),
            };
            let mut problem = Problem::bad(format!("the body is not what this operation takes: {e}"));
            problem.mistakes = vec![mistake];
            problem
        })
    }

    /// The body as text.
    ///
    /// # Errors
    /// 400 if it is not UTF-8.
    pub(crate) fn text(&self) -> Result<String, Problem> {
        String::from_utf8(self.body.to_vec()).map_err(|e| {
            Problem::bad(format!("the body is not UTF-8 from byte {} on", e.utf8_error().valid_up_to()))
        })
    }

    /// The revision that `If-Match` demands; `*` and absence demand none.
    ///
    /// # Errors
    /// 400 if it is not one quoted tag.
    pub(crate) fn if_match(&self) -> Result<Option<String>, Problem> {
        let Some(value) = self.headers.get(header::IF_MATCH) else { return Ok(None) };
        let wrong =
            || Problem::bad("If-Match must be one tag as ETag gave it, such as \"0123456789abcdef\", or *");
        let text = value.to_str().map_err(|_| wrong())?.trim();
        if text == "*" {
            return Ok(None);
        }
        let tag = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).ok_or_else(wrong)?;
        if tag.is_empty() || tag.contains('"') {
            return Err(wrong());
        }
        Ok(Some(tag.to_owned()))
    }
}

/// Query parameters, read by the route's declaration.
#[derive(Clone, Debug, Default)]
pub(crate) struct Values(BTreeMap<&'static str, String>);

impl Values {
    /// Reads a query string.
    ///
    /// # Errors
    /// Everything that is wrong with it: names the route does not know, values out of range, the same name twice.
    pub(crate) fn read(query: &str, params: &[Param]) -> Result<Values, Problem> {
        let mut values = BTreeMap::new();
        let mut wrong = Vec::new();
        for part in query.split('&').filter(|p| !p.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let (Some(name), Some(value)) = (unescape(name), unescape(value)) else {
                wrong.push(mistake(part, "is not percent-encoded UTF-8", "encode it"));
                continue;
            };
            let Some(param) = params.iter().find(|p| p.name == name) else {
                let known: Vec<_> = params.iter().map(|p| p.name).collect();
                let remedy = match known.as_slice() {
                    [] => "this operation takes none".to_owned(),
                    known => format!("this operation takes {}", known.join(", ")),
                };
                wrong.push(mistake(&name, "is no parameter of this operation", &remedy));
                continue;
            };
            if let Err(remedy) = param.kind.check(&value) {
                wrong.push(mistake(&name, &format!("cannot be {value:?}"), &remedy));
            } else if values.insert(param.name, value).is_some() {
                wrong.push(mistake(&name, "is given twice", "give it once"));
            }
        }
        if wrong.is_empty() {
            return Ok(Values(values));
        }
        let say = |m: &MistakeAnswer| format!("{} {}; {}", m.path, m.problem, m.remedy);
        let message = wrong.iter().map(say).collect::<Vec<_>>().join(". ");
        Err(Problem { mistakes: wrong, ..Problem::bad(format!("query: {message}")) })
    }

    /// A text, if it was given.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// A flag; absent = false.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.text(name) == Some("true")
    }

    /// A number, if it was given.
    pub(crate) fn whole(&self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }

    /// Words divided by commas, if they were given.
    pub(crate) fn words(&self, name: &str) -> Option<Vec<&str>> {
        Some(self.text(name)?.split(',').collect())
    }

    /// Most items of a page.
    pub(crate) fn limit(&self) -> usize {
        self.whole("limit").unwrap_or(100).clamp(1, 1000) as usize
    }
}

impl ParamKind {
    /// What would be right instead.
    fn check(self, value: &str) -> Result<(), String> {
        let right = match self {
            ParamKind::Text => !value.is_empty() && value.len() <= 1024,
            ParamKind::Flag => value == "true" || value == "false",
            ParamKind::Whole(least, most, _) => {
                value.parse::<u64>().is_ok_and(|n| (least..=most).contains(&n))
                    && value.bytes().all(|b| b.is_ascii_digit())
            }
            ParamKind::Word(words) => words.contains(&value),
            ParamKind::Words(words) => value.split(',').all(|v| words.contains(&v)),
        };
        if right {
            return Ok(());
        }
        Err(match self {
            ParamKind::Text => "give 1 to 1024 bytes".to_owned(),
            ParamKind::Flag => "give true or false".to_owned(),
            ParamKind::Whole(least, most, _) => format!("give a whole number, {least} to {most}"),
            ParamKind::Word(words) => format!("give one of {}", words.join(", ")),
            ParamKind::Words(words) => {
                format!("give one or more of {}, divided by commas", words.join(", "))
            }
        })
    }
}

fn mistake(path: &str, problem: &str, remedy: &str) -> MistakeAnswer {
    MistakeAnswer {
        file: "query".into(),
        path: path.chars().take(100).collect(),
        problem: problem.chars().take(300).collect(),
        remedy: remedy.to_owned(),
        ..MistakeAnswer::default()
    }
}

/// Undoes percent-encoding, `+` for a space included.
pub(crate) fn unescape(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        match b {
            b'+' => out.push(b' '),
            b'%' => {
                let (high, low) = (hex(bytes.next()?)?, hex(bytes.next()?)?);
                out.push(high << 4 | low);
            }
            b => out.push(b),
        }
    }
    String::from_utf8(out).ok()
}

fn hex(b: u8) -> Option<u8> {
    (b as char).to_digit(16).map(|d| d as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARAMS: [Param; 3] = [
        Param { name: "limit", doc: "", kind: ParamKind::Whole(1, 10, None) },
        Param { name: "dryRun", doc: "", kind: ParamKind::Flag },
        Param { name: "kinds", doc: "", kind: ParamKind::Words(&["rules", "events"]) },
    ];

    #[test]
    fn known_parameters_are_read_and_unescaped() {
        let values = Values::read("limit=3&dryRun=true&kinds=rules%2Cevents", &PARAMS).unwrap();
        assert_eq!((values.whole("limit"), values.flag("dryRun")), (Some(3), true));
        assert_eq!(values.words("kinds"), Some(vec!["rules", "events"]));
    }

    #[test]
    fn everything_wrong_with_a_query_is_told_at_once() {
        let problem =
            Values::read("limit=0&dryrun=true&kinds=rules,x&a=%ff&dryRun=true&dryRun=true", &PARAMS)
                .unwrap_err();
        assert_eq!(problem.status, 400);
        assert_eq!(problem.mistakes.len(), 5, "{problem:?}");
        assert!(problem.message.contains("dryrun is no parameter of this operation"), "{}", problem.message);
        for bad in ["limit=%2B1", "limit=-1", "limit=99999999999999999999999", "limit", "dryRun=1", "%zz=1"] {
            assert!(Values::read(bad, &PARAMS).is_err(), "{bad}");
        }
    }
}
