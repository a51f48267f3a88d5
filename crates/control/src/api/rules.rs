//! Rules: applied, compared, removed; their revisions and rollouts.
use super::desk::{ApplyAnswer, Desk, DeskError, Order, RevisionAnswer, RolloutAnswer, RuleAnswer, Step};
use super::http::shape::{Page, bodies};
use super::http::{Call, ParamKind, Problem, Reply, Route};
use super::page::{after, page};
use std::sync::Arc;

const DRY: &str = "Change nothing; say what would be.";
const WHY: &str = "Why; kept in the history.";

pub(super) fn routes() -> Vec<Route> {
    let mut all = documents();
    all.extend(rollouts());
    all
}

fn documents() -> Vec<Route> {
    vec![
        Route::get("/v1/rules", "listRules")
            .says("The rules.")
            .query("kind", ParamKind::Word(super::kinds()), "Only rules of this kind.")
            .query("name", ParamKind::Text, "Only rules of this name.")
            .paged()
            .answers::<Page<RuleAnswer>>(200, "By kind and name.")
            .on(list),
        Route::get("/v1/rules/{kind}/{name}", "getRule")
            .says("A rule: what is in force, and what is on its way.")
            .tagged()
            .answers::<RuleAnswer>(200, "The rule.")
            .on(get),
        Route::delete("/v1/rules/{kind}/{name}", "deleteRule")
            .says("Removes a rule, in the stages its own rollout names.")
            .query("dryRun", ParamKind::Flag, DRY)
            .query("comment", ParamKind::Text, WHY)
            .query("replace", ParamKind::Flag, "Undo a rollout of the rule that runs.")
            .tagged()
            .answers::<ApplyAnswer>(200, "It is removed, or on its way out.")
            .refuses(&[409, 412, 422])
            .on(delete),
        Route::post("/v1/apply", "apply")
            .says("Applies rules: all documents of the body, or none of them.")
            .query("dryRun", ParamKind::Flag, DRY)
            .query("comment", ParamKind::Text, WHY)
            .query("replace", ParamKind::Flag, "Undo rollouts of these rules that run.")
            .query(
                "expect",
                ParamKind::Text,
                "Only if each rule in force has this revision; `none` = only if there is none.",
            )
            .documents()
            .tagged()
            .answers::<ApplyAnswer>(200, "What became of each document.")
            .refuses(&[409, 412, 422])
            .on(apply),
        Route::post("/v1/diff", "diff")
            .role(Some(super::auth::Role::Read))
            .says("What applying the documents would change.")
            .documents()
            .harmless()
            .answers::<ApplyAnswer>(200, "What would become of each document.")
            .refuses(&[409, 422])
            .on(diff),
        Route::get("/v1/rules/{kind}/{name}/history", "listRevisions")
            .says("A rule's revisions, the newest first.")
            .paged()
            .answers::<Page<RevisionAnswer>>(200, "The newest first.")
            .on(history),
        Route::get("/v1/rules/{kind}/{name}/revisions/{number}", "getRevision")
            .says("A revision of a rule.")
            .answers::<RevisionAnswer>(200, "The revision.")
            .on(revision),
        Route::post("/v1/rules/{kind}/{name}/rollback", "rollback")
            .says("Makes an earlier revision the newest.")
            .query("dryRun", ParamKind::Flag, DRY)
            .body::<RollbackBody>(false)
            .answers::<ApplyAnswer>(200, "What became of the rule.")
            .refuses(&[409, 412, 422])
            .on(rollback),
    ]
}

