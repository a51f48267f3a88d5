//! What routing reads of a request, borrowed from its bytes.
use crate::frame::{Asker, Head, Told};
use crate::links::Peer;
use raddle_policy::Attributes;
use raddle_policy::authz::Names;
use raddle_policy::route::{CALLER_APP, LOAD_TEST};
use raddle_wire::bolt::{self, HeaderMap, Limits};
use raddle_wire::caller::Caller;
use raddle_wire::dubbo::{self, Attachments, ServiceName};
use raddle_wire::hessian::{Peek, draft};
use std::net::IpAddr;

/// A request, opened.
pub struct Call<'a> {
    /// Its frame's head.
    pub head: &'a Head,
    /// All of it, or its beginning if it is too large to be held.
    pub frame: &'a [u8],
    /// The service it names, most precisely.
    pub named: Option<&'a [u8]>,
    /// Inbound: who calls, as its certificate says.
    pub peer: Option<&'a Peer>,
    facts: Facts<'a>,
}

#[allow(clippy::large_enum_variant, reason = "it lives on the stack, for one request")]
enum Facts<'a> {
    Bolt {
        head: &'a bolt::Head,
        headers: HeaderMap<'a>,
    },
    Dubbo {
        head: &'a dubbo::Head,
        method: Option<&'a [u8]>,
        attachments: Option<Attachments<'a>>,
        names: Option<ServiceName>,
    },
}

