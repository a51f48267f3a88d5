//! The certificate authority: roots, rotation, who is denied, what was signed.
use super::auth::Role;
use super::http::shape::{Page, answers, bodies};
use super::http::{Call, Problem, Reply, Route};
use super::page::{after, page};
use crate::ca::{Ca, CaError, CaState, Denial, DenyTarget, Issued, RotationError, Stage, Step};
use axum::body::Body;
use axum::http::{Method, StatusCode};
use std::sync::Arc;
use std::time::Duration;

/// Signed certificates that are listed.
const LISTED: usize = 100_000;

pub(super) fn routes() -> Vec<Route> {
    let admin = Some(Role::Admin);
    vec![
        Route::get("/v1/ca", "getCa")
            .says("The authorities that are trusted, who signs, and how far a rotation is.")
            .answers::<CaAnswer>(200, "The authority.")
            .refuses(&[404])
            .on(status),
        Route::get("/v1/ca/roots", "getRoots")
            .role(None)
            .says("The roots in force, for --ca-file and for foreign clients.")
            .answers_text(200, "application/x-pem-file", "PEM.")
            .refuses(&[404])
            .on(roots),
        Route::new(Method::POST, "/v1/ca/rotate", admin, "rotateCa")
            .says(
                "Replaces the authority by a new one: trusted at once, signing after the hold, the old root removed when \
                 its last certificate has ended. `step` goes on with one that runs, `revert` takes it back.",
            )
            .body::<RotateBody>(false)
            .answers::<CaAnswer>(200, "The authority now.")
            .refuses(&[404, 409, 422])
            .on(rotate),
        Route::get("/v1/ca/denied", "listDenied")
            .says("Identities and certificates that are denied.")
            .paged()
            .answers::<Page<DenialAnswer>>(200, "By target.")
            .refuses(&[404])
            .on(denied),
        Route::new(Method::POST, "/v1/ca/denied", admin, "deny")
            .says("Denies an identity or a certificate from now on.")
            .body::<DenyBody>(true)
            .answers::<DenialAnswer>(201, "It is denied.")
            .refuses(&[404, 422])
            .on(deny),
        Route::new(Method::POST, "/v1/ca/undeny", admin, "undeny")
            .says("Takes a denial back.")
            .body::<UndenyBody>(true)
            .answers::<DenialAnswer>(200, "It is denied no more.")
            .refuses(&[404, 422])
            .on(undeny),
        Route::get("/v1/ca/signed", "listSigned")
            .says("Certificates that were signed and are remembered, those that end last first.")
            .paged()
            .answers::<Page<SignedAnswer>>(200, "By their end.")
            .refuses(&[404])
            .on(signed),
    ]
}

answers! {
    /// The certificate authority.
    pub struct CaAnswer {
        /// The trust domain of all names.
        pub trust_domain: String,
        /// Those whose roots are trusted.
        pub authorities: Vec<AuthorityAnswer>,
        /// Id of the one that signs.
        pub signing: String,
        /// One taking another's place; null = none.
        pub rotation: Option<RotationAnswer>,
        /// How many identities and certificates are denied.
        pub denied: u64,
    }

    /// An authority that is trusted.
    pub struct AuthorityAnswer {
        /// The beginning of its certificate's SHA-256.
        pub id: String,
        /// Until when it is valid, milliseconds since the Unix epoch.
        pub not_after: u64,
        /// It was given; else the control plane made it.
        pub given: bool,
    }

    /// One authority taking another's place.
    pub struct RotationAnswer {
        /// Who is to go.
        pub from: String,
        /// Who is to stay.
        pub to: String,
        /// `announced`: both trusted, the old one signs. `switched`: the new one signs.
        pub stage: String,
        /// When the next stage comes, milliseconds since the Unix epoch.
        pub until: u64,
        /// When it began.
        pub begun: u64,
    }

    /// Somebody who is denied.
    pub struct DenialAnswer {
        /// SPIFFE id, or serial number of a certificate.
        pub target: String,
        /// Why.
        pub reason: String,
        /// Who did it.
        pub by: String,
        /// When, milliseconds since the Unix epoch.
        pub at: u64,
    }

    /// A certificate that was signed.
    pub struct SignedAnswer {
        /// Serial number, hexadecimal.
        pub serial: String,
        /// SPIFFE id.
        pub identity: String,
        /// The instance that asked.
        pub instance: String,
        /// What it proved itself with.
        pub proof: String,
        /// From where it asked.
        pub from: String,
        /// Which authority signed.
        pub authority: String,
        /// When, milliseconds since the Unix epoch.
        pub at: u64,
        /// Until when it is valid.
        pub not_after: u64,
    }
}

bodies! {
    /// What to do with the authority; nothing given = begin to replace it.
    pub struct RotateBody {
        /// Go on with the rotation that runs, before its time.
        pub step: Option<bool>,
        /// Take the rotation that runs back.
        pub revert: Option<bool>,
        /// Seconds until a new authority signs; absent = the life of a certificate.
        pub hold_seconds: Option<u32>,
    }

    /// Whom to deny.
    pub struct DenyBody {
        /// SPIFFE id, or serial number of a certificate.
        pub target: String,
        /// Why.
        pub reason: Option<String>,
    }

    /// Whom to deny no more.
    pub struct UndenyBody {
        /// SPIFFE id, or serial number of a certificate.
        pub target: String,
    }
}

fn ca(call: &Call) -> Result<Arc<Ca>, Problem> {
    let none = "this control plane runs without a certificate authority";
    call.state.parts.ca.clone().ok_or_else(|| Problem::not_found(none))
}

