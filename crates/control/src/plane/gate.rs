//! Who may ask what over TLS: without a certificate, for a certificate only.
use crate::serve::PeerCertificate;
use axum::Router;
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::Response;
use tonic::Status;

/// The service that gives certificates; it asks for other proof itself.
const OPEN: &str = "/raddle.v1.Certificates/";

/// Where everybody is believed to be who they say (plaintext on loopback) this must not stand.
pub(super) fn proven(router: Router) -> Router {
    router.layer(middleware::from_fn(admit))
}

async fn admit(request: Request, next: Next) -> Response {
    let proven = request.extensions().get::<PeerCertificate>().is_some();
    if proven || request.uri().path().starts_with(OPEN) {
        return next.run(request).await;
    }
    Status::unauthenticated("a client certificate is needed; a sidecar gets one with a bootstrap token")
        .into_http()
}