impl<'a> Call<'a> {
    /// Opens a request. `name` is room for a name that does not stand in the frame in one piece.
    #[inline]
    pub fn open(head: &'a Head, frame: &'a [u8], name: &'a mut Vec<u8>, peer: Option<&'a Peer>) -> Call<'a> {
        match head {
            Head::Bolt(h) => {
                let headers = h.headers(frame);
                let [service, target] =
                    headers.get_all(&[bolt::HEADER_SERVICE, &b"sofa_head_target_service"[..]]);
                let facts = Facts::Bolt { head: h, headers };
                Call { head, frame, named: service.or(target), peer, facts }
            }
            Head::Dubbo(h) => {
                let request = dubbo::peek(h, frame).found();
                let attachments = request.as_ref().and_then(|r| r.attachments().found());
                let group = attachments.as_ref().map_or(&b""[..], Attachments::group);
                let names = request.as_ref().map(|r| r.service_name(group, name));
                let method = request.map(|r| r.method);
                let named = names.map(|n| &name[..n.full]);
                let facts = Facts::Dubbo { head: h, method, attachments, names };
                Call { head, frame, named, peer, facts }
            }
        }
    }

    /// Whether all of it is there.
    #[inline]
    pub fn whole(&self) -> bool {
        self.frame.len() >= self.head.frame_len()
    }

    /// The method it calls.
    #[inline]
    pub fn method(&self) -> Option<&'a [u8]> {
        match &self.facts {
            Facts::Bolt { head, .. } => match bolt::method(head, self.frame) {
                bolt::Method::Found(m) => Some(m),
                bolt::Method::NeedMore | bolt::Method::Unknown => None,
            },
            Facts::Dubbo { method, .. } => *method,
        }
    }

    /// A header, or what the protocol has for it.
    #[inline]
    pub fn header(&self, name: &[u8]) -> Option<&'a [u8]> {
        match &self.facts {
            Facts::Bolt { headers, .. } => headers.get(name),
            Facts::Dubbo { attachments, .. } => attachments.as_ref()?.get(name),
        }
    }

    /// How long the caller says it waits, in milliseconds; nothing above zero = it does not say.
    #[inline]
    pub fn timeout_ms(&self) -> i32 {
        match &self.facts {
            Facts::Bolt { head, .. } => head.timeout_ms,
            Facts::Dubbo { attachments, .. } => {
                let ms = attachments.as_ref().and_then(Attachments::timeout_ms);
                ms.map_or(0, |ms| i32::try_from(ms).unwrap_or(i32::MAX))
            }
        }
    }

    /// The caller's app: what its certificate says, else what it says itself.
    pub fn caller_app(&self) -> Option<&'a [u8]> {
        if let Some(peer) = self.peer {
            return Some(peer.app.as_bytes());
        }
        match &self.facts {
            Facts::Bolt { headers, .. } => CALLER_APP.iter().find_map(|name| headers.get(name.as_bytes())),
            Facts::Dubbo { attachments, .. } => attachments.as_ref()?.application(),
        }
    }

    /// Appends the frame as the app is to get it: with who calls, if it is to be `told`, and without what others say
    /// of it.
    #[inline]
    pub fn tell(&self, out: &mut Vec<u8>, limits: Limits, told: bool) -> Told {
        let caller = self.peer.filter(|_| told).map(|p| Caller { app: &p.app, id: &p.id });
        match &self.facts {
            Facts::Bolt { head, .. } => {
                let told = bolt::tell(out, head, self.frame, limits, caller.as_ref());
                Told { head: Head::Bolt(told.head), crc_mask: told.crc_mask, added: told.added }
            }
            Facts::Dubbo { head, attachments, .. } => {
                let attachments = attachments.as_ref();
                let told = dubbo::tell(out, head, self.frame, attachments, limits, caller.as_ref());
                Told { head: Head::Dubbo(told.head), crc_mask: 0, added: told.added }
            }
        }
    }

    /// Shorter names than `named` under which its service may be known, the more precise first.
    pub fn shorter_names(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let named = self.named.unwrap_or_default();
        let names = match &self.facts {
            Facts::Dubbo { names, .. } => *names,
            Facts::Bolt { .. } => None,
        };
        names.into_iter().flat_map(move |n| n.candidates(named).skip(1))
    }

    /// Whether its service and method are what the application will run, for rules that forbid some.
    ///
    /// Applications go by what lies deeper in the frame than what is routed by: SOFARPC's server by the serialised
    /// `SofaRequest`, Dubbo's by the attachments. Honest callers say the same in both places.
    pub fn names(&self) -> Names {
        match &self.facts {
            Facts::Bolt { head, headers } => self.bolt_names(head, *headers),
            Facts::Dubbo { .. } => {
                let Head::Dubbo(head) = self.head else { return Names::Hidden };
                let Some(request) = dubbo::peek(head, self.frame).found() else { return Names::Hidden };
                match request.attachments().found() {
                    Some(a) if request.differs_from(&a) => Names::Differ,
                    Some(_) => Names::Clear,
                    None => Names::Hidden,
                }
            }
        }
    }

    fn bolt_names(&self, head: &bolt::Head, headers: HeaderMap<'_>) -> Names {
        if !self.sofa() {
            // What the application makes of its own classes is its own; the headers are all there is.
            return Names::Clear;
        }
        let [service, target, method] =
            headers.get_all(&[bolt::HEADER_SERVICE, &b"sofa_head_target_service"[..], bolt::HEADER_METHOD]);
        if service.zip(target).is_some_and(|(a, b)| a != b) {
            return Names::Differ;
        }
        let Some(named) = service.or(target) else { return Names::Hidden };
        if head.codec != bolt::CODEC_HESSIAN {
            return if method.is_some() { Names::Clear } else { Names::NoMethod };
        }
        let content = head.content(self.frame);
        let window = &content[..content.len().min(bolt::PEEK_MAX)];
        let field = |name: &[u8]| match draft::string_field(window, name) {
            Peek::Found(text) => Some(text),
            Peek::Cut | Peek::Absent => None,
        };
        match (field(b"targetServiceUniqueName"), field(b"methodName")) {
            (Some(inside), _) if inside != named => Names::Differ,
            (_, Some(inside)) if method.is_some_and(|m| m != inside) => Names::Differ,
            (Some(_), Some(_)) => Names::Clear,
            (Some(_), None) => Names::NoMethod,
            (None, _) => Names::Hidden,
        }
    }

    /// The trace it is part of.
    pub fn trace(&self) -> Option<&'a [u8]> {
        self.header(b"traceparent")
    }

    /// The request is SOFARPC's.
    #[inline]
    pub fn sofa(&self) -> bool {
        match &self.facts {
            Facts::Bolt { head, .. } => head.class(self.frame) == bolt::CLASS_REQUEST,
            Facts::Dubbo { .. } => false,
        }
    }

    /// Whom an answer is for, by the id its caller gave it.
    pub fn asker(&self, id: u64) -> Asker {
        Asker { lane: self.head.lane(), id, codec: self.head.codec(), sofa: self.sofa() }
    }
}

/// A call as routing asks about it.
pub struct CallAttributes<'a> {
    /// The call.
    pub call: &'a Call<'a>,
    /// The name its service is known by.
    pub service: &'a [u8],
    /// Where the caller is.
    pub ip: Option<IpAddr>,
}

impl Attributes for CallAttributes<'_> {
    fn service(&self) -> &[u8] {
        self.service
    }

    fn method(&self) -> Option<&[u8]> {
        self.call.method()
    }

    fn header(&self, name: &str) -> Option<&[u8]> {
        self.call.header(name.as_bytes())
    }

    fn caller_app(&self) -> Option<&[u8]> {
        self.call.caller_app()
    }

    fn caller_ip(&self) -> Option<IpAddr> {
        self.ip
    }

    fn load_test(&self) -> bool {
        self.call.header(LOAD_TEST.0.as_bytes()) == Some(LOAD_TEST.1.as_bytes())
    }
}
