//! The sidecar's own replies to requests it does not forward, and recognising another sidecar's.
use super::head::{Head, Kind};
use super::{SERIALIZER_FASTJSON, SERIALIZER_HESSIAN2, STATUS_OK, encode};
use crate::hessian::v2;
use raddle_core::Reason;

/// How a reply says what it says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Form {
    /// The reason's own status ([`Reason::dubbo_status`]) and the message, which is what a Dubbo server sends
    /// when a request did not reach the application.
    #[default]
    Status,
    /// Status 20, and an `org.apache.dubbo.rpc.RpcException` as the call's result. In Hessian only: a request
    /// in another serialisation is answered in the form of its status.
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

    /// The sentence a person reads: `raddle RL: a local limit holds the request: 10/s (rule pay-qps)`.
    pub fn message(&self) -> String {
        let mut text = format!("raddle {}: {}", self.reason.flag(), self.reason.describe());
        if !self.detail.is_empty() {
            text.push_str(": ");
            text.push_str(self.detail);
        }
        if let Some(rule) = self.rule {
            text.push_str(" (rule ");
            text.push_str(rule);
            text.push(')');
        }
        text
    }
}

/// Appends the reply to `request`.
///
/// The body is at most some twelve kilobytes, however long the detail.
pub fn reply(out: &mut Vec<u8>, request: &Head, reply: &Reply<'_>) {
    let _ = (Kind::Response, SERIALIZER_FASTJSON, STATUS_OK);
    let mut body = Vec::with_capacity(256);
    v2::push_string(&mut body, &reply.message());
    encode::response(out, request.id, SERIALIZER_HESSIAN2, reply.reason.dubbo_status(), &body);
}