fn rollouts() -> Vec<Route> {
    let step = |path, id, says, step: fn(&StepBody) -> Step| {
        Route::post(path, id)
            .says(says)
            .body::<StepBody>(false)
            .answers::<RolloutAnswer>(200, "The rollout now.")
            .refuses(&[409, 422])
            .on(move |call| self::step(call, step))
    };
    vec![
        Route::get("/v1/rollouts", "listRollouts")
            .says("The rollouts that run.")
            .paged()
            .answers::<Page<RolloutAnswer>>(200, "By rule.")
            .on(all_rollouts),
        Route::get("/v1/rules/{kind}/{name}/rollout", "getRollout")
            .says("The rollout of a rule that runs, or the last one.")
            .answers::<RolloutAnswer>(200, "The rollout.")
            .on(rollout),
        step(
            "/v1/rules/{kind}/{name}/rollout/pause",
            "pauseRollout",
            "Keeps a rollout at its stage.",
            |_| Step::Pause,
        ),
        step(
            "/v1/rules/{kind}/{name}/rollout/resume",
            "resumeRollout",
            "Lets a paused rollout go on.",
            |_| Step::Resume,
        ),
        step(
            "/v1/rules/{kind}/{name}/rollout/promote",
            "promoteRollout",
            "Goes on to the next stage now, or to everyone.",
            |b| {
                if b.all == Some(true) { Step::Everyone } else { Step::Next }
            },
        ),
        step(
            "/v1/rules/{kind}/{name}/rollout/undo",
            "undoRollout",
            "Takes the change back from everyone who has it.",
            |_| Step::Undo,
        ),
    ]
}

bodies! {
    /// Where to go back to.
    pub struct RollbackBody {
        /// Number or hash of the revision; absent = the one before.
        pub to: Option<String>,
        /// Why; kept in the history.
        pub comment: Option<String>,
        /// In the stages the revision names, instead of at once.
        pub staged: Option<bool>,
    }

    /// What to tell a rollout.
    pub struct StepBody {
        /// Why.
        pub comment: Option<String>,
        /// Of a promotion: to everyone, past all stages.
        pub all: Option<bool>,
    }
}

fn desk(call: &Call) -> Result<Arc<dyn Desk>, Problem> {
    call.state.parts.desk.clone().ok_or_else(|| Problem::unavailable("this control plane keeps no rules yet"))
}

/// The order a request gives.
fn order(call: &Call) -> Result<Order, Problem> {
    let expect = match (call.query.text("expect"), call.if_match()?) {
        (Some(_), Some(_)) => return Err(Problem::bad("give expect or If-Match, not both")),
        (Some("none"), None) => Some(String::new()),
        (Some(hash), None) => Some(hash.to_owned()),
        (None, tag) => tag,
    };
    Ok(Order {
        author: call.who.name.clone(),
        comment: call.query.text("comment").unwrap_or("").to_owned(),
        dry_run: call.query.flag("dryRun"),
        expect,
        replace: call.query.flag("replace"),
        at_once: false,
    })
}

async fn find(call: &Call) -> Result<RuleAnswer, Problem> {
    let id = call.rule_id();
    let all = desk(call)?.rules().await?;
    all.into_iter().find(|r| r.id == id).ok_or_else(|| Problem::not_found(format!("there is no rule {id}")))
}

async fn list(call: Call) -> Result<Reply, Problem> {
    let (after, kind, name) = (after(&call), call.query.text("kind"), call.query.text("name"));
    let all = desk(&call)?.rules().await?;
    let found = all
        .into_iter()
        .filter(|r| r.id > after)
        .filter(|r| kind.is_none_or(|k| r.kind == k) && name.is_none_or(|n| r.name == n));
    Reply::json(&page(&call, found.map(|r| (r.id.clone(), r))))
}

async fn get(call: Call) -> Result<Reply, Problem> {
    let rule = find(&call).await?;
    let tag = rule.revision.clone().unwrap_or_default();
    let reply = Reply::json(&rule)?;
    Ok(if tag.is_empty() { reply } else { reply.tag(&tag) })
}

async fn delete(call: Call) -> Result<Reply, Problem> {
    let done = desk(&call)?.delete(&call.rule_id(), order(&call)?).await?;
    reply(done)
}

