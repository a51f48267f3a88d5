//! The sidecar's own replies to requests it does not forward.
//!
//! What a client shows of a reply was found with the real ones (SOFABolt 1.6.10, SOFARPC 5.13 for Java,
//! sofa-rpc-node 2.10):
//!
//! * Java reads the content of a failed response with status 2, 0x11 and 0x12 only. Of any other status it
//!   shows its own sentence ("Server thread pool busy!") and nothing of what was sent.
//! * Node shows the content's exception whatever the status.
//! * Both deserialise by the *response's* codec byte, so a request in protobuf can be answered in Hessian,
//!   in which alone exceptions can be said to all of them.
//!
//! Hence [`Form`]: the status of the reason's own, which other proxies understand best, or a reply that
//! people do.
use super::head::Head;
use super::{
    CLASS_REQUEST, CLASS_RESPONSE, CODEC_HESSIAN, HEADER_REASON, HEADER_RESPONSE_ERROR, HEADER_RULE,
    STATUS_SERVER_EXCEPTION, STATUS_SUCCESS, encode,
};
use crate::hessian::draft;
use raddle_core::Reason;

/// The exception a Bolt server answers with.
const SERVER_EXCEPTION: &str = "com.alipay.remoting.rpc.exception.RpcServerException";
/// What SOFARPC throws to its callers.
const SOFA_EXCEPTION: &str = "com.alipay.sofa.rpc.core.exception.SofaRpcException";
const SOFA_TIMEOUT: &str = "com.alipay.sofa.rpc.core.exception.SofaTimeOutException";

/// How a reply says what it says. All forms carry the reason and the rule in the header map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Form {
    /// The reason's own status ([`Reason::bolt_status`]), and an exception as content.
    ///
    /// Java clients get the exception class they know for the status (`InvokeServerBusyException`,
    /// `SofaTimeOutException`, ...), and their failover may retry; the message is lost on them.
    #[default]
    Status,
    /// Status 2 whatever the reason, and an exception as content: any Java client shows the message, as the
    /// cause of its `InvokeServerException`.
    ServerException,
    /// Status 0 and a `SofaResponse` with a `SofaRpcException` of the fitting error type, which SOFARPC
    /// throws to the caller as it is. For callers that speak SOFARPC only.
    SofaException,
}

impl Form {
    /// The form whose message the caller's users will see, by the class name of its request.
    pub fn readable(class: &[u8]) -> Form {
        if class == CLASS_REQUEST { Form::SofaException } else { Form::ServerException }
    }
}

/// What a reply of the sidecar's own says.
#[derive(Clone, Copy, Debug)]
pub struct Reply<'a> {
    /// Why.
    pub reason: Reason,
    /// The rule that caused it, if one did.
    pub rule: Option<&'a str>,
    /// What exactly, for a person; may be empty.
    pub detail: &'a str,
    /// How it is said.
    pub form: Form,
}

impl<'a> Reply<'a> {
    /// A reply in the form of its status, with no rule named.
    pub const fn new(reason: Reason, detail: &'a str) -> Reply<'a> {
        Reply { reason, rule: None, detail, form: Form::Status }
    }

    /// The sentence a person reads; see [`Reason::sentence`].
    pub fn message(&self) -> String {
        self.reason.sentence(self.detail, self.rule)
    }
}

/// Appends the reply to `request`: in its variant, with its id, and in Hessian whatever its codec.
///
/// The content is at most some twelve kilobytes, however long the detail.
pub fn reply(out: &mut Vec<u8>, request: &Head, reply: &Reply<'_>) {
    let (status, class, content) = match reply.form {
        Form::Status => (reply.reason.bolt_status(), SERVER_EXCEPTION.as_bytes(), server_exception(reply)),
        Form::ServerException => {
            (STATUS_SERVER_EXCEPTION, SERVER_EXCEPTION.as_bytes(), server_exception(reply))
        }
        Form::SofaException => (STATUS_SUCCESS, CLASS_RESPONSE, sofa_response(reply)),
    };
    let mut pairs: [(&[u8], &[u8]); 3] = [(HEADER_REASON, reply.reason.flag().as_bytes()), NO_PAIR, NO_PAIR];
    let mut count = 1;
    if let Some(rule) = reply.rule {
        pairs[count] = (HEADER_RULE, rule.as_bytes());
        count += 1;
    }
    if reply.form == Form::SofaException {
        // Java servers mark a response so whose result is an exception.
        pairs[count] = (HEADER_RESPONSE_ERROR, b"true");
        count += 1;
    }
    let headers = &pairs[..count];
    encode::response(out, request.variant, request.id, CODEC_HESSIAN, status, class, headers, &content);
}

const NO_PAIR: (&[u8], &[u8]) = (b"", b"");

/// The content of a failed response.
///
/// A field list of its own length on purpose: sofa-rpc-node remembers a class by its name and number of
/// fields, so one that differed from real servers' in order only would garble what it reads next. It takes
/// an object for an exception if it has these two fields; the missing `cause` keeps Java's default.
fn server_exception(reply: &Reply<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    draft::push_class(&mut out, SERVER_EXCEPTION, &["detailMessage", "stackTrace"]);
    draft::push_object(&mut out, 0);
    draft::push_string(&mut out, &reply.message());
    push_no_stack(&mut out);
    out
}

/// The content of a response that is a `SofaResponse`: its field list is real servers', an exception as its
/// result.
fn sofa_response(reply: &Reply<'_>) -> Vec<u8> {
    let (class, error_type) = sofa_exception(reply.reason);
    let mut out = Vec::with_capacity(384);
    let fields = ["isError", "errorMsg", "appResponse", "responseProps"];
    draft::push_class(&mut out, "com.alipay.sofa.rpc.core.response.SofaResponse", &fields);
    draft::push_object(&mut out, 0);
    draft::push_bool(&mut out, false);
    draft::push_null(&mut out);
    draft::push_class(&mut out, class, &["detailMessage", "stackTrace", "errorType"]);
    draft::push_object(&mut out, 1);
    draft::push_string(&mut out, &reply.message());
    push_no_stack(&mut out);
    draft::push_int(&mut out, error_type);
    draft::push_null(&mut out);
    out
}

/// An empty `StackTraceElement[]`: a null would show the frames of the client's deserialiser.
fn push_no_stack(out: &mut Vec<u8>) {
    draft::push_empty_list(out, "[java.lang.StackTraceElement");
}

/// SOFARPC's class and `RpcErrorType` for a reason.
const fn sofa_exception(reason: Reason) -> (&'static str, i32) {
    match reason {
        Reason::Timeout => (SOFA_TIMEOUT, 200),
        Reason::Overflow
        | Reason::RateLimited
        | Reason::ClusterLimited
        | Reason::AdaptiveLimited
        | Reason::HotspotLimited
        | Reason::BreakerOpen => (SOFA_EXCEPTION, 100),
        Reason::NoRoute | Reason::NoCluster | Reason::NoHealthy => (SOFA_EXCEPTION, 210),
        Reason::ConnectFailure
        | Reason::ConnectionLost
        | Reason::CallerGone
        | Reason::SlowCaller
        | Reason::Draining => (SOFA_EXCEPTION, 250),
        Reason::Denied => (SOFA_EXCEPTION, 170),
        Reason::CallerProtocol | Reason::EndpointProtocol | Reason::Injected => (SOFA_EXCEPTION, 199),
    }
}