fn millis(seconds: i64) -> u64 {
    u64::try_from(seconds).unwrap_or(0).saturating_mul(1000)
}

fn answer(ca: &Ca, state: &CaState) -> CaAnswer {
    let authority = |a: &crate::ca::Authority| AuthorityAnswer {
        id: a.id.clone(),
        not_after: millis(a.not_after),
        given: a.given,
    };
    let rotation = state.rotation.as_ref().map(|r| {
        let (stage, until) = match r.stage {
            Stage::Announced { switch_at } => ("announced", switch_at),
            Stage::Switched { remove_at } => ("switched", remove_at),
        };
        let (from, to) = (r.from.clone(), r.to.clone());
        RotationAnswer { from, to, stage: stage.into(), until: millis(until), begun: millis(r.begun) }
    });
    CaAnswer {
        trust_domain: state.trust_domain.clone(),
        authorities: state.authorities.iter().map(authority).collect(),
        signing: state.signing.clone(),
        rotation,
        denied: ca.denials().len() as u64,
    }
}

fn denial(d: Denial) -> DenialAnswer {
    DenialAnswer { target: d.target, reason: d.reason, by: d.by, at: millis(d.at) }
}

async fn status(call: Call) -> Result<Reply, Problem> {
    let ca = ca(&call)?;
    Reply::json(&answer(&ca, &ca.state()))
}

async fn roots(call: Call) -> Result<Reply, Problem> {
    let pem = ca(&call)?.trust().borrow().pem();
    Ok(Reply::new(StatusCode::OK, "application/x-pem-file", Body::from(pem)))
}

async fn rotate(call: Call) -> Result<Reply, Problem> {
    let ca = ca(&call)?;
    let RotateBody { step, revert, hold_seconds } = call.json()?;
    let (step, revert) = (step == Some(true), revert == Some(true));
    let (state, note) = match (step, revert) {
        (true, true) => return Err(Problem::mistakes("give step or revert, not both", Vec::new())),
        (_, true) => (ca.revert().await?, "reverted"),
        (true, _) => match ca.advance(true).await? {
            Step::Finished => (ca.state(), "finished"),
            _ => (ca.state(), "one step on"),
        },
        _ => {
            let hold = hold_seconds.map(|s| Duration::from_secs(s.into()));
            (ca.rotate(None, hold).await?, "begun")
        }
    };
    Ok(Reply::json(&answer(&ca, &state))?.noted(note))
}

async fn denied(call: Call) -> Result<Reply, Problem> {
    let after = after(&call);
    let mut all = ca(&call)?.denials();
    all.sort_by(|a, b| a.target.cmp(&b.target));
    let found = all.into_iter().filter(|d| d.target > after);
    Reply::json(&page(&call, found.map(|d| (d.target.clone(), denial(d)))))
}

fn target(text: &str) -> Result<DenyTarget, Problem> {
    DenyTarget::parse(text).ok_or_else(|| {
        let why = "target must be a SPIFFE id (spiffe://...) or a certificate's serial number (hexadecimal)";
        Problem::mistakes(why, Vec::new())
    })
}

async fn deny(call: Call) -> Result<Reply, Problem> {
    let ca = ca(&call)?;
    let DenyBody { target: text, reason } = call.json()?;
    let target = target(&text)?;
    let reason = reason.unwrap_or_default();
    if reason.len() > 1000 {
        return Err(Problem::mistakes("reason is over 1000 bytes", Vec::new()));
    }
    let done = ca.deny(&target, &reason, &call.who.name).await?;
    Ok(Reply::status_json(StatusCode::CREATED, &denial(done))?.noted(target.to_string()))
}

async fn undeny(call: Call) -> Result<Reply, Problem> {
    let ca = ca(&call)?;
    let UndenyBody { target: text } = call.json()?;
    let target = target(&text)?;
    let name = target.to_string();
    let found = ca.denials().into_iter().find(|d| d.target == name);
    if !ca.undeny(&target).await? {
        return Err(Problem::not_found(format!("{name} is not denied")));
    }
    let was = found.map_or_else(|| DenialAnswer { target: name.clone(), ..DenialAnswer::default() }, denial);
    Ok(Reply::json(&was)?.noted(name))
}

async fn signed(call: Call) -> Result<Reply, Problem> {
    let mut all = ca(&call)?.issued(LISTED).await?;
    all.reverse();
    let key = |i: &Issued| format!("{:012}-{}", i.not_after, i.serial);
    let before = call.query.text("after").map(str::to_owned);
    let found = all.into_iter().filter(|i| before.as_ref().is_none_or(|before| key(i) < *before)).map(|i| {
        let at = key(&i);
        let Issued { serial, id, instance, proof, from, authority, at: signed, not_after } = i;
        let (signed, not_after) = (millis(signed), millis(not_after));
        (at, SignedAnswer { serial, identity: id, instance, proof, from, authority, at: signed, not_after })
    });
    Reply::json(&page(&call, found))
}

impl From<CaError> for Problem {
    fn from(e: CaError) -> Problem {
        match e {
            CaError::Store(e) => e.into(),
            CaError::Option(why) => Problem::mistakes(why, Vec::new()),
            CaError::Rotation(RotationError::Busy | RotationError::None | RotationError::Known)
            | CaError::Issuer(_) => Problem::conflict(e.to_string()),
            other => Problem::unavailable(other.to_string()),
        }
    }
}
