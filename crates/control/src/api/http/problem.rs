//! Refusals: one JSON shape, a fitting status, a sentence.
use super::shape::{ErrorAnswer, ErrorBody, MistakeAnswer};
use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use raddle_store::StoreError;

/// Why a request was refused.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) mistakes: Vec<MistakeAnswer>,
    /// Seconds to wait before another try.
    pub(crate) retry_after: Option<u32>,
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Problem {
        Problem { status, code, message: message.into(), mistakes: Vec::new(), retry_after: None }
    }

    /// 400: the request makes no sense.
    pub(crate) fn bad(message: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, "badRequest", message)
    }

    /// 401: no token, or one that is not known.
    pub(crate) fn unauthenticated(message: impl Into<String>) -> Problem {
        Problem::new(StatusCode::UNAUTHORIZED, "unauthenticated", message)
    }

    /// 403: the token may not do this.
    pub(crate) fn forbidden(message: impl Into<String>) -> Problem {
        Problem::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    /// 404.
    pub(crate) fn not_found(message: impl Into<String>) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, "notFound", message)
    }

    /// 405.
    pub(crate) fn method(message: impl Into<String>) -> Problem {
        Problem::new(StatusCode::METHOD_NOT_ALLOWED, "methodNotAllowed", message)
    }

    /// 409: it cannot be done as things stand.
    pub(crate) fn conflict(message: impl Into<String>) -> Problem {
        Problem::new(StatusCode::CONFLICT, "conflict", message)
    }

    /// 412: it is no longer what the caller expected.
    pub(crate) fn changed(message: impl Into<String>) -> Problem {
        Problem::new(StatusCode::PRECONDITION_FAILED, "changed", message)
    }

    /// 413.
    pub(crate) fn too_large(message: impl Into<String>) -> Problem {
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "tooLarge", message)
    }

    /// 415.
    pub(crate) fn media_type(message: impl Into<String>) -> Problem {
        Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupportedMediaType", message)
    }

    /// 422: what was sent has mistakes.
    pub(crate) fn mistakes(message: impl Into<String>, mistakes: Vec<MistakeAnswer>) -> Problem {
        Problem { mistakes, ..Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "mistakes", message) }
    }

    /// 429: enough of that already.
    pub(crate) fn too_many(message: impl Into<String>) -> Problem {
        Problem { retry_after: Some(5), ..Problem::new(StatusCode::TOO_MANY_REQUESTS, "tooMany", message) }
    }

    /// 503: not the caller's fault; a later try may do.
    pub(crate) fn unavailable(message: impl Into<String>) -> Problem {
        Problem {
            retry_after: Some(1),
            ..Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
        }
    }
}

impl From<StoreError> for Problem {
    fn from(e: StoreError) -> Problem {
        match e {
            StoreError::Invalid(why) => Problem::bad(format!("the store refuses it: {why}")),
            other => Problem::unavailable(other.to_string()),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Problem { status, code, message, mistakes, retry_after } = self;
        let answer = ErrorAnswer { error: ErrorBody { code: code.to_owned(), message, mistakes } };
        // Strings and numbers always have a JSON form.
        let mut response = Response::new(Body::from(serde_json::to_vec(&answer).unwrap_or_default()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"raddle\""));
        }
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