async fn apply(call: Call) -> Result<Reply, Problem> {
    let (text, order) = (call.text()?, order(&call)?);
    reply(desk(&call)?.apply(&text, order).await?)
}

async fn diff(call: Call) -> Result<Reply, Problem> {
    let order = Order { dry_run: true, replace: true, author: call.who.name.clone(), ..Order::default() };
    reply(desk(&call)?.apply(&call.text()?, order).await?)
}

/// An answer with its ETag, where one rule was changed.
fn reply(done: ApplyAnswer) -> Result<Reply, Problem> {
    let note = done.applied.iter().map(|a| format!("{} {}", a.id, a.after.as_deref().unwrap_or("removed")));
    let note = note.collect::<Vec<_>>().join(", ");
    let reply = Reply::json(&done)?.noted(note);
    Ok(match done.applied.as_slice() {
        [one] if one.after.is_some() => reply.tag(one.after.as_deref().unwrap_or("")),
        _ => reply,
    })
}

async fn history(call: Call) -> Result<Reply, Problem> {
    let before = match call.query.text("after") {
        Some(text) => {
            Some(text.parse::<u64>().map_err(|_| Problem::bad("after must be a revision's number"))?)
        }
        None => None,
    };
    let all = desk(&call)?.history(&call.rule_id()).await?;
    let found = all.into_iter().filter(|r| before.is_none_or(|n| r.number < n));
    Reply::json(&page(&call, found.map(|r| (r.number.to_string(), r))))
}

async fn revision(call: Call) -> Result<Reply, Problem> {
    let number: u64 = call.param("number").parse().unwrap_or(0);
    let id = call.rule_id();
    let all = desk(&call)?.history(&id).await?;
    let found = all.into_iter().find(|r| r.number == number);
    Reply::json(&found.ok_or_else(|| Problem::not_found(format!("{id} has no revision {number}")))?)
}

async fn rollback(call: Call) -> Result<Reply, Problem> {
    let body: RollbackBody = call.json()?;
    let mut order = order(&call)?;
    order.comment = body.comment.unwrap_or_default();
    order.at_once = body.staged != Some(true);
    order.replace = true;
    reply(desk(&call)?.rollback(&call.rule_id(), body.to.as_deref(), order).await?)
}

async fn all_rollouts(call: Call) -> Result<Reply, Problem> {
    let after = after(&call);
    let all = desk(&call)?.rollouts().await?;
    Reply::json(&page(&call, all.into_iter().filter(|r| r.rule > after).map(|r| (r.rule.clone(), r))))
}

async fn rollout(call: Call) -> Result<Reply, Problem> {
    Reply::json(&desk(&call)?.rollout(&call.rule_id()).await?)
}

async fn step(call: Call, step: fn(&StepBody) -> Step) -> Result<Reply, Problem> {
    let body: StepBody = call.json()?;
    let step = step(&body);
    if body.all.is_some() && !matches!(step, Step::Next | Step::Everyone) {
        return Err(Problem::mistakes("`all` is for promotions", Vec::new()));
    }
    let why = body.comment.unwrap_or_default();
    let id = call.rule_id();
    let now = desk(&call)?.step(&id, step, &call.who.name, &why).await?;
    Ok(Reply::json(&now)?.noted(format!("{id}: {}", now.state)))
}

impl From<DeskError> for Problem {
    fn from(e: DeskError) -> Problem {
        match e {
            DeskError::Mistakes(mistakes) => {
                let n = mistakes.len();
                let plural = if n == 1 { "" } else { "s" };
                Problem::mistakes(format!("{n} mistake{plural}, nothing is applied"), mistakes)
            }
            DeskError::Changed(why) => Problem::changed(why),
            DeskError::Conflict(why) | DeskError::Contended(why) => Problem::conflict(why),
            DeskError::Absent(why) => Problem::not_found(why),
            DeskError::Wrong(why) => Problem::mistakes(why, Vec::new()),
            DeskError::Store(e) => e.into(),
        }
    }
}
