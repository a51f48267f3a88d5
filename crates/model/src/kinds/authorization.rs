//! `kind: Authorization`.
use super::Resource;
use super::reach::reach;
use super::route::{MatcherForm, Named};
use crate::decode::{Bool, Choice, CidrText, Fields, List, OneOrMany, Record, Spotted, Text};
use crate::resources::{
    AuthAction, AuthClause, AuthCondition, AuthSubject, Authorization, Condition, Matcher, Metadata,
    RuleMode, Subject,
};
use std::collections::HashMap;

impl Resource for Authorization {
    const KIND: &'static str = "Authorization";

    fn spec(fields: &mut Fields<'_>) -> Option<Authorization> {
        let (scope, rollout) = reach(fields);
        let action = fields.required(
            "action",
            Choice(&[("allow", AuthAction::Allow), ("deny", AuthAction::Deny)]),
            "`deny` = what a clause takes is refused, whatever allows it. `allow` = it may pass; once a sidecar has such \
             a rule, what none of them takes is refused.",
        );
        let mode = fields.or(
            "mode",
            Choice(&[("enforce", RuleMode::Enforce), ("observe", RuleMode::Observe)]),
            RuleMode::Enforce,
            "`observe` = what it would refuse is counted and logged, and passes.",
        );
        let explain =
            fields.or("explain", Bool, false, "Refusals tell the caller the rule's name, not only the log.");
        let rules = fields.required(
            "rules",
            List(Spotted(Record(clause))),
            "Clauses: the rule takes a request if one of them does.",
        )?;
        if rules.is_empty() {
            fields.mistake("rules", "names no clause", "give at least one; {} takes every request");
        }
        let mut first = HashMap::new();
        for (i, (clause, spot)) in rules.iter().enumerate() {
            let Some(name) = &clause.name else { continue };
            let earlier = *first.entry(name.as_str()).or_insert(i);
            if earlier != i
                && let Some((cx, at)) = fields.context()
            {
                let list = at.field("rules");
                let problem = format!("{name} is the name of rules[{earlier}] already");
                cx.mistake(
                    *spot,
                    &list.item(i).field("name"),
                    problem,
                    "give each clause its own name".into(),
                );
            }
        }
        let rules = rules.into_iter().map(|(clause, _)| clause).collect();
        Some(Authorization {
            metadata: Metadata::default(),
            scope,
            rollout,
            action: action?,
            mode,
            explain,
            rules,
        })
    }

    fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.metadata
    }
}

fn clause(fields: &mut Fields<'_>) -> Option<AuthClause> {
    let name = fields.optional(
        "name",
        Text::name("a name"),
        "its index",
        "Name of the clause in logs and answers, unique in the rule.",
    );
    let when =
        fields.or("when", Record(when), Vec::new(), "All conditions must hold. Absent = every request.");
    Some(AuthClause { name, when })
}

fn when(fields: &mut Fields<'_>) -> Option<Vec<AuthCondition>> {
    const HEADER: Named = Named { what: "header", subject: Subject::Header };
    let mut all = Vec::new();
    let texts = [
        (
            "callerApp",
            AuthSubject::CallerApp,
            "The caller's app, as its certificate says. Callers in plaintext have none, and no condition on it holds \
             for them: a bare value, or an operator as for a header.",
        ),
        (
            "callerUnit",
            AuthSubject::CallerUnit,
            "The caller's unit, as its certificate says; in the same way.",
        ),
        ("callerId", AuthSubject::CallerId, "The caller's whole SPIFFE id; in the same way."),
        ("service", AuthSubject::Service, "The service name."),
        (
            "method",
            AuthSubject::Method,
            "The method name; HTTP: the request method; gRPC and Triple: the last part of the path.",
        ),
        ("path", AuthSubject::Path, "The path of an HTTP request, without the query."),
        ("authority", AuthSubject::Authority, "The host an HTTP request is for."),
    ];
    for (name, subject, meaning) in texts {
        if let Some(matcher) = fields.optional(name, MatcherForm, "any", meaning) {
            if subject.needs_identity() && matches!(matcher, Matcher::Exists(false)) {
                let problem = "holds for nobody: no condition on an identity holds for a caller without one";
                fields.mistake(
                    name,
                    problem,
                    "to keep such callers out, allow those with {exists: true} instead",
                );
            }
            all.push(AuthCondition::Text { subject, matcher });
        }
    }
    let source = |blocks, inside| AuthCondition::Source { blocks, inside };
    let inside = fields.optional(
        "source",
        OneOrMany(CidrText),
        "any",
        "Blocks of addresses; the connection comes from one of them.",
    );
    let outside = fields.optional(
        "notSource",
        OneOrMany(CidrText),
        "none",
        "Blocks of addresses; the connection comes from none of them.",
    );
    all.extend(inside.map(|blocks| source(blocks, true)));
    all.extend(outside.map(|blocks| source(blocks, false)));
    let headers: Vec<Condition> =
        fields.or("header", HEADER, Vec::new(), "Conditions on headers (Dubbo: attachments), by name.");
    all.extend(headers.into_iter().filter_map(|c| match c.subject {
        Subject::Header(name) => {
            Some(AuthCondition::Text { subject: AuthSubject::Header(name), matcher: c.matcher })
        }
        _ => None,
    }));
    Some(all)
}
