//! Kubernetes' service accounts as proof of an app's name: projected tokens, verified with the cluster's keys.
use super::CaError;
use raddle_identity::jwt::{Expected, Jwks, JwtError, verify};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::Mutex;

/// Keys are read anew after so long, in seconds.
const FRESH: i64 = 300;
/// Not more often than this, in seconds, whatever keys tokens name.
const SELDOM: i64 = 10;
/// Largest key set.
const MAX_KEYS: u64 = 256 * 1024;

/// Which service accounts mean which apps.
#[derive(Clone, Debug)]
pub struct Accounts {
    /// Where the cluster's keys are.
    pub keys: JwksSource,
    /// The issuer that tokens must name; `None` = any whose keys these are.
    pub issuer: Option<String>,
    /// The audience that tokens must be made for.
    pub audience: String,
    /// The app that an account means, of `{namespace}` and `{serviceaccount}`.
    pub app: String,
    /// The namespaces whose accounts count; empty = all, which needs `{namespace}` in `app`.
    pub namespaces: Vec<String>,
}

/// Where a key set is.
#[derive(Clone)]
pub enum JwksSource {
    /// In a file, which may change.
    File(PathBuf),
    /// Wherever the caller reads it from: called now and then, and when a token names an unknown key.
    Fetch(Fetch),
}

/// Reads a key set (JSON).
pub type Fetch =
    Arc<dyn Fn() -> std::pin::Pin<Box<dyn Future<Output = Result<Vec<u8>, String>> + Send>> + Send + Sync>;

impl fmt::Debug for JwksSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JwksSource::File(path) => write!(f, "File({})", path.display()),
            JwksSource::Fetch(_) => f.write_str("Fetch(..)"),
        }
    }
}

/// Reviews tokens.
#[derive(Debug)]
pub(super) struct Reviewer {
    accounts: Accounts,
    /// The keys, and when they were read.
    keys: Mutex<(Jwks, i64)>,
}

impl Reviewer {
    pub(super) fn new(accounts: Accounts) -> Result<Reviewer, CaError> {
        let wrong = |why: &str| Err(CaError::Option(format!("service accounts: {why}")));
        if accounts.audience.is_empty() {
            return wrong("an audience is needed, so that tokens made for others do not count");
        }
        if !accounts.app.contains("{serviceaccount}") {
            return wrong("the app's template must contain {serviceaccount}");
        }
        if !accounts.app.contains("{namespace}") && accounts.namespaces.is_empty() {
            return wrong(
                "the app's template must contain {namespace}, or the namespaces must be named: \
                 else everybody who may make an account anywhere may be any app",
            );
        }
        let between = accounts.app.replace("{namespace}", "\0").replace("{serviceaccount}", "\0");
        let between: Vec<&str> = between.split('\0').collect();
        // Namespaces have no dots, and neither has underscores.
        if between.len() == 3 && !between[1].contains(['.', '_']) || between.len() > 3 {
            return wrong(
                "{namespace} and {serviceaccount} must be divided by '.' or '_': \
                 else different accounts mean the same app",
            );
        }
        Ok(Reviewer { accounts, keys: Mutex::new((Jwks::default(), i64::MIN)) })
    }

    /// The account (`NAMESPACE/NAME`) that a token proves, and the app it means.
    pub(super) async fn review(&self, token: &str, now: i64) -> Result<(String, String), String> {
        let expected =
            Expected { issuer: self.accounts.issuer.as_deref(), audience: &self.accounts.audience, now };
        let mut claims = verify(token, &self.keys(now, FRESH).await?, expected);
        if claims == Err(JwtError::UnknownKey) {
            claims = verify(token, &self.keys(now, SELDOM).await?, expected);
        }
        let claims = claims.map_err(|e| e.to_string())?;
        let account = claims.subject.strip_prefix("system:serviceaccount:");
        let Some((namespace, name)) = account.and_then(|a| a.split_once(':')) else {
            return Err("the token is not one of a service account".into());
        };
        if !is_label(namespace, false) || !is_label(name, true) {
            return Err("the token's service account has no name that accounts have".into());
        }
        let allowed = &self.accounts.namespaces;
        if !allowed.is_empty() && !allowed.iter().any(|n| n == namespace) {
            return Err(format!("accounts of namespace `{namespace}` do not count"));
        }
        let app = self.accounts.app.replace("{namespace}", namespace).replace("{serviceaccount}", name);
        Ok((format!("{namespace}/{name}"), app))
    }

    /// The keys, read anew if they are older than so many seconds.
    async fn keys(&self, now: i64, oldest: i64) -> Result<Jwks, String> {
        // One reads, the others wait for it.
        let mut kept = self.keys.lock().await;
        if now.saturating_sub(kept.1) < oldest {
            return Ok(kept.0.clone());
        }
        let read = match &self.accounts.keys {
            JwksSource::File(path) => read_file(path).await,
            JwksSource::Fetch(fetch) => fetch().await,
        };
        match read.and_then(|json| Jwks::parse(&json).map_err(|e| e.to_string())) {
            Ok(keys) => *kept = (keys, now),
            // Old keys are better than none.
            Err(e) if kept.1 != i64::MIN => {
                tracing::warn!("the keys of service accounts cannot be read: {e}");
                kept.1 = now;
            }
            Err(e) => return Err(format!("the keys of service accounts cannot be read: {e}")),
        }
        Ok(kept.0.clone())
    }
}

async fn read_file(path: &std::path::Path) -> Result<Vec<u8>, String> {
    use tokio::io::AsyncReadExt;
    let mut bytes = Vec::new();
    let file = tokio::fs::File::open(path).await.map_err(|e| format!("{}: {e}", path.display()))?;
    file.take(MAX_KEYS).read_to_end(&mut bytes).await.map_err(|e| e.to_string())?;
    Ok(bytes)
}

/// Whether it is a name as Kubernetes has them (RFC 1123), with dots or without.
fn is_label(name: &str, dots: bool) -> bool {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || (dots && b == b'.');
    !name.is_empty() && name.len() <= 253 && name.bytes().all(good)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reviewer(app: &str, namespaces: &[&str]) -> Result<Reviewer, CaError> {
        Reviewer::new(Accounts {
            keys: JwksSource::File("none".into()),
            issuer: None,
            audience: "raddle".into(),
            app: app.into(),
            namespaces: namespaces.iter().map(|n| (*n).to_owned()).collect(),
        })
    }

    #[test]
    fn templates_by_which_two_accounts_mean_one_app_are_refused() {
        for good in
            ["{namespace}.{serviceaccount}", "{serviceaccount}.{namespace}", "k_{namespace}_{serviceaccount}"]
        {
            assert!(reviewer(good, &[]).is_ok(), "{good}");
        }
        for bad in [
            "{serviceaccount}",
            "{namespace}-{serviceaccount}",
            "{namespace}{serviceaccount}",
            "{namespace}.{serviceaccount}.{namespace}",
            "{namespace}",
            "app",
            "",
        ] {
            assert!(matches!(reviewer(bad, &[]), Err(CaError::Option(_))), "{bad}");
        }
        assert!(reviewer("{serviceaccount}", &["shop"]).is_ok());
    }
}
