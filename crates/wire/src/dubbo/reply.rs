//! The sidecar's own replies to requests it does not forward, and recognising another sidecar's.
//!
//! What a client shows of a reply was found with Dubbo 3.2.19 for Java:
//!
//! * A status other than 20 becomes an `RpcException` whose text and cause quote the body, a string. Its
//!   cluster layer takes it for a failure of the network and tries again (twice, unless told otherwise).
//! * An exception that is the call's result is thrown to the application, inside another `RpcException`, and
//!   not tried again. A JVM from version 16 on can read no exception at all, a provider's no more than ours,
//!   unless it was started with `--add-opens java.base/java.lang=ALL-UNNAMED`; without, the message is lost.
//! * A failed response is deserialised by its *own* serialiser bits, so that a request in whatever
//!   serialisation can be answered in Hessian, which every Dubbo brings along. A result has to be in the
//!   request's serialisation: others are refused ("Unexpected serialization id").
//!
//! Hence [`Form`].
use super::head::{Head, Kind};
use super::{SERIALIZER_FASTJSON, SERIALIZER_HESSIAN2, STATUS_OK, encode, json};
use crate::hessian::v2::{self, Value, Walker};
use raddle_core::Reason;

/// What a result that is an exception of the sidecar's begins with: the kind (0: an exception, no attachments,
/// which older callers could not read), the class, and the object up to its first field, the message.
///
/// Source: `DubboCodec.encodeResponseData`, and hessian-lite's way with objects. The order of the fields is
/// ours alone, whereby the reply is known.
const EXCEPTION: &[u8] =
    b"\x90C\x30\x21org.apache.dubbo.rpc.RpcException\x95\x0DdetailMessage\x04code\x05cause\
\x0AstackTrace\x14suppressedExceptions\x60";
/// What every message begins with.
const PREFIX: &str = "raddle ";
/// What the rule's name in a message stands behind.
const RULE: &[u8] = b" (rule ";

/// How a reply says what it says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Form {
    /// The reason's own status ([`Reason::dubbo_status`]) and the message, which is what a Dubbo server sends
    /// when a request did not reach the application: every client shows it. In Hessian, or in fastjson to a
    /// request in it.
    #[default]
    Status,
    /// Status 20, and an `org.apache.dubbo.rpc.RpcException` of the fitting code as the call's result. In
    /// Hessian only: a request in another serialisation is answered in the form of its status. For callers
    /// that shall not try again and are known to read exceptions.
    Exception,
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

/// Appends the reply to `request`.
///
/// The body is at most some twelve kilobytes, however long the detail.
pub fn reply(out: &mut Vec<u8>, request: &Head, reply: &Reply<'_>) {
    let mut body = Vec::with_capacity(256);
    let message = reply.message();
    let (status, serializer) = match (reply.form, request.serializer) {
        (Form::Exception, SERIALIZER_HESSIAN2) => {
            push_exception(&mut body, reply.reason, &message);
            (STATUS_OK, SERIALIZER_HESSIAN2)
        }
        (_, SERIALIZER_FASTJSON) => {
            json::push_line(&mut body, &message);
            (reply.reason.dubbo_status(), SERIALIZER_FASTJSON)
        }
        _ => {
            v2::push_string(&mut body, &message);
            (reply.reason.dubbo_status(), SERIALIZER_HESSIAN2)
        }
    };
    encode::response(out, request.id, serializer, status, &body);
}

fn push_exception(out: &mut Vec<u8>, reason: Reason, message: &str) {
    out.extend_from_slice(EXCEPTION);
    v2::push_string(out, message);
    v2::push_int(out, exception_code(reason));
    v2::push_null(out);
    // An empty array: a null would show the frames of the client's deserialiser.
    v2::push_empty_list(out, "[java.lang.StackTraceElement");
    v2::push_null(out);
}

/// `RpcException`'s code for a reason.
const fn exception_code(reason: Reason) -> i32 {
    match reason {
        Reason::ConnectFailure
        | Reason::ConnectionLost
        | Reason::CallerGone
        | Reason::SlowCaller
        | Reason::Draining => 1,
        Reason::Timeout => 2,
        Reason::Denied => 4,
        Reason::CallerProtocol | Reason::EndpointProtocol => 5,
        Reason::NoRoute | Reason::NoCluster | Reason::NoHealthy => 6,
        Reason::Overflow
        | Reason::RateLimited
        | Reason::ClusterLimited
        | Reason::AdaptiveLimited
        | Reason::HotspotLimited
        | Reason::BreakerOpen => 7,
        Reason::Injected => 0,
    }
}

/// Why another sidecar answered itself, and the rule it named, if this response is such an answer.
///
/// `frame` begins with `head`'s frame and holds the whole of it, or the answer may be missing. It takes a
/// comparison of a few bytes to see that a response is none.
pub fn reason_of<'a>(head: &Head, frame: &'a [u8]) -> Option<(Reason, Option<&'a str>)> {
    if head.kind != Kind::Response || head.event {
        return None;
    }
    let body = head.body(frame);
    let message = match (head.status, head.serializer) {
        (STATUS_OK, SERIALIZER_HESSIAN2) => hessian_string(body.strip_prefix(EXCEPTION)?)?,
        (STATUS_OK, _) => return None,
        (_, SERIALIZER_FASTJSON) => json::string(json::line(&mut { body }).ok()?).ok()?,
        (_, SERIALIZER_HESSIAN2) => hessian_string(body)?,
        _ => return None,
    };
    // In bytes: Java's way with characters outside the basic plane, in the detail, is no UTF-8.
    let said = message.strip_prefix(PREFIX.as_bytes())?;
    let (flag, rest) = said.split_at(said.iter().position(|b| *b == b':')?);
    Some((Reason::from_flag(std::str::from_utf8(flag).ok()?)?, rule_of(rest)))
}

/// The rule that a message ends with the name of.
fn rule_of(message: &[u8]) -> Option<&str> {
    let message = message.strip_suffix(b")")?;
    let at = message.windows(RULE.len()).rposition(|w| w == RULE)?;
    std::str::from_utf8(&message[at + RULE.len()..]).ok()
}

fn hessian_string(body: &[u8]) -> Option<&[u8]> {
    match Walker::new(body).value() {
        Ok(Value::Text(text)) => Some(text),
        _ => None,
    }
}
